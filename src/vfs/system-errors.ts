// From error numbers of Linux to errors of the overlay.

import { dirname } from "node:path";
import { ENODATA, ERRNO, EUCLEAN, errnoName, whyNot } from "../linux/errno.ts";
import { OverlayError, type OverlayErrorCode } from "./errors.ts";
import { showName } from "./names.ts";

const CODES: ReadonlyMap<number, OverlayErrorCode> = new Map<number, OverlayErrorCode>([
	[ERRNO.EPERM, "perm"],
	[ERRNO.ENOENT, "noent"],
	[ERRNO.EIO, "io"],
	[ERRNO.ENXIO, "nxio"],
	[ERRNO.EACCES, "acces"],
	[ERRNO.EEXIST, "exist"],
	[ERRNO.EXDEV, "xdev"],
	[ERRNO.ENODEV, "nodev"],
	[ERRNO.ENOTDIR, "notdir"],
	[ERRNO.EISDIR, "isdir"],
	[ERRNO.EINVAL, "inval"],
	[ERRNO.EFBIG, "fbig"],
	[ERRNO.ENOSPC, "nospc"],
	[ERRNO.EROFS, "rofs"],
	[ERRNO.EMLINK, "mlink"],
	[ERRNO.ENAMETOOLONG, "nametoolong"],
	[ERRNO.ENOTEMPTY, "notempty"],
	[ERRNO.EDQUOT, "dquot"],
	[ERRNO.ELOOP, "loop"],
	[ERRNO.EBUSY, "busy"],
	[ERRNO.ESTALE, "stale"],
	[ERRNO.EOPNOTSUPP, "notsupp"],
	[ERRNO.ETXTBSY, "busy"],
	[ENODATA, "noattr"],
	// a lease on a file, which its holder was told to give up
	[ERRNO.EAGAIN, "tryagain"],
	// what another moment may have: nothing was done
	[ERRNO.EMFILE, "tryagain"],
	[ERRNO.ENFILE, "tryagain"],
	[ERRNO.ENOMEM, "tryagain"],
]);

/** The code of an error number; "io" for what no caller can be told better. */
export function codeOf(errno: number): OverlayErrorCode {
	return CODES.get(Math.abs(errno)) ?? "io";
}

/** The overlay's error for a failed system call. */
export function failed(attempt: string, error: number): OverlayError {
	return new OverlayError(codeOf(error), `${attempt}: ${whyNot(error)}`, Math.abs(error));
}

/** The result of a system call, a number or what it found, or its error thrown. */
export function must(value: number, attempt: string): number;
export function must<T extends object>(value: T | number, attempt: string): T;
export function must<T extends object>(value: T | number, attempt: string): T | number {
	if (typeof value === "number" && value < 0) throw failed(attempt, value);
	return value;
}

/** Errors that say that there is no such value, or none that this file system could have. */
const NO_VALUE: ReadonlySet<number> = new Set(
	[ENODATA, ERRNO.EOPNOTSUPP, ERRNO.ENOTSUP, ERRNO.EPERM, ERRNO.ENOENT, ERRNO.ENOTDIR, ERRNO.EINVAL, ERRNO.ENAMETOOLONG].map(
		(error) => -error,
	),
);

/** Whether an error says that there is no such extended attribute. Of users nobody sees one whose file he may not read, so that there is none for him. */
export function isNoXattr(error: number, name: string): boolean {
	return NO_VALUE.has(error) || (error === -ERRNO.EACCES && name.startsWith("user."));
}

/** The target of a link, or with its name an extended attribute; null: there is none. A disk that cannot be read says nothing: then its error is thrown. */
export function valueOrNone(value: Buffer | number, attempt: string, xattr = ""): Buffer | null {
	if (typeof value !== "number") return value;
	if (isNoXattr(value, xattr)) return null;
	throw failed(attempt, value);
}

const GONE: ReadonlySet<number> = new Set([-ERRNO.ENOENT, -ERRNO.ENOTDIR, -ERRNO.ESTALE]);

/** What was opened, or the negated error of what is not there or is gone. A disk that cannot be read says nothing: then its error is thrown. */
export function ifThere(fd: number, attempt: string): number {
	return GONE.has(fd) ? fd : must(fd, attempt);
}

/** Whether a name is there, by what a look at it gave. A disk that cannot be read says nothing: then its error is thrown. */
export function isFound(status: number, attempt: string): boolean {
	if (status !== -ERRNO.ENOENT) must(status, attempt);
	return status >= 0;
}

/** The error number, negated, that an error of the overlay stands for: for what gives its result to another thread. */
export function errnoOf({ code }: OverlayError): number {
	for (const [errno, other] of CODES) if (other === code) return -errno;
	return -ERRNO.EIO;
}

/** An error that has an error number, as Node's own file system calls throw it, and layers. */
function isSystemError(error: unknown): error is NodeJS.ErrnoException & { readonly errno: number } {
	return error instanceof Error && !(error instanceof OverlayError) && "errno" in error && typeof error.errno === "number";
}

/** An error of the system, as Node's own file system calls throw it, as the overlay's; anything else as it is. */
export function ofSystem(error: unknown): unknown {
	return isSystemError(error) ? new OverlayError(codeOf(error.errno), sentenceOf(error), Math.abs(error.errno)) : error;
}

const OF_MACHINE: ReadonlySet<number> = new Set(
	[ERRNO.EIO, ERRNO.EMFILE, ERRNO.ENFILE, ERRNO.ENOMEM, ERRNO.ENOSPC, ERRNO.EDQUOT, ERRNO.EROFS, ERRNO.ETIMEDOUT, ERRNO.ENOTCONN].concat(
		EUCLEAN,
	),
);

/** Whether a disk, or this process, failed: that says nothing of what was looked at, so that nothing may be decided by it. */
export function isOfMachine(error: unknown): boolean {
	return error instanceof OverlayError && OF_MACHINE.has(error.errno);
}

/** Throws an error of a system call if it is one of those. */
export function unlessOfMachine(error: number, attempt: string): void {
	if (OF_MACHINE.has(Math.abs(error))) throw failed(attempt, error);
}

/** Whether a failure is one of want of room, that others may end. */
export function isNoRoom(error: unknown): error is OverlayError {
	return error instanceof OverlayError && (error.code === "nospc" || error.code === "dquot");
}

/** Does what the next start can do as well: where there is no room for it, it is left. */
export function unlessFull(act: () => void): void {
	try {
		act();
	} catch (error) {
		const failure = ofSystem(error);
		if (!isNoRoom(failure)) throw failure;
	}
}

/** Runs Node's own file system calls. OverlayError for what they throw. */
export function attempt<T>(calls: () => T): T {
	try {
		return calls();
	} catch (error) {
		throw ofSystem(error);
	}
}

/**
 * A sentence without its full stop for what an error of the system, or of the overlay, means to people; null for an error that
 * is neither, and should not have happened.
 */
export function describeFailure(error: unknown): string | null {
	if (error instanceof OverlayError) return error.message;
	return isSystemError(error) ? sentenceOf(error) : null;
}

/** What anything thrown means to people: half a sentence. */
export function describeThrown(error: unknown): string {
	return describeFailure(error) ?? (error instanceof Error ? error.message : String(error));
}

function sentenceOf({ path, syscall, errno, message }: NodeJS.ErrnoException & { readonly errno: number }): string {
	// "ENOSPC: no space left on device, open '/x'"
	if (syscall === "uv_cwd") return `Cannot find the folder that this was started in: it is gone (${errnoName(errno)})`;
	if (syscall === undefined) return message;
	const file = path === undefined ? "a file" : showName(Buffer.from(path));
	return `Cannot ${VERBS.get(syscall ?? "") ?? `do ${syscall} on`} ${file}: ${whyNot(errno, asked(syscall, path))}`;
}

/** What must let this user in: to make or remove a name, the folder that has it. */
function asked(syscall: string, path: string | undefined): string | undefined {
	return path !== undefined && NAMING.has(syscall) ? dirname(path) : path;
}

const NAMING: ReadonlySet<string> = new Set(["mkdir", "mkdtemp", "rmdir", "rm", "unlink", "rename", "link", "symlink"]);

const VERBS: ReadonlyMap<string, string> = new Map([
	["open", "open"],
	["read", "read"],
	["write", "write to"],
	["mkdir", "make the folder"],
	["mkdtemp", "make the folder"],
	["rmdir", "remove the folder"],
	["rm", "remove"],
	["unlink", "remove"],
	["rename", "rename"],
	["link", "make a link of"],
	["scandir", "read the folder"],
	["opendir", "read the folder"],
	["stat", "look at"],
	["lstat", "look at"],
	["fstat", "look at"],
	["statfs", "look at the file system of"],
	["realpath", "look at"],
	["fsync", "flush"],
	["chdir", "enter"],
]);
