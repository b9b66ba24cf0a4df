// The way of one export to worker threads, for what may wait long for a disk.

import type { Job, JobResult } from "./job.ts";
import { ThreadPool } from "./thread-pool.ts";

/** Has jobs done by the threads of a pool; by threads of its own where none is given. */
export class Offload {
	readonly #pool: ThreadPool;
	#isClosed = false;

	constructor(pool: ThreadPool = new ThreadPool()) {
		this.#pool = pool;
		pool.join(this);
	}

	run(job: Job): Promise<JobResult> {
		if (this.#isClosed) return Promise.reject(new Error("The server is ending"));
		return this.#pool.run(this, job);
	}

	/** What still runs is abandoned, and its threads end; the others are left to those who share them. */
	async close(): Promise<void> {
		this.#isClosed = true;
		await this.#pool.leave(this);
	}
}
