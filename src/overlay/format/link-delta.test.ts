// Values of the `nlink` xattr.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parseLinkCount } from "./link-delta.ts";

test("a link count is told by its distance from the upper or the lower inode's own", () => {
	assert.deepEqual(parseLinkCount("U-1"), { of: "upper", delta: -1 });
	assert.deepEqual(parseLinkCount("L+12"), { of: "lower", delta: 12 });
	for (const bad of ["", "U", "U1", "X+1", "U+1 ", "U+12345678901"]) assert.equal(parseLinkCount(bad), null, bad);
});
