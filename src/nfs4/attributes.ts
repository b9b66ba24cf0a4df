// The attributes of NFSv4 in one table: how each is told, compared and set.

import type { Export } from "../exports/export.ts";
import { TRANSFER_BYTES_MAX } from "../rpc/limits.ts";
import { OverlayError } from "../vfs/errors.ts";
import { LINKS_MAX, NAME_BYTES_MAX } from "../vfs/names.ts";
import {
	type Attributes,
	type FileSystemStatus,
	FileType,
	type OverlayObject,
	type SetAttributes,
	type Timespec,
} from "../vfs/operations.ts";
import { XdrError } from "../xdr/xdr-error.ts";
import { XdrReader } from "../xdr/xdr-reader.ts";
import { XdrWriter } from "../xdr/xdr-writer.ts";
import { type Bitmap, bitmapOf, hasBit, numbersOf, readBitmap, writeBitmap } from "./bitmap.ts";
import type { Nfs4Context } from "./context.ts";
import { FileKind, SAFE_HI_MAX, TimeHow } from "./protocol.ts";
import { Nfs4Error, Status } from "./status.ts";

/** What attributes are told of. */
export interface Shown {
	readonly context: Nfs4Context;
	readonly served: Export;
	readonly object: OverlayObject;
	readonly attributes: Attributes;
	/** Of the place that the object covers; null where it covers none. */
	readonly coveredFileid: number | null;
}

/** What a client wants set, with the attributes by which it said so. */
export interface Wanted {
	readonly change: SetAttributes;
	readonly bitmap: Bitmap;
	/** mode_set_masked: bits of the mode to be set, of these. */
	readonly maskedMode: { readonly bits: number; readonly mask: number } | null;
}

/** One attribute (RFC 8881 section 5). */
interface Attribute {
	readonly number: number;
	readonly name: string;
	/** Tells it; absent: it can only be set. */
	readonly write?: (reply: XdrWriter, shown: Shown) => void;
	/** Reads what it is to be; absent: it can only be told. */
	readonly read?: (args: XdrReader, into: WantedInMaking, context: Nfs4Context) => void;
}

interface WantedInMaking {
	change: SetAttributes;
	maskedMode: { bits: number; mask: number } | null;
}

/** nfs_ftype4 by FileType. */
const KINDS: readonly number[] = [
	0,
	FileKind.fifo,
	FileKind.chr,
	0,
	FileKind.dir,
	0,
	FileKind.blk,
	0,
	FileKind.reg,
	0,
	FileKind.lnk,
	0,
	FileKind.sock,
];
const FH_EXPIRE_PERSISTENT = 0;
const MODE_BITS = 0o7777;
const NANOSECONDS_MAX = 999_999_999;
/** fs_charset_cap (section 14.4): names are any bytes, not UTF-8 alone. */
const CHARSET_CONTAINS_NON_UTF8 = 1;

const RDATTR_ERROR = 11;
const TIME_ACCESS = 47;
const TIME_ACCESS_SET = 48;
const TIME_MODIFY = 53;
const TIME_MODIFY_SET = 54;
export const AttributeNumber = {
	fileid: 20,
	mountedOnFileid: 55,
	size: 4,
	timeAccess: TIME_ACCESS,
	timeModify: TIME_MODIFY,
} as const;

/** nfstime4: seconds may be negative. */
function writeTime(reply: XdrWriter, { sec, nsec }: Timespec): void {
	reply.u64(Math.floor(sec / 4294967296) >>> 0, sec >>> 0);
	reply.u32(nsec);
}

function readSetTime(args: XdrReader): Timespec | "now" {
	const how = args.enumeration(TimeHow.clientTime);
	if (how === TimeHow.serverTime) return "now";
	const hi = args.u32() | 0;
	const sec = hi * 4294967296 + args.u32();
	const nsec = args.u32();
	if (nsec > NANOSECONDS_MAX || !Number.isSafeInteger(sec)) throw new OverlayError("inval", `A time with ${nsec} nanoseconds`);
	return { sec, nsec };
}

function readMode(args: XdrReader): number {
	const mode = args.u32();
	if ((mode & ~MODE_BITS) !== 0) throw new OverlayError("inval", "A mode has twelve bits");
	return mode;
}

function readSize(args: XdrReader): number {
	const hi = args.u32();
	const lo = args.u32();
	if (hi > SAFE_HI_MAX) throw new OverlayError("fbig", "A size beyond 2^53 - 1 bytes");
	return hi * 4294967296 + lo;
}

function statusOf({ served, object }: Shown): FileSystemStatus {
	return served.overlay.statfs(object);
}

const yes = (reply: XdrWriter): void => reply.bool(true);
const no = (reply: XdrWriter): void => reply.bool(false);

const TABLE: readonly Attribute[] = [
	{ number: 0, name: "supported_attrs", write: (reply) => writeBitmap(reply, SUPPORTED.words) },
	{ number: 1, name: "type", write: (reply, { attributes }) => reply.u32(KINDS[attributes.type]) },
	{ number: 2, name: "fh_expire_type", write: (reply) => reply.u32(FH_EXPIRE_PERSISTENT) },
	{ number: 3, name: "change", write: (reply, { attributes }) => reply.u64(attributes.changeHi, attributes.changeLo) },
	{
		number: 4,
		name: "size",
		write: (reply, { attributes }) => reply.u64(attributes.sizeHi, attributes.sizeLo),
		read: (args, { change }) => {
			change.size = readSize(args);
		},
	},
	{ number: 5, name: "link_support", write: yes },
	{ number: 6, name: "symlink_support", write: yes },
	{ number: 7, name: "named_attr", write: no },
	{
		number: 8,
		name: "fsid",
		write: (reply, { served }) => {
			reply.u64(0, served.fsidHi);
			reply.u64(0, served.fsidLo);
		},
	},
	{ number: 9, name: "unique_handles", write: yes },
	{ number: 10, name: "lease_time", write: (reply, { context }) => reply.u32(context.claims.leaseSeconds) },
	{ number: RDATTR_ERROR, name: "rdattr_error", write: (reply) => reply.u32(Status.ok) },
	{ number: 13, name: "aclsupport", write: (reply) => reply.u32(0) },
	{ number: 15, name: "cansettime", write: yes },
	{ number: 16, name: "case_insensitive", write: no },
	{ number: 17, name: "case_preserving", write: yes },
	{ number: 18, name: "chown_restricted", write: yes },
	{ number: 19, name: "filehandle", write: (reply, { object }) => reply.opaque(object.handle) },
	{ number: 20, name: "fileid", write: (reply, { attributes }) => reply.u64(attributes.fileidHi, attributes.fileidLo) },
	// an inode that is there is there for everybody
	{ number: 21, name: "files_avail", write: (reply, shown) => reply.u64FromNumber(statusOf(shown).freeFiles) },
	{ number: 22, name: "files_free", write: (reply, shown) => reply.u64FromNumber(statusOf(shown).freeFiles) },
	{ number: 23, name: "files_total", write: (reply, shown) => reply.u64FromNumber(statusOf(shown).totalFiles) },
	{ number: 26, name: "homogeneous", write: yes },
	{ number: 27, name: "maxfilesize", write: (reply) => reply.u64FromNumber(Number.MAX_SAFE_INTEGER) },
	{ number: 28, name: "maxlink", write: (reply) => reply.u32(LINKS_MAX) },
	{ number: 29, name: "maxname", write: (reply) => reply.u32(NAME_BYTES_MAX) },
	{ number: 30, name: "maxread", write: (reply) => reply.u64FromNumber(TRANSFER_BYTES_MAX) },
	{ number: 31, name: "maxwrite", write: (reply) => reply.u64FromNumber(TRANSFER_BYTES_MAX) },
	{
		number: 33,
		name: "mode",
		write: (reply, { attributes }) => reply.u32(attributes.mode),
		read: (args, { change }) => {
			change.mode = readMode(args);
		},
	},
	{ number: 34, name: "no_trunc", write: yes },
	{ number: 35, name: "numlinks", write: (reply, { attributes }) => reply.u32(attributes.nlink) },
	{
		number: 36,
		name: "owner",
		write: (reply, { attributes, context }) => reply.opaque(context.owners.text("user", attributes.uid)),
		read: (args, { change }, { owners }) => {
			change.uid = owners.read("user", args);
		},
	},
	{
		number: 37,
		name: "owner_group",
		write: (reply, { attributes, context }) => reply.opaque(context.owners.text("group", attributes.gid)),
		read: (args, { change }, { owners }) => {
			change.gid = owners.read("group", args);
		},
	},
	{ number: 41, name: "rawdev", write: (reply, { attributes }) => reply.u64(attributes.rdevMajor, attributes.rdevMinor) },
	{ number: 42, name: "space_avail", write: (reply, shown) => reply.u64FromNumber(statusOf(shown).availableBytes) },
	{ number: 43, name: "space_free", write: (reply, shown) => reply.u64FromNumber(statusOf(shown).freeBytes) },
	{ number: 44, name: "space_total", write: (reply, shown) => reply.u64FromNumber(statusOf(shown).totalBytes) },
	{ number: 45, name: "space_used", write: (reply, { attributes }) => reply.u64FromNumber(attributes.blocks * 512) },
	{ number: TIME_ACCESS, name: "time_access", write: (reply, { attributes }) => writeTime(reply, attributes.atime) },
	{
		number: TIME_ACCESS_SET,
		name: "time_access_set",
		read: (args, { change }) => {
			change.atime = readSetTime(args);
		},
	},
	{ number: 51, name: "time_delta", write: (reply) => writeTime(reply, { sec: 0, nsec: 1 }) },
	{ number: 52, name: "time_metadata", write: (reply, { attributes }) => writeTime(reply, attributes.ctime) },
	{ number: TIME_MODIFY, name: "time_modify", write: (reply, { attributes }) => writeTime(reply, attributes.mtime) },
	{
		number: TIME_MODIFY_SET,
		name: "time_modify_set",
		read: (args, { change }) => {
			change.mtime = readSetTime(args);
		},
	},
	{
		number: 55,
		name: "mounted_on_fileid",
		write: (reply, { attributes, coveredFileid }) => {
			if (coveredFileid === null) reply.u64(attributes.fileidHi, attributes.fileidLo);
			else reply.u64FromNumber(coveredFileid);
		},
	},
	{
		number: 74,
		name: "mode_set_masked",
		read: (args, into) => {
			const bits = readMode(args);
			const mask = readMode(args);
			if ((bits & ~mask) !== 0) throw new OverlayError("inval", "Bits of a mode that the mask does not name");
			into.maskedMode = { bits, mask };
		},
	},
	{ number: 75, name: "suppattr_exclcreat", write: (reply) => writeBitmap(reply, SETTABLE_EXCLUSIVELY.words) },
	{ number: 76, name: "fs_charset_cap", write: (reply) => reply.u32(CHARSET_CONTAINS_NON_UTF8) },
];

const BY_NUMBER: ReadonlyMap<number, Attribute> = new Map(TABLE.map((attribute) => [attribute.number, attribute]));
const SUPPORTED = bitmapOf(BY_NUMBER.keys());
const READABLE = bitmapOf(TABLE.filter(({ write }) => write !== undefined).map(({ number }) => number));
const SETTABLE = bitmapOf(TABLE.filter(({ read }) => read !== undefined).map(({ number }) => number));
/** The times keep the verifier of an exclusive create. */
const SETTABLE_EXCLUSIVELY = bitmapOf(numbersOf(SETTABLE).filter((number) => number !== TIME_ACCESS_SET && number !== TIME_MODIFY_SET));

/** What is told for one set of attributes: the same for all who ask for it. */
export interface AttributePlan {
	readonly words: readonly [number, number, number];
	readonly writers: readonly ((reply: XdrWriter, shown: Shown) => void)[];
	/** Nothing is asked for but what a listing tells without looking at the object. */
	readonly needsObject: boolean;
	readonly wantsError: boolean;
	readonly numbers: readonly number[];
}

const PLANS_MAX = 256;
const plans = new Map<string, AttributePlan>();
let lastPlan: AttributePlan | null = null;
let lastAsked: Bitmap["words"] = [0, 0, 0];

/** The plan for a bitmap that was asked for. Unknown attributes are left out; "inval" where one can only be set. */
export function planOf({ words }: Bitmap): AttributePlan {
	if (lastPlan !== null && lastAsked[0] === words[0] && lastAsked[1] === words[1] && lastAsked[2] === words[2]) return lastPlan;
	const key = words.join();
	let plan = plans.get(key);
	if (plan === undefined) {
		plan = makePlan(words);
		if (plans.size >= PLANS_MAX) plans.clear();
		plans.set(key, plan);
	}
	lastPlan = plan;
	lastAsked = words;
	return plan;
}

function makePlan(words: Bitmap["words"]): AttributePlan {
	const told = words.map((word, index) => (word & SUPPORTED.words[index]) >>> 0) as [number, number, number];
	const numbers = numbersOf({ words: told, hasMore: false });
	const writers = numbers.map((number) => {
		const { write, name } = BY_NUMBER.get(number) as Attribute;
		if (write === undefined) throw new Nfs4Error(Status.inval, `${name} can only be set`);
		return write;
	});
	const plain: readonly number[] = [RDATTR_ERROR, AttributeNumber.fileid, AttributeNumber.mountedOnFileid];
	const needsObject = numbers.some((number) => !plain.includes(number));
	return { words: told, writers, needsObject, wantsError: numbers.includes(RDATTR_ERROR), numbers };
}

/** fattr4 (section 3.3.7). */
export function writeAttributes(reply: XdrWriter, plan: AttributePlan, shown: Shown): void {
	writeBitmap(reply, plan.words);
	const at = reply.length;
	reply.u32(0);
	for (const write of plan.writers) write(reply, shown);
	reply.patchU32(at, reply.length - at - 4);
}

/** fattr4 of an entry of a listing whose object need not be looked at. */
export function writePlainAttributes(reply: XdrWriter, plan: AttributePlan, fileid: { readonly hi: number; readonly lo: number }): void {
	writeBitmap(reply, plan.words);
	const at = reply.length;
	reply.u32(0);
	for (const number of plan.numbers) {
		if (number === RDATTR_ERROR) reply.u32(Status.ok);
		else reply.u64(fileid.hi, fileid.lo);
	}
	reply.patchU32(at, reply.length - at - 4);
}

/** fattr4 that tells why there are no attributes. */
export function writeAttributeError(reply: XdrWriter, status: Status): void {
	writeBitmap(reply, bitmapOf([RDATTR_ERROR]).words);
	reply.u32(4);
	reply.u32(status);
}

/** Reads fattr4 with what is to be set. "attrnotsupp" for what is not known, "inval" for what cannot be set; XdrError. */
export function readWanted(args: XdrReader, context: Nfs4Context): Wanted {
	const bitmap = readBitmap(args);
	const values = valuesOf(args);
	checkAmong(SETTABLE, bitmap, "An attribute that cannot be set");
	const into: WantedInMaking = { change: {}, maskedMode: null };
	for (const number of numbersOf(bitmap)) BY_NUMBER.get(number)?.read?.(values, into, context);
	if (values.remaining > 0) throw new XdrError("Bytes behind the last attribute");
	if (into.maskedMode !== null && into.change.mode !== undefined) throw new OverlayError("inval", "Two attributes set the mode");
	return { ...into, bitmap };
}

/** "attrnotsupp" for what is not known, "inval" with this message for what is known and not allowed. */
function checkAmong(allowed: Bitmap, bitmap: Bitmap, message: string): void {
	for (let index = 0; index < bitmap.words.length; index++) {
		const word = bitmap.words[index];
		if ((word & ~SUPPORTED.words[index]) !== 0) throw new Nfs4Error(Status.attrnotsupp, "An attribute that is not known");
		if ((word & ~allowed.words[index]) !== 0) throw new Nfs4Error(Status.inval, message);
	}
	if (bitmap.hasMore) throw new Nfs4Error(Status.attrnotsupp, "An attribute that is not known");
}

/** A reader of its own for the values: they must not run into what follows them. */
function valuesOf(args: XdrReader): XdrReader {
	const length = args.u32();
	const at = args.fixed(length);
	return new XdrReader().reset(args.bytes, args.view, at, at + length);
}

/** "inval" for attributes that an exclusive create cannot set (section 18.16.3). */
export function checkExclusive({ bitmap }: Wanted): void {
	checkAmong(SETTABLE_EXCLUSIVELY, bitmap, "This cannot be set by an exclusive create");
}

/** With the masked mode made into one, over the mode that the object has, or will have. */
export function settled({ change, maskedMode }: Wanted, mode: number): SetAttributes {
	return maskedMode === null ? change : { ...change, mode: (mode & ~maskedMode.mask) | maskedMode.bits };
}

/** For VERIFY and NVERIFY: whether an object has the attributes that follow. "attrnotsupp", "inval", XdrError. */
export function readAndCompare(args: XdrReader, show: () => Shown): boolean {
	const bitmap = readBitmap(args);
	const values = valuesOf(args);
	checkAmong(READABLE, bitmap, "An attribute that can only be set");
	if (hasBit(bitmap, RDATTR_ERROR)) throw new Nfs4Error(Status.inval, "rdattr_error is of listings");
	const own = XdrWriter.growing();
	const shown = show();
	for (const write of planOf(bitmap).writers) write(own, shown);
	return Buffer.compare(own.copyFrom(0), values.bytes.subarray(values.position, values.end)) === 0;
}

/** The FileType that CREATE is asked for; null for what it does not make. */
export function typeOfKind(kind: number): FileType | null {
	switch (kind) {
		case FileKind.dir:
			return FileType.dir;
		case FileKind.blk:
			return FileType.blk;
		case FileKind.chr:
			return FileType.chr;
		case FileKind.lnk:
			return FileType.lnk;
		case FileKind.sock:
			return FileType.sock;
		case FileKind.fifo:
			return FileType.fifo;
		default:
			return null;
	}
}
