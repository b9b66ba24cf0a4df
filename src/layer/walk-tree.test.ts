// A walk sees every name once, needs one descriptor, and takes no part of a directory for all of it.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { plant } from "../../test/support/lower-tree.ts";
import { scratch } from "../../test/support/scratch.ts";
import { interceptListings } from "../linux/directory.ts";
import { ERRNO } from "../linux/errno.ts";
import { makeDirectory } from "../linux/names.ts";
import { close, O, openAt, openPath } from "../linux/open.ts";
import { Stat } from "../linux/stat.ts";
import { LayerError } from "./layer-error.ts";
import { statListed, type WalkedTree, walkTree } from "./walk-tree.ts";

function treeAt(t: TestContext, path: string): WalkedTree {
	const root = openPath(path, O.rdonly | O.directory);
	t.after(() => close(root));
	return { root, path };
}

/** Goes into every directory, with its depth for a state. */
function visitAll(tree: WalkedTree, visited: (path: string, depth: number) => void = () => {}): number {
	const stat = new Stat();
	let directories = 0;
	walkTree(
		tree,
		0,
		({ fd, path, state: depth }, name) => {
			if (!statListed(tree, path, fd, name, stat)) return null;
			visited(join(path.toString("latin1"), name.toString("latin1")), depth);
			return stat.type === 4 ? depth + 1 : null;
		},
		(count) => {
			directories = count;
		},
	);
	return directories;
}

test("every name is visited once, with the state of its directory", (t) => {
	const { path } = scratch(t);
	const tree = treeAt(t, plant(join(path, "tree"), { a: "", "b/c": "", "b/d/e": "", "b/f/": "", "link to b": { link: "b" } }));
	const seen: string[] = [];
	const directories = visitAll(tree, (at, depth) => {
		seen.push(`${at} ${depth}`);
	});
	assert.deepEqual(seen.sort(), ["a 0", "b 0", "b/c 1", "b/d 1", "b/d/e 2", "b/f 1", "link to b 0"]);
	assert.equal(directories, 4);
});

test("one descriptor is open at a time, however wide the tree and long its paths", (t) => {
	const folder = scratch(t);
	const { path } = folder;
	// its paths are too long for Node
	folder.beforeRemoval(() => execFileSync("rm", ["-rf", join(path, "tree")]));
	for (let i = 0; i < 300; i++) mkdirSync(join(path, `tree/wide/${i}`), { recursive: true });
	let fd = openPath(join(path, "tree"), O.path | O.directory);
	const name = "n".repeat(200);
	for (let depth = 0; depth < 30; depth++) {
		assert.equal(makeDirectory(fd, name, 0o700), 0);
		const next = openAt(fd, name, O.path | O.directory);
		close(fd);
		fd = next;
	}
	close(fd);
	const tree = treeAt(t, join(path, "tree"));
	const open = () => readdirSync("/proc/self/fd").length;
	const before = open();
	let most = 0;
	let deepest = 0;
	const directories = visitAll(tree, (at, depth) => {
		most = Math.max(most, open());
		if (at.startsWith("n")) deepest = Math.max(deepest, depth);
	});
	assert.equal(directories, 1 + 1 + 300 + 30);
	assert.equal(deepest, 29, "paths of 6,000 bytes");
	assert.equal(most - before, 1);
	assert.equal(open(), before);
});

test("a directory that cannot be read to its end ends the walk with its path, and nothing is left open", (t) => {
	const { path } = scratch(t);
	const tree = treeAt(t, plant(join(path, "tree"), { "a/b/c": "", "d/e": "" }));
	const before = readdirSync("/proc/self/fd").length;
	for (let failing = 1; failing <= 8; failing++) {
		let calls = 0;
		interceptListings(() => (++calls === failing ? -ERRNO.EIO : 0));
		try {
			assert.throws(
				() => visitAll(tree),
				(error) => error instanceof LayerError && /^Cannot read .*\/tree.*: its disk or file system failed \(EIO\)\.$/.test(error.message),
			);
		} finally {
			interceptListings(null);
		}
	}
	assert.equal(readdirSync("/proc/self/fd").length, before);
});

test("a directory that goes meanwhile is left out of a tree that may change, and an error in any other", (t) => {
	const { path } = scratch(t);
	for (const mayChange of [true, false]) {
		const top = plant(join(path, `tree ${mayChange}`), { "gone/": "", "stays/file": "" });
		const seen: string[] = [];
		const walk = () =>
			visitAll({ ...treeAt(t, top), mayChange }, (at) => {
				seen.push(at);
				if (at === "gone") rmdirSync(join(top, at));
			});
		if (mayChange) {
			walk();
			assert.deepEqual(seen.sort(), ["gone", "stays", "stays/file"]);
		} else assert.throws(walk, /Cannot read .*gone: it is not there \(ENOENT\)/);
	}
});

test("an error of what visits leaves nothing open", (t) => {
	const { path } = scratch(t);
	const tree = treeAt(t, plant(join(path, "tree"), { "a/b": "" }));
	const before = readdirSync("/proc/self/fd").length;
	assert.throws(
		() =>
			visitAll(tree, (at) => {
				if (at === "a/b") throw new Error("mine");
			}),
		/mine/,
	);
	assert.equal(readdirSync("/proc/self/fd").length, before);
});
