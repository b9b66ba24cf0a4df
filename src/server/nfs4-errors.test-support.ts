// Which errors each operation may answer: table 6 of RFC 8881 (section 15.2), without the errors that this server never names, and what it answers beyond it.

import { Op } from "../nfs4/protocol.ts";
import { Status } from "../nfs4/status.ts";

type Name = keyof typeof Status;
type Operation = keyof typeof Op;

/** That a request or its reply is of no use as a whole: of all operations but the few that take no part in it. */
const LIMITS: readonly Name[] = ["repTooBig", "repTooBigToCache", "reqTooBig", "retryUncachedRep", "tooManyOps"];
const SESSION: readonly Name[] = [...LIMITS, "deadsession", "delay"];
/** In a session, without arguments. */
const BARE: readonly Name[] = [...SESSION, "opNotInSession", "serverfault"];
const COMMON: readonly Name[] = [...BARE, "badxdr"];
/** Alone, or as the first. */
const ALONE: readonly Name[] = [...SESSION, "badxdr", "notOnlyOp", "serverfault"];

const HANDLE: readonly Name[] = ["nofilehandle", "stale"];
const OBJECT: readonly Name[] = [...HANDLE, "access", "io"];
const NAME: readonly Name[] = ["badchar", "badname", "inval", "nametoolong"];
const STATEID: readonly Name[] = ["badStateid", "expired", "oldStateid"];
const WRITING: readonly Name[] = ["dquot", "nospc", "rofs"];
const REGULAR: readonly Name[] = ["isdir", "symlink", "wrongType"];
const RECLAIM: readonly Name[] = ["grace", "noGrace", "reclaimBad", "reclaimConflict"];
const DIRECTORY_CHANGE: readonly Name[] = [...COMMON, ...OBJECT, ...NAME, "fileOpen", "grace", "notdir", "rofs"];
const COMPARED: readonly Name[] = [...COMMON, ...OBJECT, "attrnotsupp", "badchar", "grace", "inval", "wrongType"];
const NOTHING_BUT_NOTSUPP: readonly Name[] = ["notsupp"];

/** Line by line. */
const TABLE: Readonly<Record<Operation, readonly Name[]>> = {
	access: [...COMMON, ...OBJECT, "inval"],
	backchannelCtl: [...SESSION, "badxdr", "inval", "noent", "opNotInSession"],
	bindConnToSession: [...ALONE, "badsession", "inval"],
	close: [...COMMON, ...HANDLE, ...STATEID, "locksHeld"],
	commit: [...COMMON, ...OBJECT, ...REGULAR],
	create: [
		...[...COMMON, ...OBJECT, ...NAME, ...WRITING],
		...(["attrnotsupp", "badowner", "badtype", "exist", "mlink", "notdir", "perm"] as const),
	],
	createSession: [...ALONE, "clidInuse", "inval", "noent", "nospc", "seqMisordered", "staleClientid", "toosmall"],
	delegpurge: [...COMMON, "notsupp"],
	delegreturn: [...COMMON, ...HANDLE, ...STATEID, "inval", "notsupp"],
	destroyClientid: [...ALONE, "clientidBusy", "staleClientid"],
	destroySession: [...ALONE, "backChanBusy", "badsession", "connNotBoundToSession", "staleClientid"],
	exchangeId: [...ALONE, "badchar", "clidInuse", "encrAlgUnsupp", "inval", "noent", "notSame"],
	freeStateid: [...COMMON, "badStateid", "locksHeld", "oldStateid"],
	getattr: [...COMMON, ...OBJECT, "grace", "inval", "wrongType"],
	getDeviceInfo: [...COMMON, "inval", "noent", "notsupp", "toosmall"],
	getDeviceList: [...COMMON, "badCookie", "inval", "io", "nofilehandle", "notsupp", "notSame"],
	getDirDelegation: [...COMMON, ...OBJECT, "grace", "inval", "notdir", "notsupp"],
	getfh: [...HANDLE, "opNotInSession"],
	illegal: ["badxdr", "opIllegal"],
	layoutCommit: [...COMMON, ...OBJECT, ...RECLAIM, "attrnotsupp", "expired", "fbig", "inval", "isdir", "notsupp", "symlink"],
	layoutGet: [
		...[...COMMON, ...OBJECT],
		...([
			"badStateid",
			"dquot",
			"grace",
			"inval",
			"locked",
			"nospc",
			"notsupp",
			"oldStateid",
			"openmode",
			"toosmall",
			"wrongType",
		] as const),
	],
	layoutReturn: [...COMMON, ...HANDLE, ...STATEID, "grace", "inval", "isdir", "noGrace", "notsupp", "wrongType"],
	link: [...DIRECTORY_CHANGE, "dquot", "exist", "isdir", "mlink", "nospc", "notsupp", "symlink", "wrongsec", "wrongType", "xdev"],
	lock: [...COMMON, ...HANDLE, ...STATEID, ...REGULAR, ...RECLAIM, "access", "badRange", "denied", "inval", "openmode", "rofs"],
	lockt: [...SESSION, "badxdr", "opNotInSession", ...HANDLE, ...REGULAR, "access", "badRange", "denied", "grace", "inval", "rofs"],
	locku: [...COMMON, ...HANDLE, ...STATEID, "access", "badRange", "inval"],
	lookup: [...COMMON, ...OBJECT, ...NAME, "noent", "notdir", "symlink", "wrongsec"],
	lookupp: [...BARE, ...OBJECT, "noent", "notdir", "symlink", "wrongsec"],
	nverify: [...COMPARED, "same"],
	open: [
		...[...COMMON, ...OBJECT, ...NAME, ...STATEID, ...WRITING, ...REGULAR, ...RECLAIM],
		...(["attrnotsupp", "badowner", "exist", "fbig", "noent", "notdir", "perm", "shareDenied", "wrongsec"] as const),
	],
	openattr: [...COMMON, ...OBJECT, ...WRITING, "noent", "notsupp", "wrongType"],
	openConfirm: NOTHING_BUT_NOTSUPP,
	openDowngrade: [...COMMON, ...HANDLE, ...STATEID, "inval", "rofs"],
	putfh: [...COMMON, "badhandle", "stale", "wrongsec"],
	putpubfh: [...BARE, "wrongsec"],
	putrootfh: [...BARE, "wrongsec"],
	read: [...COMMON, ...OBJECT, ...REGULAR, ...STATEID, "grace", "inval", "locked", "openmode"],
	readdir: [...COMMON, ...OBJECT, "badCookie", "inval", "notdir", "notSame", "toosmall"],
	readlink: [...BARE, ...OBJECT, "inval", "wrongType"],
	reclaimComplete: [...COMMON, ...HANDLE, "completeAlready", "inval", "wrongType"],
	releaseLockowner: NOTHING_BUT_NOTSUPP,
	remove: [...DIRECTORY_CHANGE, "noent", "notempty"],
	rename: [...DIRECTORY_CHANGE, "dquot", "exist", "mlink", "noent", "nospc", "notempty", "wrongsec", "xdev"],
	renew: NOTHING_BUT_NOTSUPP,
	restorefh: [...LIMITS, ...HANDLE, "deadsession", "opNotInSession", "serverfault", "wrongsec"],
	savefh: [...LIMITS, ...HANDLE, "deadsession", "opNotInSession", "serverfault"],
	secinfo: [...COMMON, ...HANDLE, ...NAME, "access", "noent", "notdir"],
	secinfoNoName: [...COMMON, ...HANDLE, "access", "inval", "noent", "notdir", "notsupp"],
	sequence: [
		...SESSION,
		...([
			"badHighSlot",
			"badsession",
			"badslot",
			"badxdr",
			"connNotBoundToSession",
			"seqFalseRetry",
			"seqMisordered",
			"sequencePos",
		] as const),
	],
	setattr: [
		...[...COMMON, ...OBJECT, ...WRITING, ...STATEID],
		...(["attrnotsupp", "badchar", "badowner", "fbig", "grace", "inval", "locked", "openmode", "perm", "wrongType"] as const),
	],
	setclientid: NOTHING_BUT_NOTSUPP,
	setclientidConfirm: NOTHING_BUT_NOTSUPP,
	setSsv: [...SESSION, "badxdr", "inval", "opNotInSession"],
	testStateid: COMMON,
	verify: [...COMPARED, "notSame"],
	wantDelegation: [...COMMON, ...HANDLE, ...RECLAIM, "inval", "io", "notsupp"],
	write: [...COMMON, ...OBJECT, ...WRITING, ...REGULAR, ...STATEID, "fbig", "grace", "inval", "locked", "openmode"],
};

/** What other sections demand, or what a file system below answers and no other error says. */
const BEYOND: Readonly<Partial<Record<Operation, readonly Name[]>>> = {
	// an update of a client id by another principal (section 18.35.4, case 9)
	exchangeId: ["perm"],
	// the limits of a reply (section 2.10.6.4)
	getfh: ["repTooBig", "repTooBigToCache"],
	// the sticky bit, protected objects and quotas of upper; a name that is removed may leave a whiteout, which takes room
	remove: ["perm", "nospc", "dquot"],
	rename: ["perm"],
	// hard links to what others own, as the kernel protects them; the object lost its last name meanwhile
	link: ["perm", "noent"],
	// first in a compound (section 2.10.2.1)
	openConfirm: ["opNotInSession"],
	releaseLockowner: ["opNotInSession"],
	renew: ["opNotInSession"],
	setclientid: ["opNotInSession"],
	setclientidConfirm: ["opNotInSession"],
};

const ALLOWED: ReadonlyMap<number, ReadonlySet<number>> = new Map(
	Object.entries(Op).map(([name, number]) => {
		const operation = name as Operation;
		return [number, new Set([...TABLE[operation], ...(BEYOND[operation] ?? [])].map((each) => Status[each]))];
	}),
);

/** Of operations that have no number an illegal one is told. */
export function mayAnswer(operation: number, status: number): boolean {
	return status === Status.ok || ALLOWED.get(operation)?.has(status) === true;
}
