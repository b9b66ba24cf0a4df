// What is recorded of a lower object that was copied up, removed or replaced: by what it is known again, unchanged or changed since.

import { sipHash, sipHashed, sipKey } from "../../handle/sip-hash.ts";
import { recordIn } from "../../layer/origin-record.ts";
import type { Stat } from "../../linux/stat.ts";
import { FileType } from "../../vfs/operations.ts";

/** A lower object as it was when its copy, or what hides it, was made. */
export interface BaseVersion {
	/** S_IFMT >> 12. */
	readonly type: number;
	readonly sizeHi: number;
	readonly sizeLo: number;
	readonly mtimeSec: number;
	readonly mtimeNsec: number;
	readonly ctimeSec: number;
	readonly ctimeNsec: number;
	readonly inoHi: number;
	readonly inoLo: number;
}

/** Whether a lower object is what was recorded of it. "unknown": nothing was recorded, or it cannot be told. */
export type BaseState = "unchanged" | "changed" | "unknown";

/**
 * The form is short, so that with the record of `origin` it still fits into an inode of ext4: type and form in the first byte, mtime in 8 bytes,
 * ctime in 8 more where that is another, size and inode number by seven bits in each byte.
 */
const FORM = 1;
const IS_ONE_TIME = 8;
const TIME_BYTES = 8;
/** 34 bits of seconds from here on, as ext4 has them: to 2446. */
const EARLIEST = -(2 ** 31);
const SECONDS = 2 ** 34;
const NSEC_BITS = 2 ** 30;

export function encodeBase(stat: Stat): Buffer {
	const bytes = Buffer.alloc(1 + 2 * TIME_BYTES + 20);
	const isOneTime = stat.mtimeSec === stat.ctimeSec && stat.mtimeNsec === stat.ctimeNsec;
	bytes[0] = (stat.type << 4) | (isOneTime ? IS_ONE_TIME : 0) | FORM;
	let at = putTime(bytes, 1, stat.mtimeSec, stat.mtimeNsec);
	if (!isOneTime) at = putTime(bytes, at, stat.ctimeSec, stat.ctimeNsec);
	at = putNumber(bytes, at, stat.sizeHi, stat.sizeLo);
	return bytes.subarray(0, putNumber(bytes, at, stat.inoHi, stat.inoLo));
}

/** What was encoded; null for anything else. */
export function decodeBase(bytes: Buffer): BaseVersion | null {
	if (bytes.length === 0 || (bytes[0] & 7) !== FORM) return null;
	const isOneTime = (bytes[0] & IS_ONE_TIME) !== 0;
	const timesEnd = 1 + (isOneTime ? TIME_BYTES : 2 * TIME_BYTES);
	if (bytes.length < timesEnd) return null;
	const [mtimeSec, mtimeNsec] = timeAt(bytes, 1);
	const [ctimeSec, ctimeNsec] = isOneTime ? [mtimeSec, mtimeNsec] : timeAt(bytes, 1 + TIME_BYTES);
	const size = numberAt(bytes, timesEnd);
	const ino = size === null ? null : numberAt(bytes, size.end);
	if (size === null || ino === null || ino.end !== bytes.length) return null;
	const type = bytes[0] >> 4;
	return { type, sizeHi: size.hi, sizeLo: size.lo, mtimeSec, mtimeNsec, ctimeSec, ctimeNsec, inoHi: ino.hi, inoLo: ino.lo };
}

function putTime(bytes: Buffer, at: number, sec: number, nsec: number): number {
	const seconds = (((sec - EARLIEST) % SECONDS) + SECONDS) % SECONDS;
	bytes.writeUInt32BE(Math.floor(seconds / 4), at);
	return bytes.writeUInt32BE((seconds % 4) * NSEC_BITS + nsec, at + 4);
}

function timeAt(bytes: Buffer, at: number): readonly [number, number] {
	const low = bytes.readUInt32BE(at + 4);
	const seconds = bytes.readUInt32BE(at) * 4 + Math.floor(low / NSEC_BITS);
	return [seconds + EARLIEST, low % NSEC_BITS];
}

const BITS = 7;
const MORE = 0x80;

function putNumber(bytes: Buffer, at: number, hi: number, lo: number): number {
	let next = at;
	let [high, low] = [hi >>> 0, lo >>> 0];
	while (high > 0 || low >= MORE) {
		bytes[next++] = MORE | (low & (MORE - 1));
		low = ((low >>> BITS) | (high << (32 - BITS))) >>> 0;
		high >>>= BITS;
	}
	bytes[next++] = low;
	return next;
}

function numberAt(bytes: Buffer, start: number): { readonly hi: number; readonly lo: number; readonly end: number } | null {
	let [hi, lo] = [0, 0];
	for (let at = start, shift = 0; at < bytes.length && shift < 64; at++, shift += BITS) {
		const part = bytes[at] & (MORE - 1);
		if (shift < 32) lo = (lo | (part << shift)) >>> 0;
		if (shift >= 32) hi = (hi | (part << (shift - 32))) >>> 0;
		else if (shift > 32 - BITS) hi = (hi | (part >>> (32 - shift))) >>> 0;
		if (bytes[at] < MORE) return { hi, lo, end: at + 1 };
	}
	return null;
}

/**
 * Compares a lower object with what was recorded. A directory that is still there is known by its inode alone, since what is below it has
 * records of its own; one that was removed by the time of its names too (`isRemoved`). Where ids are portable the lower may be a copy, with
 * other inodes and times of change: what looks the same there may be another object.
 */
export function compareBase(base: BaseVersion | null, stat: Stat, { isPortable, isRemoved }: CompareHow): BaseState {
	if (base === null) return "unknown";
	if (base.type !== stat.type) return "changed";
	const isInode = base.inoHi === stat.inoHi && base.inoLo === stat.inoLo;
	const isOther = isPortable ? "unknown" : "changed";
	if (base.type === FileType.dir && !isRemoved) return isInode ? "unchanged" : isOther;
	const isDirectory = base.type === FileType.dir;
	if (!isDirectory && (base.sizeHi !== stat.sizeHi || base.sizeLo !== stat.sizeLo)) return "changed";
	if (base.mtimeSec !== stat.mtimeSec) return "changed";
	if (!isInode) return isOther;
	const isAlike = base.mtimeNsec === stat.mtimeNsec && base.ctimeSec === stat.ctimeSec && base.ctimeNsec === stat.ctimeNsec;
	return isAlike ? "unchanged" : "changed";
}

export interface CompareHow {
	/** Ids of lowers are portable. */
	readonly isPortable: boolean;
	readonly isRemoved: boolean;
}

const DIGEST_BYTES = 3;
/** It tells damage, not forgery, so its key is no secret. */
const KEY = sipKey(Buffer.from("version of base\0"));

function digestOf(version: Buffer): Buffer {
	sipHash(KEY, version, 0, version.length);
	const hash = Buffer.alloc(4);
	hash.writeUInt32BE(sipHashed[0], 0);
	return hash.subarray(0, DIGEST_BYTES);
}

/** A value of `origin`: the record, and behind its end, which the kernel reads no further than, the version with a digest. */
export function originWith(record: Buffer, version: Buffer): Buffer {
	return Buffer.concat([record, digestOf(version), version]);
}

/** The same value with another record. */
export function originMovedTo(record: Buffer, origin: Buffer): Buffer {
	return Buffer.concat([record, origin.subarray(recordIn(origin).length)]);
}

/** The version in a value of `origin`, as `encodeBase` wrote it; null: there is none; "damaged": one that nobody wrote. */
export function versionIn(origin: Buffer): Buffer | null | "damaged" {
	const rest = origin.subarray(recordIn(origin).length);
	if (rest.length === 0) return null;
	const version = rest.subarray(DIGEST_BYTES);
	const isWhole = rest.length > DIGEST_BYTES && digestOf(version).equals(rest.subarray(0, DIGEST_BYTES)) && decodeBase(version) !== null;
	return isWhole ? version : "damaged";
}
