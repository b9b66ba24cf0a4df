// The set of hashes: what was added is never denied, however it has grown, and little else is affirmed.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { FileHandle } from "../../linux/file-handle.ts";
import { encodeRecord } from "../format/identity.ts";
import { EntryHashes, NAMES_MAX } from "./entry-hashes.ts";

const UUID = Buffer.from("00112233445566778899aabbccddeeff", "hex");

/** Ids of many lengths, most of them as on ext4. */
function idOf(number: number): FileHandle {
	const bytes = Buffer.alloc(number % 10 === 0 ? 5 + (number % 40) : 8);
	bytes.writeUInt32BE(number, bytes.length - 4);
	return { type: 1, bytes };
}

const nameOf = (number: number, uuid = UUID) => encodeRecord(uuid, idOf(number), false).toString("hex");

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

test("a record is known by its object as by its name, and an object of another file system or type is not", () => {
	const hashes = new EntryHashes();
	for (let i = 0; i < 1000; i++) hashes.add(nameOf(i));
	const other = Buffer.from(UUID).fill(1, 12);
	let affirmed = 0;
	for (let i = 0; i < 1000; i++) {
		assert.ok(hashes.mayHaveRecord(UUID, idOf(i)), `${i}`);
		assert.equal(hashes.mayHaveRecord(UUID, idOf(1000 + i)), hashes.mayHave(nameOf(1000 + i)));
		if (hashes.mayHaveRecord(other, idOf(i)) || hashes.mayHaveRecord(UUID, { ...idOf(i), type: 2 })) affirmed++;
	}
	assert.ok(affirmed <= 2, `${affirmed} of 1,000 others`);
});

test("whatever is in the index under another name than that of a record is not denied", () => {
	const names = ["", "a", "not hex", "\u00ff".repeat(255), nameOf(1).slice(1), nameOf(1).toUpperCase()];
	const hashes = new EntryHashes();
	for (const name of names) hashes.add(Buffer.from(name, "latin1"));
	for (const name of names) assert.ok(hashes.mayHave(name), name);
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
	const prefix = nameOf(1).slice(0, -16);
	for (let i = 0; !hashes.isFull; i++) {
		assert.ok(i < NAMES_MAX * 1.01);
		hashes.add(prefix + i.toString(16).padStart(16, "0"));
	}
	assert.ok(hashes.mayHave("never added"));
	const other = new EntryHashes();
	other.addAll(hashes);
	assert.ok(other.isFull && other.mayHave("never added"));
});
