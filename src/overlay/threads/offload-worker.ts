// The worker thread: runs one job after the other.

import { parentPort } from "node:worker_threads";
import { copyData, copyRanges } from "../../layer/copy-data.ts";
import { cloneFileRange, syncFile, syncFileSystem, truncateFile, writeOut } from "../../linux/data.ts";
import { hashEntries } from "../work/entry-hashes.ts";
import { emptyTrash } from "./empty-trash.ts";
import { findLinks } from "./find-links.ts";
import { findPath } from "./find-path.ts";
import type { Job, JobResult } from "./job.ts";
import { scan } from "./scan.ts";
import { warm } from "./warm.ts";

function run(job: Job): JobResult {
	switch (job.kind) {
		case "copy": {
			const status = copyData(job.from, job.to, job.size);
			if (status < 0) return status;
			return job.flush ? syncFile(job.to) : writeOut(job.to, 0, job.size);
		}
		case "fill": {
			const status = copyRanges(job.from, job.to, job.ranges);
			if (status < 0) return status;
			if (job.flush) return syncFile(job.to);
			for (const [start, end] of job.ranges) {
				const written = writeOut(job.to, start, end - start);
				if (written < 0) return written;
			}
			return 0;
		}
		case "clone":
			return cloneFileRange(job.from, job.sourceOffset, job.length, job.to, job.offset);
		case "cut":
			return truncateFile(job.fd, job.size);
		case "trash":
			return emptyTrash(job);
		case "sync":
			return job.scope === "file" ? syncFile(job.fd) : syncFileSystem(job.fd);
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

/** What is given away rather than copied. */
function buffersOf(result: JobResult): ArrayBufferLike[] {
	if (typeof result === "number" || "names" in result) return [];
	if (result instanceof Uint32Array) return [result.buffer];
	if (!("entries" in result)) return [];
	return Object.values(result.entries).flatMap((v) => (ArrayBuffer.isView(v) ? [v.buffer] : []));
}

parentPort?.on("message", (job: Job) => {
	const result = run(job);
	parentPort?.postMessage(result, buffersOf(result) as ArrayBuffer[]);
});
