// What opens take in memory.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { newClaims, TestClient } from "./new-claims.test-support.ts";

const OPENS = 50_000;
/** 50 MB for 100,000 of them. */
const BYTES_MAX = 500;

setFlagsFromString("--expose-gc");
const collect: () => void = runInNewContext("gc");

function usedBytes(): number {
	collect();
	const { heapUsed, external } = process.memoryUsage();
	return heapUsed + external;
}

test("100,000 opens take at most 50 MB, of one owner or of many", () => {
	for (const ownOwners of [false, true]) {
		const { claims, told } = newClaims();
		told.hold = () => {};
		const client = new TestClient(claims, "a").connect();
		const handle = Buffer.alloc(40, 7);
		const before = usedBytes();
		for (let i = 0; i < OPENS; i++) {
			handle.writeUInt32BE(i, 12);
			const owner = Buffer.from(`open id: ${ownOwners ? i : 0} of a client`);
			client.run((change) => claims.open(change, { access: 3, deny: 0, owner, handle, isReclaim: false }));
		}
		const each = (usedBytes() - before) / OPENS;
		assert.equal(claims.tables.opens, OPENS);
		assert.ok(each < BYTES_MAX, `an open takes ${Math.round(each)} bytes`);
	}
});
