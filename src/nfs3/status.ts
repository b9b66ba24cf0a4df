// The nfsstat3 for each error of the overlay.

import type { OverlayErrorCode } from "../vfs/errors.ts";

export const NFS3_OK = 0;

/**
 * nfsstat3 (RFC 1813 section 2.6) of everything the overlay can answer. Total by construction: a new OverlayErrorCode does
 * not compile until it has a status here. Where version 3 knows none, the nearest one that clients turn into a sensible errno.
 */
export const STATUS = {
	perm: 1,
	noent: 2,
	io: 5,
	nxio: 6,
	acces: 13,
	exist: 17,
	xdev: 18,
	nodev: 19,
	notdir: 20,
	isdir: 21,
	inval: 22,
	fbig: 27,
	nospc: 28,
	rofs: 30,
	mlink: 31,
	nametoolong: 63,
	notempty: 66,
	dquot: 69,
	stale: 70,
	badhandle: 10001,
	notsync: 10002,
	notsupp: 10004,
	toosmall: 10005,
	badtype: 10007,
	/** JUKEBOX: the client waits and asks again with a new xid. */
	tryagain: 10008,
	/** No loop can be walked into here, as clients resolve links; a name that is one is not what the operation takes. */
	loop: 22,
	/** In use for good, such as a mount point; what passes is `tryagain`. */
	busy: 13,
	/** Version 3 has no extended attributes that could be missing. */
	noattr: 10004,
} as const satisfies Record<OverlayErrorCode, number>;
