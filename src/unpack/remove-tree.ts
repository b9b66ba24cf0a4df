// Removes a tree without leaving its directory.

import { namesOf } from "../linux/directory.ts";
import { ERRNO } from "../linux/errno.ts";
import { removeDirectory, unlinkName } from "../linux/names.ts";
import { close, O, openAt } from "../linux/open.ts";
import { DirectoryCursor } from "./directory-cursor.ts";

/**
 * Removes a name and all below it, without leaving the directory or following a link. 0, or the negated error number. `progress` is called for each
 * name.
 */
export function removeTree(parent: number, name: Uint8Array, progress: () => void = () => {}): number {
	const removed = unlinkName(parent, name);
	if (removed !== -ERRNO.EISDIR) return removed;
	const cursor = new DirectoryCursor(parent, name);
	const status = cursor.fd < 0 ? cursor.fd : removeContents(cursor, progress);
	cursor.close();
	return status < 0 ? status : removeDirectory(parent, name);
}

/** Of the directory that the cursor is at, and is at again afterwards. Nothing is recursive, however deep the tree. */
function removeContents(cursor: DirectoryCursor, progress: () => void): number {
	const names = listed(cursor);
	if (typeof names === "number") return names;
	const left: { readonly names: Buffer[]; readonly own: Buffer | null }[] = [{ names, own: null }];
	for (;;) {
		const at = left[left.length - 1];
		const name = at.names.pop();
		let status: number;
		if (name === undefined) {
			left.pop();
			if (at.own === null) return 0;
			status = cursor.up();
			if (status === 0) status = removeDirectory(cursor.fd, at.own);
		} else {
			progress();
			status = unlinkName(cursor.fd, name);
			if (status === -ERRNO.EISDIR) {
				status = cursor.down(name);
				const below = status === 0 ? listed(cursor) : status;
				if (typeof below === "number") return below;
				left.push({ names: below, own: name });
			}
		}
		if (status < 0) return status;
	}
}

function listed(cursor: DirectoryCursor): Buffer[] | number {
	const fd = openAt(cursor.fd, ".", O.rdonly | O.directory);
	if (fd < 0) return fd;
	const names = namesOf(fd);
	close(fd);
	return names;
}
