// Opens paths below a root, and searches a lower for the path behind a portable id.

import { visitEntries } from "../linux/directory.ts";
import { ERRNO } from "../linux/errno.ts";
import { close, O, openAt, openBeneath, RESOLVE } from "../linux/open.ts";
import { DEPTH_MAX, depthOf, HASH_BYTES, hashBelow, LOWER_ROOT, mayBe } from "./portable-id.ts";

/** d_type of a directory, and of what its file system does not say. */
const DIRECTORY = 4;
const UNKNOWN = 0;

/** openat2(2) beneath a directory, over no mount and no link. */
export function openInTree(directory: number, path: Uint8Array | string, flags: number): number {
	return openBeneath(directory, path, flags, RESOLVE.beneath | RESOLVE.noSymlinks | RESOLVE.noXdev);
}

/**
 * As openInTree, of a name in a directory that may be a mount point: without a private mount, what it covers cannot be had, and what is mounted is
 * shown instead, a directory as an empty one.
 */
export function openMountPoint(directory: number, name: Uint8Array | string, flags: number): number {
	return openBeneath(directory, name, flags, RESOLVE.beneath | RESOLVE.noSymlinks);
}

/** What listing a directory counts for, beside its names: about as much time as looking at so many. */
const DIRECTORY_ENTRIES = 16;

/** What openat2(2) says where a path leads to nothing, or out of the tree. */
export const PATH_GONE: ReadonlySet<number> = new Set([ERRNO.ENOENT, ERRNO.ENOTDIR, ERRNO.EXDEV, ERRNO.ELOOP]);

/** What one call takes. */
export const PATH_BYTES_MAX = 4095;
const SLASH = 0x2f;
export const SEPARATOR = Buffer.of(SLASH);

/** The names in a path below some root; views of it. */
export function namesInPath(path: Buffer): Buffer[] {
	const names: Buffer[] = [];
	for (let at = 0; at < path.length; ) {
		const slash = path.indexOf(SLASH, at);
		const end = slash < 0 ? path.length : slash;
		if (end > at) names.push(path.subarray(at, end));
		at = end + 1;
	}
	return names;
}

/** The path of a name in a directory, below the root that `directory` is below; the root itself is empty. */
export function pathBelow(directory: Buffer, name: Buffer): Buffer {
	return directory.length === 0 ? name : Buffer.concat([directory, SEPARATOR, name]);
}

/** The directory that a path below some root lies in, and its name there; views of it. */
export function splitPath(path: Buffer): { readonly directory: Buffer; readonly name: Buffer } {
	const end = path.lastIndexOf(SLASH);
	return { directory: path.subarray(0, Math.max(0, end)), name: path.subarray(end + 1) };
}

/** Whether a path below some root is a directory's, or of what is in it. */
export function isSameOrBelow(path: Buffer, directory: Buffer): boolean {
	if (directory.length === 0) return true;
	return path.subarray(0, directory.length).equals(directory) && (path.length === directory.length || path[directory.length] === SLASH);
}

/** Opens a directory below a root to list it, by a path of any length. A descriptor, or the negated error number. */
export function openDirectoryIn(root: number, path: Buffer): number {
	const flags = O.rdonly | O.directory | O.nofollow | O.noatime;
	if (path.length === 0) return openAt(root, ".", flags & ~O.nofollow);
	return path.length > PATH_BYTES_MAX ? openNames(root, namesInPath(path), flags) : openInTree(root, path, flags);
}

/** Opens a path of any length below a root, or the root, as far at a time as one call takes. A descriptor, or the negated error number. */
export function openNames(root: number, names: readonly Buffer[], flags: number): number {
	if (names.length === 0) return openAt(root, ".", flags & ~O.nofollow);
	let directory = root;
	for (let from = 0; ; ) {
		let length = 0;
		let to = from;
		while (to < names.length && length + names[to].length + 1 <= PATH_BYTES_MAX) length += names[to++].length + 1;
		const path = Buffer.concat(names.slice(from, to).flatMap((name, i) => (i === 0 ? [name] : [SEPARATOR, name])));
		const fd = openInTree(directory, path, (to === names.length ? flags : O.path | O.directory) | O.nofollow);
		if (directory !== root) close(directory);
		if (fd < 0 || to === names.length) return fd;
		directory = fd;
		from = to;
	}
}

/** The search was given up for now: it has looked at as many entries as it might. */
export const TOO_FAR = "too far";

/**
 * Finds the path of an id below the root of a lower: the directories whose names fit to it are listed one after the other. Null: there is no
 * such path. At worst that is a walk over all directories as deep as the object. `entriesMax`: names that may be looked at, a directory counting
 * as some of them. `msMax`: how long it may take, but for the directory that is being listed.
 */
export function searchPath(
	root: number,
	id: Buffer,
	entriesMax: number,
	msMax = Number.POSITIVE_INFINITY,
): Buffer[] | null | typeof TOO_FAR {
	const depth = depthOf(id);
	const wanted = id.subarray(0, HASH_BYTES);
	const path: Buffer[] = [];
	let left = entriesMax;
	const end = performance.now() + msMax;

	const search = (directory: number, above: Buffer): "found" | "none" | typeof TOO_FAR => {
		const place = path.length;
		const isLast = depth !== DEPTH_MAX && place === depth - 1;
		const mayBeLast = isLast || (depth === DEPTH_MAX && place >= DEPTH_MAX - 1);
		left -= DIRECTORY_ENTRIES;
		if (performance.now() > end) return TOO_FAR;
		const candidates: { readonly name: Buffer; readonly isDirectory: boolean }[] = [];
		const status = visitEntries(directory, (name, type) => {
			if (--left < 0) return false;
			const isDirectory = type === DIRECTORY || type === UNKNOWN;
			if ((mayBeLast || isDirectory) && mayBe(id, place, name)) candidates.push({ name: Buffer.from(name), isDirectory });
			return undefined;
		});
		if (left < 0) return TOO_FAR;
		if (status < 0) return "none";
		for (const { name, isDirectory } of candidates) {
			const hash = hashBelow(above, name);
			path.push(name);
			if (mayBeLast && hash.equals(wanted)) return "found";
			if (!isLast && isDirectory) {
				const fd = openInTree(directory, name, O.rdonly | O.directory | O.nofollow | O.noatime);
				if (fd >= 0) {
					const outcome = search(fd, hash);
					close(fd);
					if (outcome !== "none") return outcome;
				}
			}
			path.pop();
		}
		return "none";
	};

	const start = openAt(root, ".", O.rdonly | O.directory);
	if (start < 0) return null;
	try {
		const outcome = search(start, LOWER_ROOT.bytes);
		if (outcome === TOO_FAR) return TOO_FAR;
		return outcome === "found" ? path : null;
	} finally {
		close(start);
	}
}
