import { close, O, openAt } from "../linux/open.ts";
import { type Stat, statAt } from "../linux/stat.ts";
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

/** Whether an entry of a directory, with the type that its listing gives (0: unknown), is a whiteout of either form. `stat` is scratch. */
export function isWhiteoutEntry(directory: number, name: Uint8Array, type: number, hasXattrWhiteouts: boolean, stat: Stat): boolean {
	const mayBe = type === FileType.chr || type === 0 || (type === FileType.reg && hasXattrWhiteouts);
	if (!mayBe || statAt(directory, name, stat) < 0) return false;
	if (isWhiteoutStat(stat)) return true;
	if (!hasXattrWhiteouts || stat.type !== FileType.reg) return false;
	const fd = openAt(directory, name, O.path | O.nofollow);
	if (fd < 0) return false;
	const found = isXattrWhiteout(fd, stat);
	close(fd);
	return found;
}
