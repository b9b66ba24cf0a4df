// The trash: what is admitted, in which order it goes, and what happens when it does not.

import assert from "node:assert/strict";
import { linkSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { scratch } from "../../../test/support/scratch.ts";
import { close, O, openPath } from "../../linux/open.ts";
import { Pending } from "../../vfs/errors.ts";
import { emptyTrash } from "../threads/empty-trash.ts";
import { TRASH_MAX, Trash } from "./trash.ts";

function fixture(t: TestContext) {
	const folder = scratch(t);
	const own = openPath(folder.path, O.rdonly | O.directory);
	const trash = new Trash(own);
	trash.isOpen = true;
	folder.beforeRemoval(() => close(own));
	t.after(() => trash.close());
	const make = (name: string, contents = "x") => {
		writeFileSync(join(folder.path, name), contents);
		return name;
	};
	return { path: folder.path, own, trash, make, here: () => readdirSync(join(folder.path, "trash")).sort() };
}

const emptyNow = async (folder: number, names: readonly string[]) => emptyTrash({ folder, names });

test("what is taken is removed, files and directories, and waiters are told", async (t) => {
	const { path, own, trash, make, here } = fixture(t);
	mkdirSync(join(path, "folder/below"), { recursive: true });
	for (let i = 0; i < 200; i++) make(`folder/f${i}`);
	make("folder/below/file");
	assert.ok(trash.take(own, make("file", "x".repeat(100_000)), 100_000, "key"));
	assert.ok(trash.take(own, "folder", 0));
	assert.equal(trash.emptied(), null, "nobody empties it yet");
	assert.ok(trash.holds("key"));
	assert.equal(trash.bytes, 100_000);
	trash.start(emptyNow);
	await trash.emptied();
	assert.deepEqual(here(), []);
	assert.deepEqual([trash.size, trash.bytes, trash.holds("key")], [0, 0, false]);
});

test("a file that has another name loses the one in the trash, and nothing of its content", async (t) => {
	const { path, own, trash, make, here } = fixture(t);
	make("file", "content");
	linkSync(join(path, "file"), join(path, "other"));
	assert.ok(trash.take(own, "other", 0));
	trash.start(emptyNow);
	await trash.emptied();
	assert.deepEqual(here(), []);
	assert.deepEqual(readdirSync(path).sort(), ["file", "trash"]);
});

test("who would bring more than there may be waits for the first to go", async (t) => {
	const { trash } = fixture(t);
	const names: string[] = [];
	for (let i = 0; i < TRASH_MAX; i++) names.push(trash.admit() as string);
	assert.equal(new Set(names).size, TRASH_MAX);
	for (const name of names) trash.bring(name, 1, null);
	let ready: Promise<void> | undefined;
	try {
		trash.admit();
	} catch (error) {
		if (!(error instanceof Pending)) throw error;
		ready = error.ready;
	}
	assert.ok(ready, "it is admitted");
	trash.start(emptyNow);
	await ready;
	assert.ok(trash.admit() !== null);
});

test("what cannot be removed makes nobody wait", async (t) => {
	const { own, trash, make } = fixture(t);
	trash.take(own, make("file"), 1, "key");
	let asked = 0;
	trash.start(async () => {
		asked++;
		return -5;
	});
	await trash.emptied();
	assert.equal(asked, 1);
	assert.deepEqual([trash.emptied(), trash.admit(), trash.take(own, make("another"), 1)], [null, null, false]);
	assert.ok(trash.holds("key"));
});

test("what an earlier run has left is known, but for what has another name", (t) => {
	const { path, trash, make } = fixture(t);
	make("trash/3");
	make("file");
	linkSync(join(path, "file"), join(path, "trash/a"));
	trash.load((_folder, name) => `key of ${name}`);
	assert.deepEqual([trash.size, trash.holds("key of 3"), trash.holds("key of a")], [2, true, false]);
	assert.equal(trash.admit(), "b");
});
