import { Pending } from "./errors.ts";
import type { Overlay } from "./overlay.ts";

/** Runs a step of the engine, for commands without a server, again from its start until it need not wait. */
export async function settle<T>(overlay: Overlay, step: () => T): Promise<T> {
	for (;;) {
		try {
			overlay.trim();
			return step();
		} catch (error) {
			if (!(error instanceof Pending)) throw error;
			await error.ready;
		}
	}
}
