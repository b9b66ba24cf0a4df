// The one file that the launcher starts does what its modules do.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { repository } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";

const COMMANDS = [
	"serve",
	"list",
	"remove",
	"handle",
	"release",
	"settle",
	"adopt",
	"unpack",
	"check",
	"key",
	"fork",
	"rebase",
	"rebind",
	"completion",
];

function node(...given: string[]) {
	const { status, stdout, stderr } = spawnSync(process.execPath, given, { encoding: "utf8" });
	return { status, stdout, stderr };
}

/** A folder with a bundle of the modules that these tests belong to, whatever the launcher has built. */
function bundled(t: TestContext): string {
	const root = scratch(t).folder("program");
	mkdirSync(join(root, "dist"));
	for (const path of ["dist/src", "node_modules", "package.json"]) symlinkSync(join(repository, path), join(root, path));
	assert.deepEqual(node(join(repository, "scripts/bundle.mjs"), root), { status: 0, stdout: "", stderr: "" });
	return root;
}

test("each command of the bundle has the options of the modules, and usage errors are the same", (t) => {
	const root = bundled(t);
	for (const given of [["--version"], ["--help"], ["serve", "--listen", "nowhere"], ["handle", "/nowhere", "xyz"]]) {
		assert.deepEqual(node(join(root, "dist/holdfast.js"), ...given), node(join(root, "dist/src/cli/main.js"), ...given), given.join(" "));
	}
	for (const command of COMMANDS) {
		const answer = node(join(root, "dist/holdfast.js"), command, "--help");
		assert.deepEqual([answer.status, answer.stderr], [0, ""], command);
		assert.match(answer.stdout, new RegExp(`^Usage: holdfast ${command} `));
	}
});

test("what the bundle looks for beside itself is there", (t) => {
	const root = bundled(t);
	const paths = [...readFileSync(join(root, "dist/holdfast.js"), "utf8").matchAll(/\burlOf\("([^"]+)"\)/g)].map(
		([, path]) => path as string,
	);
	for (const path of paths) assert.ok(existsSync(join(root, "dist/src", path)), path);
	assert.ok(paths.includes("overlay/threads/thread-pool.js"), "threads start from their own file");
	assert.deepEqual(node("--check", join(root, "dist/bundled/overlay/threads/offload-worker.js")), { status: 0, stdout: "", stderr: "" });
});

test("without koffi there is one sentence, and no trace of the stack", (t) => {
	const root = bundled(t);
	rmSync(join(root, "node_modules"));
	mkdirSync(join(root, "node_modules"));
	symlinkSync(join(repository, "node_modules/commander"), join(root, "node_modules/commander"));
	const { status, stdout, stderr } = node(join(root, "dist/holdfast.js"), "serve", root);
	assert.deepEqual([status, stdout], [1, ""]);
	assert.match(stderr, /^holdfast: The package koffi is missing: [^\n]*\n$/);
});

test("a form of import or export that the bundle cannot keep ends the build", (t) => {
	const root = scratch(t).folder("program");
	mkdirSync(join(root, "dist/src/cli"), { recursive: true });
	for (const form of ["export let count = 0;", "export default 1;", 'import "./other.js";', "console.log(import.meta.dirname);"]) {
		writeFileSync(join(root, "dist/src/cli/main.js"), `${form}\n`);
		const { status, stderr } = node(join(repository, "scripts/bundle.mjs"), root);
		assert.equal(status, 1, form);
		assert.match(stderr, /^dist\/src\/cli\/main\.js: a form of import or export/);
		assert.ok(!existsSync(join(root, "dist/holdfast.js")));
	}
});
