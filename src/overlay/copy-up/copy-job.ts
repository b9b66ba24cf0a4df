// Copies the data of a file to upper in another thread, and gives up copies that nobody claims.

import { copyCached } from "../../layer/copy-data.ts";
import type { FileSystem } from "../../layer/layer.ts";
import { close } from "../../linux/open.ts";
import type { Stat } from "../../linux/stat.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { failed, must } from "../../vfs/system-errors.ts";
import { dataOf } from "../data/data-files.ts";
import type { Engine } from "../engine/engine.ts";
import { isFlushedByJournal } from "../journal/journal.ts";
import type { CopyUpJob, Node } from "../nodes/node.ts";
import type { Job } from "../threads/job.ts";
import { threadsFor } from "../threads/patience.ts";

/** How long a finished copy waits for the request that began it. */
const UNCLAIMED_MS = 10_000;

/** What is copied on the main thread: a part of a millisecond. */
const CACHED_BYTES_MAX = 256 * 1024;

/**
 * Whether data has to be flushed before it has a name: after a power loss a lower file must not have turned into zeros. Where all metadata is
 * committed in the order in which it was changed, it is enough that the data was written out and its place noted: whatever has the name has that too.
 */
function mustFlush(fileSystem: string): boolean {
	return fileSystem !== "tmpfs" && !isFlushedByJournal(fileSystem);
}

/** Copies a small file at once, where neither the lower nor upper makes anybody wait for it; else false, and nothing was done. */
export function copyAtOnce(from: FileSystem, to: FileSystem, source: number, fd: number, { size, blocks }: Stat): boolean {
	// a file with holes is copied by somebody who knows of them
	if (size > CACHED_BYTES_MAX || blocks * 512 < size || to.name !== "tmpfs") return false;
	return must(copyCached(source, fd, size, from.name === "tmpfs"), "Cannot copy a file up") === size;
}

export function startCopy(engine: Engine, node: Node, temporary: string | null, fd: number, source: number, stat: Stat): Promise<void> {
	const flush = engine.writable !== null && mustFlush(engine.writable.layer.fileSystem.name);
	const job: { -readonly [field in keyof CopyUpJob]: CopyUpJob[field] } = {
		temporary,
		fd,
		before: stat,
		state: "running",
		error: null,
		ready: Promise.resolve(),
	};
	const end = (error: Error | null) => {
		close(source);
		job.state = error === null ? "done" : "failed";
		job.error = error;
		// whoever asked for it may have gone: nobody will run the request again
		setTimeout(() => node.copyUp === job && abandonCopy(engine, node), UNCLAIMED_MS).unref();
	};
	const { size } = stat;
	// what an upper file has in it already counts for nothing, and a hole must not show it
	const work: Job =
		temporary === null
			? { kind: "fill", from: source, to: fd, ranges: [[0, size]], flush }
			: { kind: "copy", from: source, to: fd, size, flush };
	job.ready = threadsFor(engine, dataOf(engine, node).layer)
		.run(work)
		.then(
			(status) => end((status as number) < 0 ? failed("Cannot copy a file up", status as number) : null),
			(error) => end(new OverlayError("io", (error as Error).message)),
		);
	node.copyUp = job;
	return job.ready;
}

/** Ends a copy whose result nobody will use any more. */
export function abandonCopy(engine: Engine, node: Node): void {
	const job = node.copyUp;
	if (job === null) return;
	node.copyUp = null;
	void job.ready.then(() => {
		close(job.fd);
		if (job.temporary !== null) engine.writable?.work.discard(job.temporary);
	});
}
