// Ends a mount in a thread: unmounting waits for the server, which the caller may be, or may have to start first.

import { Worker } from "node:worker_threads";
import type { unmountAnyhow } from "./ways.ts";

/** As `unmountAnyhow`. */
export function unmountElsewhere(point: string, isLazy: boolean): ReturnType<typeof unmountAnyhow> {
	return new Promise((resolve, reject) => {
		const worker = new Worker(new URL("./unmount-thread.js", import.meta.url), { workerData: { point, isLazy } });
		worker.once("message", resolve);
		worker.once("error", reject);
	});
}
