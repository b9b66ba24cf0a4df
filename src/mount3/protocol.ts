// Numbers and bounds of MOUNT version 3 (RFC 1813 appendix I), and its status for each error of the overlay.

import type { OverlayErrorCode } from "../vfs/errors.ts";

export const MOUNT_PROGRAM = 100005;
export const MOUNT_VERSION_3 = 3;

export const PATH_BYTES_MAX = 1024;

export const MNT3_OK = 0;
const ACCES = 13;
const IO = 5;
const INVAL = 22;
const NOENT = 2;
const SERVERFAULT = 10006;

/** mountstat3 (RFC 1813 section 5.1.5) of everything the overlay can answer. */
export const MOUNT_STATUS = {
	perm: 1,
	noent: NOENT,
	io: IO,
	nxio: IO,
	acces: ACCES,
	exist: SERVERFAULT,
	xdev: SERVERFAULT,
	nodev: IO,
	notdir: 20,
	isdir: SERVERFAULT,
	inval: INVAL,
	fbig: SERVERFAULT,
	nospc: IO,
	rofs: ACCES,
	mlink: SERVERFAULT,
	nametoolong: 63,
	notempty: SERVERFAULT,
	dquot: IO,
	loop: INVAL,
	busy: ACCES,
	/** A directory that is gone has no entries. */
	stale: NOENT,
	badhandle: SERVERFAULT,
	notsync: SERVERFAULT,
	notsupp: 10004,
	toosmall: SERVERFAULT,
	badtype: SERVERFAULT,
	tryagain: IO,
	noattr: SERVERFAULT,
} as const satisfies Record<OverlayErrorCode, number>;
