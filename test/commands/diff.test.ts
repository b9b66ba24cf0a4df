/** `holdfast diff` beside a running server: lines, JSON, names with any bytes, parts of the tree, exit statuses. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { test } from "node:test";
import { plant } from "../support/lower-tree.ts";
import { needs } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";
import { layerArguments, runHoldfast, startServer } from "../support/server-process.ts";

const skip = needs("root");

test("diff: what clients have changed is told beside the server, and names never reach a terminal raw", { skip }, async (t) => {
	const made = scratch(t);
	const lower = plant(join(made.path, "lower"), { "dir/one": "1", "dir/two": "2", "gone/deep/file": "3", kept: "4", "old\nname": "5" });
	const layers = { lowers: [lower], upper: join(made.path, "upper"), work: join(made.path, "work") };
	mkdirSync(layers.upper);
	const server = await startServer(made, layers);
	const nfs = await server.client();
	const root = await nfs.root();
	const at = (path: string) => nfs.walk(root, path);
	assert.equal((await nfs.rename(root, "dir", root, "moved")).status, 0);
	assert.equal((await nfs.write(await at("moved/one"), 0n, Buffer.from("more than before"))).status, 0);
	assert.equal((await nfs.remove(root, "old\nname")).status, 0);
	assert.equal((await nfs.remove(await at("gone/deep"), "file")).status, 0);
	assert.equal((await nfs.setattr(await at("kept"), { mode: 0o600 })).status, 0);
	assert.equal((await nfs.mkdir(root, "new")).status, 0);
	assert.equal((await nfs.create(await at("new"), Buffer.from([0x62, 0xff]))).status, 0);
	const words = layerArguments(layers);
	const run = (...more: string[]) => runHoldfast(["diff", ...words, ...more]);

	assert.deepEqual(run(), {
		code: 0,
		stdout: "D  gone/deep/file\nP  kept\nR  dir/ -> moved/\nM  moved/one\nA  new/  (1 within, 0 bytes)\nD  old\\x0aname\n",
		stderr: "",
	});
	assert.equal(run("moved", "--stat").stdout, "R  dir/ -> moved/\nM  moved/one  1 -> 16\n1 changed, 1 renamed; +15 bytes\n");
	assert.equal(run("old\\x0aname", "./gone//deep", "--name-only").stdout, "gone/deep/file\nold\\x0aname\n");
	assert.equal(run("--name-only", "-z", "moved/one", "new").stdout, "moved/one\0new\0new/b\ufffd\0");
	const objects = run("--json", "new", "moved")
		.stdout.trim()
		.split("\n")
		.map((line) => JSON.parse(line));
	assert.deepEqual(objects, [
		{ path: "moved", kind: "renamed", type: "directory", from: "dir", base: "unchanged" },
		{ path: "moved/one", kind: "changed", type: "file", baseType: "file", size: 16, baseSize: 1, base: "unchanged" },
		{ path: "new", kind: "added", type: "directory" },
		{ path: { base64: "bmV3L2L/" }, kind: "added", type: "file", size: 0 },
	]);
	chmodSync(join(lower, "kept"), 0o640);
	assert.deepEqual(run("kept"), {
		code: 0,
		stdout: "P  kept  (base changed since)\n",
		stderr: "holdfast: One of these paths has changed in the lowers since, and the change here is of what was there before.\n",
	});
	assert.equal(JSON.parse(run("--json", "kept").stdout).base, "changed");
	assert.equal(run("--name-only", "kept").stderr, "");
	assert.deepEqual([run("--exit-code", "moved").code, run("--exit-code", "moved/two").code], [1, 0]);

	assert.deepEqual(run("nowhere"), { code: 1, stdout: "", stderr: "holdfast: Neither the export nor its lowers have nowhere.\n" });
	assert.deepEqual(run("moved/../.."), { code: 1, stdout: "", stderr: "holdfast: The path moved/../.. leads out of the export.\n" });
	assert.equal(run("nowhere", "--exit-code").code, 2);
	assert.equal(run("--stat", "--json").code, 2);
	assert.equal(run("-z").code, 2);
});

test("diff: the server of an upper is asked, and where it cannot be the disk is read", { skip }, async (t) => {
	const made = scratch(t);
	const lower = plant(join(made.path, "lower"), { file: "1", other: "2" });
	const layers = { lowers: [lower], upper: join(made.path, "upper"), work: join(made.path, "work") };
	mkdirSync(layers.upper);
	const server = await startServer(made, { ...layers, env: { XDG_RUNTIME_DIR: made.folder("session") } });
	const nfs = await server.client();
	const root = await nfs.root();
	const names = Array.from({ length: 300 }, (_, i) => `new-${String(i).padStart(3, "0")}`);
	for (const name of names) assert.equal((await nfs.create(root, name)).status, 0);
	assert.equal((await nfs.remove(root, "file")).status, 0);
	const run = (...more: string[]) => runHoldfast(["diff", ...layerArguments(layers), ...more]);
	const expected = { code: 0, stdout: `${["file", ...names].join("\n")}\n`, stderr: "" };

	// without it nobody but the server can tell what the layers are
	const registry = join(layers.work, "holdfast/registry");
	renameSync(registry, `${registry}.away`);
	assert.deepEqual(run("--name-only"), expected);
	assert.deepEqual(run("nowhere"), { code: 1, stdout: "", stderr: "holdfast: Neither the export nor its lowers have nowhere.\n" });
	renameSync(`${registry}.away`, registry);

	const { control } = JSON.parse(readFileSync(join(layers.work, "holdfast/server"), "utf8"));
	assert.equal(dirname(control), join(made.path, "session/holdfast"));
	renameSync(control, `${control}.away`);
	assert.deepEqual(run("--name-only"), expected, "no socket");
	renameSync(`${control}.away`, control);
	await server.kill();
	assert.deepEqual(run("--name-only"), expected, "a socket that a killed server has left");
	await server.start();
	await server.terminate();
	assert.deepEqual(readdirSync(dirname(control)), [basename(control)], "a server takes its own socket away");
	assert.deepEqual(run("--name-only"), expected, "nobody serves it");
});

test("diff: an export without an upper is told so", { skip }, (t) => {
	const made = scratch(t);
	const lower = plant(join(made.path, "lower"), { file: "1" });
	const { code, stdout, stderr } = runHoldfast(["diff", "--lower", lower, "--state-dir", made.folder("state")]);
	assert.deepEqual({ code, stdout }, { code: 1, stdout: "" });
	assert.match(stderr, /^holdfast: .*\n$/);
});

test("diff: --exclude leaves paths out as .gitignore does, and --patch is taken by git apply", {
	skip: skip || needs("git"),
}, async (t) => {
	const made = scratch(t);
	const tree = { "src/main.c": "int main;\n", "src/old.o": "o", "node_modules/x/index.js": "x\n", "moved/a": "a\n", ".git/index": "i" };
	const lower = plant(join(made.path, "lower"), tree);
	const layers = { lowers: [lower], upper: join(made.path, "upper"), work: join(made.path, "work") };
	mkdirSync(layers.upper);
	const server = await startServer(made, layers);
	const nfs = await server.client();
	const root = await nfs.root();
	for (const path of ["src/main.c", "src/old.o", "node_modules/x/index.js", ".git/index"]) {
		assert.equal((await nfs.write(await nfs.walk(root, path), 0n, Buffer.from("CHANGED\n"))).status, 0);
	}
	assert.equal((await nfs.rename(root, "moved", root, "mov\u00e9")).status, 0);
	const run = (...more: string[]) => runHoldfast(["diff", ...layerArguments(layers), ...more]);
	assert.equal(
		run("--exclude", "node_modules/", "--exclude", "*.o", "--exclude", "/.git").stdout,
		"R  moved/ -> mov\u00e9/\nM  src/main.c\n",
	);
	const patterns = join(made.path, "patterns");
	writeFileSync(patterns, "# of no use\n*\n!src\n!src/*.c\n");
	assert.equal(run("--exclude-from", patterns, "--name-only").stdout, "src/main.c\n");
	assert.equal(run("--exclude", "*", "--exit-code").code, 0);
	assert.equal(run("--exclude-from", join(made.path, "none")).code, 1);
	assert.equal(run("--binary").code, 2);
	assert.equal(run("--patch", "--json").code, 2);

	const { code, stdout, stderr } = run("--patch", "--binary", "--exclude", "node_modules");
	assert.deepEqual([code, stderr], [0, "holdfast: Not in the patch: 1 changes of .git, which git keeps for itself.\n"]);
	assert.match(stdout, /^rename to "mov\\303\\251\/a"$/m);
	const copy = plant(join(made.path, "copy"), tree);
	writeFileSync(join(made.path, "changes.patch"), stdout);
	execFileSync("git", ["apply", join(made.path, "changes.patch")], {
		cwd: copy,
		stdio: "pipe",
		env: { ...process.env, GIT_CEILING_DIRECTORIES: made.path },
	});
	assert.equal(readFileSync(join(copy, "src/main.c"), "utf8"), "CHANGED\n;\n");
	assert.equal(readFileSync(join(copy, "mov\u00e9/a"), "utf8"), "a\n");
	assert.equal(readFileSync(join(copy, "node_modules/x/index.js"), "utf8"), "x\n");
	assert.equal(run("--patch", "src/old.o", "--exit-code").code, 1);
});
