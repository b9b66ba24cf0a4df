// The overlay's marks on inodes that can have no xattr, kept in work.

import { recordIn } from "../../layer/origin-record.ts";
import { moveChangeTime } from "../../linux/attributes.ts";
import { ENODATA, ERRNO } from "../../linux/errno.ts";
import { setXattr } from "../../linux/xattr.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { FileType } from "../../vfs/operations.ts";
import { failed } from "../../vfs/system-errors.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";
import { versionIn } from "../format/base-version.ts";
import type { UpperState } from "./upper-state.ts";

type Marked = Pick<UpperState, "layer" | "marks">;

/**
 * The overlay's own xattrs on objects of upper. Linux keeps user.* attributes on regular files and directories only; what another object of
 * an overlay with `userxattr` would carry lies in `work/holdfast/marks`, by the object's kernel handle and the name of the xattr.
 */
function keyOf({ layer }: Marked, fd: number, name: string): Buffer {
	const handle = layer.handles.of(fd);
	if (typeof handle === "number") throw failed("Cannot take a file handle", handle);
	return Buffer.concat([Buffer.from([handle.type]), handle.bytes, Buffer.from(name)]);
}

/** The value of an xattr of an upper object, or -ENODATA: none. OverlayError where that cannot be read. */
export function getMark(writable: Marked, fd: number, type: number, name: string): Buffer | number {
	const value = xattrOrNone(fd, name, `Cannot read ${name}`);
	if (value === null && (type === FileType.reg || type === FileType.dir || writable.marks.isEmpty)) return -ENODATA;
	return value === null ? (writable.marks.get(keyOf(writable, fd, shortOf(writable, name))) ?? -ENODATA) : value;
}

/** The record that an upper object says it was copied up from, without the version of that object behind it, or -ENODATA. */
export function getOrigin(writable: Marked, fd: number, type: number): Buffer | number {
	const value = getMark(writable, fd, type, writable.layer.xattr.origin);
	return typeof value === "number" ? value : recordIn(value);
}

/** In what version it was copied up, as `encodeBase` has it; null: that is not recorded, or damaged. */
export function getVersion(writable: Marked, fd: number, type: number): Buffer | null {
	const value = getMark(writable, fd, type, writable.layer.xattr.origin);
	const version = typeof value === "number" ? null : versionIn(value);
	return version === "damaged" ? null : version;
}

/** In what version a lower object was that the index says is gone; null: that is not recorded, or damaged. */
export function getVersionOfGone({ bases }: Pick<UpperState, "bases">, record: Buffer): Buffer | null {
	try {
		return bases.get(record);
	} catch (error) {
		if (error instanceof OverlayError) return null;
		throw error;
	}
}

/** Sets it; 0, or the negated error number. */
export function setMark(writable: Marked, fd: number, name: string, value: Uint8Array): number {
	const status = setXattr(fd, name, value);
	const { prefix } = writable.layer.xattr;
	if (status !== -ERRNO.EPERM || !prefix.startsWith("user.") || !name.startsWith(prefix)) return status;
	// as an xattr of the inode would; before the mark, so that a kill in between leaves no change that the ctime does not tell
	const moved = moveChangeTime(fd);
	if (moved < 0) return moved;
	writable.marks.set(keyOf(writable, fd, shortOf(writable, name)), Buffer.from(value));
	return 0;
}

function shortOf(writable: Marked, name: string): string {
	return name.slice(writable.layer.xattr.prefix.length);
}
