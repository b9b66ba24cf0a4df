import { parentPort } from "node:worker_threads";
import { copyData } from "../layer/copy-data.ts";
import { syncFile, syncFileSystem } from "../linux/data.ts";
import type { Job, JobResult } from "./offload.ts";
import { scan } from "./scan.ts";
import { warm } from "./warm.ts";

function run(job: Job): JobResult {
	switch (job.kind) {
		case "copy": {
			const status = copyData(job.from, job.to, job.size);
			return status < 0 || !job.flush ? status : syncFile(job.to);
		}
		case "sync":
			return job.scope === "file" ? syncFile(job.fd) : syncFileSystem(job.fd);
		case "scan":
			return scan(job);
		case "warm":
			return warm(job);
	}
}

parentPort?.on("message", (job: Job) => {
	const result = run(job);
	const buffers = typeof result === "number" ? [] : Object.values(result.entries).flatMap((v) => (ArrayBuffer.isView(v) ? [v.buffer] : []));
	parentPort?.postMessage(result, buffers as ArrayBuffer[]);
});
