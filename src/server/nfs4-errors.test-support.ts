// Which errors each operation may answer (RFC 8881 section 15.2).

import { Op } from "../nfs4/protocol.ts";
import { Status } from "../nfs4/status.ts";

type Name = keyof typeof Status;

/** Of every operation in a session. */
const COMMON: readonly Name[] = [
	"badxdr",
	"deadsession",
	"delay",
	"opNotInSession",
	"repTooBig",
	"repTooBigToCache",
	"reqTooBig",
	"retryUncachedRep",
	"serverfault",
	"tooManyOps",
];
const ON_FILE: readonly Name[] = ["nofilehandle", "stale", "io"];
const NAMED: readonly Name[] = ["badchar", "badname", "inval", "nametoolong"];
const BY_STATEID: readonly Name[] = ["badStateid", "expired", "oldStateid"];
const SETTING: readonly Name[] = ["attrnotsupp", "badowner", "badchar"];
const WRITING: readonly Name[] = ["rofs", "nospc", "dquot"];
const REGULAR: readonly Name[] = ["isdir", "symlink", "wrongType"];

const ALLOWED = new Map<number, ReadonlySet<number>>();

function may(operation: keyof typeof Op, ...names: readonly (Name | readonly Name[])[]): void {
	ALLOWED.set(Op[operation], new Set([...COMMON, ...names.flat()].map((name) => Status[name])));
}

may("access", ON_FILE, "access", "inval");
may("backchannelCtl", "inval", "noent");
may("bindConnToSession", "badsession", "inval", "notOnlyOp");
may("close", "nofilehandle", "stale", BY_STATEID, "locksHeld");
may("commit", ON_FILE, REGULAR, "access");
may("create", ON_FILE, NAMED, SETTING, WRITING, "access", "badtype", "exist", "mlink", "notdir", "perm");
may("createSession", "clidInuse", "inval", "noent", "notOnlyOp", "nospc", "seqMisordered", "staleClientid", "toosmall");
may("destroyClientid", "clientidBusy", "notOnlyOp", "staleClientid");
may("destroySession", "backChanBusy", "badsession", "connNotBoundToSession", "notOnlyOp", "staleClientid");
may("exchangeId", "badchar", "clidInuse", "encrAlgUnsupp", "inval", "noent", "notOnlyOp", "notSame", "perm");
may("freeStateid", "badStateid", "locksHeld", "oldStateid");
may("getattr", ON_FILE, "access", "grace", "inval", "wrongType");
may("getfh", "nofilehandle", "stale");
may(
	"link",
	ON_FILE,
	NAMED,
	WRITING,
	"access",
	"exist",
	"fileOpen",
	"grace",
	"isdir",
	"mlink",
	"noent",
	"notdir",
	"notsupp",
	"perm",
	"symlink",
	"xdev",
);
may("lock", ["nofilehandle", "stale", "access", "badRange", "denied", "grace", "inval"], BY_STATEID, REGULAR, [
	"noGrace",
	"openmode",
	"reclaimBad",
	"reclaimConflict",
	"rofs",
]);
may("lockt", "nofilehandle", "stale", REGULAR, "access", "badRange", "denied", "grace", "inval", "rofs");
may("locku", "nofilehandle", "stale", BY_STATEID, "access", "badRange", "inval");
may("lookup", ON_FILE, NAMED, "access", "noent", "notdir", "symlink");
may("lookupp", ON_FILE, "access", "noent", "notdir", "symlink");
may("nverify", ON_FILE, "access", "attrnotsupp", "badchar", "grace", "inval", "same", "wrongType");
may("verify", ON_FILE, "access", "attrnotsupp", "badchar", "grace", "inval", "notSame", "wrongType");
may("open", [ON_FILE, NAMED, SETTING, WRITING, REGULAR, BY_STATEID].flat(), [
	"access",
	"exist",
	"fbig",
	"grace",
	"noent",
	"noGrace",
	"notdir",
	"perm",
	"reclaimBad",
	"reclaimConflict",
	"shareDenied",
]);
may("openDowngrade", "nofilehandle", "stale", BY_STATEID, "inval", "rofs");
may("putfh", "badhandle", "stale");
may("putpubfh", "wrongsec");
may("putrootfh", "wrongsec");
may("read", ON_FILE, REGULAR, BY_STATEID, "access", "grace", "inval", "locked", "openmode");
may("readdir", ON_FILE, "access", "badCookie", "inval", "notdir", "notSame", "toosmall");
may("readlink", ON_FILE, "access", "inval", "wrongType");
may("reclaimComplete", "nofilehandle", "stale", "completeAlready", "inval", "wrongType");
// a sticky directory gives PERM too, as for other servers and local file systems
may("remove", ON_FILE, NAMED, "access", "fileOpen", "grace", "noent", "notdir", "notempty", "rofs", "perm");
may("rename", ON_FILE, NAMED, WRITING, ["access", "exist", "fileOpen", "grace", "mlink", "noent", "notdir", "notempty", "perm", "xdev"]);
may("restorefh", "nofilehandle", "stale");
may("savefh", "nofilehandle", "stale");
may("secinfo", "nofilehandle", "stale", NAMED, "access", "noent", "notdir");
may("secinfoNoName", "nofilehandle", "stale", "access", "inval", "noent", "notdir");
may("sequence", ["badsession", "badslot", "badHighSlot", "connNotBoundToSession", "sequencePos", "seqFalseRetry", "seqMisordered"]);
may("setattr", ON_FILE, SETTING, WRITING, BY_STATEID, ["access", "fbig", "grace", "inval", "locked", "openmode", "perm", "wrongType"]);
may("testStateid");
may("write", ON_FILE, REGULAR, WRITING, BY_STATEID, "access", "fbig", "grace", "inval", "locked", "openmode");

/** The operations of a compound that are served; all others fail in one way. */
export function mayAnswer(operation: number, status: number): boolean {
	return status === Status.ok || (ALLOWED.get(operation)?.has(status) ?? true);
}
