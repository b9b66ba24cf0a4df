// Removes a tree without leaving its directory.

import { visitEntries } from "../linux/directory.ts";
import { ERRNO } from "../linux/errno.ts";
import { removeDirectory, unlinkName } from "../linux/names.ts";
import { close, O, openBeneath, RESOLVE } from "../linux/open.ts";

/** Removes a name and all below it, without leaving the directory or following a link. 0, or the negated error number. */
export function removeTree(parent: number, name: Uint8Array): number {
	const removed = unlinkName(parent, name);
	if (removed !== -ERRNO.EISDIR) return removed;
	const fd = openBeneath(parent, name, O.rdonly | O.directory | O.nofollow, RESOLVE.beneath | RESOLVE.noSymlinks | RESOLVE.noXdev);
	if (fd < 0) return fd;
	try {
		const entries: Buffer[] = [];
		const status = visitEntries(fd, (entry) => {
			entries.push(Buffer.from(entry));
			return true;
		});
		if (status < 0) return status;
		for (const entry of entries) {
			const failure = removeTree(fd, entry);
			if (failure < 0) return failure;
		}
	} finally {
		close(fd);
	}
	return removeDirectory(parent, name);
}
