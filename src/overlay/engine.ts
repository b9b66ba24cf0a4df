import type { SipKey } from "../handle/sip-hash.ts";
import { type HandleSigner, ROOT_HOME } from "../handle/wire-handle.ts";
import type { Layer, OverlayXattrs } from "../layer/layer.ts";
import type { PortableUpper } from "../layer/portable-upper.ts";
import { type DescriptorCache, Real, RealObjectError } from "../layer/real.ts";
import { ENODATA, ERRNO, errnoName } from "../linux/errno.ts";
import type { FileHandle } from "../linux/file-handle.ts";
import type { Stat } from "../linux/stat.ts";
import type { DataFiles } from "./data-files.ts";
import { OverlayError, type OverlayErrorCode } from "./errors.ts";
import { decodeRecord, encodeRecord, type Identity } from "./identity.ts";
import type { IndexDirectory } from "./index-directory.ts";
import type { Journal } from "./journal.ts";
import type { LinkCounts } from "./link-counts.ts";
import type { LongRedirects } from "./long-redirects.ts";
import type { NodeCache } from "./node-cache.ts";
import type { Offload } from "./offload.ts";
import type { Partials } from "./partials.ts";
import type { Patience } from "./patience.ts";
import type { RecordMap } from "./record-map.ts";
import type { ChangeRequest } from "./types.ts";
import type { WorkFolder } from "./work-folder.ts";

/** What of an export can be written: its upper, and all that lies in work. */
export interface Writable {
	readonly layer: Layer;
	readonly work: WorkFolder;
	readonly index: IndexDirectory;
	readonly linkCounts: LinkCounts;
	readonly journal: Journal;
	readonly longRedirects: LongRedirects;
	/** See getMark. */
	readonly marks: RecordMap;
	/** Portable ids of upper; null: kernel handles. */
	readonly ids: PortableUpper | null;
}

/** What every part of the engine works on: the stack, the caches and the registry's numbers. One for each export. */
export interface Engine {
	/** From the topmost down; upper first where there is one. */
	readonly layers: readonly Layer[];
	/** Names of the overlay's own xattrs, the same in all layers. */
	readonly xattr: OverlayXattrs;
	readonly writable: Writable | null;
	readonly signer: HandleSigner;
	readonly cookieKey: SipKey;
	/** Homes in the present stack, by number. */
	readonly homes: ReadonlyMap<number, Home>;
	readonly nodes: NodeCache;
	readonly descriptors: DescriptorCache;
	readonly offload: Offload;
	/** The reverse of the redirects of lowers that once were uppers: from a lower directory to the one that takes it along. */
	readonly redirects: RecordMap;
	readonly dataFiles: DataFiles;
	/** Null where nothing can be written. */
	partials: Partials | null;
	/** See OverlayOperations.request. */
	request: ChangeRequest | null;
	readonly memory: Memory;
	/** Null: whoever asks waits. */
	patience: Patience | null;
}

/**
 * Until when what is remembered of real objects holds. Nobody but us changes an upper that is served, and nobody a lower; still nothing is
 * believed for ever, so that a lower that somebody did change is found out.
 */
export interface Memory {
	/** Milliseconds, from any moment on. */
	clock: () => number;
	/** Of a clock of TICK_MS, at the beginning of the present request: a small integer for years, which costs nothing to keep and compare. */
	now: number;
	/** Counts changes of upper. */
	changes: number;
	/** What upper held under the name that was looked up last and not found in memory. */
	upperEntry: "none" | "whiteout" | "object";
	/** Counts failures that left names in doubt. */
	doubts: number;
}

/** How long attributes of real objects are remembered, and what names lead to: a name of something that was removed from its lower is found out by its attributes. */
export const TICK_MS = 64;
export const ATTRIBUTES_TICKS = 3000 / TICK_MS;
export const NAMES_TICKS = 30_000 / TICK_MS;

export interface Home {
	readonly number: number;
	readonly uuid: Buffer;
	/** Layers whose objects were born here; any of them opens its handles. */
	readonly layers: readonly Layer[];
	readonly isUpper: boolean;
	/** One descriptor for each mount that the layers were named on, for climbing by "..". */
	readonly mounts: readonly number[];
}

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

/** The overlay's error for a failed system call. */
export function failed(attempt: string, error: number): OverlayError {
	return new OverlayError(CODES.get(Math.abs(error)) ?? "io", `${attempt}: ${errnoName(error)}`);
}

/** The result of a system call, or its error thrown. */
export function must(value: number, attempt: string): number {
	if (value < 0) throw failed(attempt, value);
	return value;
}

/** Whatever a real object's handle no longer opens is stale to the client. */
export function asOverlayError(error: unknown): unknown {
	if (!(error instanceof RealObjectError)) return error;
	return new OverlayError(error.gone ? "stale" : (CODES.get(error.errno) ?? "io"), error.message);
}

/** The Real of an open descriptor whose attributes are known. The descriptor stays the caller's. */
export function realOf(layer: Layer, fd: number, stat: Stat): Real {
	const handle = layer.handles.of(fd);
	if (typeof handle === "number") throw failed("Cannot take a file handle", handle);
	return realOfHandle(layer, handle, stat);
}

/** The Real of a name in a directory of a layer, whose attributes are known. `directory` is open on the parent. */
export function realOfName(parent: Real, directory: number, name: Uint8Array, stat: Stat): Real {
	const handle = parent.layer.handles.child(parent.handle, directory, name, stat);
	if (typeof handle === "number") throw failed("Cannot take a file handle", handle);
	return realOfHandle(parent.layer, handle, stat);
}

export function realOfHandle(layer: Layer, handle: FileHandle, stat: Stat): Real {
	if (!layer.isUpper) layer.handles.countNames(handle, stat);
	return new Real(layer, handle, stat.inoHi, stat.inoLo, !stat.sameDevice(layer.rootStat));
}

/** The record of a real object, which as the `origin` of a copy, as the name of an index entry and in our tables is its name. */
export function recordOf(real: Real): Buffer {
	return encodeRecord(real.layer.fileSystem.uuid, real.handle, real.layer.isUpper);
}

/** The identity that the record of a lower object is; null where it is of no file system of the lowers. */
export function identityOfRecord(engine: Engine, record: Buffer): Identity | null {
	for (const home of engine.homes.values()) {
		const id = home.isUpper ? null : decodeRecord(record, home.uuid);
		if (id !== null) return { home: home.number, id: { type: id.type, bytes: Buffer.from(id.bytes) } };
	}
	return null;
}

/** The wire handle of an identity. */
export function handleFor(engine: Engine, identity: Identity): Buffer {
	try {
		return engine.signer.encode(identity.home, identity.id.type, identity.id.bytes);
	} catch (error) {
		throw new OverlayError("io", (error as Error).message);
	}
}

/** The file id of what was born as inode `ino` of a layer; for inode numbers of 2^48 and more see `hashedFileid`. */
export function plainFileid(space: number, inoHi: number, inoLo: number): { readonly hi: number; readonly lo: number } {
	return { hi: ((space << 16) | inoHi) >>> 0, lo: inoLo };
}

/** Whether the inode number leaves room for the number of its space. */
export function fitsFileid(inoHi: number): boolean {
	return inoHi < 0x10000;
}

export { ROOT_HOME };
