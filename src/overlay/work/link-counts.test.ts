// Records of link counts over restarts and kills.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { scratch } from "../../../test/support/scratch.ts";
import { makeSymlink } from "../../linux/names.ts";
import { close, O, openPath } from "../../linux/open.ts";
import { LinkCounts } from "./link-counts.ts";

const [A, B] = ["00fb1d00aa", "00fb1d00bb"];

function fixture(context: TestContext) {
	const folder = scratch(context);
	const own = openPath(folder.path, O.rdonly | O.directory);
	folder.beforeRemoval(() => close(own));
	const open = () => {
		const counts = new LinkCounts(own);
		folder.beforeRemoval(() => counts.close());
		return counts;
	};
	return { folder, open };
}

test("a count is what was set last, over a restart too, and null before and after", (t) => {
	const { open } = fixture(t);
	const counts = open();
	assert.equal(counts.get(A), null);
	for (const value of [2, 1, 65000, 1]) {
		counts.set(A, value, null);
		assert.equal(counts.get(A), value);
	}
	counts.set(B, 7, null);
	const again = open();
	assert.equal(again.get(A), 1);
	assert.deepEqual(again.list("counts").sort(), [A, B]);
	again.delete(A);
	again.delete(A);
	assert.equal(again.get(A), null);
	assert.equal(again.get(B), 7);
});

test("what a kill left of a count half written is neither listed nor in the way", (t) => {
	const { folder, open } = fixture(t);
	const counts = open();
	const links = openPath(join(folder.path, "links"), O.rdonly | O.directory);
	folder.beforeRemoval(() => close(links));
	assert.equal(makeSymlink("99", links, `${A}.new`), 0);
	assert.deepEqual(counts.list("counts"), []);
	counts.set(A, 4, null);
	assert.deepEqual([counts.get(A), counts.list("counts")], [4, [A]]);
	counts.set(A, 3, Buffer.from("version"));
	assert.deepEqual(counts.read(A), { count: 3, base: Buffer.from("version") });
	assert.deepEqual(readdirSync(join(folder.path, "links")), [A]);
});

test("files that only the index holds are known until they have a name, over a restart too", (t) => {
	const { open } = fixture(t);
	const counts = open();
	assert.ok(!counts.hasUnnamed);
	counts.noteUnnamed(A);
	counts.noteUnnamed(A);
	counts.noteUnnamed(B);
	const again = open();
	for (const one of [counts, again]) {
		assert.ok(one.hasUnnamed);
		assert.ok(one.isUnnamed(A));
		assert.ok(!one.isUnnamed("00fb1d00cc"));
		assert.deepEqual(one.list("unnamed").sort(), [A, B]);
	}
	again.noteNamed("00fb1d00cc");
	again.noteNamed(A);
	assert.ok(again.hasUnnamed);
	again.noteNamed(B);
	assert.ok(!again.hasUnnamed);
	assert.ok(!again.isUnnamed(B));
	again.noteUnnamed(A);
	assert.ok(again.isUnnamed(A));
});
