// A pool of worker threads for what may wait long for a disk.

import { fsync } from "node:fs";
import { Worker } from "node:worker_threads";
import type { Ranges } from "../../layer/copy-data.ts";
import { ERRNO } from "../../linux/errno.ts";
import type { FoundPath, PathRequest } from "./find-path.ts";
import type { ScanRequest, ScanResult } from "./scan.ts";
import type { WarmRequest } from "./warm.ts";

/** Work that may wait for a disk for long, and so never runs on the main thread. Descriptors stay open until it is done. */
export type Job =
	| { readonly kind: "copy"; readonly from: number; readonly to: number; readonly size: number; readonly flush: boolean }
	/** Part of a file: see copyRanges. Without `flush` it is only written out. */
	| { readonly kind: "fill"; readonly from: number; readonly to: number; readonly ranges: Ranges; readonly flush: boolean }
	| { readonly kind: "sync"; readonly fd: number; readonly scope: "file" | "file system" }
	| ({ readonly kind: "scan" } & ScanRequest)
	| ({ readonly kind: "warm" } & WarmRequest)
	/** The path of a portable id below the root of its lower. */
	| ({ readonly kind: "search" } & PathRequest);

/** A negated error number, 0, or what a scan or a search found. */
export type JobResult = number | ScanResult | FoundPath;

interface Waiting {
	readonly id: number;
	readonly job: Job;
	readonly resolve: (result: JobResult) => void;
	readonly reject: (error: Error) => void;
}

/** Long copies and flushes run side by side; more threads than this only queue in the kernel. */
const THREADS_MAX = 4;

/** A small pool of threads, started when they are first needed. */
export class Offload {
	readonly #idle: Worker[] = [];
	readonly #all = new Set<Worker>();
	readonly #queue: Waiting[] = [];
	readonly #threadsMax: number;
	#nextId = 1;
	#isClosed = false;

	constructor(threadsMax: number = THREADS_MAX) {
		this.#threadsMax = threadsMax;
	}

	run(job: Job): Promise<JobResult> {
		if (this.#isClosed) return Promise.reject(new Error("The server is ending"));
		if (job.kind === "sync" && job.scope === "file") return syncInPool(job.fd);
		return new Promise((resolve, reject) => {
			this.#queue.push({ id: this.#nextId++, job, resolve, reject });
			this.#start();
		});
	}

	/** Ends the threads; what still runs in them is abandoned. */
	async close(): Promise<void> {
		this.#isClosed = true;
		await Promise.all([...this.#all].map((worker) => worker.terminate()));
	}

	#start(): void {
		while (this.#queue.length > 0) {
			const worker = this.#idle.pop() ?? (this.#all.size < this.#threadsMax ? this.#newWorker() : undefined);
			if (worker === undefined) return;
			this.#give(worker, this.#queue.shift() as Waiting);
		}
	}

	#newWorker(): Worker {
		const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
		const worker = new Worker(new URL(`./offload-worker.${extension}`, import.meta.url));
		worker.setMaxListeners(0);
		worker.unref();
		this.#all.add(worker);
		return worker;
	}

	#give(worker: Worker, waiting: Waiting): void {
		const end = () => {
			worker.off("message", done);
			worker.off("error", failed);
			worker.unref();
		};
		const done = (result: JobResult) => {
			end();
			this.#idle.push(worker);
			waiting.resolve(result);
			this.#start();
		};
		const failed = (error: Error) => {
			end();
			this.#all.delete(worker);
			waiting.reject(error);
			this.#start();
		};
		worker.on("message", done);
		worker.on("error", failed);
		// a server that only waits for this job must not end before it
		worker.ref();
		worker.postMessage(waiting.job);
	}
}

/** By Node's own threads: a message to one of ours and back takes as long as the flush of a fast disk. */
function syncInPool(fd: number): Promise<number> {
	return new Promise((resolve) => fsync(fd, (error) => resolve(error === null ? 0 : (error.errno ?? -ERRNO.EIO))));
}
