// The nfsstat4 for each error, and the error that carries one.

import type { ClaimErrorCode } from "../claims/errors.ts";
import type { OverlayErrorCode } from "../vfs/errors.ts";

/** nfsstat4 (RFC 8881 section 15.1), as far as this server names one itself. */
export const Status = {
	ok: 0,
	perm: 1,
	noent: 2,
	io: 5,
	nxio: 6,
	access: 13,
	exist: 17,
	xdev: 18,
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
	badCookie: 10003,
	notsupp: 10004,
	toosmall: 10005,
	serverfault: 10006,
	badtype: 10007,
	delay: 10008,
	same: 10009,
	denied: 10010,
	expired: 10011,
	locked: 10012,
	grace: 10013,
	shareDenied: 10015,
	wrongsec: 10016,
	clidInuse: 10017,
	nofilehandle: 10020,
	minorVersMismatch: 10021,
	staleClientid: 10022,
	oldStateid: 10024,
	badStateid: 10025,
	notSame: 10027,
	symlink: 10029,
	restorefh: 10030,
	attrnotsupp: 10032,
	noGrace: 10033,
	reclaimBad: 10034,
	reclaimConflict: 10035,
	badxdr: 10036,
	locksHeld: 10037,
	openmode: 10038,
	badowner: 10039,
	badchar: 10040,
	badname: 10041,
	badRange: 10042,
	opIllegal: 10044,
	fileOpen: 10046,
	badsession: 10052,
	badslot: 10053,
	completeAlready: 10054,
	connNotBoundToSession: 10055,
	backChanBusy: 10057,
	seqMisordered: 10063,
	sequencePos: 10064,
	reqTooBig: 10065,
	repTooBig: 10066,
	repTooBigToCache: 10067,
	retryUncachedRep: 10068,
	tooManyOps: 10070,
	opNotInSession: 10071,
	clientidBusy: 10074,
	seqFalseRetry: 10076,
	badHighSlot: 10077,
	deadsession: 10078,
	encrAlgUnsupp: 10079,
	notOnlyOp: 10081,
	wrongType: 10083,
} as const;
export type Status = (typeof Status)[keyof typeof Status];

/** Total by construction: a new OverlayErrorCode does not compile until it has a status here. */
export const OVERLAY_STATUS = {
	perm: Status.perm,
	noent: Status.noent,
	io: Status.io,
	nxio: Status.nxio,
	acces: Status.access,
	exist: Status.exist,
	xdev: Status.xdev,
	nodev: Status.nxio,
	notdir: Status.notdir,
	isdir: Status.isdir,
	inval: Status.inval,
	fbig: Status.fbig,
	nospc: Status.nospc,
	rofs: Status.rofs,
	mlink: Status.mlink,
	nametoolong: Status.nametoolong,
	notempty: Status.notempty,
	dquot: Status.dquot,
	stale: Status.stale,
	badhandle: Status.badhandle,
	notsync: Status.notSame,
	notsupp: Status.notsupp,
	toosmall: Status.toosmall,
	badtype: Status.badtype,
	/** The client waits and asks again. */
	tryagain: Status.delay,
	/** No loop can be walked into here, as clients resolve links; a name that is one is not what the operation takes. */
	loop: Status.inval,
	/** In use for good, such as a mount point; what passes is `tryagain`. */
	busy: Status.access,
	/** Minor version 1 has no extended attributes that could be missing. */
	noattr: Status.inval,
} as const satisfies Record<OverlayErrorCode, Status>;

/** Total in the same way. */
export const CLAIM_STATUS = {
	bad_high_slot: Status.badHighSlot,
	bad_range: Status.badRange,
	bad_session: Status.badsession,
	bad_slot: Status.badslot,
	bad_stateid: Status.badStateid,
	clid_inuse: Status.clidInuse,
	clientid_busy: Status.clientidBusy,
	complete_already: Status.completeAlready,
	dead_session: Status.deadsession,
	delay: Status.delay,
	expired: Status.expired,
	grace: Status.grace,
	inval: Status.inval,
	locked: Status.locked,
	locks_held: Status.locksHeld,
	no_grace: Status.noGrace,
	noent: Status.noent,
	nospc: Status.nospc,
	not_same: Status.notSame,
	old_stateid: Status.oldStateid,
	openmode: Status.openmode,
	perm: Status.perm,
	reclaim_bad: Status.reclaimBad,
	reclaim_conflict: Status.reclaimConflict,
	retry_uncached_rep: Status.retryUncachedRep,
	seq_false_retry: Status.seqFalseRetry,
	seq_misordered: Status.seqMisordered,
	share_denied: Status.shareDenied,
	stale_clientid: Status.staleClientid,
} as const satisfies Record<ClaimErrorCode, Status>;

/** An operation fails with a status of the protocol's own. */
export class Nfs4Error extends Error {
	override readonly name = "Nfs4Error";
	readonly status: Status;

	constructor(status: Status, message: string) {
		super(message);
		this.status = status;
	}
}
