// Memory of waiting records: whose it is, and that it is given back.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type KeptRecord, type RecordRegion, RecordSlots } from "./record-slots.ts";

function record(content: Buffer): RecordRegion {
	const recordBytes = Buffer.concat([Buffer.from("before"), content, Buffer.from("behind")]);
	const recordView = new DataView(recordBytes.buffer, recordBytes.byteOffset, recordBytes.length);
	return { recordBytes, recordView, recordStart: 6, recordEnd: 6 + content.length };
}

function contentOf({ recordBytes, recordView, recordStart, recordEnd }: KeptRecord): string {
	assert.equal(recordView.getUint8(recordStart), recordBytes[recordStart]);
	return Buffer.from(recordBytes.subarray(recordStart, recordEnd)).toString();
}

test("records are kept apart until they are released, and their memory is used again", () => {
	const slots = new RecordSlots();
	const kept = new Map<string, KeptRecord>();
	const keep = (content: string) => kept.set(content, slots.keep(record(Buffer.from(content))));
	for (let i = 0; i < 1000; i++) keep(`${"x".repeat(i)} ${i}`);
	// every third goes, and others come
	for (const [content, one] of [...kept].filter((_, i) => i % 3 === 0)) {
		assert.equal(contentOf(one), content);
		one.release();
		kept.delete(content);
	}
	for (let i = 0; i < 300; i++) keep(`new ${i}`);
	for (const [content, one] of kept) assert.equal(contentOf(one), content);
	const memories = new Set([...kept.values()].filter(({ heldBytes }) => heldBytes === 512).map(({ recordBytes }) => recordBytes));
	assert.ok(memories.size <= 7, `${memories.size} pieces of memory`);
});

test("memory that was needed for a moment is not kept", () => {
	const slots = new RecordSlots();
	const kept = Array.from({ length: 10_000 }, (_, i) => slots.keep(record(Buffer.from(`${i}`))));
	for (const [i, one] of kept.entries()) {
		assert.equal(contentOf(one), `${i}`);
		one.release();
	}
	assert.ok(slots.open <= 4, `${slots.open} chunks`);
	assert.equal(contentOf(slots.keep(record(Buffer.from("again")))), "again");
});
