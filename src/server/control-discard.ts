// The request "discard" of the control socket: changes of an export that is served are taken back, between the requests of its clients.

import { discard } from "../overlay/changes/discard.ts";
import { pathsInExport } from "../overlay/changes/path-in-export.ts";
import type { Overlay } from "../overlay/operations/overlay.ts";
import { ControlError } from "./control-error.ts";
import type { ControlRequest } from "./control-request.ts";

/** As `holdfast discard` has it. */
export interface DiscardArgument {
	/** Paths of the export as people type them; none: all. */
	readonly paths: readonly string[];
}

/** Two at once would be in each other's way. */
const running = new WeakSet<Overlay>();

/** Ends with what was done, a `DiscardReport`. Where the peer goes meanwhile it ends behind a change. */
export const discardRequest: ControlRequest = {
	name: "discard",
	async run({ opened, send }, { paths }) {
		if (!Array.isArray(paths) || !paths.every((path) => typeof path === "string"))
			throw new ControlError('A request "discard" has paths, which are texts.', "bad");
		const { overlay } = opened;
		if (running.has(overlay)) throw new ControlError("Changes of this export are being discarded already.");
		running.add(overlay);
		try {
			const wanted = await pathsInExport(opened, paths);
			return await discard(opened, { paths: wanted, onProgress: (changes) => send({ changes }) });
		} finally {
			running.delete(overlay);
		}
	},
};
