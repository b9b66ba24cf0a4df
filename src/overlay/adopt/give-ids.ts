// Gives every object of an upper the portable id that it lacks.

import { walkTree } from "../../layer/walk-tree.ts";
import { ERRNO, EUCLEAN } from "../../linux/errno.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { FileType } from "../../vfs/operations.ts";
import { ifThere, must } from "../../vfs/system-errors.ts";
import { isWhiteoutInode } from "../format/whiteout.ts";
import type { Writable } from "../journal/writable.ts";

/** Sees to it that all that an upper holds has a portable id: it may have been made elsewhere, or what leads from ids to it is lost. */
export function giveIds(writable: Writable, progress: (directories: number) => void): void {
	const { layer, ids } = writable;
	if (ids === null) return;
	const stat = new Stat();
	const found = new Stat();
	const place = (fd: number, above: FileHandle, name: Buffer): FileHandle => {
		const known = ids.isCarried(fd) ? ids.idOrNone(fd) : null;
		const at = known === null ? -ERRNO.ESTALE : ids.open(known, O.path);
		// a damaged record of its place is written anew
		if (at !== -EUCLEAN) ifThere(at, "Cannot open a directory of upper");
		const status = at < 0 ? at : fstat(at, found);
		if (at >= 0) close(at);
		if (at >= 0) must(status, "Cannot read a directory of upper");
		if (known !== null && at >= 0 && found.sameInode(stat)) return known;
		// one that leads to another directory was copied along with this one
		const id = known !== null && at < 0 ? known : ids.newId(true);
		if (id !== known) giveOwnerAccess(writable, fd, stat);
		if (id !== known) must(ids.assign(fd, id), "Cannot give an object its id");
		must(ids.place(id, above, name), "Cannot note where a directory is");
		return id;
	};
	walkTree(
		layer,
		layer.rootHandle,
		(directory, name): FileHandle | null => {
			const child = must(openAt(directory.fd, name, O.path | O.nofollow), "Cannot open an object of upper");
			try {
				must(fstat(child, stat), "Cannot read an object of upper");
				if (!stat.sameDevice(layer.rootStat) || isWhiteoutInode(child, stat, layer.xattr.whiteout)) return null;
				if (stat.type === FileType.dir) return place(child, directory.state, name);
				if (ids.idOrNone(child) !== null) return null;
				giveOwnerAccess(writable, child, stat);
				must(ids.assign(child, ids.newId(false)), "Cannot give an object its id");
				return null;
			} finally {
				close(child);
			}
		},
		progress,
	);
}

/** What an ordinary user may not mark as it is. Clients see the mode that they saw before, which an xattr may say already. */
export function giveOwnerAccess({ layer }: Writable, fd: number, stat: Stat): void {
	const { rights } = layer;
	if (!rights.isKept) return;
	const shown = Object.assign(new Stat(), stat);
	rights.show(fd, shown);
	must(rights.change(fd, stat.type, { mode: shown.mode & 0o7777 }), "Cannot give the owner access to an object of upper");
}
