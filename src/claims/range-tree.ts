// Which locked range overlaps another: a tree of ranges, by their starts, that knows the greatest end below each (an augmented treap).

import type { LockedRange, LockState, Span } from "./records.ts";

/** Compares two values of 64 bits in halves. */
export function compare(aHi: number, aLo: number, bHi: number, bLo: number): number {
	return aHi !== bHi ? aHi - bHi : aLo - bLo;
}

/** A range that is in no tree yet. Priorities are random, so that no client can make a tree deep. */
export function lockedRange(
	state: LockState,
	isWrite: boolean,
	startHi: number,
	startLo: number,
	endHi: number,
	endLo: number,
): LockedRange {
	const priority = Math.random();
	return { startHi, startLo, endHi, endLo, state, isWrite, left: null, right: null, priority, maxHi: endHi, maxLo: endLo };
}

/** The tree with the range in it. Ranges may overlap, and begin alike if they are of different owners. */
export function insertRange(root: LockedRange | null, range: LockedRange): LockedRange {
	if (root === null) return range;
	if (range.priority > root.priority) {
		[range.left, range.right] = split(root, range);
		return updated(range);
	}
	if (isBefore(range, root)) root.left = insertRange(root.left, range);
	else root.right = insertRange(root.right, range);
	return updated(root);
}

/** The tree without the range, which is in it. */
export function removeRange(root: LockedRange | null, range: LockedRange): LockedRange | null {
	if (root === null) throw new Error("The range is not in its tree");
	if (root === range) {
		const rest = merge(range.left, range.right);
		range.left = null;
		range.right = null;
		updated(range);
		return rest;
	}
	if (isBefore(range, root)) root.left = removeRange(root.left, range);
	else root.right = removeRange(root.right, range);
	return updated(root);
}

/** The first range, by its start, that overlaps the span and is not of this owner. */
export function overlapping(root: LockedRange | null, span: Span, owner: LockState["owner"] | null): LockedRange | null {
	if (root === null || compare(root.maxHi, root.maxLo, span.startHi, span.startLo) <= 0) return null;
	const found = overlapping(root.left, span, owner);
	if (found !== null) return found;
	if (compare(root.startHi, root.startLo, span.endHi, span.endLo) >= 0) return null;
	if (compare(root.endHi, root.endLo, span.startHi, span.startLo) > 0 && root.state.owner !== owner) return root;
	return overlapping(root.right, span, owner);
}

/** Ranges of one start are told apart by the stateid of their owner, which no two have. */
function isBefore(a: LockedRange, b: LockedRange): boolean {
	const order = compare(a.startHi, a.startLo, b.startHi, b.startLo);
	return order !== 0 ? order < 0 : a.state.index < b.state.index;
}

function split(root: LockedRange | null, by: LockedRange): [LockedRange | null, LockedRange | null] {
	if (root === null) return [null, null];
	if (isBefore(root, by)) {
		const [before, after] = split(root.right, by);
		root.right = before;
		return [updated(root), after];
	}
	const [before, after] = split(root.left, by);
	root.left = after;
	return [before, updated(root)];
}

function merge(before: LockedRange | null, after: LockedRange | null): LockedRange | null {
	if (before === null) return after;
	if (after === null) return before;
	if (before.priority > after.priority) {
		before.right = merge(before.right, after);
		return updated(before);
	}
	after.left = merge(before, after.left);
	return updated(after);
}

function updated(range: LockedRange): LockedRange {
	range.maxHi = range.endHi;
	range.maxLo = range.endLo;
	raise(range, range.left);
	raise(range, range.right);
	return range;
}

function raise(range: LockedRange, child: LockedRange | null): void {
	if (child === null || compare(child.maxHi, child.maxLo, range.maxHi, range.maxLo) <= 0) return;
	range.maxHi = child.maxHi;
	range.maxLo = child.maxLo;
}
