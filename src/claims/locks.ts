// Byte ranges that are locked, as POSIX has it: merged, split, up- and downgraded by their owner, in the way of all others.

import { ClaimError } from "./errors.ts";
import type { ByteRange } from "./operations.ts";
import { compare, insertRange, lockedRange, overlapping, removeRange } from "./range-tree.ts";
import type { ClientRecord, FileLocks, FileRecord, LockedRange, LockState, LockWaiter, OpenState, Owner, Span } from "./records.ts";

const WORD = 0x100000000;
const LAST = 0xffffffff;

/** "inval" for no bytes and for more than there are (RFC 8881 section 18.10.3). */
export function spanOf({ offsetHi, offsetLo, lengthHi, lengthLo }: ByteRange): Span {
	if (lengthHi === 0 && lengthLo === 0) throw new ClaimError("inval", "The range has no bytes");
	if (lengthHi === LAST && lengthLo === LAST) return { startHi: offsetHi, startLo: offsetLo, endHi: WORD, endLo: 0 };
	const lo = offsetLo + lengthLo;
	const carry = lo >= WORD ? 1 : 0;
	const span = { startHi: offsetHi, startLo: offsetLo, endHi: offsetHi + lengthHi + carry, endLo: lo - carry * WORD };
	if (compare(span.endHi, span.endLo, WORD, 0) > 0) throw new ClaimError("inval", "The range ends beyond 2^64");
	return span;
}

/** The other way: what reaches the last byte is up to the end. */
export function rangeOf({ startHi, startLo, endHi, endLo }: Span): ByteRange {
	if (endHi === WORD) return { offsetHi: startHi, offsetLo: startLo, lengthHi: LAST, lengthLo: LAST };
	const borrow = endLo < startLo ? 1 : 0;
	return { offsetHi: startHi, offsetLo: startLo, lengthHi: endHi - startHi - borrow, lengthLo: endLo - startLo + borrow * WORD };
}

function fileLocks(file: FileRecord): FileLocks {
	file.locks ??= { readers: null, writers: null, waiters: [] };
	return file.locks;
}

/** The lock of somebody else that is in the way; null: it may be granted. `owner` null: all are somebody else's. */
export function conflictOf(file: FileRecord, span: Span, isWrite: boolean, owner: Owner<LockState> | null): LockedRange | null {
	const { locks } = file;
	if (locks === null) return null;
	const writer = overlapping(locks.writers, span, owner);
	if (writer !== null || !isWrite) return writer;
	return overlapping(locks.readers, span, owner);
}

/** What a change makes of an owner's ranges: those from `at` on, `removed` in number, give way to `added`. */
interface Replacement {
	readonly at: number;
	readonly removed: number;
	readonly added: readonly LockedRange[];
}

/**
 * What it makes of the owner's own ranges to lock a span, or to unlock it (`isWrite` null). Changes nothing. Nobody else's lock is in the way.
 */
export function planLock(state: LockState, span: Span, isWrite: boolean | null): Replacement {
	const { ranges } = state;
	let { startHi, startLo, endHi, endLo } = span;
	const at = firstTouching(ranges, startHi, startLo);
	let before: LockedRange | null = null;
	let after: LockedRange | null = null;
	let end = at;
	for (; end < ranges.length; end++) {
		const range = ranges[end];
		if (compare(range.startHi, range.startLo, span.endHi, span.endLo) > 0) break;
		if (range.isWrite === isWrite) {
			if (compare(range.startHi, range.startLo, startHi, startLo) < 0) ({ startHi, startLo } = range);
			if (compare(range.endHi, range.endLo, endHi, endLo) > 0) ({ endHi, endLo } = range);
			continue;
		}
		if (compare(range.startHi, range.startLo, span.startHi, span.startLo) < 0) {
			before = lockedRange(
				state,
				range.isWrite,
				range.startHi,
				range.startLo,
				...lesser(range.endHi, range.endLo, span.startHi, span.startLo),
			);
		}
		if (compare(range.endHi, range.endLo, span.endHi, span.endLo) > 0) {
			after = lockedRange(state, range.isWrite, ...greater(range.startHi, range.startLo, span.endHi, span.endLo), range.endHi, range.endLo);
		}
	}
	const own = isWrite === null ? null : lockedRange(state, isWrite, startHi, startLo, endHi, endLo);
	return { at, removed: end - at, added: [before, own, after].filter((range) => range !== null) };
}

/** Carries out a plan that was just made. */
export function applyLock(state: LockState, { at, removed, added }: Replacement): void {
	const locks = fileLocks(state.file);
	for (let i = at; i < at + removed; i++) takeOut(locks, state.ranges[i]);
	state.ranges.splice(at, removed, ...added);
	for (const range of added) putIn(locks, range);
	state.owner.client.locks += added.length - removed;
}

/** The owner's locks on the file go, the last ones first: all, or so many. */
export function dropLocks(state: LockState, most = Number.POSITIVE_INFINITY): void {
	const locks = fileLocks(state.file);
	const left = Math.max(0, state.ranges.length - most);
	for (let i = left; i < state.ranges.length; i++) takeOut(locks, state.ranges[i]);
	state.owner.client.locks -= state.ranges.length - left;
	state.ranges.length = left;
}

/** Remembers a denied lock: one for each owner and file, the last. Where there are too many it is not. */
export function addWaiter(file: FileRecord, waiter: LockWaiter, perFile: number, perClient: number): void {
	const { waiters } = fileLocks(file);
	const { client } = waiter.open.owner;
	removeWaiter(file, client, waiter.owner);
	if (waiters.length >= perFile || client.waiters >= perClient) return;
	waiters.push(waiter);
	client.waiters++;
}

/** It got its lock. */
export function removeWaiter(file: FileRecord, client: ClientRecord, owner: string): void {
	if (client.waiters > 0) keepWaiters(file, (waiter) => waiter.open.owner.client !== client || waiter.owner !== owner);
}

/** The open goes. */
export function removeWaitersOf(open: OpenState): void {
	if (open.owner.client.waiters > 0) keepWaiters(open.file, (waiter) => waiter.open !== open);
}

/** Takes those out that nothing is in the way of any more, in the order in which they came; those whose time is over just go. */
export function takeReadyWaiters(file: FileRecord, now: number, ready: (waiter: LockWaiter) => void): void {
	const found: LockWaiter[] = [];
	keepWaiters(file, (waiter) => {
		if (waiter.until <= now) return false;
		const owner = waiter.open.owner.client.lockOwners.get(waiter.owner) ?? null;
		if (conflictOf(file, waiter, waiter.isWrite, owner) !== null) return true;
		found.push(waiter);
		return false;
	});
	for (const waiter of found) ready(waiter);
}

function keepWaiters(file: FileRecord, keeps: (waiter: LockWaiter) => boolean): void {
	const waiters = file.locks?.waiters;
	if (waiters === undefined || waiters.length === 0) return;
	let kept = 0;
	for (const waiter of waiters) {
		if (keeps(waiter)) waiters[kept++] = waiter;
		else waiter.open.owner.client.waiters--;
	}
	waiters.length = kept;
}

function putIn(locks: FileLocks, range: LockedRange): void {
	if (range.isWrite) locks.writers = insertRange(locks.writers, range);
	else locks.readers = insertRange(locks.readers, range);
}

function takeOut(locks: FileLocks, range: LockedRange): void {
	if (range.isWrite) locks.writers = removeRange(locks.writers, range);
	else locks.readers = removeRange(locks.readers, range);
}

/** Place of the first range that ends at or behind a byte. */
function firstTouching(ranges: readonly LockedRange[], hi: number, lo: number): number {
	let low = 0;
	let high = ranges.length;
	while (low < high) {
		const middle = (low + high) >>> 1;
		if (compare(ranges[middle].endHi, ranges[middle].endLo, hi, lo) < 0) low = middle + 1;
		else high = middle;
	}
	return low;
}

function lesser(aHi: number, aLo: number, bHi: number, bLo: number): [number, number] {
	return compare(aHi, aLo, bHi, bLo) < 0 ? [aHi, aLo] : [bHi, bLo];
}

function greater(aHi: number, aLo: number, bHi: number, bLo: number): [number, number] {
	return compare(aHi, aLo, bHi, bLo) > 0 ? [aHi, aLo] : [bHi, bLo];
}
