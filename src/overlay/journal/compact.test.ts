// Values come back from their bytes, and damaged bytes are refused.

import assert from "node:assert/strict";
import { test } from "node:test";
import { fc } from "../../../test/support/fast-check.ts";
import { decodeCompact, encodeCompact } from "./compact.ts";

const value = fc.letrec((tie) => ({
	value: fc.oneof(
		{ depthSize: "small" },
		fc.constant(null),
		fc.boolean(),
		fc.integer(),
		// -0 becomes 0, as in JSON
		fc.double({ noNaN: true }).map((number) => number + 0),
		fc.string({ unit: "binary" }),
		fc.constantFrom("move", "inode", "sequence"),
		fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
		fc.array(tie("value"), { maxLength: 5 }),
		fc.dictionary(
			fc.string({ minLength: 1 }).filter((key) => key !== "__proto__"),
			tie("value"),
			{ maxKeys: 8, noNullPrototype: true },
		),
	),
})).value;

test("whatever is encoded is decoded again", () => {
	fc.assert(
		fc.property(value, fc.nat(20), (given, head) => {
			assert.deepEqual(decodeCompact(Buffer.from(encodeCompact(given, head)), head), given);
		}),
	);
});

test("a value larger than the memory that is used again", () => {
	const large = { bytes: Buffer.alloc(300_000, 7), name: "x".repeat(100_000) };
	assert.deepEqual(decodeCompact(Buffer.from(encodeCompact(large, 0)), 0), large);
});

test("fields that are undefined are left out", () => {
	assert.deepEqual(decodeCompact(Buffer.from(encodeCompact({ size: undefined, mode: 1 }, 0)), 0), { mode: 1 });
});

test("bytes that were cut short or changed give a RangeError or another value, never an endless one", () => {
	const bytes = Buffer.from(encodeCompact({ steps: [{ op: "move", inode: { type: 1, bytes: Buffer.from("abcdefgh") } }] }, 0));
	for (let length = 0; length < bytes.length; length++) assert.throws(() => decodeCompact(bytes.subarray(0, length), 0), RangeError);
	for (let at = 0; at < bytes.length; at++) {
		for (const other of [0, 7, 8, 255]) {
			const changed = Buffer.from(bytes);
			changed[at] = other;
			try {
				decodeCompact(changed, 0);
			} catch (error) {
				assert.ok(error instanceof RangeError);
			}
		}
	}
});

test("values as they were written before lengths and small numbers had one byte are read", () => {
	// { sequence: 7, steps: [{ op: "move", name: bytes, mode: 420, client: "x" }] }
	const written =
		"0802" +
		"0900" +
		"0307000000" +
		"0903" +
		"0701000000" +
		"0804" +
		"090c" +
		"0927" +
		"0916" +
		"0603000000616263" +
		"091e" +
		"03a4010000" +
		"0904" +
		"050100000078";
	assert.deepEqual(decodeCompact(Buffer.from(written, "hex"), 0), {
		sequence: 7,
		steps: [{ op: "move", name: Buffer.from("abc"), mode: 420, client: "x" }],
	});
});
