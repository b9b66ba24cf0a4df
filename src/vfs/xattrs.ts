// Reads extended attributes of what may have none. Apart from system-errors.ts, which the program needs before its packages are loaded.

import { getXattr } from "../linux/xattr.ts";
import { valueOrNone } from "./system-errors.ts";

/** An extended attribute of the inode behind a descriptor; null: it has none. OverlayError where that cannot be read. */
export function xattrOrNone(fd: number, name: string, attempt: string): Buffer | null {
	return valueOrNone(getXattr(fd, name), attempt, name);
}
