// The walk for names of one file: the same whatever memory it may take, kept whole or held.

import assert from "node:assert/strict";
import { linkSync, mkdirSync, readdirSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { scratch } from "../../test/support/scratch.ts";
import { close, O, openPath } from "../linux/open.ts";
import { type FoundLinkNames, findLinkNames, openLinkNames } from "./link-names.ts";
import { hashBelow, LOWER_ROOT } from "./portable-id.ts";
import { unseal } from "./sealed-record.ts";
import type { WalkedTree } from "./walk-tree.ts";

const FILES = 40;

/** Files of one to four names, and some whose further names lie outside of the tree. */
function tree(t: TestContext): { readonly lower: WalkedTree; readonly base: string } {
	const base = scratch(t).path;
	const path = join(base, "lower");
	for (const name of ["lower/a", "lower/b", "outside"]) mkdirSync(join(base, name), { recursive: true });
	for (let i = 0; i < FILES; i++) {
		writeFileSync(join(path, "a", `${i}`), `${i}`);
		for (let name = 0; name < i % 4; name++) linkSync(join(path, "a", `${i}`), join(path, "b", `${i} ${name}`));
		if (i % 3 === 0) linkSync(join(path, "a", `${i}`), join(base, "outside", `${i}`));
	}
	const root = openPath(path, O.rdonly | O.directory);
	t.after(() => close(root));
	return { lower: { root, path }, base };
}

function rowsIn(folder: string): Map<string, string> {
	return new Map(
		readdirSync(folder)
			.sort()
			.map((name) => [name, unseal(name, readlinkSync(join(folder, name), { encoding: "buffer" }))?.toString() ?? "damaged"]),
	);
}

test("files of several names are found with all of them, also by a walk that may remember two at a time", (t) => {
	const { lower, base } = tree(t);
	const [whole, parts] = [join(base, "whole"), join(base, "parts")];
	let directories = 0;
	assert.deepEqual(
		findLinkNames(lower, whole, () => {}),
		{ files: (FILES * 3) / 4, held: null },
	);
	const found = findLinkNames(
		lower,
		parts,
		(count) => {
			assert.ok(count > directories, "progress goes on");
			directories = count;
		},
		2,
	);
	assert.ok(directories > 6, "it took several walks");
	assert.deepEqual(found, { files: (FILES * 3) / 4, held: null });
	assert.deepEqual(rowsIn(parts), rowsIn(whole));
	const names = openLinkNames(whole, found);
	const id = hashBelow(hashBelow(LOWER_ROOT.bytes, Buffer.from("b")), Buffer.from("7 2"));
	assert.deepEqual(names.get(id), { path: [Buffer.from("a"), Buffer.from("7")], names: 4 });
	assert.ok(names.isOther(id));
	assert.equal(names.get(hashBelow(hashBelow(LOWER_ROOT.bytes, Buffer.from("a")), Buffer.from("12"))), null);
	names.close();
});

test("what cannot be kept is held, and is the same", (t) => {
	const { lower, base } = tree(t);
	const kept = join(base, "kept");
	findLinkNames(lower, kept, () => {});
	writeFileSync(join(base, "file"), "");
	const found: FoundLinkNames[] = [findLinkNames(lower, null, () => {}), findLinkNames(lower, join(base, "file/folder"), () => {}, 3)];
	for (const { files, held } of found) {
		assert.equal(files, (FILES * 3) / 4);
		const rows = [...(held as NonNullable<typeof held>)].map(([key, text]) => [key, Buffer.from(text).toString()] as const);
		assert.deepEqual(new Map(rows.sort(([a], [b]) => (a < b ? -1 : 1))), rowsIn(kept));
	}
});
