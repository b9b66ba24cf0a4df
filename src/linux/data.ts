// Reading, writing, copying, cutting and flushing the content of open files.

import { arena, arenaAddress, arenaView, declare, declareChange, PLACE, result, VALUE_BYTES } from "./libc.ts";

const preadCall = declare("pread", "long", ["int", "pointer", "size_t", "int64_t"]);
const preadv2Call = declare("preadv2", "long", ["int", "pointer", "int", "int64_t", "int"]);
const pwriteCall = declareChange("pwrite", "long", ["int", "const uint8_t *", "size_t", "int64_t"]);
const pwritev2Call = declareChange("pwritev2", "long", ["int", "pointer", "int", "int64_t", "int"]);
const ftruncateCall = declareChange("ftruncate", "int", ["int", "int64_t"]);
const fallocateCall = declareChange("fallocate", "int", ["int", "int", "int64_t", "int64_t"]);
const lseekCall = declare("lseek", "int64_t", ["int", "int64_t", "int"]);
const copyFileRangeCall = declareChange("copy_file_range", "long", ["int", "pointer", "int", "pointer", "size_t", "uint"]);
const ioctlNumberCall = declare("ioctl", "int", ["int", "ulong", "int64_t"]);
const ioctlRangeCall = declareChange("ioctl", "int", ["int", "ulong", "pointer"]);
const fsyncCall = declare("fsync", "int", ["int"]);
const fdatasyncCall = declare("fdatasync", "int", ["int"]);
const syncFileRangeCall = declare("sync_file_range", "int", ["int", "int64_t", "int64_t", "uint"]);
const syncfsCall = declare("syncfs", "int", ["int"]);

const fadviseCall = declare("posix_fadvise", "int", ["int", "int64_t", "int64_t", "int"]);

const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const FICLONE = 0x40049409;
const FICLONERANGE = 0x4020940d;
const FS_IOC_FIEMAP = 0xc020660b;
/** int, whatever these numbers say (linux/fs.h). */
const [FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_NOCOW_FL] = [0x80086601, 0x40086602, 0x00800000];
/** struct fiemap without its extents, and one of these (linux/fiemap.h). */
const [FIEMAP_BYTES, FIEMAP_EXTENT_BYTES] = [32, 56];
/** fallocate(2) modes. */
export const FALLOCATE = { keepSize: 1, punchHole: 2 } as const;

/** sync_file_range(2). */
const [WAIT_BEFORE, WRITE, WAIT_AFTER] = [1, 2, 4];
/** preadv2(2): answer from the page cache or say EAGAIN. */
export const RWF_NOWAIT = 8;

/** Bytes read into memory at `address` (0 at the end of file), or the negated error number. */
export function readInto(fd: number, address: number, length: number, offset: number): number {
	return result(preadCall(fd, address, length, offset));
}

function putVector(address: number, length: number): number {
	arenaView.setUint32(PLACE.offset, address >>> 0, true);
	arenaView.setUint32(PLACE.offset + 4, Math.floor(address / 0x100000000), true);
	arenaView.setUint32(PLACE.offset + 8, length, true);
	arenaView.setUint32(PLACE.offset + 12, 0, true);
	return arenaAddress + PLACE.offset;
}

/** As readInto with RWF_* flags (length below 2^32). */
export function readVector(fd: number, address: number, length: number, offset: number, flags: number): number {
	return result(preadv2Call(fd, putVector(address, length), 1, offset, flags));
}

/** Writes memory at `address` with RWF_* flags (length below 2^32). */
export function writeVector(fd: number, address: number, length: number, offset: number, flags: number): number {
	return result(pwritev2Call(fd, putVector(address, length), 1, offset, flags));
}

export function writeFrom(fd: number, bytes: Uint8Array, offset: number): number {
	return result(pwriteCall(fd, bytes, bytes.length, offset));
}

const POSIX_FADV_WILLNEED = 3;

/** Lets the kernel begin to read a range; 0, or the negated error number. */
export function readAhead(fd: number, offset: number, length: number): number {
	const error = fadviseCall(fd, offset, length, POSIX_FADV_WILLNEED);
	return error === 0 ? 0 : -error;
}

export function truncateFile(fd: number, size: number): number {
	return result(ftruncateCall(fd, size));
}

/** fallocate(2) with its FALLOC_FL_* mode. */
export function allocateRange(fd: number, mode: number, offset: number, length: number): number {
	return result(fallocateCall(fd, mode, offset, length));
}

/** Has an empty file of btrfs written in place from now on, where others are copied at each write; 0, or the negated error number. */
export function writeInPlace(fd: number): number {
	const at = PLACE.ioctl;
	const status = result(ioctlNumberCall(fd, FS_IOC_GETFLAGS, arenaAddress + at));
	if (status < 0) return status;
	const flags = arenaView.getUint32(at, true);
	if ((flags & FS_NOCOW_FL) !== 0) return 0;
	arenaView.setUint32(at, flags | FS_NOCOW_FL, true);
	return result(ioctlRangeCall(fd, FS_IOC_SETFLAGS, arenaAddress + at));
}

/** Start of the next data at or after the offset; -ENXIO when there is none. */
export function seekData(fd: number, offset: number): number {
	return result(lseekCall(fd, offset, SEEK_DATA));
}

/** Start of the next hole at or after the offset; the end of file counts as one. */
export function seekHole(fd: number, offset: number): number {
	return result(lseekCall(fd, offset, SEEK_HOLE));
}

function putOffset(place: number, offset: number): number {
	arenaView.setUint32(place, offset >>> 0, true);
	arenaView.setUint32(place + 4, Math.floor(offset / 0x100000000), true);
	return arenaAddress + place;
}

/** Copies within the kernel from and to the same offset; bytes copied or the negated error number. */
export function copyRange(from: number, to: number, offset: number, length: number): number {
	return result(copyFileRangeCall(from, putOffset(PLACE.offset, offset), to, putOffset(PLACE.offset + 8, offset), length, 0));
}

/** Shares all extents of one file with another (FICLONE). -EOPNOTSUPP, -EXDEV, -EINVAL: not possible here. */
export function cloneFile(from: number, to: number): number {
	return result(ioctlNumberCall(to, FICLONE, from));
}

/** Shares a range of one file with another (FICLONERANGE), whose size grows by it; a length of 0 is up to the end of `from`. Errors as of cloneFile. */
export function cloneFileRange(from: number, fromOffset: number, length: number, to: number, offset: number): number {
	putOffset(PLACE.offset, from);
	putOffset(PLACE.offset + 8, fromOffset);
	putOffset(PLACE.offset + 16, length);
	putOffset(PLACE.offset + 24, offset);
	return result(ioctlRangeCall(to, FICLONERANGE, arenaAddress + PLACE.offset));
}

/**
 * Extents of an open file, counted up to `most` (at most 1,000), or the negated error number; -EOPNOTSUPP: its file system does not tell
 * (FS_IOC_FIEMAP). Not for O_PATH.
 */
export function countExtents(fd: number, most: number): number {
	if (most * FIEMAP_EXTENT_BYTES + FIEMAP_BYTES > VALUE_BYTES) throw new RangeError("Too many extents are asked for");
	const at = PLACE.value;
	arena.fill(0, at, at + FIEMAP_BYTES);
	// from the beginning up to the end of any file
	arenaView.setUint32(at + 8, 0xffffffff, true);
	arenaView.setUint32(at + 12, 0x7fffffff, true);
	arenaView.setUint32(at + 24, most, true);
	const status = result(ioctlNumberCall(fd, FS_IOC_FIEMAP, arenaAddress + at));
	return status < 0 ? status : arenaView.getUint32(at + 20, true);
}

export function syncFile(fd: number): number {
	return result(fsyncCall(fd));
}

export function syncFileData(fd: number): number {
	return result(fdatasyncCall(fd));
}

/** Writes a range of a file out and waits for it, which makes nothing stable: so that a later fsync has less to do. */
export function writeOut(fd: number, offset: number, length: number): number {
	return result(syncFileRangeCall(fd, offset, length, WAIT_BEFORE | WRITE | WAIT_AFTER));
}

/** Writes out the whole file system of a descriptor. */
export function syncFileSystem(fd: number): number {
	return result(syncfsCall(fd));
}
