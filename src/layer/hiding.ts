// How a layer says what it hides of the layers below: by attributes of one overlay or another, and by files of certain names.

import { ERRNO } from "../linux/errno.ts";
import { type Stat, statAt } from "../linux/stat.ts";
import { isFound } from "../vfs/system-errors.ts";
import { xattrOrNone } from "../vfs/xattrs.ts";

/** A file of this prefix hides what has the rest of its name, in layers of AUFS, in unpacked images, and where fuse-overlayfs can make no devices. */
export const WHITEOUT_PREFIX = Buffer.from(".wh.");
/** Names of this prefix are no whiteouts, and AUFS' own. */
const AUFS_PREFIX = Buffer.from(".wh..wh.");
/** Hides all below the directory that it lies in. */
export const OPAQUE_FILE = ".wh..wh..opq";

const CHARACTER = 2;
const DIRECTORY = 4;

/** An attribute of a directory, "y": it hides those below it, or "x": empty files in it with the attribute `whiteout` are whiteouts. */
export interface OpaqueName {
	readonly opaque: string;
	/** Null: it has no such whiteouts. */
	readonly whiteout: string | null;
}

/** What counts in a layer, besides character devices 0:0. */
export interface Hiding {
	readonly opaques: readonly OpaqueName[];
	/** Files named `.wh.NAME` are whiteouts, and not shown themselves. */
	readonly hasFiles: boolean;
}

const TRUSTED: OpaqueName = { opaque: "trusted.overlay.opaque", whiteout: "trusted.overlay.whiteout" };
const USER: OpaqueName = { opaque: "user.overlay.opaque", whiteout: "user.overlay.whiteout" };
const FUSE: OpaqueName = { opaque: "user.fuseoverlayfs.opaque", whiteout: null };

/** All names by which an overlay may have said it, root's first. */
export const OPAQUE_NAMES: readonly OpaqueName[] = [TRUSTED, USER, FUSE];

/** As the kernel with this prefix has it. */
export const TRUSTED_HIDING: Hiding = { opaques: [TRUSTED], hasFiles: false };
export const USER_HIDING: Hiding = { opaques: [USER], hasFiles: false };

/** What a directory says of the directories below it; `whiteoutXattr` as of Real. */
export interface DirectoryMarks {
	readonly isOpaque: boolean;
	readonly whiteoutXattr: string | null;
}

const PLAIN: DirectoryMarks = { isOpaque: false, whiteoutXattr: null };
const OPAQUE: DirectoryMarks = { isOpaque: true, whiteoutXattr: null };

const UNREAD = "Cannot read what a directory hides";
const LETTER_Y = 0x79;
const LETTER_X = 0x78;

/** Reads the marks of an open directory. `stat` is scratch. */
export function marksOf({ opaques, hasFiles }: Hiding, fd: number, stat: Stat): DirectoryMarks {
	let marks = PLAIN;
	for (const { opaque, whiteout } of opaques) {
		const value = xattrOrNone(fd, opaque, UNREAD);
		if (value === null || value.length !== 1) continue;
		if (value[0] === LETTER_Y) return OPAQUE;
		if (value[0] === LETTER_X && whiteout !== null && marks === PLAIN) marks = { isOpaque: false, whiteoutXattr: whiteout };
	}
	return hasFiles && isFound(statAt(fd, OPAQUE_FILE, stat), UNREAD) && !isDevice(stat) ? OPAQUE : marks;
}

/** Where files are whiteouts: whether a name of a directory is hidden by one in the same layer. `stat` is scratch. */
export function isHiddenByFile(directory: number, name: Uint8Array, stat: Stat): boolean {
	const status = statAt(directory, Buffer.concat([WHITEOUT_PREFIX, name]), stat);
	// no object of such a name can be
	if (status === -ERRNO.ENAMETOOLONG) return false;
	return isFound(status, UNREAD) && stat.type !== DIRECTORY && !isDevice(stat);
}

/** Where files are whiteouts: whether a name, with the type of its object, is not shown. A device 0:0 of such a name hides that name alone. */
export function isWhiteoutFile(name: Uint8Array, type: number): boolean {
	if (!hasPrefix(name, WHITEOUT_PREFIX)) return false;
	return type !== CHARACTER && (type !== DIRECTORY || hasPrefix(name, AUFS_PREFIX));
}

/** The name that a whiteout file hides; null: it hides none. */
export function hiddenByFile(name: Uint8Array): Uint8Array | null {
	return hasPrefix(name, AUFS_PREFIX) || name.length === WHITEOUT_PREFIX.length ? null : name.subarray(WHITEOUT_PREFIX.length);
}

export function hasPrefix(name: Uint8Array, prefix: Uint8Array): boolean {
	if (name.length < prefix.length) return false;
	for (let i = 0; i < prefix.length; i++) if (name[i] !== prefix[i]) return false;
	return true;
}

function isDevice({ type }: Stat): boolean {
	return type === CHARACTER;
}

/** An inode on the file system of a layer's root. */
export function concealedKey(inoHi: number, inoLo: number): string {
	return `${inoHi}:${inoLo}`;
}
