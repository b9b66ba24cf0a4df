import type { Stat } from "../linux/stat.ts";
import { getXattr } from "../linux/xattr.ts";
import { XATTR } from "./engine.ts";
import { FileType } from "./types.ts";

/** The common form of a whiteout: a character device 0:0. */
export function isWhiteoutStat(stat: Stat): boolean {
	return stat.type === FileType.chr && stat.rdevMajor === 0 && stat.rdevMinor === 0;
}

/** The form for who may not make devices: an empty file with an xattr, honoured only inside a directory with opaque "x". */
export function isXattrWhiteout(fd: number, stat: Stat): boolean {
	return stat.type === FileType.reg && stat.size === 0 && typeof getXattr(fd, XATTR.whiteout) !== "number";
}
