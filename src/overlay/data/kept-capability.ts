// Keeps the capabilities of a file while its data is copied, since each write takes them away.

import type { OverlayXattrs } from "../../layer/layer.ts";
import { CAPABILITY_XATTR, removeXattr, setXattr } from "../../linux/xattr.ts";
import { must } from "../../vfs/system-errors.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";

const UNREAD = "Cannot read the capabilities of a file";

function keptName(xattr: OverlayXattrs): string {
	return `${xattr.identity}.capability`;
}

/** Notes them on the file itself, so that a start after a crash finds them too. May be called again before they are given back. */
export function keepCapability(xattr: OverlayXattrs, fd: number): void {
	const capability = xattrOrNone(fd, CAPABILITY_XATTR, UNREAD);
	if (capability !== null) must(setXattr(fd, keptName(xattr), capability), "Cannot keep the capabilities of a file");
}

/** Gives the file what was kept, if anything was. */
export function restoreCapability(xattr: OverlayXattrs, fd: number): void {
	const capability = xattrOrNone(fd, keptName(xattr), UNREAD);
	if (capability === null) return;
	must(setXattr(fd, CAPABILITY_XATTR, capability), "Cannot set the capabilities of a file");
	must(removeXattr(fd, keptName(xattr)), "Cannot set the capabilities of a file");
}

/** A client has changed the file, which loses them as it would anywhere: nothing is given back. */
export function dropKeptCapability(xattr: OverlayXattrs, fd: number): void {
	removeXattr(fd, keptName(xattr));
}
