// Lists the union of real directories in the order of cookies.

import { type SipKey, sipHash, sipHashed } from "../../handle/sip-hash.ts";
import { concealedKey, hiddenByFile } from "../../layer/hiding.ts";
import { visitEntries } from "../../linux/directory.ts";
import { Stat } from "../../linux/stat.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { FileType } from "../../vfs/operations.ts";
import { errnoOf } from "../../vfs/system-errors.ts";
import { isWhiteoutEntry, isWhiteoutFileEntry } from "../format/whiteout.ts";

/** One real directory of a stack, open for reading. */
export interface ScanSource {
	readonly fd: number;
	/** Number of the inode space of its entries, where an entry's inode number tells the file id; 0 where it takes a look-up. */
	readonly space: number;
	/** File ids of subdirectories take a look-up (btrfs: an entry may be another subvolume). */
	readonly asksForDirectories: boolean;
	/** Name of the xattr of whiteouts in that form; null where the directory has none. */
	readonly whiteoutXattr: string | null;
	/** Files named `.wh.NAME` are whiteouts. */
	readonly hasWhiteoutFiles?: boolean;
	/** Directories that are not shown, as of Layer. */
	readonly concealed?: ReadonlySet<string> | null;
}

/**
 * Which part of a directory to list, in hash order: entries whose hash is at least `from`, and of those above `after` at most `limit`.
 * What lies between only tells which cookies are taken, and must not use up the window.
 */
export interface ScanRequest {
	/** From the topmost real directory down. */
	readonly sources: readonly ScanSource[];
	readonly key: SipKey;
	readonly fromHi: number;
	readonly fromLo: number;
	readonly afterHi: number;
	readonly afterLo: number;
	readonly limit: number;
	/** Bits of the hash that are kept; fewer than 63 only to show what happens when names collide. */
	readonly hashBits: number;
}

/** Entries in the order of their cookies; every array has one element for each. */
export interface ScanEntries {
	readonly names: Uint8Array;
	/** One more than entries: where in `names` each begins and ends. */
	readonly nameStarts: Uint32Array;
	readonly cookieHi: Uint32Array;
	readonly cookieLo: Uint32Array;
	readonly spaces: Uint16Array;
	readonly inoHi: Uint32Array;
	readonly inoLo: Uint32Array;
}

export interface ScanResult {
	readonly entries: ScanEntries;
	readonly count: number;
	/** Hash of the last entry where there may be more behind it, else null: the window reaches the end. */
	readonly end: { readonly hi: number; readonly lo: number } | null;
}

/** Cookies 0 (start), 1 (".") and 2 ("..") are taken. */
const FIRST_HASH = 3;
export const HASH_BITS = 63;
/** The hash of the name that was hashed last: unsigned halves, 3 .. 2^63-1. */
export const nameHashed = new Uint32Array(2);

/** The place of a name in every listing of the export, for ever: a keyed hash, so that nobody can craft names that collide. */
export function hashName(key: SipKey, bytes: Uint8Array, start: number, end: number, hashBits: number): void {
	sipHash(key, bytes, start, end);
	nameHashed[0] = sipHashed[0] & 0x7fffffff;
	nameHashed[1] = sipHashed[1];
	if (hashBits < HASH_BITS) {
		nameHashed[0] = 0;
		nameHashed[1] &= (1 << hashBits) - 1;
	}
	if (nameHashed[0] === 0 && nameHashed[1] < FIRST_HASH) nameHashed[1] += FIRST_HASH;
}

/** Set in the rank (twice the position of the source) of a name that is hidden in the layers below and not shown. */
const WHITEOUT = 0x8000;
const RANK = 0x7fff;

/** Grows with what is found; columns rather than objects, because there may be millions. */
class Columns {
	count = 0;
	nameBytes = 0;
	names = Buffer.allocUnsafeSlow(16 * 1024);
	nameStarts = new Uint32Array(513);
	hi = new Uint32Array(512);
	lo = new Uint32Array(512);
	ranks = new Uint16Array(512);
	spaces = new Uint16Array(512);
	inoHi = new Uint32Array(512);
	inoLo = new Uint32Array(512);

	add(name: Uint8Array, hi: number, lo: number, rank: number, space: number, inoHi: number, inoLo: number): void {
		const i = this.count;
		if (i === this.hi.length) this.#grow();
		if (this.nameBytes + name.length > this.names.length) {
			const names = Buffer.allocUnsafeSlow(this.names.length * 2);
			names.set(this.names.subarray(0, this.nameBytes));
			this.names = names;
		}
		this.names.set(name, this.nameBytes);
		this.nameBytes += name.length;
		this.nameStarts[i + 1] = this.nameBytes;
		this.hi[i] = hi;
		this.lo[i] = lo;
		this.ranks[i] = rank;
		this.spaces[i] = space;
		this.inoHi[i] = inoHi;
		this.inoLo[i] = inoLo;
		this.count++;
	}

	name(i: number): Buffer {
		return this.names.subarray(this.nameStarts[i], this.nameStarts[i + 1]);
	}

	#grow(): void {
		const size = this.hi.length * 2;
		const u32 = (old: Uint32Array, length: number) => {
			const grown = new Uint32Array(length);
			grown.set(old);
			return grown;
		};
		const u16 = (old: Uint16Array) => {
			const grown = new Uint16Array(size);
			grown.set(old);
			return grown;
		};
		this.nameStarts = u32(this.nameStarts, size + 1);
		this.hi = u32(this.hi, size);
		this.lo = u32(this.lo, size);
		this.ranks = u16(this.ranks);
		this.spaces = u16(this.spaces);
		this.inoHi = u32(this.inoHi, size);
		this.inoLo = u32(this.inoLo, size);
	}
}

/** Lists the union of real directories, or a window of it. The result, or the negated error number. */
export function scan(request: ScanRequest): ScanResult | number {
	try {
		return scanAll(request);
	} catch (error) {
		if (error instanceof OverlayError) return errnoOf(error);
		throw error;
	}
}

function scanAll(request: ScanRequest): ScanResult | number {
	let columns = new Columns();
	let endHi = 0x7fffffff;
	let endLo = 0xffffffff;
	let isCut = false;
	let below = 0;
	const { afterHi, afterLo, limit } = request;
	const stat = new Stat();
	for (let rank = 0; rank < request.sources.length; rank++) {
		const source = request.sources[rank];
		const status = visitEntries(source.fd, (entry, type, inoHi, inoLo) => {
			if (source.concealed?.has(concealedKey(inoHi, inoLo))) return undefined;
			const isFile = source.hasWhiteoutFiles === true && isWhiteoutFileEntry(source.fd, entry, type, stat);
			const name = isFile ? hiddenByFile(entry) : entry;
			if (name === null) return undefined;
			hashName(request.key, name, 0, name.length, request.hashBits);
			const hi = nameHashed[0];
			const lo = nameHashed[1];
			if (hi < request.fromHi || (hi === request.fromHi && lo < request.fromLo)) return undefined;
			if (hi > endHi || (hi === endHi && lo > endLo)) return undefined;
			const known = source.space !== 0 && inoHi < 0x10000 && !(source.asksForDirectories && type === FileType.dir);
			const isWhiteout = isFile || isWhiteoutEntry(source.fd, name, type, source.whiteoutXattr, stat);
			// a file that hides does so below its own directory only
			const order = (rank << 1) | (isFile ? 1 : 0) | (isWhiteout ? WHITEOUT : 0);
			columns.add(name, hi, lo, order, known ? source.space : 0, inoHi, inoLo);
			if (hi < afterHi || (hi === afterHi && lo <= afterLo)) below++;
			if (columns.count - below >= limit * 2) {
				const cut = cutDown(columns, below + limit);
				if (cut !== null) {
					columns = cut.columns;
					endHi = cut.hi;
					endLo = cut.lo;
					isCut = true;
				}
			}
			return undefined;
		});
		if (status < 0) return status;
	}
	const cut = columns.count - below > limit ? cutDown(columns, below + limit) : null;
	if (cut !== null) return finish(cut.columns, cut);
	return finish(columns, isCut ? { hi: endHi, lo: endLo } : null);
}

/** Indices in the order of hash, name and rank. */
function ordered(columns: Columns): Uint32Array {
	const { hi, lo, ranks, count } = columns;
	const compare = (a: number, b: number) =>
		hi[a] - hi[b] || lo[a] - lo[b] || Buffer.compare(columns.name(a), columns.name(b)) || (ranks[a] & RANK) - (ranks[b] & RANK);
	let order: Uint32Array<ArrayBufferLike> = Uint32Array.from({ length: count }, (_, i) => i);
	if (count < 4096) return order.sort(compare);
	// many: two passes of a radix sort by the high half, then the few that are equal in it
	let other: Uint32Array<ArrayBufferLike> = new Uint32Array(count);
	for (const shift of [0, 16]) {
		const starts = new Uint32Array(65537);
		for (let i = 0; i < count; i++) starts[((hi[i] >>> shift) & 0xffff) + 1]++;
		for (let i = 1; i < starts.length; i++) starts[i] += starts[i - 1];
		for (let i = 0; i < count; i++) other[starts[(hi[order[i]] >>> shift) & 0xffff]++] = order[i];
		[order, other] = [other, order];
	}
	for (let i = 1; i < count; i++) {
		let end = i;
		while (end < count && hi[order[end]] === hi[order[i - 1]]) end++;
		if (end > i) order.subarray(i - 1, end).sort(compare);
		i = end;
	}
	return order;
}

/** Keeps the `limit` lowest hashes; names with one hash are never parted. Null where all share it. */
function cutDown(columns: Columns, limit: number): { readonly columns: Columns; readonly hi: number; readonly lo: number } | null {
	const order = ordered(columns);
	let end = limit;
	const same = (a: number, b: number) => columns.hi[a] === columns.hi[b] && columns.lo[a] === columns.lo[b];
	while (end < columns.count && same(order[end], order[end - 1])) end++;
	if (end === columns.count) return null;
	const kept = new Columns();
	for (let i = 0; i < end; i++) {
		const at = order[i];
		kept.add(columns.name(at), columns.hi[at], columns.lo[at], columns.ranks[at], columns.spaces[at], columns.inoHi[at], columns.inoLo[at]);
	}
	const last = order[end - 1];
	return { columns: kept, hi: columns.hi[last], lo: columns.lo[last] };
}

/** Orders, lets the topmost of equal names win, drops whiteouts, and gives names with one hash the next free cookies. */
function finish(columns: Columns, end: { readonly hi: number; readonly lo: number } | null): ScanResult {
	const order = ordered(columns);
	const total = columns.count;
	const entries = {
		names: new Uint8Array(columns.nameBytes),
		nameStarts: new Uint32Array(total + 1),
		cookieHi: new Uint32Array(total),
		cookieLo: new Uint32Array(total),
		spaces: new Uint16Array(total),
		inoHi: new Uint32Array(total),
		inoLo: new Uint32Array(total),
	};
	let count = 0;
	let nameBytes = 0;
	let previous = -1;
	for (let i = 0; i < total; i++) {
		const at = order[i];
		const name = columns.name(at);
		const isRepeated = previous >= 0 && columns.hi[previous] === columns.hi[at] && columns.name(previous).equals(name);
		previous = at;
		if (isRepeated || (columns.ranks[at] & WHITEOUT) !== 0) continue;
		let hi = columns.hi[at];
		let lo = columns.lo[at];
		if (count > 0) {
			const lastHi = entries.cookieHi[count - 1];
			const lastLo = entries.cookieLo[count - 1];
			if (hi < lastHi || (hi === lastHi && lo <= lastLo)) {
				lo = (lastLo + 1) >>> 0;
				hi = lo === 0 ? lastHi + 1 : lastHi;
			}
		}
		entries.names.set(name, nameBytes);
		nameBytes += name.length;
		entries.nameStarts[count + 1] = nameBytes;
		entries.cookieHi[count] = hi;
		entries.cookieLo[count] = lo;
		entries.spaces[count] = columns.spaces[at];
		entries.inoHi[count] = columns.inoHi[at];
		entries.inoLo[count] = columns.inoLo[at];
		count++;
	}
	return { entries, count, end: end === null ? null : { hi: end.hi, lo: end.lo } };
}
