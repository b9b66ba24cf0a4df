// Records cut from any pieces of a stream.

import assert from "node:assert/strict";
import { test } from "node:test";
import { fc } from "../../test/support/fast-check.ts";
import { RECORD_BYTES_MAX, RECORD_FRAGMENTS_MAX } from "./limits.ts";
import { LargeBuffers, RecordError, RecordReceiver } from "./record-receiver.ts";
import { inFragments, xdr } from "./rpc-client.test-support.ts";

/** Feeds the stream in chunks of these lengths (the last repeats) and gives the records that come out. */
function receive(stream: Uint8Array, chunks: readonly number[], receiver = new RecordReceiver(new LargeBuffers())): Buffer[] {
	const records: Buffer[] = [];
	let at = 0;
	for (let index = 0; at < stream.length; index++) {
		const target = receiver.target();
		assert.ok(target.length > 0);
		const count = Math.min(chunks[Math.min(index, chunks.length - 1)], target.length, stream.length - at);
		target.set(stream.subarray(at, at + count));
		at += count;
		receiver.received(count);
		while (receiver.next()) records.push(Buffer.from(receiver.recordBytes.subarray(receiver.recordStart, receiver.recordEnd)));
	}
	return records;
}

test("records come out whole however they are cut into fragments and the stream into chunks", () => {
	const record = fc.record({
		length: fc.oneof(fc.nat(200), fc.nat(70_000)),
		fragments: fc.array(fc.oneof(fc.nat(50), fc.constant(0)), { maxLength: 6 }),
	});
	fc.assert(
		fc.property(fc.array(record, { maxLength: 6 }), fc.array(fc.integer({ min: 1, max: 100_000 }), { minLength: 1 }), (parts, chunks) => {
			const records = parts.map(({ length }, index) => Buffer.alloc(length, index + 1));
			const stream = records.map((bytes, index) => {
				let left = bytes.length;
				const lengths = parts[index].fragments.map((length) => {
					const fitting = Math.min(length, left);
					left -= fitting;
					return fitting;
				});
				return inFragments(bytes, lengths);
			});
			assert.deepEqual(receive(Buffer.concat(stream), chunks), records);
		}),
		{ numRuns: 60 },
	);
});

test("a record of the largest size comes out whole, and the next ones too", () => {
	const large = Buffer.alloc(RECORD_BYTES_MAX, "x");
	const small = Buffer.from("small");
	const stream = Buffer.concat([inFragments(small), inFragments(large), inFragments(small), inFragments(large), inFragments(small)]);
	assert.deepEqual(receive(stream, [65536]), [small, large, small, large, small]);
	assert.deepEqual(receive(stream, [1 << 20]), [small, large, small, large, small]);
});

test("a record longer than the bound is an error as soon as its mark is read", () => {
	assert.throws(() => receive(xdr(0x80000000 + RECORD_BYTES_MAX + 1), [4]), RecordError);
	assert.throws(() => receive(xdr(0xffffffff), [4]), RecordError);
	assert.throws(() => receive(xdr(RECORD_BYTES_MAX + 1), [4]), RecordError);
	const fragment = Buffer.alloc(RECORD_BYTES_MAX);
	assert.throws(() => receive(Buffer.concat([xdr(fragment.length), fragment, xdr(0x80000001)]), [65536]), RecordError);
});

test("a flood of empty fragments is an error at the bound, and not before", () => {
	const empty = (count: number): Buffer => Buffer.alloc(4 * count);
	const record = inFragments(Buffer.from("end"));
	assert.deepEqual(receive(Buffer.concat([empty(RECORD_FRAGMENTS_MAX - 1), record]), [777]), [Buffer.from("end")]);
	assert.throws(() => receive(Buffer.concat([empty(RECORD_FRAGMENTS_MAX), record]), [777]), RecordError);
});

test("records that are left in the buffer survive further calls of target()", () => {
	const receiver = new RecordReceiver(new LargeBuffers());
	const stream = Buffer.concat(Array.from({ length: 9000 }, (_, index) => inFragments(xdr(index, 0, 0))));
	// Fill the buffer to the brim before anything is taken out, as a connection does that is paused.
	const brim = receiver.target();
	brim.set(stream.subarray(0, brim.length));
	receiver.received(brim.length);
	assert.ok(receiver.target().length > 0);
	const records = receive(stream.subarray(brim.length), [5000], receiver);
	assert.deepEqual(
		records.map((record) => record.readUInt32BE(0)),
		Array.from({ length: 9000 }, (_, index) => index),
	);
});
