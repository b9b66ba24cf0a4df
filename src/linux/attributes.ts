// chmod(2), chown(2) and utimensat(2) on open inodes.

import { arenaAddress, arenaView, declareChange, type PathBytes, PLACE, putPath, result } from "./libc.ts";
import { descriptorPath } from "./open.ts";
import { fstat, Stat } from "./stat.ts";

const fchmodatCall = declareChange("fchmodat", "int", ["int", "pointer", "uint", "int"]);
const fchownatCall = declareChange("fchownat", "int", ["int", "pointer", "uint", "uint", "int"]);
const utimensatCall = declareChange("utimensat", "int", ["int", "pointer", "pointer", "int"]);

const AT_FDCWD = -100;
const AT_EMPTY_PATH = 0x1000;
const AT_SYMLINK_NOFOLLOW = 0x100;
const UTIME_NOW = 0x3fffffff;
const UTIME_OMIT = 0x3ffffffe;

/** Permission bits of the inode behind a descriptor. Not for symlinks. */
export function changeMode(fd: number, mode: number): number {
	return result(fchmodatCall(AT_FDCWD, putPath(PLACE.path, descriptorPath(fd)), mode, 0));
}

/** Owner and group; 0xffffffff leaves one as it is. */
export function changeOwner(fd: number, uid: number, gid: number): number {
	return result(fchownatCall(fd, putPath(PLACE.path, ""), uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
}

type Time = { readonly sec: number; readonly nsec: number } | "now" | undefined;

function putTime(place: number, time: Time): void {
	const sec = typeof time === "object" ? time.sec : 0;
	arenaView.setUint32(place, sec >>> 0, true);
	arenaView.setInt32(place + 4, Math.floor(sec / 0x100000000), true);
	arenaView.setUint32(place + 8, typeof time === "object" ? time.nsec : time === "now" ? UTIME_NOW : UTIME_OMIT, true);
	arenaView.setUint32(place + 12, 0, true);
}

/** Access and modification time of the inode behind a descriptor (O_PATH too); an absent one stays. */
export function changeTimes(fd: number, atime: Time, mtime: Time): number {
	putTime(PLACE.times, atime);
	putTime(PLACE.times + 16, mtime);
	// AT_EMPTY_PATH is taken from Linux 5.8 on; the descriptor may be a symlink's
	return result(utimensatCall(fd, putPath(PLACE.path, ""), arenaAddress + PLACE.times, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
}

const scratch = new Stat();

/** Moves the ctime of the inode behind a descriptor (O_PATH too) to now, and changes nothing else. */
export function moveChangeTime(fd: number): number {
	const status = fstat(fd, scratch);
	// to omit both times would change nothing
	return status < 0 ? status : changeTimes(fd, { sec: scratch.atimeSec, nsec: scratch.atimeNsec }, undefined);
}

/** As changeTimes, of a name in a directory. */
export function changeTimesAt(directory: number, name: PathBytes, atime: Time, mtime: Time): number {
	putTime(PLACE.times, atime);
	putTime(PLACE.times + 16, mtime);
	return result(utimensatCall(directory, putPath(PLACE.path, name), arenaAddress + PLACE.times, AT_SYMLINK_NOFOLLOW));
}
