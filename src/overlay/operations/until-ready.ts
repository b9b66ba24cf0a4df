// Runs operations that may have to wait, for callers that are not servers.

import { Pending } from "../../vfs/errors.ts";
import type { Overlay } from "./overlay.ts";

/** Runs a step of the engine again from its start until it need not wait. */
export async function untilReady<T>(step: () => T): Promise<T> {
	for (;;) {
		try {
			return step();
		} catch (error) {
			if (!(error instanceof Pending)) throw error;
			await error.ready;
		}
	}
}

/** The same for commands without a server, which bound the caches themselves. */
export function inPasses<T>(overlay: Overlay, step: () => T): Promise<T> {
	return untilReady(() => {
		overlay.beginPass();
		return step();
	});
}
