// The layout of portable ids, and how the id of a lower object is computed from its path.

import { hash } from "node:crypto";
import { type SipKey, sipHash, sipHashed, sipKey } from "../handle/sip-hash.ts";
import type { FileHandle } from "../linux/file-handle.ts";
import type { Stat } from "../linux/stat.ts";

/**
 * Ids of portable handles (docs/handles.md). They have the form of kernel handles, a type and bytes, with types that no kernel uses.
 *
 * Of an object in a lower, whose names never change, the id is its path:
 *
 * | at | bytes | field |
 * |---|---|---|
 * | 0 | 16 | SHA-256, cut, over the 16 bytes of the directory above and the name; of the root over a constant |
 * | 16 | 4 | what shows that somebody has changed the lower: type, and of files and symlinks size and mtime |
 * | 20 | 1 | depth: names in the path, 255 for as many or more |
 * | 21 | 0 .. 23 | some bits of a hash of each name in the path, the first one first: they direct a search |
 *
 * Of an object in upper, where names change, it is 16 random bytes that the inode carries.
 */
export const PORTABLE = {
	/** An object of a lower. */
	path: 0xe1,
	/** An object of upper that is no directory. */
	file: 0xe2,
	directory: 0xe3,
	/** A directory that stands in the index for one of upper; never opened by its id. */
	entry: 0xe4,
} as const;

export const HASH_BYTES = 16;
export const CHECK_BYTES = 4;
const CHECK_AT = 16;
const DEPTH_AT = 20;
const TRAIL_AT = 21;
const TRAIL_BYTES = 23;
const TRAIL_BITS = TRAIL_BYTES * 8;
const WIDTH_MAX = 16;
export const DEPTH_MAX = 255;

/** S_IFMT >> 12. */
const DIRECTORY = 4;
const REGULAR = 8;
const SYMLINK = 10;

/** Of every place and machine: ids must be the same everywhere. */
const NAME_KEY: SipKey = sipKey(Buffer.alloc(16));

function cut(bytes: Buffer): Buffer {
	return hash("sha256", bytes, "buffer").subarray(0, HASH_BYTES);
}

const checked = Buffer.alloc(17);
const ROOT_HASH = cut(Buffer.from("holdfast: root of a lower"));

export const LOWER_ROOT: FileHandle = { type: PORTABLE.path, bytes: Buffer.concat([ROOT_HASH, checkOf(DIRECTORY, 0, 0), Buffer.of(0)]) };

/** Bits for each name in a path of this depth. It never grows with the depth, so an id has all that those below it need. */
function widthAt(depth: number): number {
	return Math.max(1, Math.min(WIDTH_MAX, Math.floor(TRAIL_BITS / depth)));
}

/** Sixteen bits of a name. */
function hintOf(name: Uint8Array): number {
	sipHash(NAME_KEY, name, 0, name.length);
	return sipHashed[1] & 0xffff;
}

/** What shows that an object has changed, as a number. */
function checkNumber(type: number, size: number, mtimeSec: number): number {
	checked[0] = type;
	const isKept = type === REGULAR || type === SYMLINK;
	checked.writeDoubleLE(isKept ? size : 0, 1);
	checked.writeDoubleLE(isKept ? mtimeSec : 0, 9);
	sipHash(NAME_KEY, checked, 0, checked.length);
	return sipHashed[1] >>> 0;
}

function checkOf(type: number, size: number, mtimeSec: number): Buffer {
	const check = Buffer.alloc(CHECK_BYTES);
	check.writeUInt32BE(checkNumber(type, size, mtimeSec), 0);
	return check;
}

const chain = Buffer.alloc(HASH_BYTES + 255);

function putAbove(directory: Uint8Array): number {
	for (let i = 0; i < HASH_BYTES; i++) chain[i] = directory[i];
	return HASH_BYTES;
}

/** The first 16 bytes of the id of a name below a directory with these. */
export function hashBelow(directory: Uint8Array, name: Uint8Array): Buffer {
	chain.set(name, putAbove(directory));
	return cut(chain.subarray(0, HASH_BYTES + name.length));
}

function bitsAt(bytes: Uint8Array, at: number, width: number): number {
	let bits = 0;
	for (let i = at; i < at + width; i++) bits = (bits << 1) | ((bytes[TRAIL_AT + (i >> 3)] >> (7 - (i & 7))) & 1);
	return bits;
}

function setBits(bytes: Uint8Array, at: number, width: number, bits: number): void {
	for (let i = 0; i < width; i++) {
		if (((bits >> (width - 1 - i)) & 1) !== 0) bytes[TRAIL_AT + ((at + i) >> 3)] |= 0x80 >> ((at + i) & 7);
	}
}

/** The id of a name in a directory of a lower; `stat`: of that name. */
export function idBelow(directory: FileHandle, name: Uint8Array, stat: Stat): FileHandle {
	const above = directory.bytes;
	const depth = Math.min(above[DEPTH_AT] + 1, DEPTH_MAX);
	const width = widthAt(depth);
	const hints = Math.min(depth, Math.floor(TRAIL_BITS / width));
	const bytes = Buffer.alloc(TRAIL_AT + Math.ceil((hints * width) / 8));
	chain.set(name, putAbove(above));
	hash("sha256", chain.subarray(0, HASH_BYTES + name.length), "buffer").copy(bytes, 0, 0, HASH_BYTES);
	bytes.writeUInt32BE(checkNumber(stat.realType, stat.size, stat.mtimeSec), CHECK_AT);
	bytes[DEPTH_AT] = depth;
	const widthAbove = depth === 1 ? 0 : widthAt(above[DEPTH_AT]);
	const known = Math.min(hints, depth - 1);
	for (let i = 0; i < known; i++) setBits(bytes, i * width, width, bitsAt(above, i * widthAbove, widthAbove) >> (widthAbove - width));
	if (known < hints) setBits(bytes, known * width, width, hintOf(name) >> (WIDTH_MAX - width));
	return { type: PORTABLE.path, bytes };
}

/** The bytes of an id that show whether the lower has changed. */
export function checkIn(id: Buffer): Buffer {
	return id.subarray(CHECK_AT, DEPTH_AT);
}

/** What an inode with these attributes has for it. */
export function checkOfStat(stat: Stat): Buffer {
	return checkOf(stat.realType, stat.size, stat.mtimeSec);
}

/** Whether an inode with these attributes is what it was when the id was made. */
export function fitsCheck(id: Buffer, stat: Stat): boolean {
	return id.readUInt32BE(CHECK_AT) === checkNumber(stat.realType, stat.size, stat.mtimeSec);
}

export function depthOf(id: Uint8Array): number {
	return id[DEPTH_AT];
}

/** Whether the name may be the one at this place (from 0) of the path of an id. */
export function mayBe(id: Uint8Array, place: number, name: Uint8Array): boolean {
	const width = widthAt(id[DEPTH_AT]);
	if ((place + 1) * width > TRAIL_BITS) return true;
	return hintOf(name) >> (WIDTH_MAX - width) === bitsAt(id, place * width, width);
}

/** Whether ids of this shape were made by `idBelow`. */
export function isPathId({ type, bytes }: FileHandle): boolean {
	if (type !== PORTABLE.path || bytes.length < TRAIL_AT) return false;
	const depth = bytes[DEPTH_AT];
	if (depth === 0) return bytes.length === TRAIL_AT;
	const width = widthAt(depth);
	return bytes.length === TRAIL_AT + Math.ceil((Math.min(depth, Math.floor(TRAIL_BITS / width)) * width) / 8);
}
