/** An export that had kernel handles is made portable, its layers move, and whatever clients hold goes on. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { linkSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { HeldTree } from "../support/held-tree.ts";
import type { TreeDescription } from "../support/lower-tree.ts";
import { ok } from "../support/nfs3-client.ts";
import { needs, repository, sampled } from "../support/requirements.ts";
import { cannotMount, type FileSystem, type Scratch, scratch } from "../support/scratch.ts";
import { layerArguments, runHoldfast, ServerProcess } from "../support/server-process.ts";

const skip = needs("root", "rsync", "tar");

const TREES: readonly TreeDescription[] = [
	{ "a/b/file": "of the top", "a/write": "write", "a/link": { link: "b/file" }, "merged/top": "t", "gone/f": "f" },
	{ "a/below": "of the bottom", "merged/sub/bottom": "b", "only/deep/er/file": "below", "names/one": "one file" },
];

const COPIES = {
	"cp -a": `cp -a "$1/." "$2"`,
	"rsync -aHAX": `rsync -aHAX "$1/" "$2"`,
	tar: `tar -C "$1" --xattrs --xattrs-include='*' -cf - . | tar -C "$2" --xattrs --xattrs-include='*' -xpf -`,
	"cp -a, each layer by itself": `for layer in "$1"/*; do cp -a "$layer" "$2"; done`,
} as const;

function serverAt(made: Scratch, base: string, args: readonly string[]): ServerProcess {
	const lowers = TREES.map((_, index) => join(base, `lower${index}`));
	const server = new ServerProcess({ lowers, upper: join(base, "upper"), args: ["--async", ...args] });
	made.beforeRemoval(() => server.kill());
	return server;
}

async function change(tree: HeldTree): Promise<void> {
	await tree.write("a/write", "WR");
	await tree.rename("a/b", "b");
	await tree.rename("merged/sub", "sub");
	await tree.link("a/below", "below too");
	await tree.makeDirectory("born");
	await tree.createFile("born/file", "born in upper");
	await tree.link("born/file", "second name");
	const symlink = await ok(tree.client.symlink(tree.directory("born"), "symlink", "file"), "SYMLINK");
	await tree.note("born/symlink", symlink.handle as Buffer);
	await tree.createFile("born/gone", "x");
	await tree.remove("born/gone");
	await tree.remove("gone/f");
	await tree.remove("names/two");
}

for (const [how, from, to, xattrs] of sampled(
	[
		["cp -a", "ext4", "tmpfs", "trusted"],
		["rsync -aHAX", "xfs", "ext4", "trusted"],
		["tar", "btrfs", "root", "user"],
		["cp -a, each layer by itself", "tmpfs", "xfs", "trusted"],
	] as const satisfies readonly (readonly [keyof typeof COPIES, FileSystem, FileSystem, string])[],
	1,
)) {
	test(`kernel handles of ${from} with ${xattrs} xattrs go on after holdfast rebind and ${how} to ${to}`, {
		skip: skip || cannotMount(from) || cannotMount(to),
	}, async (t) => {
		const made = scratch(t);
		const first = join(made.mount(from, "first"), "layers");
		mkdirSync(first);
		const args = ["--state-dir", made.folder("state"), ...(xattrs === "user" ? ["--userxattr"] : [])];
		const prepare = (lowers: readonly string[]) => {
			linkSync(join(lowers[1] as string, "names/one"), join(lowers[1] as string, "names/two"));
			linkSync(join(lowers[1] as string, "names/one"), join(lowers[1] as string, "names/three"));
		};
		const tree = await HeldTree.start(made, first, TREES, { args: ["--handles", "kernel", ...args], prepare });
		assert.match(tree.server.stdout, /^Handles: kernel \(/m);
		await tree.takeAll();
		await change(tree);
		await tree.check("with kernel handles", "SIGTERM");
		await tree.server.terminate();

		const layers = { lowers: TREES.map((_, index) => join(first, `lower${index}`)), upper: join(first, "upper") };
		const rebound = runHoldfast(["rebind", ...layerArguments(layers), ...args, "--json"]);
		assert.equal(rebound.code, 0, rebound.stderr);
		const report = JSON.parse(rebound.stdout);
		assert.ok(report.lowerNames > 10 && report.upperObjects > 5, rebound.stdout);
		assert.equal(runHoldfast(["rebind", ...layerArguments(layers), ...args]).code, 1, "twice");
		assert.match(runHoldfast(["serve", ...layerArguments(layers), ...args, "--handles", "kernel"]).stderr, /has portable ones/);
		const here = serverAt(made, first, args);
		await tree.goOnWith(here);
		assert.match(here.stdout, /^Handles: portable \(made portable by holdfast rebind\)$/m);
		await tree.checkHandles("where it was");
		await tree.checkNames("where it was");
		await here.terminate();

		const second = join(made.mount(to, "second"), "moved");
		mkdirSync(second, { recursive: true });
		execFileSync("bash", ["-o", "pipefail", "-c", COPIES[how], "-", first, second], { cwd: "/", stdio: "pipe" });
		for (const layer of readdirSync(first)) rmSync(join(first, layer), { recursive: true });
		const moved = serverAt(made, second, args);
		await tree.goOnWith(moved);
		await tree.checkHandles(`after ${how}`);
		await tree.checkNames(`after ${how}`);
		assert.doesNotMatch(moved.stderr, /did not come along/);

		// and life goes on: old objects and new ones side by side
		await tree.rename("b", "a/b");
		await tree.write("only/deep/er/file", "B");
		await tree.createFile("a/b/new", "made where it is now");
		await tree.remove("second name");
		await tree.remove("born/file");
		await tree.write("names/three", "ONE");
		await tree.check("changed where it is now", "SIGKILL");
		await tree.check("and again", "SIGTERM");
		await moved.terminate();
		const checked = runHoldfast([
			"check",
			...layerArguments({ lowers: TREES.map((_, i) => join(second, `lower${i}`)), upper: join(second, "upper") }),
			...args,
		]);
		assert.equal(checked.code, 0, checked.stdout + checked.stderr);
	});
}

test("a rebind that was interrupted is said at the start, and can be run again", { skip }, async (t) => {
	const made = scratch(t);
	const base = made.folder("layers");
	const args = ["--state-dir", made.folder("state")];
	const tree = await HeldTree.start(made, base, TREES, { args: ["--handles", "kernel", ...args] });
	await tree.takeAll();
	await tree.write("a/write", "WR");
	await tree.createFile("born", "x");
	await tree.server.terminate();
	const layers = { lowers: TREES.map((_, index) => join(base, `lower${index}`)), upper: join(base, "upper") };
	const rebind = ["rebind", ...layerArguments(layers), ...args];
	// killed as soon as it says how far it is; wherever that was, the next one ends it
	for (const milliseconds of [150, 200, 250, 300, 400]) {
		try {
			execFileSync(
				"timeout",
				["-s", "KILL", `${milliseconds / 1000}`, process.execPath, join(repository, "dist/src/cli/main.js"), ...rebind],
				{
					stdio: "pipe",
				},
			);
			break;
		} catch {
			// it was killed, or the one before had ended
		}
	}
	const last = runHoldfast(rebind);
	assert.ok(last.code === 0 || /are portable already/.test(last.stderr), last.stderr);
	const server = serverAt(made, base, args);
	await tree.goOnWith(server);
	assert.match(server.stdout, /^Handles: portable/m);
	await tree.checkHandles("after a rebind in pieces");
	await tree.checkNames("after a rebind in pieces");
	await server.terminate();
});
