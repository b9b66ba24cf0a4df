// Values of the `redirect` xattr.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parseRedirect } from "./redirect.ts";

test("a redirect is one name, or an absolute path of names", () => {
	const names = (redirect: string) => parseRedirect(Buffer.from(redirect))?.map((name) => name.toString()) ?? null;
	assert.deepEqual(names("name"), ["name"]);
	assert.deepEqual(names("/a/b c/...d"), ["a", "b c", "...d"]);
	assert.deepEqual(names(`/${"n".repeat(255)}`), ["n".repeat(255)]);
	for (const bad of ["", "/", "a/b", "..", "/a/../b", "/a//b", "/a/", ".", "/.", `${"n".repeat(256)}`, "a\0b"]) {
		assert.equal(names(bad), null, JSON.stringify(bad));
	}
});
