// What is done to a target, as data: a plan that was begun is gone on with by these alone, without the overlay.

import type { KeptAttributes, Times } from "./kept-attributes.ts";

/** What stood at a path when it was looked at. */
export interface Seen {
	/** As S_IFMT >> 12. */
	readonly type: number;
	readonly inode: string;
	/** Of a regular file; else 0. */
	readonly size: number;
	readonly mtime: string;
}

/**
 * Paths are below the target, each byte a character. Names are of the staging folder, and each is used once: so whether a step was done can be told
 * by what is still there.
 */
export type ApplyStep =
	/** What stands at a path goes to the staging folder: to be put elsewhere, or to go for good. */
	| { readonly do: "aside"; readonly path: string; readonly name: string; readonly seen: Seen }
	/** What was prepared, or put aside, comes to a path, in the place of what stands there. */
	| { readonly do: "place"; readonly path: string; readonly name: string; readonly seen: Seen | null }
	| { readonly do: "attributes"; readonly path: string; readonly type: number; readonly kept: KeptAttributes }
	| { readonly do: "times"; readonly path: string; readonly mode: number; readonly times: Times };

/** What was at a path of the target before, and lies in the staging folder once all is done. */
export interface Replaced {
	readonly path: string;
	readonly name: string;
}

export interface ApplyPlan {
	readonly steps: readonly ApplyStep[];
	readonly replaced: readonly Replaced[];
	/** Directories of upper that lead to where they were in the lower, which is where they are now. */
	readonly redirects: readonly string[];
}
