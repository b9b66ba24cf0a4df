// Names of sets: which there may be, and which a new set gets.

import assert from "node:assert/strict";
import { test } from "node:test";
import { isSetName, nameFor, SET_NAME_BYTES_MAX } from "./set-names.ts";

test("a name is of letters, digits and ._+-, and upsets neither a shell nor a terminal", () => {
	for (const name of ["golden", "golden-2", "a.b_c+d", "проект", "0", "x".repeat(SET_NAME_BYTES_MAX)]) assert.ok(isSetName(name), name);
	const odd = ["", ".", "..", ".hidden", "-x", "a/b", "a b", "a\nb", "a\x1b[2J", "a\u202eb", "$(x)", "x".repeat(SET_NAME_BYTES_MAX + 1)];
	for (const name of odd) assert.ok(!isSetName(name), JSON.stringify(name));
});

test("the default name is made of the last part of the path, and is free", () => {
	const free = () => false;
	assert.equal(nameFor("/srv/golden", free), "golden");
	assert.equal(
		nameFor("/srv/golden", (name) => name === "golden" || name === "golden-2"),
		"golden-3",
	);
	assert.equal(nameFor("/", free), "root");
	assert.equal(nameFor("/srv/my tree (old)", free), "my-tree-old");
	assert.equal(nameFor("/srv/\x1b\u202e", free), "tree");
	for (const path of [`/srv/${"я".repeat(127)}`, `/srv/${"x".repeat(255)}`, "/srv/.git", "/srv/--help", "/srv/🙂x"]) {
		assert.ok(isSetName(nameFor(path, (name) => !name.endsWith("-12"))), nameFor(path, free));
	}
});
