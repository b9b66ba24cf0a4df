// The set of hashes: what was added is never denied, however it has grown, and little else is affirmed.

import assert from "node:assert/strict";
import { test } from "node:test";
import { EntryHashes, NAMES_MAX } from "./entry-hashes.ts";

const nameOf = (number: number) => Buffer.from(`record ${number}`).toString("hex");

test("no name that was added is denied, and of others at most one in ten thousand is not", () => {
	const hashes = new EntryHashes();
	for (let i = 0; i < 100_000; i++) hashes.add(i % 2 === 0 ? nameOf(i) : Buffer.from(nameOf(i)));
	let denied = 0;
	for (let i = 0; i < 100_000; i++) if (!hashes.mayHave(nameOf(i))) denied++;
	assert.equal(denied, 0);
	let affirmed = 0;
	for (let i = 100_000; i < 200_000; i++) if (hashes.mayHave(nameOf(i))) affirmed++;
	assert.ok(affirmed <= 10, `${affirmed} of 100,000 that were not added`);
});

test("the slots make the same set again, and sets can be put together", () => {
	const [first, second] = [new EntryHashes(), new EntryHashes()];
	for (let i = 0; i < 3000; i++) (i < 1000 ? first : second).add(nameOf(i));
	const both = new EntryHashes(first.slots.slice());
	both.addAll(second);
	for (let i = 0; i < 3000; i++) assert.ok(both.mayHave(nameOf(i)), `${i}`);
	assert.equal(first.mayHave(nameOf(1000)), false);
});

test("a set of too many names denies nothing any more, nor does one that it is added to", () => {
	const hashes = new EntryHashes();
	for (let i = 0; !hashes.isFull; i++) {
		assert.ok(i < NAMES_MAX * 1.01);
		hashes.add(nameOf(i));
	}
	assert.ok(hashes.mayHave("never added"));
	const other = new EntryHashes();
	other.addAll(hashes);
	assert.ok(other.isFull && other.mayHave("never added"));
});
