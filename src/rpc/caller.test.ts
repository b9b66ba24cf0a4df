// Credentials decoded, bounded and cached.

import assert from "node:assert/strict";
import { test } from "node:test";
import { CallerCache } from "./caller.ts";
import { authSys, xdr } from "./rpc-client.test-support.ts";

const HOST = { address: "host", isPrivileged: true, isOtherUser: false };

function sys(cache: CallerCache, body: Uint8Array): ReturnType<CallerCache["sys"]> {
	return cache.sys(body, new DataView(body.buffer, body.byteOffset, body.byteLength), 0, body.length);
}

test("AUTH_SYS gives uid, gid and up to 16 groups", () => {
	const gids = Array.from({ length: 16 }, (_, index) => index + 100);
	const caller = sys(new CallerCache(HOST), authSys(1000, 100, gids)[1]);
	assert.deepEqual(caller, { peer: HOST, flavor: 1, user: { uid: 1000, gid: 100, gids } });
});

test("a credential seen before, but for its stamp, is not decoded again", () => {
	const cache = new CallerCache(HOST);
	const first = sys(cache, authSys(1000, 100, [1], 1)[1]);
	const other = sys(cache, authSys(1001, 100, [1], 1)[1]);
	assert.equal(sys(cache, authSys(1000, 100, [1], 2)[1]), first);
	assert.equal(sys(cache, authSys(1001, 100, [1], 3)[1]), other);
	for (let uid = 0; uid < 100; uid++) assert.equal(sys(cache, authSys(uid, 1)[1])?.user?.uid, uid);
});

test("17 groups, a machine name of 256 bytes, a cut and an overlong credential are none", () => {
	const cache = new CallerCache(HOST);
	assert.equal(sys(cache, xdr(0, "m", 1, 1, 17, ...new Array<number>(17).fill(5))), null);
	assert.equal(sys(cache, xdr(0, "m".repeat(256), 1, 1, 0)), null);
	assert.notEqual(sys(cache, xdr(0, "m".repeat(255), 1, 1, 0)), null);
	const whole = authSys(1, 1, [2])[1];
	for (let length = 0; length < whole.length; length++) assert.equal(sys(cache, whole.slice(0, length)), null);
	assert.equal(sys(cache, Buffer.concat([whole, xdr(0)])), null);
});
