// The error number for each error of the overlay.

import { ENODATA, ERRNO } from "../linux/errno.ts";
import type { OverlayErrorCode } from "../vfs/errors.ts";

/** errno(3) of everything that the overlay can answer. Total by construction: a new OverlayErrorCode does not compile until it has a number here. */
export const ERROR_NUMBER = {
	perm: ERRNO.EPERM,
	noent: ERRNO.ENOENT,
	io: ERRNO.EIO,
	nxio: ERRNO.ENXIO,
	acces: ERRNO.EACCES,
	exist: ERRNO.EEXIST,
	xdev: ERRNO.EXDEV,
	nodev: ERRNO.ENODEV,
	notdir: ERRNO.ENOTDIR,
	isdir: ERRNO.EISDIR,
	inval: ERRNO.EINVAL,
	fbig: ERRNO.EFBIG,
	nospc: ERRNO.ENOSPC,
	rofs: ERRNO.EROFS,
	mlink: ERRNO.EMLINK,
	nametoolong: ERRNO.ENAMETOOLONG,
	notempty: ERRNO.ENOTEMPTY,
	dquot: ERRNO.EDQUOT,
	loop: ERRNO.ELOOP,
	busy: ERRNO.EBUSY,
	stale: ERRNO.ESTALE,
	/** A node id leads to handles that the overlay itself has given out. */
	badhandle: ERRNO.ESTALE,
	/** No request has a guard that could not hold. */
	notsync: ERRNO.EIO,
	notsupp: ERRNO.EOPNOTSUPP,
	toosmall: ERRNO.EINVAL,
	badtype: ERRNO.EINVAL,
	/** The session waits and runs the request again: this is for what does not pass. */
	tryagain: ERRNO.EAGAIN,
	noattr: ENODATA,
} as const satisfies Record<OverlayErrorCode, number>;
