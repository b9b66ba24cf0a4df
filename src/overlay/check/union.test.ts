import assert from "node:assert/strict";
import { test } from "node:test";
import { parseLinkCount } from "../format/link-delta.ts";
import { redirectNames } from "./union.ts";

test("a redirect is one name, or an absolute path of names", () => {
	const names = (redirect: string) => redirectNames(Buffer.from(redirect))?.map((name) => name.toString()) ?? null;
	assert.deepEqual(names("name"), ["name"]);
	assert.deepEqual(names("/a/b c/...d"), ["a", "b c", "...d"]);
	assert.deepEqual(names(`/${"n".repeat(255)}`), ["n".repeat(255)]);
	for (const bad of ["", "/", "a/b", "..", "/a/../b", "/a//b", "/a/", ".", "/.", `${"n".repeat(256)}`, "a\0b"]) {
		assert.equal(names(bad), null, JSON.stringify(bad));
	}
});

test("a link count is told by its distance from the upper or the lower inode's own", () => {
	assert.deepEqual(parseLinkCount("U-1"), { of: "upper", delta: -1 });
	assert.deepEqual(parseLinkCount("L+12"), { of: "lower", delta: 12 });
	for (const bad of ["", "U", "U1", "X+1", "U+1 ", "U+12345678901"]) assert.equal(parseLinkCount(bad), null, bad);
});
