// CRC-32 against known values.

import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32 } from "./crc32.ts";

test("crc32 gives the published values", () => {
	// the check value in the catalogue of CRCs, and what zlib gives
	assert.equal(crc32(Buffer.from("123456789")), 0xcbf43926);
	assert.equal(crc32(Buffer.alloc(0)), 0);
	assert.equal(crc32(Buffer.from("a")), 0xe8b7be43);
	assert.equal(crc32(Buffer.from("The quick brown fox jumps over the lazy dog")), 0x414fa339);
	assert.equal(crc32(Buffer.alloc(32)), 0x190a55ad);
	assert.equal(crc32(Buffer.alloc(32, 0xff)), 0xff6cab0b);
});

test("crc32 tells each single flipped bit", () => {
	const bytes = Buffer.from("some bytes of a record");
	const sum = crc32(bytes);
	for (let bit = 0; bit < bytes.length * 8; bit++) {
		const changed = Buffer.from(bytes);
		changed[bit >> 3] ^= 1 << (bit & 7);
		assert.notEqual(crc32(changed), sum);
	}
});
