// Walks trees whose result is kept: each directory is listed whole, or refused, so that a part is never taken for all.

import { namesOf } from "../linux/directory.ts";
import { ERRNO, whyNot } from "../linux/errno.ts";
import { close } from "../linux/open.ts";
import { type Stat, statAt } from "../linux/stat.ts";
import { showName } from "../vfs/names.ts";
import { tellProgress } from "../vfs/progress.ts";
import { LayerError } from "./layer-error.ts";
import { openDirectoryIn, PATH_GONE, pathBelow } from "./path-search.ts";

/** The root of a tree that is walked, with its path for messages. */
export interface WalkedTree {
	readonly root: number;
	readonly path: string;
	/** Everything in an upper must be seen. Of a lower, what is closed to this process is shown to nobody. */
	readonly isUpper?: boolean;
	/** A server changes it meanwhile: what goes while it is walked is left out. */
	readonly mayChange?: boolean;
}

/** Another file system inside of a layer (a btrfs subvolume) is shown empty, and what may not be read in a lower not at all: nothing below has an id. */
function isClosed(tree: WalkedTree, error: number): boolean {
	if (tree.mayChange === true && PATH_GONE.has(-error)) return true;
	return error === -ERRNO.EXDEV || (error === -ERRNO.EACCES && tree.isUpper !== true);
}

/** A directory that is being walked, open to be listed. */
export interface WalkedDirectory<T> {
	readonly fd: number;
	/** Below the root; empty for that. */
	readonly path: Buffer;
	/** What `visit` returned for it. */
	readonly state: T;
}

/**
 * Calls `visit` for every name in the tree. What it returns goes along with that directory, which is then walked too; null where the name is
 * none, or is to be left out. One descriptor is open at a time, and nothing is recursive, however wide and deep the tree. LayerError.
 */
export function walkTree<T>(
	tree: WalkedTree,
	root: T,
	visit: (directory: WalkedDirectory<T>, name: Buffer) => T | null,
	progress: (directories: number) => void = (directories) => tellProgress(`looking through ${tree.path}`, directories, "directories"),
): void {
	const pending: { readonly path: Buffer; readonly state: T }[] = [{ path: Buffer.alloc(0), state: root }];
	let directories = 0;
	for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
		progress(++directories);
		const { path } = at;
		const fd = openToList(tree, path);
		if (fd === null) continue;
		const names = listWhole(tree, path, fd);
		const directory = { fd, path, state: at.state };
		try {
			for (const name of names) {
				const state = visit(directory, name);
				if (state !== null) pending.push({ path: pathBelow(path, name), state });
			}
		} finally {
			close(fd);
		}
	}
}

/** A descriptor of the directory at a path below the root, to list it; null: its content is shown to nobody. LayerError. */
export function openToList(tree: WalkedTree, path: Buffer): number | null {
	const fd = openDirectoryIn(tree.root, path);
	if (fd < 0 && !isClosed(tree, fd)) throw unreadable(tree, path, fd);
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
	if (status < 0 && status !== -ERRNO.ENOENT && !isClosed(tree, status)) throw unreadable(tree, pathBelow(path, name), status);
	return status === 0;
}

function unreadable({ path: root }: WalkedTree, path: Buffer, error: number): LayerError {
	const at = path.length === 0 ? root : `${root}/${path.toString()}`;
	return new LayerError(`Cannot read ${path.length === 0 ? root : `${root}/${showName(path)}`}: ${whyNot(error, at)}.`);
}
