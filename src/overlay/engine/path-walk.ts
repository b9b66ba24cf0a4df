// How far the path of a long redirect was followed, for the passes of a request that come back to it.

import type { FileHandle } from "../../linux/file-handle.ts";

/** Walks that are remembered. */
export const WALKS_MAX = 64;

export interface PathWalk {
	/** The directory that it has come to; null: it begins at the root of the layer. */
	at: FileHandle | null;
	/** Names that were followed. */
	done: number;
	/** A directory on the way hides what lies below it in further layers. */
	isEnd: boolean;
	/** As of Real, of the directory that it has come to. */
	whiteoutXattr: string | null;
	/** Where redirects on the way have turned the search of further layers to. */
	turned: readonly Buffer[] | null;
	/** See Memory.now. */
	readonly time: number;
}
