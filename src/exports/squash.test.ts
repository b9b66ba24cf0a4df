// Squashing of each kind of user.

import assert from "node:assert/strict";
import { test } from "node:test";
import { DEFAULT_SQUASH, squash } from "./squash.ts";

test("squashing maps root and its group, or everybody", () => {
	const root = { uid: 0, gid: 0, gids: [0, 5] };
	const user = { uid: 5, gid: 6, gids: [7] };
	const anonymous = { uid: 65534, gid: 65534, gids: [] };
	const squashedRoot = { uid: 65534, gid: 65534, gids: [65534, 5] };
	for (const isLoopback of [true, false]) {
		assert.deepEqual(squash(root, { ...DEFAULT_SQUASH, rootSquash: false }, isLoopback), root);
		assert.deepEqual(squash(root, { ...DEFAULT_SQUASH, rootSquash: true }, isLoopback), squashedRoot);
		assert.deepEqual(squash(user, { ...DEFAULT_SQUASH, rootSquash: true }, isLoopback), user);
		assert.deepEqual(squash(user, DEFAULT_SQUASH, isLoopback), user);
		assert.deepEqual(squash(user, { ...DEFAULT_SQUASH, allSquash: true }, isLoopback), anonymous);
		assert.deepEqual(squash(null, DEFAULT_SQUASH, isLoopback), anonymous);
		assert.deepEqual(squash(null, { ...DEFAULT_SQUASH, anonUid: 1, anonGid: 2 }, isLoopback), { uid: 1, gid: 2, gids: [] });
	}
	assert.deepEqual(squash(root, DEFAULT_SQUASH, true), root);
	assert.deepEqual(squash(root, DEFAULT_SQUASH, false), squashedRoot);
});
