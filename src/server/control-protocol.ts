// What goes over a control socket: a request on a line of its own, answered by lines of items and one that ends it.

import { statSync } from "node:fs";
import { join } from "node:path";
import { signedBy } from "../overlay/opening/upper-lock.ts";

/** Raised when a request or an answer changes its meaning; a new kind of request does not. */
export const CONTROL_VERSION = 1;

/** Of a request: a peer that sends more without a newline is refused. */
export const REQUEST_BYTES_MAX = 256 * 1024;

/** All as JSON: a line of it is the request. */
export interface ControlCall {
	readonly version: number;
	/** What is asked for, by the name of a `ControlRequest`. */
	readonly request: string;
	/** The export that is meant: `upperName` of its upper. */
	readonly upper: string;
	readonly argument: unknown;
}

/** A line of an answer. Many items may come, then one of the others. */
export type ControlLine =
	| { readonly item: unknown }
	| { readonly end: unknown }
	/** A sentence for people. `version`: of the server. */
	| { readonly error: string; readonly code: ControlErrorCode; readonly version: number };

/** "version": it speaks another one; "unknown": there is no such request, or no such export; "refused": it was understood, and is not done. */
export type ControlErrorCode = "version" | "unknown" | "bad" | "refused";

/** By what client and server know an upper, whatever its path is for either. */
export function upperName(upper: string): string {
	const { dev, ino } = statSync(upper, { bigint: true });
	return `${dev}:${BigInt.asUintN(64, ino)}`;
}

/** Where the server of an upper takes requests; null: nobody on this host serves it, or none that says where. */
export function controlSocketOf(work: string): string | null {
	return signedBy(join(work, "holdfast"))?.control ?? null;
}
