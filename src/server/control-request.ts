// What a request at the control socket is.

import type { OpenedOverlay } from "../overlay/opening/opened-overlay.ts";

/** What a request is done with. */
export interface ControlContext {
	/** The export that it is about. */
	readonly opened: OpenedOverlay;
	/**
	 * Gives the peer an item of the answer, and resolves when it may be given the next one, so that what waits for the peer is bounded. Throws where
	 * the peer is gone or the server ends.
	 */
	send(item: unknown): Promise<void>;
}

/** One kind of request. It runs in turns of the main thread, each far below 20 ms. */
export interface ControlRequest {
	readonly name: string;
	/** What ends the answer, as JSON. ControlError, PathError, LayerError, OverlayError: it is refused. */
	run(context: ControlContext, argument: Readonly<Record<string, unknown>>): Promise<unknown>;
}
