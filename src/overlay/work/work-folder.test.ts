// Whiteouts, temporaries and leftovers in work.

import assert from "node:assert/strict";
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { needs } from "../../../test/support/requirements.ts";
import { cannotMount, type FileSystem, scratch } from "../../../test/support/scratch.ts";
import { linkName } from "../../linux/names.ts";
import { O, openPath } from "../../linux/open.ts";
import { getXattr } from "../../linux/xattr.ts";
import { WorkFolder } from "./work-folder.ts";

function fixture(context: TestContext, kind: FileSystem = "tmpfs") {
	const folder = scratch(context);
	const path = folder.mount(kind, kind, 64);
	for (const name of ["work", "holdfast", "upper"]) mkdirSync(join(path, name));
	const open = (name: string) => openPath(join(path, name), O.rdonly | O.directory);
	const work = new WorkFolder(open("work"), open("holdfast"), join(path, "holdfast"));
	folder.beforeRemoval(() => work.close());
	return { path, work, upper: open("upper") };
}

function isWhiteout(path: string): boolean {
	const stat = lstatSync(path);
	return stat.isCharacterDevice() && stat.rdev === 0;
}

test("whiteouts are character devices 0:0 that share one inode", { skip: needs("root") }, (t) => {
	const { path, work, upper } = fixture(t);
	for (const name of ["a", Buffer.from("b"), "c"]) assert.equal(work.placeWhiteout(upper, name), true);
	assert.ok(isWhiteout(join(path, "upper/a")));
	const inodes = ["upper/a", "upper/b", "upper/c", "holdfast/whiteout"].map((name) => lstatSync(join(path, name)).ino);
	assert.equal(new Set(inodes).size, 1);
	assert.deepEqual(readdirSync(join(path, "work")), []);
});

test("a whiteout does not take a name that something has", { skip: needs("root") }, (t) => {
	const { path, work, upper } = fixture(t);
	work.placeWhiteout(upper, "first");
	writeFileSync(join(path, "upper/file"), "content");
	assert.equal(work.placeWhiteout(upper, "file"), false);
	assert.equal(readFileSync(join(path, "upper/file"), "utf8"), "content");
	assert.equal(work.placeWhiteout(upper, "first"), false);
});

test("when an inode has all the links that ext4 allows, the next whiteout begins another one", { skip: cannotMount("ext4") }, (t) => {
	const { path, work, upper } = fixture(t, "ext4");
	assert.ok(work.placeWhiteout(upper, "first"));
	let links = 0;
	while (linkName(upper, "first", upper, `${links}`) === 0) links++;
	assert.equal(lstatSync(join(path, "upper/first")).nlink, 65000);
	for (const name of ["over", "further", "last"]) {
		assert.ok(work.placeWhiteout(upper, name));
		assert.ok(isWhiteout(join(path, "upper", name)));
	}
	assert.notEqual(lstatSync(join(path, "upper/over")).ino, lstatSync(join(path, "upper/first")).ino);
	assert.equal(lstatSync(join(path, "upper/last")).ino, lstatSync(join(path, "upper/over")).ino);
	assert.equal(lstatSync(join(path, "holdfast/whiteout")).nlink, 4);
	assert.equal(lstatSync(join(path, "upper/first")).nlink, 64999);
	assert.deepEqual(readdirSync(join(path, "work")), []);
	const temporary = work.makeWhiteout();
	assert.ok(isWhiteout(join(path, "work", temporary)));
});

test("temporaries have names of their own and the xattrs that are set on them", { skip: needs("root") }, (t) => {
	const { path, work } = fixture(t);
	const names = [work.makeTemporaryDirectory(0o700), work.makeTemporaryDirectory(0), work.temporaryName()];
	assert.equal(new Set(names).size, 3);
	assert.equal(lstatSync(join(path, "work", names[1])).mode & 0o7777, 0);
	work.setTemporaryXattr(names[1], "trusted.overlay.upper", Buffer.from([0, 0xfb]));
	const fd = openPath(join(path, "work", names[1]), O.path);
	assert.deepEqual(getXattr(fd, "trusted.overlay.upper"), Buffer.from([0, 0xfb]));
});

test("discard removes a file, and a directory with what is in it", { skip: needs("root") }, (t) => {
	const { path, work } = fixture(t);
	writeFileSync(join(path, "work/#f"), "");
	mkdirSync(join(path, "work/#d/deep/er"), { recursive: true });
	writeFileSync(join(path, "work/#d/deep/file"), "");
	for (const name of ["#f", "#d", "#nothing"]) work.discard(name);
	assert.deepEqual(readdirSync(join(path, "work")), []);
});

test("clean removes what an earlier run left in work, and leaves orphans, the marker and all else", {
	skip: needs("root"),
}, (t) => {
	const { path, work, upper } = fixture(t);
	work.placeWhiteout(upper, "whiteout");
	mkdirSync(join(path, "work/incompat/holdfast"), { recursive: true });
	mkdirSync(join(path, "work/#1/inside"), { recursive: true });
	writeFileSync(join(path, "work/#2"), "");
	writeFileSync(join(path, "holdfast/orphans/x"), "");
	writeFileSync(join(path, "holdfast/registry"), "");
	work.clean();
	assert.deepEqual(readdirSync(join(path, "work")), ["incompat"]);
	assert.deepEqual(readdirSync(join(path, "holdfast/orphans")), ["x"]);
	assert.ok(existsSync(join(path, "holdfast/registry")) && existsSync(join(path, "holdfast/whiteout")));
	assert.ok(existsSync(join(path, "work/incompat/holdfast")));
});

test("cleanInBackground removes the same in later turns, and nothing that was made meanwhile", { skip: needs("root") }, async (t) => {
	const { path, work } = fixture(t);
	mkdirSync(join(path, "work/incompat/holdfast"), { recursive: true });
	for (let i = 1; i <= 100; i++) writeFileSync(join(path, `work/#${i.toString(16)}`), "");
	work.cleanInBackground();
	assert.equal(readdirSync(join(path, "work")).length, 101);
	writeFileSync(join(path, "work/#fff"), "");
	for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
	assert.deepEqual(readdirSync(join(path, "work")).sort(), ["#fff", "incompat"]);
});
