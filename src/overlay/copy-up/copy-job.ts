// Copies the data of a file to upper in another thread, and gives up copies that nobody claims.

import { close } from "../../linux/open.ts";
import type { Stat } from "../../linux/stat.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { failed } from "../../vfs/system-errors.ts";
import { dataOf } from "../data/data-files.ts";
import type { Engine } from "../engine/engine.ts";
import type { CopyUpJob, Node } from "../nodes/node.ts";
import type { Job } from "../threads/job.ts";
import { threadsFor } from "../threads/patience.ts";

/** How long a finished copy waits for the request that began it. */
const UNCLAIMED_MS = 10_000;

export function startCopy(engine: Engine, node: Node, temporary: string | null, fd: number, source: number, stat: Stat): Promise<void> {
	// data must be on disk before the names that lead to it: after a power loss a lower file must not have turned into zeros
	const flush = node.top.layer.fileSystem.name !== "tmpfs" || engine.writable?.layer.fileSystem.name !== "tmpfs";
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
