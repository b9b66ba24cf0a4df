// SipHash against the vectors of its authors.

import assert from "node:assert/strict";
import { test } from "node:test";
import { sipHash, sipHashed, sipKey } from "./sip-hash.ts";

const KEY = sipKey(Uint8Array.from({ length: 16 }, (_, i) => i));

function hash(length: number): string {
	const bytes = Uint8Array.from({ length: length + 3 }, (_, i) => i - 3);
	sipHash(KEY, bytes, 3, length + 3);
	return sipHashed[0].toString(16).padStart(8, "0") + sipHashed[1].toString(16).padStart(8, "0");
}

test("SipHash-2-4 gives the values of its authors for the inputs 00, 00 01, 00 01 02 ...", () => {
	// vectors_sip64 of the reference implementation, as 64-bit numbers, for 0, 1, 7, 8, 15 and 63 bytes
	assert.equal(hash(0), "726fdb47dd0e0e31");
	assert.equal(hash(1), "74f839c593dc67fd");
	assert.equal(hash(7), "ab0200f58b01d137");
	assert.equal(hash(8), "93f5f5799a932462");
	assert.equal(hash(15), "a129ca6149be45e5");
	assert.equal(hash(63), "958a324ceb064572");
});
