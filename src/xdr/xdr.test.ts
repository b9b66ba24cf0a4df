// XDR items written, read, cut short and too long.

import assert from "node:assert/strict";
import { test } from "node:test";
import { fc } from "../../test/support/fast-check.ts";
import { XdrError } from "./xdr-error.ts";
import { XdrReader } from "./xdr-reader.ts";
import { XdrWriter } from "./xdr-writer.ts";

test("what is written is read back, whatever the mix of items", () => {
	const item = fc.oneof(
		fc.record({ kind: fc.constant("u32" as const), value: fc.nat(0xffffffff) }),
		fc.record({ kind: fc.constant("bool" as const), value: fc.boolean() }),
		fc.record({ kind: fc.constant("opaque" as const), value: fc.uint8Array({ maxLength: 300 }) }),
		fc.record({ kind: fc.constant("u64" as const), value: fc.maxSafeNat() }),
	);
	fc.assert(
		fc.property(fc.array(item, { maxLength: 40 }), (items) => {
			const writer = XdrWriter.growing();
			for (const { kind, value } of items) {
				if (kind === "u32") writer.u32(value);
				else if (kind === "bool") writer.bool(value);
				else if (kind === "opaque") writer.opaque(value);
				else writer.u64FromNumber(value);
			}
			const bytes = writer.copyFrom(0);
			assert.equal(bytes.length % 4, 0);
			const reader = XdrReader.over(bytes);
			for (const { kind, value } of items) {
				if (kind === "u32") assert.equal(reader.u32(), value);
				else if (kind === "bool") assert.equal(reader.bool(), value);
				else if (kind === "opaque") assert.deepEqual(Buffer.from(reader.opaque(300)), Buffer.from(value));
				else assert.equal(reader.u32() * 2 ** 32 + reader.u32(), value);
			}
			assert.equal(reader.remaining, 0);
		}),
	);
});

test("padding is zeros up to a multiple of four", () => {
	const writer = XdrWriter.growing();
	writer.opaque(Buffer.from("abcde"));
	assert.equal(writer.copyFrom(0).toString("hex"), "000000056162636465000000");
});

test("a record that ends inside an item is an XdrError, at every length", () => {
	const writer = XdrWriter.growing();
	writer.u32(7);
	writer.opaque(Buffer.from("abcde"));
	writer.bool(true);
	const whole = writer.copyFrom(0);
	const read = (reader: XdrReader): void => {
		reader.u32();
		reader.opaque(255);
		reader.bool();
	};
	read(XdrReader.over(whole));
	for (let length = 0; length < whole.length; length++) {
		assert.throws(() => read(XdrReader.over(whole.subarray(0, length))), XdrError);
	}
});

test("lengths of nearly 2^32 are refused without wrapping round", () => {
	for (const length of [0xffffffff, 0xfffffffd, 0x80000000, 0x7fffffff]) {
		const bytes = Buffer.alloc(16);
		bytes.writeUInt32BE(length);
		assert.throws(() => XdrReader.over(bytes).opaque(0xffffffff), XdrError);
	}
});

test("a boolean of 2 and an enumeration beyond its last value are refused", () => {
	assert.throws(() => XdrReader.over(Buffer.from([0, 0, 0, 2])).bool(), XdrError);
	assert.throws(() => XdrReader.over(Buffer.from([0, 0, 0, 3])).enumeration(2), XdrError);
	assert.equal(XdrReader.over(Buffer.from([0, 0, 0, 2])).enumeration(2), 2);
});
