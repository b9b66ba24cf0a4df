// Which paths a command is about: some that it was given and what is below them, or all.

import { isSameOrBelow } from "../../layer/path-search.ts";

/** `paths`: none are all. */
export function isWanted(paths: readonly Buffer[], path: Buffer): boolean {
	return paths.length === 0 || paths.some((wanted) => isSameOrBelow(path, wanted));
}

/** Also of a directory above one that is. */
export function leadsToWanted(paths: readonly Buffer[], path: Buffer): boolean {
	return isWanted(paths, path) || paths.some((wanted) => isSameOrBelow(wanted, path));
}
