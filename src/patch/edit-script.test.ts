// Edit scripts lead from one text to the other, are as short as can be, and never take long.

import assert from "node:assert/strict";
import { test } from "node:test";
import { fc } from "../../test/support/fast-check.ts";
import { DIFFERENCES_MAX, type Edit, editsBetween } from "./edit-script.ts";

function edited(old: readonly number[], now: readonly number[], edits: readonly Edit[]): number[] {
	const result: number[] = [];
	let at = 0;
	for (const edit of edits) {
		assert.ok(edit.at >= at && edit.count + edit.newCount > 0);
		result.push(...old.slice(at, edit.at));
		assert.equal(result.length, edit.newAt);
		result.push(...now.slice(edit.newAt, edit.newAt + edit.newCount));
		at = edit.at + edit.count;
	}
	return [...result, ...old.slice(at)];
}

/** Length of the longest common subsequence, by the book. */
function common(old: readonly number[], now: readonly number[]): number {
	let row = new Array<number>(now.length + 1).fill(0);
	for (const line of old) {
		const next = [0];
		for (const [i, other] of now.entries()) next.push(line === other ? row[i] + 1 : Math.max(row[i + 1], next[i]));
		row = next;
	}
	return row[now.length];
}

const texts = fc.array(fc.nat(4), { maxLength: 30 });
const sizeOf = (edits: readonly Edit[]) => edits.reduce((sum, { count, newCount }) => sum + count + newCount, 0);

test("edits lead from one text to the other, and there are no fewer", () => {
	fc.assert(
		fc.property(texts, texts, (old, now) => {
			const edits = editsBetween(Uint32Array.from(old), Uint32Array.from(now));
			assert.deepEqual(edited(old, now, edits), now);
			assert.equal(sizeOf(edits), old.length + now.length - 2 * common(old, now));
		}),
		{ numRuns: 500 },
	);
});

test("with too many differences all between the first and the last is replaced", () => {
	const old = Array.from({ length: 100_000 }, (_, i) => i);
	const now = old.map((line, i) => (i % 20 === 10 ? line + 1_000_000 : line));
	const edits = editsBetween(Uint32Array.from(old), Uint32Array.from(now));
	assert.deepEqual(edits, [{ at: 10, count: 99_981, newAt: 10, newCount: 99_981 }]);
	const few = now.map((line, i) => (i % 1000 === 10 ? line : old[i]));
	const found = editsBetween(Uint32Array.from(old), Uint32Array.from(few));
	assert.equal(found.length, 100);
	assert.ok(sizeOf(found) <= DIFFERENCES_MAX);
});
