// The error number for each error of the overlay, and of claims.

import type { ClaimErrorCode } from "../claims/errors.ts";
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

/** Missing from node:os. */
const ENOLCK = 37;

/** What a lock is answered that claims refuse. Most of it no mount can meet, which has no stateids and makes its session itself. */
export const CLAIM_ERROR_NUMBER = {
	bad_high_slot: ERRNO.EIO,
	bad_range: ERRNO.EINVAL,
	bad_session: ERRNO.EIO,
	bad_slot: ERRNO.EIO,
	bad_stateid: ERRNO.EIO,
	clid_inuse: ERRNO.EIO,
	clientid_busy: ERRNO.EIO,
	complete_already: ERRNO.EIO,
	dead_session: ERRNO.EIO,
	/** There are too many. */
	delay: ENOLCK,
	expired: ERRNO.EIO,
	/** The lock waits until grace is over. */
	grace: ERRNO.EAGAIN,
	inval: ERRNO.EINVAL,
	locked: ERRNO.EAGAIN,
	locks_held: ERRNO.EIO,
	no_grace: ERRNO.EIO,
	noent: ERRNO.EIO,
	nospc: ENOLCK,
	not_same: ERRNO.EIO,
	old_stateid: ERRNO.EIO,
	openmode: ERRNO.EBADF,
	perm: ERRNO.EPERM,
	reclaim_bad: ERRNO.EIO,
	reclaim_conflict: ERRNO.EIO,
	retry_uncached_rep: ERRNO.EIO,
	seq_false_retry: ERRNO.EIO,
	seq_misordered: ERRNO.EIO,
	share_denied: ERRNO.EAGAIN,
	stale_clientid: ERRNO.EIO,
	dquot: ENOLCK,
} as const satisfies Record<ClaimErrorCode, number>;
