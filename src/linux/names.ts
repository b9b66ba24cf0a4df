// Makes, moves, links and removes names in open directories.

import { ERRNO } from "./errno.ts";
import { arena, arenaAddress, declare, declareChange, type PathBytes, PLACE, putPath, result, VALUE_BYTES } from "./libc.ts";
import { descriptorPath, O } from "./open.ts";

const linkatCall = declareChange("linkat", "int", ["int", "pointer", "int", "pointer", "int"]);
const renameat2Call = declareChange("renameat2", "int", ["int", "pointer", "int", "pointer", "uint"]);
const unlinkatCall = declareChange("unlinkat", "int", ["int", "pointer", "int"]);
const mkdiratCall = declareChange("mkdirat", "int", ["int", "pointer", "uint"]);
const mknodatCall = declareChange("mknodat", "int", ["int", "pointer", "uint", "uint64_t"]);
const symlinkatCall = declareChange("symlinkat", "int", ["pointer", "int", "pointer"]);
const openatCall = declareChange("openat", "int", ["int", "pointer", "int", "uint"]);
const readlinkatCall = declare("readlinkat", "long", ["int", "pointer", "pointer", "size_t"]);

const AT_FDCWD = -100;
const AT_SYMLINK_FOLLOW = 0x400;
const AT_EMPTY_PATH = 0x1000;
const AT_REMOVEDIR = 0x200;

/** renameat2(2) flags. */
export const RENAME = { noReplace: 1, exchange: 2, whiteout: 4 } as const;

export function linkName(fromDirectory: number, from: PathBytes, toDirectory: number, to: PathBytes): number {
	return result(linkatCall(fromDirectory, putPath(PLACE.path, from), toDirectory, putPath(PLACE.otherPath, to), 0));
}

/** A further name for an open inode. */
export function linkDescriptor(fd: number, toDirectory: number, to: PathBytes): number {
	arena[PLACE.path] = 0;
	const status = result(linkatCall(fd, arenaAddress + PLACE.path, toDirectory, putPath(PLACE.otherPath, to), AT_EMPTY_PATH));
	// who has not CAP_DAC_READ_SEARCH may take the other way round
	if (status !== -ERRNO.ENOENT && status !== -ERRNO.EPERM) return status;
	const path = putPath(PLACE.path, descriptorPath(fd));
	return result(linkatCall(AT_FDCWD, path, toDirectory, putPath(PLACE.otherPath, to), AT_SYMLINK_FOLLOW));
}

export function renameName(fromDirectory: number, from: PathBytes, toDirectory: number, to: PathBytes, flags = 0): number {
	return result(renameat2Call(fromDirectory, putPath(PLACE.path, from), toDirectory, putPath(PLACE.otherPath, to), flags));
}

export function unlinkName(directory: number, name: PathBytes): number {
	return result(unlinkatCall(directory, putPath(PLACE.path, name), 0));
}

export function removeDirectory(directory: number, name: PathBytes): number {
	return result(unlinkatCall(directory, putPath(PLACE.path, name), AT_REMOVEDIR));
}

/** A new regular file, open for reading and writing; -EEXIST where the name is taken. */
export function makeFile(directory: number, name: PathBytes, mode: number): number {
	return result(openatCall(directory, putPath(PLACE.path, name), O.rdwr | O.creat | O.excl | O.nofollow | O.cloexec | O.noatime, mode));
}

export function makeDirectory(directory: number, name: PathBytes, mode: number): number {
	return result(mkdiratCall(directory, putPath(PLACE.path, name), mode));
}

/** `mode` with its S_IFMT bits. */
export function makeNode(directory: number, name: PathBytes, mode: number, major: number, minor: number): number {
	return result(mknodatCall(directory, putPath(PLACE.path, name), mode, deviceNumber(major, minor)));
}

/** dev_t of the C library: makedev(3). Exact below 2^53, which holds for every major below 2^21. */
function deviceNumber(major: number, minor: number): number {
	return (minor & 0xff) + (major & 0xfff) * 0x100 + (minor >>> 8) * 0x100000 + (major >>> 12) * 0x100000000000;
}

export function makeSymlink(target: PathBytes, directory: number, name: PathBytes): number {
	return result(symlinkatCall(putPath(PLACE.otherPath, target), directory, putPath(PLACE.path, name)));
}

/** The target of a link of a directory, or the negated error number. */
export function readLinkAt(directory: number, name: PathBytes): Buffer | number {
	const length = readlinkatCall(directory, putPath(PLACE.path, name), arenaAddress + PLACE.value, VALUE_BYTES);
	return length < 0 ? result(length) : Buffer.from(arena.subarray(PLACE.value, PLACE.value + length));
}

/** The target of a link: of `name` in a directory, or with an empty name of the O_PATH descriptor itself. Null on error. */
export function readLink(fd: number, name: PathBytes): Buffer | null {
	const target = readLinkAt(fd, name);
	return typeof target === "number" ? null : target;
}
