import { setImmediate } from "node:timers/promises";
import { copyData, copyRanges } from "../../src/layer/copy-data.ts";
import { cloneFileRange, syncFile, syncFileSystem, truncateFile, writeOut } from "../../src/linux/data.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { emptyTrash } from "../../src/overlay/threads/empty-trash.ts";
import { findLinks } from "../../src/overlay/threads/find-links.ts";
import { findPath } from "../../src/overlay/threads/find-path.ts";
import type { Job, JobResult } from "../../src/overlay/threads/job.ts";
import type { Offload } from "../../src/overlay/threads/offload.ts";
import { scan } from "../../src/overlay/threads/scan.ts";
import { warm } from "../../src/overlay/threads/warm.ts";
import { hashEntries } from "../../src/overlay/work/entry-hashes.ts";
import { verifyAbsences } from "../../src/overlay/work/index-directory.ts";

// what the index says without a system call must be so after every change and every crash
verifyAbsences(true);

/** Does the work of the threads on this one, in a later turn: to start threads takes longer than a whole scenario. */
class InlineOffload implements Pick<Offload, "run" | "close"> {
	readonly #flushes: boolean;
	#isClosed = false;

	constructor(flushes: boolean) {
		this.#flushes = flushes;
	}

	async run(job: Job): Promise<JobResult> {
		await setImmediate();
		// its descriptors may be others' by now
		if (this.#isClosed) throw new Error("The server is ending");
		switch (job.kind) {
			case "copy":
				return copyData(job.from, job.to, job.size) || this.#settle(job);
			case "fill":
				return copyRanges(job.from, job.to, job.ranges) || this.#settle(job);
			case "clone":
				return cloneFileRange(job.from, job.sourceOffset, job.length, job.to, job.offset);
			case "cut":
				return truncateFile(job.fd, job.size);
			case "trash":
				return emptyTrash(job);
			case "sync":
				return this.#flushes ? (job.scope === "file" ? syncFile : syncFileSystem)(job.fd) : 0;
			case "scan":
				return scan(job);
			case "warm":
				return warm(job);
			case "search":
				return findPath(job);
			case "links":
				return findLinks(job);
			case "entries":
				return hashEntries(job.fd);
		}
	}

	/** Makes what was copied stable, or writes it out. */
	#settle({ to, flush }: { readonly to: number; readonly flush: boolean }): number {
		if (!this.#flushes) return 0;
		return flush ? syncFile(to) : writeOut(to, 0, 0);
	}

	async close(): Promise<void> {
		this.#isClosed = true;
	}
}

/** Without `flushes` nothing is flushed: for tests in which only processes end. */
export function workInline(overlay: Overlay, flushes = false): Overlay {
	const offload = new InlineOffload(flushes);
	const engine = overlay.engine as { offload: Pick<Offload, "run" | "close">; freeing: Pick<Offload, "run" | "close"> };
	engine.offload = offload;
	engine.freeing = offload;
	// a server waits with this until it has started
	void overlay.engine.writable?.index.learn(async (fd) => (await offload.run({ kind: "entries", fd })) as Uint32Array | number);
	return overlay;
}
