// One object of the overlay in memory.

import { HANDLE_BYTES_MAX, HEADER_BYTES, SIGNATURE_BYTES } from "../../handle/wire-handle.ts";
import type { Real } from "../../layer/real.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import type { Stat } from "../../linux/stat.ts";
import { Pending } from "../../vfs/errors.ts";
import type { FileType, OverlayObject } from "../../vfs/operations.ts";

/** The cache of an export, as the order of eviction over all exports sees it. */
export interface NodeKeeper {
	/** Evicts the object. */
	forget(node: Node): void;
}

/** An object of the overlay that is in memory. There is at most one Node for an identity at any time. */
export class Node implements OverlayObject {
	readonly type: FileType;
	readonly handle: Buffer;
	/** The bytes of the handle that tell objects apart: see `identityKey`. */
	readonly key: string;
	readonly home: number;
	readonly id: FileHandle;
	readonly fileidHi: number;
	readonly fileidLo: number;
	/** Real objects from the topmost down: one for anything but a directory. */
	reals: Real[];
	/** For a directory (the root aside) where it is; for anything else a name that was seen last, to be checked before use. Set by NodeCache.place. */
	parent: Node | null = null;
	name: Buffer | null = null;
	/** Copied up, not a directory: union link count relative to the upper inode's own, as the `nlink` xattr keeps it. */
	nlinkDelta = 0;
	isIndexed = false;
	/** Names left of a lower file, where that is not its inode's own count; -1: not asked yet. */
	lowerLinks = -1;
	/** See protectionOf; -1: not asked yet. */
	protection = -1;
	/** The last name is gone; whoever still holds this Node must not change anything through it. */
	isDead = false;
	/** No longer in the cache: another Node may stand for the same object. */
	isEvicted = false;
	/** Used since the cache last looked (second chance). */
	isRecent = true;
	/** The cache that has it; null once that has not. */
	keeper: NodeKeeper | null = null;
	/** Its neighbours in the order of eviction (`NodeOrder`), whether it stands in it, and how many objects in memory have it as parent. */
	younger: Node | null = null;
	older: Node | null = null;
	isQueued = false;
	below = 0;
	/** Its last name is gone and it is there until nobody holds it any more (see HeldObjects). */
	isOrphan = false;
	/** The file that holds its data, once asked for (see dataOf). */
	data: Real | null = null;
	/** A copy up of data that goes on off the main thread. */
	copyUp: CopyUpJob | null = null;
	/** Settled when a thread has cut it: until then the kernel lets nobody else change it or read what it has not in memory. */
	cutting: Promise<void> | null = null;
	/** Attributes of `top`, and the moment (see Memory) at which they were read; null as soon as they may have changed. */
	stat: Stat | null = null;
	statTime = 0;
	/** Of an object of upper, for its change attribute (see ChangeAttribute): microseconds last given out, or that may have been; negative: not known. No small integer, as microseconds are none: see docs/decisions/029-warm-up.md. */
	change = Number.NEGATIVE_INFINITY;
	/** The epoch that `change` is of; -1: none yet. */
	changeEpoch = -1;
	/** Changed by a client since the value was last given out. */
	isChanged = false;
	/** Undefined: not asked yet. */
	ahead: Ahead | null | undefined = undefined;
	/** The default ACL of an upper directory; undefined: not asked yet. */
	defaultAcl: Buffer | null | undefined = undefined;
	/** Where a listing remembers this object. */
	listedIn: (Node | undefined)[] | null = null;
	listedAt = 0;
	/** What names of a directory led to, since when, and after how many doubts. */
	children: Map<string, Node> | null = null;
	childrenTime = 0;
	/** Another number whenever `children` begins anew. */
	childrenSerial = 0;
	childrenDoubt = 0;

	constructor(fields: Pick<Node, "type" | "handle" | "key" | "home" | "id" | "fileidHi" | "fileidLo" | "reals">) {
		this.type = fields.type;
		this.handle = fields.handle;
		this.key = fields.key;
		this.home = fields.home;
		this.id = fields.id;
		this.fileidHi = fields.fileidHi;
		this.fileidLo = fields.fileidLo;
		this.reals = fields.reals;
	}

	/** What the object shows: its topmost real object. */
	get top(): Real {
		return this.reals[0];
	}

	get isUpper(): boolean {
		return this.reals[0].layer.isUpper;
	}
}

/** To be called before anything that would wait in the kernel for the cut of a file. Pending until it has ended. */
export function awaitCut(node: Node): void {
	if (node.cutting !== null) throw new Pending(node.cutting);
}

/** An object whose change attribute is ahead of its ctime, or will be if that does not move by a change. */
export interface Ahead {
	readonly real: Real;
	/** Microseconds since 1970, as last given out. */
	value: number;
	/** What the record allows for. */
	ceiling: number;
	/** Changed since the value was given out: outlives the Node. */
	isChanged: boolean;
	/** In the record. */
	readonly place: number;
}

/** Data on its way to upper: `temporary` is its name in work, `fd` the open file. */
export interface CopyUpJob {
	/** Null: into the upper file itself. */
	readonly temporary: string | null;
	readonly fd: number;
	/** Attributes before the copy. */
	readonly before: Stat;
	readonly ready: Promise<void>;
	state: "running" | "done" | "failed";
	error: Error | null;
}

/** Home and id as they stand in the wire handle: bytes 8 up to the signature. In one piece: a string put together of two keeps both. */
export function identityKey(home: number, id: FileHandle): string {
	const { type, bytes } = id;
	const { length } = bytes;
	keyBytes[0] = home >>> 8;
	keyBytes[1] = home;
	keyBytes[2] = type;
	keyBytes[3] = length;
	for (let i = 0; i < length; i++) keyBytes[KEY_HEADER_BYTES + i] = bytes[i];
	return keyBytes.toString("latin1", 0, KEY_HEADER_BYTES + length);
}

/** The same of a wire handle. */
export function keyOfHandle(bytes: Uint8Array): string {
	const length = Math.max(0, Math.min(bytes.length, HANDLE_BYTES_MAX + 1) - SIGNATURE_BYTES - KEY_AT);
	for (let i = 0; i < length; i++) keyBytes[i] = bytes[KEY_AT + i];
	return keyBytes.toString("latin1", 0, length);
}

/**
 * Whether this wire handle, by whose key the object was found, is the object's. Compares what the key has not, all of it, however early it
 * differs: the signature is there.
 */
export function isHandleOf({ handle }: Node, bytes: Uint8Array): boolean {
	const { length } = handle;
	if (bytes.length !== length) return false;
	let difference = 0;
	for (let i = 0; i < KEY_AT; i++) difference |= handle[i] ^ bytes[i];
	for (let i = length - SIGNATURE_BYTES; i < length; i++) difference |= handle[i] ^ bytes[i];
	return difference === 0;
}

/** Where the home stands in a wire handle. */
const KEY_AT = 8;
const KEY_HEADER_BYTES = HEADER_BYTES - KEY_AT;
/** An id's length is one byte. */
const keyBytes = Buffer.alloc(KEY_HEADER_BYTES + 255);
