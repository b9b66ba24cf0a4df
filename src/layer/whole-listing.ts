// Lists directories for walks whose result is kept: whole, or refused, so that a part is never taken for all.

import { namesOf } from "../linux/directory.ts";
import { ERRNO, errnoName } from "../linux/errno.ts";
import { close } from "../linux/open.ts";
import { type Stat, statAt } from "../linux/stat.ts";
import { showName } from "../vfs/names.ts";
import { LayerError } from "./layer-error.ts";
import { openDirectoryIn, pathBelow } from "./path-search.ts";

/** The root of a tree that is walked, with its path for messages. */
export interface WalkedTree {
	readonly root: number;
	readonly path: string;
}

/** What clients are not shown the content of either: nothing below it has an id. */
const CLOSED: ReadonlySet<number> = new Set([-ERRNO.EACCES, -ERRNO.EXDEV]);

/** A descriptor of the directory at a path below the root, to list it; null: its content is shown to nobody. LayerError. */
export function openToList(tree: WalkedTree, path: Buffer): number | null {
	const fd = openDirectoryIn(tree.root, path);
	if (fd < 0 && !CLOSED.has(fd)) throw unreadable(tree, path, fd);
	return fd < 0 ? null : fd;
}

/** All names in a directory that `openToList` has opened; it is closed when they cannot be read to their end. LayerError. */
export function listWhole(tree: WalkedTree, path: Buffer, fd: number): Buffer[] {
	const names = namesOf(fd);
	if (typeof names !== "number") return names;
	close(fd);
	throw unreadable(tree, path, names);
}

/** Reads the attributes of a name that was listed; false: nobody is shown them. LayerError. */
export function statListed(tree: WalkedTree, path: Buffer, fd: number, name: Buffer, stat: Stat): boolean {
	const status = statAt(fd, name, stat);
	if (status < 0 && status !== -ERRNO.ENOENT && !CLOSED.has(status)) throw unreadable(tree, pathBelow(path, name), status);
	return status === 0;
}

function unreadable({ path: root }: WalkedTree, path: Buffer, error: number): LayerError {
	return new LayerError(`Cannot read ${path.length === 0 ? root : `${root}/${showName(path)}`}: ${errnoName(error)}.`);
}
