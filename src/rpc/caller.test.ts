import assert from "node:assert/strict";
import { test } from "node:test";
import { CallerCache, DEFAULT_SQUASH, squash } from "./caller.ts";
import { authSys, xdr } from "./rpc-client.test-support.ts";

function sys(cache: CallerCache, body: Uint8Array): ReturnType<CallerCache["sys"]> {
	return cache.sys(body, new DataView(body.buffer, body.byteOffset, body.byteLength), 0, body.length);
}

test("AUTH_SYS gives uid, gid and up to 16 groups", () => {
	const gids = Array.from({ length: 16 }, (_, index) => index + 100);
	const caller = sys(new CallerCache("host", DEFAULT_SQUASH), authSys(1000, 100, gids)[1]);
	assert.deepEqual(caller, { address: "host", flavor: 1, credentials: { uid: 1000, gid: 100, gids } });
});

test("a credential seen before, but for its stamp, is not decoded again", () => {
	const cache = new CallerCache("host", DEFAULT_SQUASH);
	const first = sys(cache, authSys(1000, 100, [1], 1)[1]);
	const other = sys(cache, authSys(1001, 100, [1], 1)[1]);
	assert.equal(sys(cache, authSys(1000, 100, [1], 2)[1]), first);
	assert.equal(sys(cache, authSys(1001, 100, [1], 3)[1]), other);
	for (let uid = 0; uid < 100; uid++) assert.equal(sys(cache, authSys(uid, 1)[1])?.credentials.uid, uid);
});

test("17 groups, a machine name of 256 bytes, a cut and an overlong credential are none", () => {
	const cache = new CallerCache("host", DEFAULT_SQUASH);
	assert.equal(sys(cache, xdr(0, "m", 1, 1, 17, ...new Array<number>(17).fill(5))), null);
	assert.equal(sys(cache, xdr(0, "m".repeat(256), 1, 1, 0)), null);
	assert.notEqual(sys(cache, xdr(0, "m".repeat(255), 1, 1, 0)), null);
	const whole = authSys(1, 1, [2])[1];
	for (let length = 0; length < whole.length; length++) assert.equal(sys(cache, whole.slice(0, length)), null);
	assert.equal(sys(cache, Buffer.concat([whole, xdr(0)])), null);
});

test("squashing maps root and its group, or everybody", () => {
	const root = { uid: 0, gid: 0, gids: [0, 5] };
	const user = { uid: 5, gid: 6, gids: [7] };
	const anonymous = { uid: 65534, gid: 65534, gids: [] };
	assert.deepEqual(squash(root, DEFAULT_SQUASH), root);
	assert.deepEqual(squash(root, { ...DEFAULT_SQUASH, rootSquash: true }), { uid: 65534, gid: 65534, gids: [65534, 5] });
	assert.deepEqual(squash(user, { ...DEFAULT_SQUASH, rootSquash: true }), user);
	assert.deepEqual(squash(user, { ...DEFAULT_SQUASH, allSquash: true }), anonymous);
	assert.deepEqual(squash(null, DEFAULT_SQUASH), anonymous);
	assert.deepEqual(squash(null, { ...DEFAULT_SQUASH, anonUid: 1, anonGid: 2 }), { uid: 1, gid: 2, gids: [] });
});
