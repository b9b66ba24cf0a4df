/** `holdfast apply`: what is told before anything is done, what is refused, and what is left where it cannot be done. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, linkSync, mkdirSync, readdirSync, readFileSync, renameSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { tryLock } from "../../src/linux/file-system.ts";
import { close, O, openPath } from "../../src/linux/open.ts";
import { plant } from "../support/lower-tree.ts";
import { needs } from "../support/requirements.ts";
import { type Scratch, scratch } from "../support/scratch.ts";
import { layerArguments, ordinaryUser, runHoldfast, startServer } from "../support/server-process.ts";
import { snapshotTree } from "../support/tree-snapshot.ts";

const skip = needs("root");
const FILES = { "dir/one": "1", "dir/two": "2", "gone/deep/file": "3", kept: "4", f: "5", "swap/x": "6" };

interface Layers {
	readonly lowers: readonly [string];
	readonly upper: string;
	readonly work: string;
}

function layersIn(made: Scratch): Layers {
	const lower = plant(join(made.path, "lower"), FILES);
	mkdirSync(join(made.path, "upper"));
	return { lowers: [lower], upper: join(made.path, "upper"), work: join(made.path, "work") };
}

function copyOf(lower: string, name: string): string {
	const copy = join(lower, "..", name);
	execFileSync("cp", ["-a", lower, copy]);
	return copy;
}

/** A rename with a change in it, a removal, other content, other attributes, something new, and another object in a directory's place. */
async function change(made: Scratch, layers: Layers) {
	const server = await startServer(made, layers);
	const nfs = await server.client();
	const root = await nfs.root();
	const at = (path: string) => nfs.walk(root, path);
	assert.equal((await nfs.rename(root, "dir", root, "moved")).status, 0);
	assert.equal((await nfs.write(await at("moved/one"), 0n, Buffer.from("more than before"))).status, 0);
	assert.equal((await nfs.remove(await at("gone/deep"), "file")).status, 0);
	assert.equal((await nfs.rmdir(await at("gone"), "deep")).status, 0);
	assert.equal((await nfs.rmdir(root, "gone")).status, 0);
	assert.equal((await nfs.setattr(await at("kept"), { mode: 0o600 })).status, 0);
	assert.equal((await nfs.mkdir(root, "new")).status, 0);
	assert.equal((await nfs.create(await at("new"), "file")).status, 0);
	assert.equal((await nfs.remove(await at("swap"), "x")).status, 0);
	assert.equal((await nfs.rmdir(root, "swap")).status, 0);
	assert.equal((await nfs.create(root, "swap")).status, 0);
	return server;
}

const NOW = ["f", "kept", "moved/one", "moved/two", "new/file", "swap"];

function filesIn(top: string): string[] {
	return readdirSync(top, { recursive: true, withFileTypes: true })
		.filter((entry) => !entry.isDirectory())
		.map((entry) => join(entry.parentPath, entry.name).slice(top.length + 1))
		.sort();
}

test("apply: a copy of the lower becomes what the export shows, beside its server, and what went is kept where that is asked", {
	skip,
}, async (t) => {
	const made = scratch(t);
	const layers = layersIn(made);
	const copy = copyOf(layers.lowers[0], "copy");
	const before = snapshotTree(copy, { exact: true });
	const server = await change(made, layers);
	const run = (...more: string[]) => runHoldfast(["apply", ...layerArguments(layers), "--to", copy, ...more]);

	const refused = run();
	assert.equal(refused.code, 1);
	assert.match(refused.stdout, /^R {2}dir\/ -> moved\/$/m);
	assert.match(refused.stdout, /^D {2}gone\/$/m);
	assert.match(refused.stderr, /^holdfast: This changes \S*copy, in \d+ places\. To do so give --yes\.\n$/);
	const dry = run("--dry-run");
	assert.deepEqual([dry.code, dry.stderr], [0, ""]);
	assert.match(dry.stdout, /would apply \d+ changes to \S*copy; nothing was changed\n$/);
	assert.deepEqual(snapshotTree(copy, { exact: true }), before);

	const undo = join(made.path, "undo");
	const done = run("--yes", "--undo-dir", undo);
	assert.deepEqual([done.code, done.stderr], [0, ""]);
	assert.deepEqual(filesIn(copy), NOW);
	assert.equal(readFileSync(join(copy, "moved/one"), "utf8"), "more than before");
	assert.deepEqual(filesIn(undo), ["dir/one", "gone/deep/file", "swap/x"]);
	assert.equal(readFileSync(join(undo, "dir/one"), "utf8"), "1");
	assert.deepEqual(
		readdirSync(join(layers.work, "holdfast")).filter((name) => name.startsWith("apply")),
		[],
	);
	assert.match(run("--yes").stderr + run("--yes").stdout, /already|nothing to apply|meet something else/);

	// the lower itself is not to be touched while it is served
	const here = runHoldfast(["apply", ...layerArguments(layers), "--yes"]);
	assert.equal(here.code, 1);
	assert.match(here.stderr, /^holdfast: Cannot apply anything to \S*lower: it is in use, as a lower of a server or by another apply\./);
	await server.terminate();
	const stopped = runHoldfast(["apply", ...layerArguments(layers), "--yes", "--discard"]);
	assert.deepEqual([stopped.code, stopped.stderr], [0, ""]);
	assert.deepEqual(filesIn(layers.lowers[0]), NOW);
	assert.equal(runHoldfast(["diff", ...layerArguments(layers)]).stdout, "");
	const again = await startServer(made, layers);
	const nfs = await again.client();
	const root = await nfs.root();
	assert.equal((await nfs.attributesOf(await nfs.walk(root, "moved/one"))).size, 16n);
});

test("apply: what stands against it is told in full before anything is done, and may be left out or overwritten", { skip }, async (t) => {
	const made = scratch(t);
	const layers = layersIn(made);
	const server = await change(made, layers);
	await server.terminate();
	const [left, forced] = ["left", "forced"].map((name) => copyOf(layers.lowers[0], name));
	for (const copy of [left, forced]) {
		plant(copy, { "dir/one": "changed by its owner", "new/file": "somebody's", "gone/deep/other": "not to be lost" });
	}
	const before = snapshotTree(left, { exact: true });
	const run = (copy: string, ...more: string[]) => runHoldfast(["apply", ...layerArguments(layers), "--to", copy, ...more]);
	const refused = run(left, "--yes");
	assert.equal(refused.code, 1);
	assert.match(refused.stderr, /^holdfast: Cannot apply: 4 changes meet something else in \S*left; nothing was done\.\n/);
	for (const path of ["gone: it holds gone/deep/other", "moved/one: its content", "new/file: a file is there", "moved: of dir/one in it"])
		assert.match(refused.stderr, new RegExp(`^.*${path}`, "m"));
	assert.deepEqual(snapshotTree(left, { exact: true }), before);

	assert.equal(run(left, "kept", "swap", "--yes").code, 0, "paths that nothing stands against");
	assert.deepEqual(filesIn(left).includes("swap"), true);
	assert.equal(run(forced, "--yes", "--force").code, 0);
	assert.deepEqual(filesIn(forced), NOW);
	assert.equal(readFileSync(join(forced, "new/file"), "utf8"), "");
	assert.equal(run(left, "--force", "--skip-conflicts").code, 2);

	// in the lower itself by what is recorded of it
	plant(layers.lowers[0], { "dir/one": "changed by its owner" });
	const here = runHoldfast(["apply", ...layerArguments(layers), "--yes"]);
	assert.match(
		here.stderr,
		/^holdfast: Cannot apply: 1 change meets something else in .*; nothing was done\.\n.*moved\/one: the lower's own has changed since\n/,
	);
	assert.equal(readFileSync(join(layers.lowers[0], "dir/one"), "utf8"), "changed by its owner");
});

test("apply: nothing is done through a symlink of the target, in a layer, to a target that another one is writing to, or without room", {
	skip,
}, async (t) => {
	const made = scratch(t);
	const layers = layersIn(made);
	const server = await change(made, layers);
	await server.terminate();
	const run = (copy: string, ...more: string[]) => runHoldfast(["apply", ...layerArguments(layers), "--to", copy, "--yes", ...more]);
	const outside = plant(made.folder("outside"), { one: "1", two: "2", file: "here" });
	const linked = copyOf(layers.lowers[0], "linked");
	renameSync(join(linked, "dir"), join(linked, "elsewhere"));
	symlinkSync(outside, join(linked, "dir"));
	symlinkSync(outside, join(linked, "new"));
	const before = snapshotTree(outside, { exact: true });
	assert.match(run(linked).stderr, /moved: it is a symlink there/);
	run(linked, "--skip-conflicts");
	run(linked, "--force");
	assert.deepEqual(snapshotTree(outside, { exact: true }), before);

	assert.match(run(layers.upper).stderr, /are one or lie in one another/);
	assert.match(run(made.folder("lower/dir")).stderr, /are one or lie in one another/);
	assert.match(run(made.path).stderr, /are one or lie in one another/);
	assert.match(run(join(made.path, "nowhere")).stderr, /^holdfast: Cannot open \S*nowhere: /);
	assert.match(
		runHoldfast(["apply", ...layerArguments(layers), "nowhere", "--yes"]).stderr,
		/Neither the export nor its lowers have nowhere/,
	);

	const copy = copyOf(layers.lowers[0], "locked");
	const held = openPath(copy, O.rdonly | O.directory);
	assert.equal(tryLock(held), 0);
	assert.match(run(copy).stderr, /is in use, as a lower of a server or by another apply/);

	close(held);

	const small = made.mount("tmpfs", "small", 1);
	execFileSync("cp", ["-a", `${layers.lowers[0]}/.`, small]);
	execFileSync("mount", ["-o", "remount,ro", small]);
	const full = snapshotTree(small, { exact: true });
	assert.match(run(small).stderr, /Cannot prepare anything in \S*small: /);
	assert.deepEqual(snapshotTree(small, { exact: true }), full);
});

test("apply: without room nothing is begun, and where it ends while it is prepared nothing is left", { skip }, async (t) => {
	const made = scratch(t);
	const layers = layersIn(made);
	const server = await startServer(made, layers);
	const nfs = await server.client();
	const root = await nfs.root();
	const big = await nfs.create(root, "big");
	assert.equal(big.status, 0);
	for (let at = 0; at < 4; at++)
		assert.equal((await nfs.write(await nfs.walk(root, "big"), BigInt(at << 19), Buffer.alloc(1 << 19, 1))).status, 0);
	await server.terminate();
	const small = made.mount("tmpfs", "small", 1);
	execFileSync("cp", ["-a", `${layers.lowers[0]}/.`, small]);
	const run = (...more: string[]) => runHoldfast(["apply", ...layerArguments(layers), "--to", small, "--yes", ...more]);
	assert.match(run().stderr, /^holdfast: It takes up to \d+ bytes, and the file system of \S*small has \d+\. Nothing was done/);
	const forced = run("--force");
	assert.equal(forced.code, 1);
	assert.match(forced.stderr, /space|room/i);
	assert.deepEqual(filesIn(small), Object.keys(FILES).sort());
	assert.deepEqual(
		readdirSync(small).filter((name) => name.startsWith(".holdfast")),
		[],
	);
});

test("apply: an ordinary user applies what an ordinary user has changed", { skip }, async (t) => {
	const made = scratch(t);
	const user = ordinaryUser(made);
	const home = made.folder("home");
	const lower = plant(join(home, "lower"), FILES);
	linkSync(join(lower, "f"), join(lower, "g"));
	const layers = { lowers: [lower] as const, upper: join(home, "upper"), work: join(home, "work"), user };
	mkdirSync(layers.upper);
	const copy = copyOf(lower, "copy");
	execFileSync("chown", ["-R", `${user.uid}:${user.gid}`, home]);
	execFileSync("chmod", ["755", made.path]);
	const server = await startServer(made, layers);
	const nfs = await server.client({ uid: user.uid, gid: user.gid, gids: [] });
	const root = await nfs.root();
	assert.equal((await nfs.mkdir(root, "closed")).status, 0);
	assert.equal((await nfs.create(await nfs.walk(root, "closed"), "file")).status, 0);
	assert.equal((await nfs.setattr(await nfs.walk(root, "closed"), { mode: 0o555 })).status, 0);
	assert.equal((await nfs.rename(root, "dir", root, "moved")).status, 0);
	assert.equal((await nfs.write(await nfs.walk(root, "f"), 0n, Buffer.from("both names"))).status, 0);
	await server.terminate();
	for (const target of [copy, lower]) {
		const to = target === copy ? ["--to", copy] : [];
		const done = runHoldfast(["apply", ...layerArguments(layers), ...to, "--yes"], { user });
		assert.deepEqual([done.code, done.stderr], [0, ""]);
		assert.deepEqual(filesIn(target), ["closed/file", "f", "g", "gone/deep/file", "kept", "moved/one", "moved/two", "swap/x"]);
		assert.equal(readFileSync(join(target, "g"), "utf8"), "both names");
		assert.equal(snapshotTree(target).get("closed")?.includes("mode=555"), true);
	}
	assert.equal(existsSync(join(lower, "dir")), false);
});
