// Opens and closes descriptors: openat(2), openat2(2) and their flags.

import { constants } from "node:fs";
import { ERRNO } from "./errno.ts";
import { arenaAddress, arenaWords, declare, type PathBytes, PLACE, putPath, result } from "./libc.ts";
import { coveredIn, fstat, Stat } from "./stat.ts";

/** open(2) flags; where they differ between architectures they come from Node. */
export const O = {
	rdonly: 0,
	wronly: 1,
	rdwr: 2,
	creat: constants.O_CREAT,
	excl: constants.O_EXCL,
	trunc: constants.O_TRUNC,
	append: constants.O_APPEND,
	nonblock: constants.O_NONBLOCK,
	directory: constants.O_DIRECTORY,
	nofollow: constants.O_NOFOLLOW,
	noatime: constants.O_NOATIME,
	noctty: constants.O_NOCTTY,
	cloexec: 0o2000000,
	path: 0o10000000,
} as const;

/** openat2(2) resolution. */
export const RESOLVE = { noXdev: 0x01, noMagicLinks: 0x02, noSymlinks: 0x04, beneath: 0x08, cached: 0x20 } as const;

const SYS_OPENAT2 = 437;
const AT_FDCWD = -100;
const HOW_ADDRESS = arenaAddress + PLACE.openHow;
const HOW_WORD = PLACE.openHow / 4;
const HOW_BYTES = 24;

const syscall5 = declare("syscall", "long", ["long", "int", "pointer", "pointer", "size_t"]);
const openatCall = declare("openat", "int", ["int", "pointer", "int", "uint"]);
const closeCall = declare("close", "int", ["int"]);
const fcntlCall = declare("fcntl", "int", ["int", "int", "int"]);
const F_DUPFD_CLOEXEC = 1030;
const [F_SETFD, F_GETFL, F_SETFL, FD_CLOEXEC] = [2, 3, 4, 1];

/** Opens a path, which may be absolute and may hold links: for what the user of this server names, never for what a client names. See `openLooked`. */
export function openPath(path: PathBytes, flags: number, mode = 0): number {
	const open = (given: number) => result(openatCall(AT_FDCWD, putPath(PLACE.path, path), given | O.cloexec, mode));
	const fd = needsLook(flags) ? openLooked(open, flags) : open(flags);
	return isForOwners(fd, flags) ? openPath(path, flags & ~O.noatime, mode) : fd;
}

/** openat(2) on a single name that this program chose itself. See `openLooked`. */
export function openAt(directory: number, name: PathBytes, flags: number, mode = 0): number {
	const covered = coveredIn(directory, name);
	if (covered >= 0) return openAt(covered, ".", flags & ~O.nofollow);
	const fd = needsLook(flags)
		? openLooked((given) => result(openatCall(directory, putPath(PLACE.path, name), given | O.cloexec, mode)), flags)
		: result(openatCall(directory, putPath(PLACE.path, name), flags | O.cloexec, mode));
	return isForOwners(fd, flags) ? openAt(directory, name, flags & ~O.noatime, mode) : fd;
}

/** openat2(2): beneath a directory under the given RESOLVE bits. See `openLooked`. */
export function openBeneath(directory: number, name: PathBytes, flags: number, resolve: number): number {
	const covered = coveredIn(directory, name);
	if (covered >= 0) return openAt(covered, ".", flags & ~O.nofollow);
	const fd = needsLook(flags)
		? openLooked((given) => openResolved(directory, name, given, resolve), flags)
		: openResolved(directory, name, flags, resolve);
	return isForOwners(fd, flags) ? openBeneath(directory, name, flags & ~O.noatime, resolve) : fd;
}

function openResolved(directory: number, name: PathBytes, flags: number, resolve: number): number {
	const how = arenaWords;
	how[HOW_WORD] = flags | O.cloexec;
	how[HOW_WORD + 1] = 0;
	how[HOW_WORD + 2] = 0;
	how[HOW_WORD + 3] = 0;
	how[HOW_WORD + 4] = resolve;
	how[HOW_WORD + 5] = 0;
	return result(syscall5(SYS_OPENAT2, directory, putPath(PLACE.path, name), HOW_ADDRESS, HOW_BYTES));
}

/** Opens a device by its path, which this program chose itself. Never one that a user names: to open a device may do something. */
export function openDevice(path: string, flags: number): number {
	return result(openatCall(AT_FDCWD, putPath(PLACE.path, path), flags | O.cloexec, 0));
}

/** Whether what has the name decides what an open of it does: not where it must be a directory, is made by it, or is only looked up (O_PATH). */
function needsLook(flags: number): boolean {
	return (flags & (O.path | O.directory)) === 0 && (flags & NEW) !== NEW;
}

const NEW = O.creat | O.excl;
/** Of a name that others make and remove all the time. */
const TRIES_MAX = 8;

/**
 * Opens regular files and directories, and nothing else: an open of a fifo waits for whoever opens the other end, and one of a device does what the
 * device likes. The name is looked up with O_PATH, which opens nothing; if it leads to a file, that inode is opened, whatever has taken its place
 * meanwhile. -ENXIO: it is something else. -EAGAIN: somebody holds a lease on it, and was told to give it up.
 */
function openLooked(open: (flags: number) => number, flags: number): number {
	for (let tries = 0; tries < TRIES_MAX; tries++) {
		const found = open(O.path | (flags & O.nofollow));
		if (found === -ERRNO.ENOENT && (flags & O.creat) !== 0) {
			const made = open(flags | O.excl);
			if (made !== -ERRNO.EEXIST) return made;
			continue;
		}
		if (found < 0) return found;
		const fd =
			fstat(found, looked) < 0 ? -ERRNO.EIO : TYPES[looked.type] === 0 ? reopen(found, flags) : (TYPES[looked.type] ?? -ERRNO.ENXIO);
		close(found);
		return fd;
	}
	return -ERRNO.EEXIST;
}

const looked = new Stat();
/** By the type of an inode (S_IFMT >> 12): 0 where it may be opened, else with which error number it is refused; -ENXIO where nothing is said. */
const TYPES: Readonly<Record<number, number>> = { 4: 0, 8: 0, 10: -ERRNO.ELOOP };

/** Opens the inode of an O_PATH descriptor. */
function reopen(fd: number, flags: number): number {
	const path = putPath(PLACE.path, descriptorPath(fd));
	return result(openatCall(AT_FDCWD, path, (flags & ~(NEW | O.nofollow)) | O.nonblock | O.cloexec, 0));
}

/** O_NOATIME is only for who owns the file: it is a wish. */
function isForOwners(fd: number, flags: number): boolean {
	return fd === -ERRNO.EPERM && (flags & O.noatime) !== 0;
}

/** The path by which the kernel lets an open descriptor be used where a call takes only paths. */
export function descriptorPath(fd: number): string {
	return `/proc/self/fd/${fd}`;
}

/** Another descriptor of the same open file (fcntl(2), F_DUPFD_CLOEXEC), or the negated error number. */
export function duplicate(fd: number): number {
	return result(fcntlCall(fd, F_DUPFD_CLOEXEC, 0));
}

/** Whether calls on it say -EAGAIN instead of waiting: O_NONBLOCK, which all share who share the open file. 0, or the negated error number. */
export function setNonblocking(fd: number, isOn: boolean): number {
	const flags = result(fcntlCall(fd, F_GETFL, 0));
	return flags < 0 ? flags : result(fcntlCall(fd, F_SETFL, isOn ? flags | O.nonblock : flags & ~O.nonblock));
}

/** Whether a program that this process becomes, or starts, has it not: FD_CLOEXEC. 0, or the negated error number. */
export function setCloseOnExec(fd: number, isOn: boolean): number {
	return result(fcntlCall(fd, F_SETFD, isOn ? FD_CLOEXEC : 0));
}

export function close(fd: number): void {
	closeCall(fd);
}
