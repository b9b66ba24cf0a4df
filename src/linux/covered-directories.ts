// Directories that a mount covers, so that their paths lead into the mount: they are reached by descriptors from before it.

import { realpathSync } from "node:fs";
import { O, openAt, openPath } from "./open.ts";

const covered = new Map<string, { readonly fd: number; readonly real: string }>();

/** From now on a path means the directory of a descriptor, whose path without symbolic links is `real`. */
export function coverDirectory(path: string, fd: number, real: string): void {
	covered.set(path, { fd, real });
}

/** A readable descriptor of a directory that the user named, or the negated error number. Where a mount of our own covers it nobody would answer. */
export function openNamedDirectory(path: string, flags: number = O.rdonly | O.directory): number {
	const found = covered.get(path);
	return found === undefined ? openPath(path, flags) : openAt(found.fd, ".", flags);
}

/** realpath(3) of such a directory. */
export function realPathOf(path: string): string {
	return covered.get(path)?.real ?? realpathSync(path);
}
