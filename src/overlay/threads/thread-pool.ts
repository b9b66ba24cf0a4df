// Worker threads that several exports share.

import { fsync } from "node:fs";
import { Worker } from "node:worker_threads";
import { ERRNO } from "../../linux/errno.ts";
import type { Job, JobResult } from "./job.ts";

/** Long copies and flushes run side by side; more threads than this only queue in the kernel. */
const THREADS_MAX = 4;

/** Node's own threads. */
const NODE_THREADS = 4;

/** Whoever has jobs done: known by being the same object. */
export type ThreadUser = object;

interface Waiting {
	readonly user: ThreadUser;
	readonly job: Job;
	readonly resolve: (result: JobResult) => void;
	readonly reject: (error: Error) => void;
}

/** A small pool of threads, started when they are first needed; it ends with the last of its users. */
export class ThreadPool {
	readonly #idle: Worker[] = [];
	/** What each thread works on. */
	readonly #all = new Map<Worker, ThreadUser | null>();
	readonly #users = new Set<ThreadUser>();
	readonly #threadsMax: number;
	/** Flushes at once in Node's threads. Where there are several pools they must leave some to each other: a disk may hang. */
	flushesMax = NODE_THREADS;
	#queue: Waiting[] = [];
	#flushes = 0;

	constructor(threadsMax: number = THREADS_MAX) {
		this.#threadsMax = threadsMax;
	}

	/** Threads that were started and have not ended. */
	get size(): number {
		return this.#all.size;
	}

	join(user: ThreadUser): void {
		this.#users.add(user);
	}

	run(user: ThreadUser, job: Job): Promise<JobResult> {
		if (job.kind === "sync" && job.scope === "file" && this.#flushes < this.flushesMax) return this.#flush(job.fd);
		return new Promise((resolve, reject) => {
			this.#queue.push({ user, job, resolve, reject });
			this.#start();
		});
	}

	/** Ends the threads that work for this user, all of them when nobody else is left; what still runs in them is abandoned. */
	async leave(user: ThreadUser): Promise<void> {
		this.#users.delete(user);
		this.#queue = this.#queue.filter((waiting) => waiting.user !== user);
		const ended = [...this.#all].filter(([, busyFor]) => this.#users.size === 0 || busyFor === user).map(([worker]) => worker);
		for (const worker of ended) this.#remove(worker);
		this.#start();
		await Promise.all(ended.map((worker) => worker.terminate()));
	}

	/** By Node's own threads: a message to one of ours and back takes as long as the flush of a fast disk. */
	#flush(fd: number): Promise<number> {
		this.#flushes++;
		return new Promise((resolve) =>
			fsync(fd, (error) => {
				this.#flushes--;
				resolve(error === null ? 0 : (error.errno ?? -ERRNO.EIO));
			}),
		);
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
		this.#all.set(worker, null);
		return worker;
	}

	#remove(worker: Worker): void {
		this.#all.delete(worker);
		const at = this.#idle.indexOf(worker);
		if (at >= 0) this.#idle.splice(at, 1);
	}

	#give(worker: Worker, waiting: Waiting): void {
		const end = () => {
			worker.off("message", done);
			worker.off("error", failed);
			worker.unref();
		};
		const done = (result: JobResult) => {
			end();
			// ended meanwhile, with the answer on its way
			if (!this.#all.has(worker)) return;
			this.#all.set(worker, null);
			this.#idle.push(worker);
			waiting.resolve(result);
			this.#start();
		};
		const failed = (error: Error) => {
			end();
			this.#remove(worker);
			waiting.reject(error);
			this.#start();
		};
		worker.on("message", done);
		worker.on("error", failed);
		this.#all.set(worker, waiting.user);
		// a server that only waits for this job must not end before it
		worker.ref();
		worker.postMessage(waiting.job);
	}
}
