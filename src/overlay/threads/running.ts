// Work that a request waits for, but not for long.

import { OverlayError, Pending } from "../../vfs/errors.ts";

/** Work in another thread, which has begun at this moment (performance.now). */
export interface Running {
	readonly ready: Promise<void>;
	readonly begun: number;
}

/** Throws Pending until it is ready; when it has run for so long OverlayError "tryagain", so that a client comes again. */
export function awaitRunning({ ready, begun }: Running, waitMs: number, message: string): never {
	const left = begun + waitMs - performance.now();
	if (left <= 0) throw new OverlayError("tryagain", message);
	const late = new Promise<void>((resolve) => setTimeout(resolve, left + 1).unref());
	throw new Pending(Promise.race([ready, late]));
}
