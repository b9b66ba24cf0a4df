// The job that searches a lower for the path of a portable id.

import { searchPath, type TOO_FAR } from "../../layer/path-search.ts";

/** Of the directories that the object of a portable id may lie in. */
export interface PathRequest {
	/** Of the lower. */
	readonly root: number;
	readonly id: Uint8Array;
	/** Names that may be looked at. */
	readonly entriesMax: number;
}

export interface FoundPath {
	/** From the root down; null: there is no such path. */
	readonly names: readonly Uint8Array[] | null | typeof TOO_FAR;
	/** That it took. */
	readonly milliseconds: number;
}

export function findPath({ root, id, entriesMax }: PathRequest): FoundPath {
	const begun = performance.now();
	const names = searchPath(root, Buffer.from(id), entriesMax);
	return { names, milliseconds: performance.now() - begun };
}
