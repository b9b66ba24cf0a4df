import { setImmediate } from "node:timers/promises";
import { copyData } from "../../src/layer/copy-data.ts";
import type { Job, JobResult, Offload } from "../../src/overlay/offload.ts";
import type { Overlay } from "../../src/overlay/overlay.ts";
import { scan } from "../../src/overlay/scan.ts";

/** Does the work of the threads on this one, in a later turn: to start threads takes longer than a whole scenario. Nothing is flushed. */
class InlineOffload implements Pick<Offload, "run" | "close"> {
	async run(job: Job): Promise<JobResult> {
		await setImmediate();
		switch (job.kind) {
			case "copy":
				return copyData(job.from, job.to, job.size);
			case "sync":
				return 0;
			case "scan":
				return scan(job);
		}
	}

	async close(): Promise<void> {}
}

export function workInline(overlay: Overlay): Overlay {
	(overlay.engine as { offload: Pick<Offload, "run" | "close"> }).offload = new InlineOffload();
	return overlay;
}
