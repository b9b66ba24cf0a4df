// From error numbers of Linux to errors of the overlay.

import { ENODATA, ERRNO, errnoName } from "../linux/errno.ts";
import { OverlayError, type OverlayErrorCode } from "./errors.ts";

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
]);

/** The code of an error number; "io" for what no caller can be told better. */
export function codeOf(errno: number): OverlayErrorCode {
	return CODES.get(Math.abs(errno)) ?? "io";
}

/** The overlay's error for a failed system call. */
export function failed(attempt: string, error: number): OverlayError {
	return new OverlayError(codeOf(error), `${attempt}: ${errnoName(error)}`);
}

/** The result of a system call, a number or what it found, or its error thrown. */
export function must(value: number, attempt: string): number;
export function must<T extends object>(value: T | number, attempt: string): T;
export function must<T extends object>(value: T | number, attempt: string): T | number {
	if (typeof value === "number" && value < 0) throw failed(attempt, value);
	return value;
}
