// The numbers of RFC 8881, NFS version 4 minor version 1.

export const NFS_PROGRAM = 100003;
export const NFS_VERSION_4 = 4;
export const MINOR_VERSION = 1;

/** Section 16.2.3, nfs_opnum4. */
export const Op = {
	access: 3,
	close: 4,
	commit: 5,
	create: 6,
	delegpurge: 7,
	delegreturn: 8,
	getattr: 9,
	getfh: 10,
	link: 11,
	lock: 12,
	lockt: 13,
	locku: 14,
	lookup: 15,
	lookupp: 16,
	nverify: 17,
	open: 18,
	openattr: 19,
	openConfirm: 20,
	openDowngrade: 21,
	putfh: 22,
	putpubfh: 23,
	putrootfh: 24,
	read: 25,
	readdir: 26,
	readlink: 27,
	remove: 28,
	rename: 29,
	renew: 30,
	restorefh: 31,
	savefh: 32,
	secinfo: 33,
	setattr: 34,
	setclientid: 35,
	setclientidConfirm: 36,
	verify: 37,
	write: 38,
	releaseLockowner: 39,
	backchannelCtl: 40,
	bindConnToSession: 41,
	exchangeId: 42,
	createSession: 43,
	destroySession: 44,
	freeStateid: 45,
	getDirDelegation: 46,
	getDeviceInfo: 47,
	getDeviceList: 48,
	layoutCommit: 49,
	layoutGet: 50,
	layoutReturn: 51,
	secinfoNoName: 52,
	sequence: 53,
	setSsv: 54,
	testStateid: 55,
	wantDelegation: 56,
	destroyClientid: 57,
	reclaimComplete: 58,
	illegal: 10044,
} as const;

/** Operations of callbacks (section 20). */
export const CallbackOp = { sequence: 11, notifyLock: 13 } as const;
export const CALLBACK_VERSION = 1;
export const CallbackProcedure = { null: 0, compound: 1 } as const;

export const HANDLE_BYTES_MAX = 128;
export const SESSION_ID_BYTES = 16;
export const VERIFIER_BYTES = 8;
/** Tags of compounds, owners of opens, locks and clients, handles of RPCSEC_GSS. */
export const OPAQUE_BYTES_MAX = 1024;
/** A longer bitmap4 is refused. */
export const BITMAP_WORDS_MAX = 8;
export const OPERATIONS_MAX = 64;
export const BACK_SLOTS_MAX = 16;

/** No offset or size beyond 2^53 - 1 is handled: their high half is at most this. */
export const SAFE_HI_MAX = 0x1fffff;
export const LISTING_BYTES_MAX = 1024 * 1024;

/** Section 18.32.3, stable_how4. */
export const StableHow = { unstable: 0, dataSync: 1, fileSync: 2 } as const;

/** Section 18.16.1. */
export const CreateMode = { unchecked: 0, guarded: 1, exclusive: 2, exclusiveWithAttributes: 3 } as const;
export const OpenClaim = {
	null: 0,
	previous: 1,
	delegateCurrent: 2,
	delegatePrevious: 3,
	handle: 4,
	delegateCurrentHandle: 5,
	delegatePreviousHandle: 6,
} as const;
export const Share = { read: 1, write: 2, both: 3 } as const;
/** What the client wishes of delegations, among the bits of share_access. */
export const Want = { mask: 0xff00, none: 0x400, cancel: 0x500, signals: 0x30000 } as const;
export const OpenResult = { locktypePosix: 4, preserveUnlinked: 8, mayNotifyLock: 0x20 } as const;
export const Delegation = { none: 0, noneWithReason: 3 } as const;
export const WhyNoDelegation = { notWanted: 0, resource: 2, cancelled: 7 } as const;

/** Section 18.10.1, nfs_lock_type4. */
export const LockKind = { read: 1, write: 2, readWaits: 3, writeWaits: 4 } as const;

/** Section 18.35.1. */
export const ExchangeFlag = {
	/** What a client may send. */
	askable: 0x40070103,
	useNonPnfs: 0x10000,
	update: 0x40000000,
	confirmed: 0x80000000,
} as const;
export const StateProtection = { none: 0, machineCredential: 1, ssv: 2 } as const;

/** Section 18.36.1. */
export const SessionFlag = { persist: 1, backChannel: 2 } as const;
/** Section 18.34.1. */
export const ChannelDirection = { fore: 1, back: 2, foreOrBoth: 3, backOrBoth: 7 } as const;
export const BoundDirection = { fore: 1, back: 2, both: 3 } as const;

/** Section 18.46.1, sr_status_flags that the back channel sets. */
export const ChannelFlag = { pathDown: 1, sessionPathDown: 0x200, fault: 0x400 } as const;

/** RFC 8881 section 3.2, nfs_ftype4. */
export const FileKind = { reg: 1, dir: 2, blk: 3, chr: 4, lnk: 5, sock: 6, fifo: 7 } as const;

export const TimeHow = { serverTime: 0, clientTime: 1 } as const;
