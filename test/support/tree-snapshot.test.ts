import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, linkSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { missing, needs } from "./requirements.ts";
import { cannotMount, type FileSystem, scratch } from "./scratch.ts";
import { assertSameTree, compareTrees, snapshotTree } from "./tree-snapshot.ts";

function fill(top: string): void {
	mkdirSync(join(top, "a b"));
	writeFileSync(join(top, "a b/ü\nx"), "one");
	writeFileSync(join(top, "plain"), "two");
	symlinkSync("plain", join(top, "link"));
	execFileSync("mkfifo", [join(top, "fifo")]);
	for (const path of ["a b/ü\nx", "plain", "a b", "."]) utimesSync(join(top, path), 1000, 2000);
	execFileSync("touch", ["-h", "-d", "@2000", join(top, "link"), join(top, "fifo")]);
	utimesSync(top, 1000, 2000);
}

test("a snapshot sees what changed, and nothing when nothing did", { skip: needs("getfattr") }, (t) => {
	const one = scratch(t).folder("tree");
	const other = scratch(t).folder("tree");
	fill(one);
	fill(other);
	assertSameTree(snapshotTree(one), snapshotTree(other), "equal trees");
	assert.equal(snapshotTree(one).size, 6);

	chmodSync(join(other, "plain"), 0o600);
	utimesSync(join(other, "a b/ü\nx"), 1000, 2001);
	writeFileSync(join(other, "new"), "");
	const differences = compareTrees(snapshotTree(one), snapshotTree(other)).join("\n");
	assert.match(differences, /differs: plain\n +expected mode=644\n +actual +mode=600/);
	assert.match(differences, /differs: a b\/ü\nx\n +expected mtime=2000000000000/);
	assert.match(differences, /unexpected: new/);
	assert.match(compareTrees(snapshotTree(other), snapshotTree(one)).join("\n"), /missing: new/);
	linkSync(join(one, "plain"), join(one, "again"));
	assert.match(compareTrees(snapshotTree(other), snapshotTree(one)).join("\n"), /plain\n +expected .*nlink=1\n +actual .*nlink=2/);
	assert.throws(() => assertSameTree(snapshotTree(one), snapshotTree(other), "changed trees"), /changed trees/);
});

test("a snapshot sees extended attributes", { skip: needs("getfattr", "setfattr") }, (t) => {
	const top = scratch(t).folder("tree");
	writeFileSync(join(top, "file"), "");
	writeFileSync(join(top, "é\n="), "");
	const before = snapshotTree(top);
	execFileSync("setfattr", ["-n", "user.test", "-v", "v", join(top, "file")]);
	execFileSync("setfattr", ["-n", "user.test", "-v", "v", join(top, "é\n=")]);
	execFileSync("setfattr", ["-n", "user.top", "-v", "w", top]);
	const differences = compareTrees(before, snapshotTree(top)).join("\n");
	assert.match(differences, /file\n.*\n +actual +user.test=0x76/);
	assert.match(differences, /é\n=\n.*\n +actual +user.test=0x76/);
	assert.match(differences, /differs: \.\n.*\n +actual +user.top=0x77/);
});

for (const kind of ["ext4", "xfs", "btrfs", "tmpfs"] satisfies FileSystem[]) {
	test(`a ${kind} can be mounted for a test, and is gone after it`, { skip: cannotMount(kind) }, async (t) => {
		let at = "";
		await t.test("mount", (inner) => {
			at = scratch(inner).mount(kind);
			writeFileSync(join(at, "file"), "x");
			assert.equal(execFileSync("stat", ["-f", "-c", "%T", at], { encoding: "utf8" }).trim(), kind === "ext4" ? "ext2/ext3" : kind);
		});
		assert.ok(!execFileSync("cat", ["/proc/self/mounts"], { encoding: "utf8" }).includes(at), `${at} is still mounted`);
	});
}

test("what is missing is named", () => {
	assert.equal(missing("sh"), false);
	assert.equal(needs("no-such-program"), "needs no-such-program");
});
