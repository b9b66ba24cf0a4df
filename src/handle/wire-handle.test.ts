// Handles encoded, signed, parsed, and forged.

import assert from "node:assert/strict";
import { test } from "node:test";
import { noise } from "../../test/support/lower-tree.ts";
import { sipKey } from "./sip-hash.ts";
import { HANDLE_BYTES_MAX, HandleSigner, ID_BYTES_MAX, parseHandle } from "./wire-handle.ts";

const KEYS = new Map([[1, sipKey(noise(16, 1))]]);
const signer = new HandleSigner(0xdeadbeef, KEYS, 1);
const ids = [0, 8, 12, 20, 40, ID_BYTES_MAX].map((length) => noise(length, length + 1));

test("a handle says what was put into it and its signature is good", () => {
	for (const id of ids) {
		const handle = signer.encode(7, 0x81, id);
		assert.ok(handle.length <= HANDLE_BYTES_MAX);
		assert.ok(signer.verify(handle));
		assert.deepEqual(parseHandle(handle), {
			version: 1,
			keyId: 1,
			provider: 1,
			exportId: 0xdeadbeef,
			home: 7,
			id: { type: 0x81, bytes: id },
		});
		assert.deepEqual(signer.encode(7, 0x81, id), handle);
	}
});

test("no handle with one bit flipped is accepted", () => {
	let refused = 0;
	for (const id of ids) {
		const handle = signer.encode(7, 1, id);
		for (let bit = 0; bit < handle.length * 8; bit++) {
			const forged = Buffer.from(handle);
			forged[bit >> 3] ^= 1 << (bit & 7);
			assert.equal(signer.verify(forged), false, `bit ${bit}`);
			refused++;
		}
	}
	assert.ok(refused > 1500);
});

test("truncated, lengthened and random handles are refused", () => {
	for (const id of ids) {
		const handle = signer.encode(7, 1, id);
		for (let length = 0; length < handle.length; length++) assert.equal(signer.verify(handle.subarray(0, length)), false);
		for (const more of [1, 4, 64]) assert.equal(signer.verify(Buffer.concat([handle, Buffer.alloc(more)])), false);
	}
	for (let i = 0; i < 1000; i++) assert.equal(signer.verify(noise(i % 65, i + 1)), false);
});

test("the handle of another export, or of another key, is refused", () => {
	const handle = signer.encode(7, 1, ids[1]);
	assert.equal(new HandleSigner(1, KEYS, 1).verify(handle), false);
	assert.equal(new HandleSigner(0xdeadbeef, new Map([[1, sipKey(noise(16, 2))]]), 1).verify(handle), false);
	assert.equal(new HandleSigner(0xdeadbeef, new Map([[2, KEYS.get(1) as Uint32Array]]), 2).verify(handle), false);
});

test("an id that does not fit is refused when the handle is made", () => {
	assert.throws(() => signer.encode(1, 1, noise(ID_BYTES_MAX + 1, 3)), RangeError);
	assert.throws(() => signer.encode(1, 256, noise(8, 4)), RangeError);
});
