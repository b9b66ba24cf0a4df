// statx(2): the attributes of an inode, and the id of a mount.

import { coveredEntry, type Inode } from "./covered-entry.ts";
import { arenaAddress, arenaView, arenaWords, declare, type PathBytes, PLACE, putPath, result } from "./libc.ts";

const statxCall = declare("statx", "int", ["int", "pointer", "int", "uint", "pointer"]);
const AT_EMPTY_PATH = 0x1000;
const AT_SYMLINK_NOFOLLOW = 0x100;
const STATX_BASIC_STATS = 0x7ff;
const STATX_BTIME = 0x800;
const STATX_MNT_ID = 0x1000;
const STATX_MNT_ID_UNIQUE = 0x4000;
const STATX_ADDRESS = arenaAddress + PLACE.statx;
const WORD = PLACE.statx / 4;

/** Bits of stx_attributes. */
export const STATX_ATTR = { immutable: 0x10, append: 0x20 } as const;

/** What statx(2) says of an inode. Times: seconds (may be negative) and nanoseconds. 64-bit values that identify are halves. */
export class Stat {
	/** Low half of stx_attributes: see STATX_ATTR. */
	attributes = 0;
	mode = 0;
	/** S_IFMT >> 12 as the file system says it, also where `mode` was replaced by what the inode stands for. */
	realType = 0;
	nlink = 0;
	uid = 0;
	gid = 0;
	inoHi = 0;
	inoLo = 0;
	sizeHi = 0;
	sizeLo = 0;
	blocks = 0;
	rdevMajor = 0;
	rdevMinor = 0;
	devMajor = 0;
	devMinor = 0;
	atimeSec = 0;
	atimeNsec = 0;
	mtimeSec = 0;
	mtimeNsec = 0;
	ctimeSec = 0;
	ctimeNsec = 0;

	/** File type as S_IFMT >> 12. */
	get type(): number {
		return this.mode >> 12;
	}

	/** Bytes, exact below 2^53. */
	get size(): number {
		return this.sizeHi * 0x100000000 + this.sizeLo;
	}

	sameInode(other: Inode): boolean {
		return this.inoLo === other.inoLo && this.inoHi === other.inoHi && this.sameDevice(other);
	}

	/** Of the same file system: on btrfs of the same subvolume. */
	sameDevice(other: Pick<Inode, "devMajor" | "devMinor">): boolean {
		return this.devMinor === other.devMinor && this.devMajor === other.devMajor;
	}
}

let alter: ((stat: Stat) => void) | null = null;

/** For tests: what every stat that is read passes through, as to show the time stamps of a coarser clock; null: nothing. */
export function alterStats(how: ((stat: Stat) => void) | null): void {
	alter = how;
}

function take(out: Stat): void {
	const w = arenaWords;
	out.attributes = w[WORD + 2];
	out.nlink = w[WORD + 4];
	out.uid = w[WORD + 5];
	out.gid = w[WORD + 6];
	out.mode = w[WORD + 7] & 0xffff;
	out.realType = out.mode >> 12;
	out.inoLo = w[WORD + 8];
	out.inoHi = w[WORD + 9];
	out.sizeLo = w[WORD + 10];
	out.sizeHi = w[WORD + 11];
	out.blocks = whole(w[WORD + 13], w[WORD + 12]);
	out.atimeSec = seconds(16);
	out.atimeNsec = w[WORD + 18];
	out.ctimeSec = seconds(24);
	out.ctimeNsec = w[WORD + 26];
	out.mtimeSec = seconds(28);
	out.mtimeNsec = w[WORD + 30];
	out.rdevMajor = w[WORD + 32];
	out.rdevMinor = w[WORD + 33];
	out.devMajor = w[WORD + 34];
	out.devMinor = w[WORD + 35];
	if (alter !== null) alter(out);
}

/** Signed 64-bit seconds, exact below 2^53. */
function seconds(word: number): number {
	return whole(arenaWords[WORD + word + 1] | 0, arenaWords[WORD + word]);
}

/** What fits into a small integer is one: a product is kept as a double, which takes memory of its own. */
function whole(hi: number, lo: number): number {
	return hi === 0 ? lo : hi * 0x100000000 + lo;
}

/** The inode behind a descriptor (O_PATH will do). */
export function fstat(fd: number, out: Stat): number {
	arenaView.setUint8(PLACE.path, 0);
	const status = statxCall(fd, arenaAddress + PLACE.path, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, STATX_ADDRESS);
	if (status < 0) return result(status);
	take(out);
	return 0;
}

/** The inode of a name, its link not followed. */
export function statAt(directory: number, name: PathBytes, out: Stat): number {
	const covered = coveredIn(directory, name);
	if (covered >= 0) return fstat(covered, out);
	const status = statxCall(directory, putPath(PLACE.path, name), AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, STATX_ADDRESS);
	if (status < 0) return result(status);
	take(out);
	return 0;
}

/** The descriptor of the directory that a mount of our own covers and that a name in a directory is, or -1. */
export function coveredIn(directory: number, name: PathBytes): number {
	return coveredEntry(directory, name, isInode);
}

const seen = new Stat();

function isInode(fd: number, inode: Inode): boolean {
	return fstat(fd, seen) === 0 && seen.sameInode(inode);
}

/** When the inode behind a descriptor was made; null: its file system does not say. */
export function birthTime(fd: number): { readonly sec: number; readonly nsec: number } | null {
	arenaView.setUint8(PLACE.path, 0);
	const status = statxCall(fd, arenaAddress + PLACE.path, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_BTIME, STATX_ADDRESS);
	if (status < 0 || (arenaWords[WORD] & STATX_BTIME) === 0) return null;
	return { sec: seconds(20), nsec: arenaWords[WORD + 22] };
}

/** The low half of the id of the mount that a descriptor was opened through (Linux 5.8), or the negated error number. */
export function mountId(fd: number): number {
	arenaView.setUint8(PLACE.path, 0);
	const status = statxCall(fd, arenaAddress + PLACE.path, AT_EMPTY_PATH, STATX_MNT_ID, STATX_ADDRESS);
	return status < 0 ? result(status) : arenaWords[WORD + 36];
}

/** The id of the mount that a descriptor was opened through, which no other mount gets until the next boot (Linux 6.8); "" before that. */
export function uniqueMountId(fd: number): string {
	arenaView.setUint8(PLACE.path, 0);
	const status = statxCall(fd, arenaAddress + PLACE.path, AT_EMPTY_PATH, STATX_MNT_ID_UNIQUE, STATX_ADDRESS);
	if (status < 0 || (arenaWords[WORD] & STATX_MNT_ID_UNIQUE) === 0) return "";
	return `${arenaWords[WORD + 37]}:${arenaWords[WORD + 36]}`;
}
