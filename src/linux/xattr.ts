// Extended attributes of inodes and of names.

import { arena, arenaAddress, declare, declareChange, type PathBytes, PLACE, putPath, result, VALUE_BYTES } from "./libc.ts";
import { descriptorPath } from "./open.ts";
import { coveredIn } from "./stat.ts";

// The forms that take a path follow /proc/self/fd/N to the very inode, which O_PATH descriptors (symlinks, devices) need.
const getxattrCall = declare("getxattr", "long", ["pointer", "pointer", "pointer", "size_t"]);
const lgetxattrCall = declare("lgetxattr", "long", ["pointer", "pointer", "pointer", "size_t"]);
const setxattrCall = declareChange("setxattr", "int", ["pointer", "pointer", "pointer", "size_t", "int"]);
const fgetxattrCall = declare("fgetxattr", "long", ["int", "pointer", "pointer", "size_t"]);
const fsetxattrCall = declareChange("fsetxattr", "int", ["int", "pointer", "pointer", "size_t", "int"]);
const removexattrCall = declareChange("removexattr", "int", ["pointer", "pointer"]);
const listxattrCall = declare("listxattr", "long", ["pointer", "pointer", "size_t"]);

const VALUE_ADDRESS = arenaAddress + PLACE.value;

/** What a program may do beyond its user (capabilities(7)); the kernel removes it at each write and each change of owner. */
export const CAPABILITY_XATTR = "security.capability";

/** Largest value of an extended attribute (XATTR_SIZE_MAX of Linux). */
export const VALUE_BYTES_MAX = VALUE_BYTES;

/** The value of an extended attribute of the inode behind a descriptor, or the negated error number (-ENODATA: none). */
export function getXattr(fd: number, name: PathBytes): Buffer | number {
	const length = getxattrCall(putPath(PLACE.path, descriptorPath(fd)), putPath(PLACE.otherPath, name), VALUE_ADDRESS, VALUE_BYTES);
	return length < 0 ? result(length) : Buffer.from(arena.subarray(PLACE.value, PLACE.value + length));
}

/** As getXattr, of a name in a directory, a link not followed. */
export function getXattrAt(directory: number, entry: PathBytes, name: PathBytes): Buffer | number {
	const covered = coveredIn(directory, entry);
	if (covered >= 0) return getXattr(covered, name);
	const folder = Buffer.from(`${descriptorPath(directory)}/`);
	const path = Buffer.concat([folder, typeof entry === "string" ? Buffer.from(entry) : entry]);
	const length = lgetxattrCall(putPath(PLACE.path, path), putPath(PLACE.otherPath, name), VALUE_ADDRESS, VALUE_BYTES);
	return length < 0 ? result(length) : Buffer.from(arena.subarray(PLACE.value, PLACE.value + length));
}

/** As getXattr, of a descriptor that was not opened with O_PATH: quicker. */
export function getXattrOfOpen(fd: number, name: PathBytes): Buffer | number {
	const length = fgetxattrCall(fd, putPath(PLACE.otherPath, name), VALUE_ADDRESS, VALUE_BYTES);
	return length < 0 ? result(length) : Buffer.from(arena.subarray(PLACE.value, PLACE.value + length));
}

/** As setXattr, of a descriptor that was not opened with O_PATH: quicker. */
export function setXattrOfOpen(fd: number, name: PathBytes, value: Uint8Array): number {
	if (value.length > VALUE_BYTES) throw new RangeError("The attribute's value is too long");
	arena.set(value, PLACE.value);
	return result(fsetxattrCall(fd, putPath(PLACE.otherPath, name), VALUE_ADDRESS, value.length, 0));
}

/** Sets it, whether it exists or not. */
export function setXattr(fd: number, name: PathBytes, value: Uint8Array): number {
	if (value.length > VALUE_BYTES) throw new RangeError("The attribute's value is too long");
	arena.set(value, PLACE.value);
	return result(setxattrCall(putPath(PLACE.path, descriptorPath(fd)), putPath(PLACE.otherPath, name), VALUE_ADDRESS, value.length, 0));
}

export function removeXattr(fd: number, name: PathBytes): number {
	return result(removexattrCall(putPath(PLACE.path, descriptorPath(fd)), putPath(PLACE.otherPath, name)));
}

/** Names of all extended attributes, as bytes, or the negated error number. */
export function listXattrs(fd: number): Buffer[] | number {
	const length = listxattrCall(putPath(PLACE.path, descriptorPath(fd)), VALUE_ADDRESS, VALUE_BYTES);
	if (length < 0) return result(length);
	const names: Buffer[] = [];
	let start = PLACE.value;
	for (let i = PLACE.value; i < PLACE.value + length; i++) {
		if (arena[i] !== 0) continue;
		names.push(Buffer.from(arena.subarray(start, i)));
		start = i + 1;
	}
	return names;
}
