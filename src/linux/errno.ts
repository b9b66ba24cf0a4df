// Error numbers, their names, what they mean to people, and the error for a system call that should not have failed.

import { accessSync, constants as modes, statSync } from "node:fs";
import { constants } from "node:os";
import { dirname, resolve } from "node:path";

/** Error numbers of this machine; calls in this folder return them negated. */
export const ERRNO = constants.errno;
/** Missing from node:os: "no such attribute" is ENODATA on Linux. */
export const ENODATA = 61;
/** Missing from node:os: something on a disk is damaged. */
export const EUCLEAN = 117;

const names = new Map<number, string>();

for (const [name, value] of Object.entries(ERRNO)) if (!names.has(value)) names.set(value, name);
names.set(EUCLEAN, "EUCLEAN");

/** "ENOENT" for -2 or 2. */
export function errnoName(error: number): string {
	return names.get(Math.abs(error)) ?? `errno ${Math.abs(error)}`;
}

const REASONS: Readonly<Record<string, string>> = {
	E2BIG: "it is too large",
	EAGAIN: "it cannot be had at this moment",
	EBUSY: "something uses it",
	EDQUOT: "the quota is used up",
	EEXIST: "it is there already",
	EFBIG: "it would be too large",
	EINVAL: "its file system, or this kernel, does not take that",
	EIO: "its disk or file system failed",
	EISDIR: "it is a directory",
	ELOOP: "symlinks lead round, or it is one where none may be",
	EMFILE: "this process may open no more files (ulimit -n)",
	EMLINK: "it has as many links as its file system allows",
	ENAMETOOLONG: "its name is too long",
	ENFILE: "this machine has too many open files",
	ENODATA: "it has no such attribute",
	ENODEV: "there is no such device",
	ENOENT: "it is not there",
	ENOMEM: "there is no memory for it",
	ENOSPC: "there is no room on the device",
	ENOSYS: "this kernel has no such call",
	ENOTCONN: "its file system has lost its server",
	ENOTDIR: "it, or a folder above it, is no directory",
	ENOTEMPTY: "it is not empty",
	ENXIO: "there is nothing behind it",
	EPIPE: "nobody reads it any more",
	EOPNOTSUPP: "its file system cannot do that",
	EROFS: "its file system is read-only",
	ESTALE: "it is gone",
	ETIMEDOUT: "nobody answered in time",
	EUCLEAN: "it is damaged (holdfast check tells whether that is a record of work)",
	ETXTBSY: "it is a program that runs",
	EXDEV: "that lies on another file system or mount",
};

/**
 * Why a system call failed, for people: half a sentence, with the name of the error behind it. `path`: an absolute one, of what it was asked for;
 * with it the folder is named that keeps this user out, or what is not there.
 */
export function whyNot(error: number, path?: string): string {
	const name = errnoName(error);
	const reason =
		name === "EACCES" ? whoMayNot(path) : name === "EPERM" ? whoIsNotAllowed() : name === "ENOENT" ? whatIsMissing(path) : REASONS[name];
	return `${reason ?? "it failed"} (${name})`;
}

function thisUser(): string {
	return `user ${process.geteuid?.() ?? 0}`;
}

/** Root is kept from what takes a privilege that it has given up, and by flags of files. */
function whoIsNotAllowed(): string {
	return `${thisUser()} is not allowed to: it takes a privilege, or the file has a flag (lsattr) that forbids it`;
}

function whoMayNot(path: string | undefined): string {
	if (path === undefined) return `${thisUser()} has no permission for that`;
	const closed = foldersAbove(path).find((folder) => !mayEnter(folder));
	if (closed !== undefined) return `${thisUser()} may not enter the folder ${closed}${whose(closed)}`;
	const there = isThere(path) ? path : (foldersAbove(path).findLast(isThere) ?? path);
	return `${thisUser()} has no permission for ${there}${whose(there)}`;
}

function whatIsMissing(path: string | undefined): string | undefined {
	const missing = path === undefined ? undefined : foldersAbove(path).find((folder) => !isThere(folder));
	return missing === undefined ? REASONS.ENOENT : `there is no folder ${missing}`;
}

/** From the root down. */
function foldersAbove(path: string): string[] {
	const folders: string[] = [];
	for (let at = dirname(resolve(path)); !folders.includes(at); at = dirname(at)) folders.push(at);
	return folders.reverse();
}

function mayEnter(folder: string): boolean {
	try {
		accessSync(folder, modes.X_OK);
		return true;
	} catch (error) {
		return (error as NodeJS.ErrnoException).code !== "EACCES";
	}
}

function isThere(path: string): boolean {
	try {
		statSync(path);
		return true;
	} catch (error) {
		return (error as NodeJS.ErrnoException).code !== "ENOENT";
	}
}

/** Owner and mode, where they can be seen. */
function whose(path: string): string {
	try {
		const { uid, mode } = statSync(path);
		return `, which is of user ${uid} and has mode ${(mode & 0o7777).toString(8).padStart(4, "0")}`;
	} catch {
		return "";
	}
}

/** A system call failed where no caller's mistake explains it. */
export class SystemCallError extends Error {
	readonly errno: number;

	constructor(attempt: string, error: number) {
		super(`${attempt}: ${whyNot(error)}`);
		this.name = "SystemCallError";
		this.errno = Math.abs(error);
	}
}

/** The result of a system call, a number or what it found, if it is none of the errors, else throws. */
export function must(value: number, attempt: string): number;
export function must<T extends object>(value: T | number, attempt: string): T;
export function must<T extends object>(value: T | number, attempt: string): T | number {
	if (typeof value === "number" && value < 0) throw new SystemCallError(attempt, value);
	return value;
}
