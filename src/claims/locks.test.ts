// The table of locks against an array of bytes, and its bounds.

import assert from "node:assert/strict";
import { test } from "node:test";
import { fc } from "../../test/support/fast-check.ts";
import { ClaimError } from "./errors.ts";
import { addWaiter, applyLock, conflictOf, dropLocks, planLock, rangeOf, spanOf, takeReadyWaiters } from "./locks.ts";
import { compare } from "./range-tree.ts";
import type { ClientRecord, FileRecord, LockedRange, LockState, LockWaiter, OpenState, Owner, Span } from "./records.ts";
import { newFile } from "./tables.ts";

/** Edges between the bytes of the model, in halves: both ends of 32 and of 64 bits. */
const EDGES: readonly (readonly [number, number])[] = [
	[0, 0],
	[0, 1],
	[0, 2],
	[0, 0xfffffffe],
	[0, 0xffffffff],
	[1, 0],
	[1, 1],
	[0x200000, 0],
	[0x200000, 1],
	[0x7fffffff, 0xffffffff],
	[0x80000000, 0],
	[0xffffffff, 0xfffffffe],
	[0xffffffff, 0xffffffff],
	[0x100000000, 0],
];
const CELLS = EDGES.length - 1;

function newState(
	file: FileRecord,
	index: number,
	client = { locks: 0, waiters: 0, lockOwners: new Map() } as unknown as ClientRecord,
): LockState {
	const owner: Owner<LockState> = { client, key: `owner ${index}`, first: null, count: 1, byFile: null };
	const none = { nextOfOpen: null, previousOfOpen: null, nextOfOwner: null, previousOfOwner: null };
	const state: LockState = { kind: "lock", index, generation: 1, seqid: 1, owner, file, open: null as never, ranges: [], ...none };
	owner.first = state;
	client.lockOwners.set(owner.key, owner);
	return state;
}

function openOf({ owner }: LockState): OpenState {
	return { owner } as unknown as OpenState;
}

function span(from: number, to: number): Span {
	return { startHi: EDGES[from][0], startLo: EDGES[from][1], endHi: EDGES[to][0], endLo: EDGES[to][1] };
}

/** What the table says each owner has on each byte. */
function cellsOf(states: readonly LockState[]): (boolean | null)[][] {
	return states.map(({ ranges }) => {
		const cells: (boolean | null)[] = new Array(CELLS).fill(null);
		for (const range of ranges) {
			for (let cell = 0; cell < CELLS; cell++) {
				const [hi, lo] = EDGES[cell];
				const isIn = compare(range.startHi, range.startLo, hi, lo) <= 0 && compare(hi, lo, range.endHi, range.endLo) < 0;
				if (!isIn) continue;
				assert.equal(cells[cell], null, "ranges of one owner overlap");
				cells[cell] = range.isWrite;
			}
		}
		return cells;
	});
}

function inTree(root: LockedRange | null): LockedRange[] {
	if (root === null) return [];
	const all = [...inTree(root.left), root, ...inTree(root.right)];
	const greatest = all.reduce((a, b) => (compare(a.endHi, a.endLo, b.endHi, b.endLo) < 0 ? b : a));
	assert.deepEqual([root.maxHi, root.maxLo], [greatest.endHi, greatest.endLo], "the tree knows the greatest end");
	return all;
}

/** The same ranges stand with their owners and in the trees; neighbours of one kind are merged. */
function checkForm(file: FileRecord, states: readonly LockState[]): void {
	const locks = file.locks ?? { readers: null, writers: null };
	const inTrees = [...inTree(locks.readers), ...inTree(locks.writers)];
	assert.deepEqual(new Set(inTrees), new Set(states.flatMap(({ ranges }) => ranges)));
	for (const range of inTree(locks.writers)) assert.equal(range.isWrite, true);
	for (const { ranges, owner } of states) {
		assert.equal(owner.client.locks, ranges.length);
		for (let i = 1; i < ranges.length; i++) {
			const order = compare(ranges[i - 1].endHi, ranges[i - 1].endLo, ranges[i].startHi, ranges[i].startLo);
			assert.ok(order < 0 || (order === 0 && ranges[i - 1].isWrite !== ranges[i].isWrite), "neighbours are merged");
		}
	}
}

test("whatever is locked and unlocked, each byte is held as in an array of bytes", () => {
	const step = fc.record({
		who: fc.integer({ min: 0, max: 2 }),
		kind: fc.constantFrom<boolean | null>(true, false, null),
		from: fc.integer({ min: 0, max: CELLS - 1 }),
		length: fc.integer({ min: 1, max: CELLS }),
	});
	fc.assert(
		fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
			const file = newFile("file");
			const states = [0, 1, 2].map((index) => newState(file, index));
			const model: (boolean | null)[][] = states.map(() => new Array(CELLS).fill(null));
			for (const { who, kind, from, length } of steps) {
				const to = Math.min(from + length, CELLS);
				const isTaken = (cells: (boolean | null)[], owner: number) =>
					owner !== who && cells.slice(from, to).some((cell) => cell === true || (cell === false && kind === true));
				const conflict = kind === null ? null : conflictOf(file, span(from, to), kind, states[who].owner);
				assert.equal(conflict !== null, kind !== null && model.some(isTaken));
				if (conflict !== null) {
					assert.notEqual(conflict.state, states[who]);
					assert.ok(conflict.isWrite || kind === true);
					continue;
				}
				applyLock(states[who], planLock(states[who], span(from, to), kind));
				model[who].fill(kind, from, to);
				assert.deepEqual(cellsOf(states), model);
				checkForm(file, states);
			}
			for (const state of states) dropLocks(state);
			checkForm(file, states);
		}),
		{ numRuns: 400 },
	);
});

test("a range and a span are two forms of the same, up to 2^64-1", () => {
	const whole = { offsetHi: 0, offsetLo: 0, lengthHi: 0xffffffff, lengthLo: 0xffffffff };
	assert.deepEqual(spanOf(whole), span(0, CELLS));
	assert.deepEqual(rangeOf(spanOf(whole)), whole);
	const carried = { offsetHi: 0, offsetLo: 0xffffffff, lengthHi: 1, lengthLo: 3 };
	assert.deepEqual(spanOf(carried), { startHi: 0, startLo: 0xffffffff, endHi: 2, endLo: 2 });
	assert.deepEqual(rangeOf(spanOf(carried)), carried);
	const last = { offsetHi: 0xffffffff, offsetLo: 0xffffffff, lengthHi: 0, lengthLo: 1 };
	assert.deepEqual(spanOf(last), span(CELLS - 1, CELLS));
});

test("no bytes, and bytes behind 2^64, are refused", () => {
	const isInvalid = (error: unknown) => error instanceof ClaimError && error.code === "inval";
	assert.throws(() => spanOf({ offsetHi: 0, offsetLo: 5, lengthHi: 0, lengthLo: 0 }), isInvalid);
	assert.throws(() => spanOf({ offsetHi: 0xffffffff, offsetLo: 0xffffffff, lengthHi: 0, lengthLo: 2 }), isInvalid);
	assert.throws(() => spanOf({ offsetHi: 0x80000000, offsetLo: 0, lengthHi: 0x80000000, lengthLo: 1 }), isInvalid);
});

test("a denied lock is told when nothing is in its way, in order, once, and not after its time", () => {
	const file = newFile("file");
	const holder = newState(file, 0);
	const others = [1, 2, 3].map((index) => newState(file, index));
	applyLock(holder, planLock(holder, span(0, CELLS), true));
	const waiter = (state: LockState, until: number): LockWaiter => ({
		...span(1, 3),
		open: openOf(state),
		owner: state.owner.key,
		isWrite: true,
		until,
	});
	addWaiter(file, waiter(others[0], 10), 10, 10);
	addWaiter(file, waiter(others[1], 50), 10, 10);
	addWaiter(file, waiter(others[2], 60), 10, 10);
	addWaiter(file, waiter(others[1], 50), 10, 10);
	const told: string[] = [];
	const tell = (time: number) => takeReadyWaiters(file, time, ({ owner }) => told.push(owner));
	tell(5);
	assert.deepEqual(told, []);
	applyLock(holder, planLock(holder, span(0, 4), null));
	tell(20);
	assert.deepEqual(told, ["owner 3", "owner 2"]);
	tell(20);
	assert.equal(told.length, 2);
	assert.deepEqual(
		others.map(({ owner }) => owner.client.waiters),
		[0, 0, 0],
	);
});

test("of denied locks no more are remembered than the bounds say", () => {
	const file = newFile("file");
	const states = [0, 1, 2, 3].map((index) => newState(file, index));
	for (const { owner } of states)
		addWaiter(file, { ...span(0, 1), open: { owner } as never, owner: owner.key, isWrite: true, until: 9 }, 3, 10);
	assert.equal(file.locks?.waiters.length, 3);
	const many = newState(file, 9);
	for (let i = 0; i < 5; i++)
		addWaiter(newFile("file"), { ...span(0, 1), open: openOf(many), owner: `${i}`, isWrite: true, until: 9 }, 3, 4);
	assert.equal(many.owner.client.waiters, 4);
});

test("65,536 locks on one file are found and changed in a depth that does not grow with them", () => {
	const file = newFile("file");
	const holder = newState(file, 0);
	const other = newState(file, 1);
	const at = (index: number) => ({ startHi: 0, startLo: index * 4, endHi: 0, endLo: index * 4 + 2 });
	for (let i = 0; i < 65_536; i++) applyLock(holder, planLock(holder, at(i), i % 2 === 0));
	const depth = (root: LockedRange | null): number => (root === null ? 0 : 1 + Math.max(depth(root.left), depth(root.right)));
	// 2 ln n levels are to be expected, so about 21; a list would have 32,768
	assert.ok(depth(file.locks?.writers ?? null) < 80);
	assert.equal(conflictOf(file, at(40_000), false, other.owner)?.startLo, 160_000);
	assert.equal(conflictOf(file, at(40_001), false, other.owner), null);
	assert.equal(conflictOf(file, at(40_001), true, other.owner)?.startLo, 160_004);
});
