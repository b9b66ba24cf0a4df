// Squashing of each kind of user.

import assert from "node:assert/strict";
import { test } from "node:test";
import { DEFAULT_SQUASH, squash } from "./squash.ts";

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
