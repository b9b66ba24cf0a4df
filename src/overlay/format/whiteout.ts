// Tells whiteouts of either form from other objects.

import { hasPrefix, isWhiteoutFile, WHITEOUT_PREFIX } from "../../layer/hiding.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { type Stat, statAt } from "../../linux/stat.ts";
import { getXattrAt } from "../../linux/xattr.ts";
import { FileType } from "../../vfs/operations.ts";
import { isFound, valueOrNone } from "../../vfs/system-errors.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";

const UNREAD = "Cannot read whether a name is a whiteout";

/** The common form of a whiteout: a character device 0:0. */
export function isWhiteoutStat(stat: Stat): boolean {
	return stat.type === FileType.chr && stat.rdevMajor === 0 && stat.rdevMinor === 0;
}

/** The form for who may not make devices: an empty file with the xattr of this name, honoured only inside a directory with opaque "x". */
export function isXattrWhiteout(fd: number, stat: Stat, xattr: string): boolean {
	return stat.type === FileType.reg && stat.size === 0 && xattrOrNone(fd, xattr, UNREAD) !== null;
}

/** Whether an open inode is a whiteout of either form, with the attributes that were read of it; `xattr` as in isWhiteoutEntry. */
export function isWhiteoutInode(fd: number, stat: Stat, xattr: string | null): boolean {
	return isWhiteoutStat(stat) || (xattr !== null && isXattrWhiteout(fd, stat, xattr));
}

/** Whether a name of upper is a whiteout of either form, with the attributes that were read of it; `xattr` as in isWhiteoutEntry. */
export function isWhiteoutName(directory: number, name: Uint8Array | string, stat: Stat, xattr: string | null): boolean {
	if (isWhiteoutStat(stat)) return true;
	if (xattr === null || stat.type !== FileType.reg || stat.size > 0) return false;
	return valueOrNone(getXattrAt(directory, name, xattr), UNREAD, xattr) !== null;
}

/** Of a layer where files are whiteouts: whether an entry of a directory, with the type that its listing gives (0: unknown), is one. `stat` is scratch. */
export function isWhiteoutFileEntry(directory: number, name: Uint8Array, type: number, stat: Stat): boolean {
	if (!hasPrefix(name, WHITEOUT_PREFIX)) return false;
	return isWhiteoutFile(name, type === 0 && isFound(statAt(directory, name, stat), UNREAD) ? stat.type : type);
}

/**
 * Whether an entry of a directory, with the type that its listing gives (0: unknown), is a whiteout of either form. `xattr`: the name
 * that marks an empty file as a whiteout, or null where the directory has no such whiteouts. `stat` is scratch.
 */
export function isWhiteoutEntry(directory: number, name: Uint8Array, type: number, xattr: string | null, stat: Stat): boolean {
	const mayBe = type === FileType.chr || type === 0 || (type === FileType.reg && xattr !== null);
	if (!mayBe || !isFound(statAt(directory, name, stat), UNREAD)) return false;
	if (isWhiteoutStat(stat)) return true;
	if (xattr === null || stat.type !== FileType.reg) return false;
	const fd = openAt(directory, name, O.path | O.nofollow);
	if (!isFound(fd, UNREAD)) return false;
	try {
		return isXattrWhiteout(fd, stat, xattr);
	} finally {
		close(fd);
	}
}
