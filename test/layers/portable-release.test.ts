/** Uppers with portable handles, given back to the kernel's overlayfs and taken back from it. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, linkSync, readdirSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { OpenOptions } from "../../src/overlay/opening/open-options.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { release } from "../../src/overlay/upkeep/release.ts";
import type { OverlayObject } from "../../src/vfs/operations.ts";
import { keptBy } from "../crash/stage.ts";
import { atEachCall, bytes, kernelTree, LOWERS, type Seen, Stand, sorted, texts, useTree } from "../in-process/stand.ts";
import { ROOT, walk } from "../in-process/walk.ts";
import { plant } from "../support/lower-tree.ts";
import { needs, volume } from "../support/requirements.ts";
import { cannotMount, scratch } from "../support/scratch.ts";

const skip = needs("root") || cannotMount("ext4");
const OPTIONS = "index=on,nfs_export=on,redirect_dir=on";

/** Served with portable handles and changed in all ways: copied up, moved, removed, linked, born in upper. */
async function used(t: TestContext): Promise<Stand> {
	const stand = new Stand(t, LOWERS);
	stand.options = { handles: "portable" };
	symlinkSync("target", join(stand.lowers[1], "symlink"));
	await stand.run(() => {});
	const write = (path: string, text: string) => stand.run((overlay) => overlay.write(walk(overlay, path), ROOT, 0, bytes(text)));
	await write("d/both", "both CHANGED");
	await write("links/2", "LINKED");
	// a step that has to wait is run again from its start
	const steps: readonly ((overlay: Overlay, root: OverlayObject, d: OverlayObject) => unknown)[] = [
		(overlay, root, d) => overlay.rename(d, bytes("both"), root, bytes("renamed"), ROOT),
		(overlay, _, d) => overlay.rename(walk(overlay, "m"), bytes("sub"), d, bytes("sub"), ROOT),
		(overlay, root) => overlay.rename(root, bytes("m"), root, bytes("moved"), ROOT),
		(overlay, root) => overlay.remove(root, bytes("other"), ROOT),
		(overlay) => overlay.setattr(walk(overlay, "symlink"), ROOT, { uid: 7 }),
		(overlay, _, d) => overlay.link(walk(overlay, "file"), d, bytes("second"), ROOT),
		(overlay, root) => overlay.symlink(root, bytes("born link"), ROOT, bytes("anywhere"), {}),
		(overlay, root) => overlay.mkdir(root, bytes("born"), ROOT, {}),
		(overlay) => overlay.create(walk(overlay, "born"), bytes("file"), ROOT, { mode: "guarded", attributes: {} }),
		(overlay, _, d) => overlay.link(walk(overlay, "born/file"), d, bytes("born too"), ROOT),
	];
	for (const step of steps) await stand.run((overlay) => step(overlay, overlay.root, walk(overlay, "d")));
	return stand;
}

/** Handles, texts, link counts and file ids, in lines: a difference of these is told in no time. */
function shown(tree: ReadonlyMap<string, Seen>): string[] {
	return [...tree].map(([path, { handle, text, links, fileid }]) => `${path}: ${handle.toString("hex")} ${links} ${fileid} ${text}`).sort();
}

test("the kernel mounts a released upper and shows the same; taken back, all handles find what they did", { skip }, async (t) => {
	const stand = await used(t);
	const before = await stand.tree();
	await stand.release();
	assert.deepEqual(readdirSync(join(stand.work, "holdfast/ids")), [], "no link of ours counts as a name");
	const kernel = stand.kernel(OPTIONS, (tree) => {
		assert.equal(execFileSync("stat", ["-c", "%h", join(tree, "links/1")], { encoding: "utf8" }).trim(), "2");
		assert.equal(execFileSync("stat", ["-c", "%h", join(tree, "born/file")], { encoding: "utf8" }).trim(), "2");
		return kernelTree(tree);
	});
	assert.deepEqual(sorted(kernel), sorted(texts(before)));
	assert.deepEqual(shown(await stand.tree()), shown(before), "with their numbers and link counts");
	assert.deepEqual(readdirSync(join(stand.work, "holdfast/inodes")), [], "what told inodes from copies of them is gone");
});

test("what the kernel does to a released upper holdfast shows, and handles follow it or are stale", { skip }, async (t) => {
	const stand = await used(t);
	const before = await stand.tree();
	const of = (path: string) => (before.get(path) as { readonly handle: Buffer }).handle;
	await stand.release();
	const kernel = stand.kernel(OPTIONS, (tree) => {
		renameSync(join(tree, "moved"), join(tree, "moved on"));
		renameSync(join(tree, "renamed"), join(tree, "born/renamed"));
		unlinkSync(join(tree, "d/only-top"));
		unlinkSync(join(tree, "born link"));
		writeFileSync(join(tree, "moved on/a"), "copied up by the kernel");
		writeFileSync(join(tree, "new"), "made by the kernel");
		return kernelTree(tree);
	});
	const after = await stand.tree();
	assert.deepEqual(sorted(texts(after)), sorted(kernel));
	for (const [was, is] of [
		["/moved", "/moved on"],
		["/moved/a", "/moved on/a"],
		["/renamed", "/born/renamed"],
		["/d/sub/x", "/d/sub/x"],
		["/born/file", "/d/born too"],
		["/links/1", "/links/2"],
	]) {
		assert.deepEqual(after.get(is)?.handle, of(was), `${was} is ${is}`);
	}
	for (const path of ["/d/only-top", "/born link"]) assert.equal(await stand.outcome(of(path)), "stale", path);
});

test("a copy made inside of a released upper by cp -a is an object of its own, also where the original is gone", { skip }, async (t) => {
	const stand = await used(t);
	const before = await stand.tree();
	await stand.release();
	for (const name of ["born", "renamed"]) execFileSync("cp", ["-a", join(stand.upper, name), join(stand.upper, `clone of ${name}`)]);
	rmSync(join(stand.upper, "born"), { recursive: true });
	rmSync(join(stand.upper, "d/born too"));
	const after = await stand.tree();
	assert.equal(after.get("/clone of renamed")?.text, "both CHANGEDtop");
	assert.deepEqual(after.get("/renamed")?.handle, before.get("/renamed")?.handle);
	for (const path of ["/clone of born", "/clone of born/file", "/clone of renamed"]) {
		for (const [was, { handle }] of before) assert.notDeepEqual(after.get(path)?.handle, handle, `${path} is not ${was}`);
	}
	for (const path of ["/born", "/born/file"]) assert.equal(await stand.outcome((before.get(path) as { handle: Buffer }).handle), "stale");
});

test("released and moved to another disk, it is taken back there with its handles", { skip }, async (t) => {
	const stand = await used(t);
	const before = await stand.tree();
	await stand.release();
	for (const which of ["upper", "work"] as const) {
		execFileSync("cp", ["-a", stand[which], `${stand[which]} moved`]);
		rmSync(stand[which], { recursive: true });
	}
	Object.assign(stand, { upper: `${stand.upper} moved`, work: `${stand.work} moved` });
	const after = await stand.tree();
	assert.deepEqual(sorted(texts(after)), sorted(texts(before)));
	for (const path of ["/born", "/born/file", "/moved/a", "/file"])
		assert.deepEqual(after.get(path)?.handle, before.get(path)?.handle, path);
});

test("with --forget nothing of holdfast is left, and the upper is adopted with kernel handles", { skip }, async (t) => {
	const stand = await used(t);
	const before = await stand.tree();
	await stand.close();
	await release(stand.open("release").overlay, stand.work, false, undefined, true);
	assert.ok(!existsSync(join(stand.work, "holdfast")));
	assert.equal(execFileSync("getfattr", ["-R", "-h", "-m", "holdfast", stand.upper], { encoding: "utf8" }), "");
	assert.deepEqual(sorted(stand.kernel(OPTIONS, (tree) => kernelTree(tree))), sorted(texts(before)));
	stand.options = { handles: "kernel" };
	assert.deepEqual((await stand.adopt()).problems, []);
	assert.deepEqual(sorted(texts(await stand.tree())), sorted(texts(before)));
});

test("names that are files of their own, or lie elsewhere in the stack, stay apart for the kernel", { skip }, async (t) => {
	for (const linkNames of [false, undefined]) {
		const stand = new Stand(t, [{ "top/a": "shared" }, { apart: "apart" }]);
		linkSync(join(stand.lowers[0], "top/a"), join(stand.lowers[1], "below"));
		linkSync(join(stand.lowers[1], "apart"), join(stand.lowers[1], "apart too"));
		stand.options = { handles: "portable", ...(linkNames === undefined ? {} : { linkNames }) };
		await stand.run((overlay) => overlay.write(walk(overlay, "top/a"), ROOT, 0, bytes("SHARED")));
		await stand.run((overlay) => overlay.write(walk(overlay, "apart"), ROOT, 0, bytes("APART")));
		const before = texts(await stand.tree());
		assert.equal(before.get("/below"), "shared");
		assert.equal(before.get("/apart too"), linkNames === false ? "apart" : "APART");
		await stand.release();
		assert.deepEqual(sorted(stand.kernel(OPTIONS, (tree) => kernelTree(tree))), sorted(before));
		assert.deepEqual(sorted(texts(await stand.tree())), sorted(before));
		await stand.close();
	}
});

test("a release that is stopped before any of its calls is served on or begun again, and the kernel shows the same tree", {
	skip,
}, async (t) => {
	const stand = await used(t);
	const before = await stand.tree();
	await stand.close();
	let isServed = false;
	const calls = await atEachCall(
		volume(13, 5, 1),
		() => stand.release(),
		() => stand.abandon(),
		async (call) => {
			isServed = !isServed;
			if (isServed) {
				assert.deepEqual(shown(await stand.tree()), shown(before), `stopped before call ${call}`);
				return;
			}
			if (existsSync(join(stand.work, "work/incompat/holdfast"))) await stand.release();
			assert.deepEqual(sorted(stand.kernel(OPTIONS, (tree) => kernelTree(tree))), sorted(texts(before)), `stopped before call ${call}`);
			assert.deepEqual(shown(await stand.tree()), shown(before), `stopped before call ${call}, and taken back`);
		},
	);
	t.diagnostic(`${calls} calls`);
	assert.ok(calls > 20);
});

test("an upper that the kernel made is adopted with portable handles, and its objects are those that were copied up", {
	skip,
}, async (t) => {
	const stand = new Stand(t, LOWERS);
	stand.options = { handles: "portable" };
	const kernel = stand.kernel(OPTIONS, (tree) => {
		useTree(tree, true);
		return kernelTree(tree);
	});
	const { problems, identities } = await stand.adopt();
	assert.deepEqual(problems, []);
	assert.ok(identities >= 7, `${identities} identities`);
	assert.deepEqual(sorted(texts(await stand.tree())), sorted(kernel));
});

test("an upper of an ordinary user is not released: the kernel would not show what it is", { skip: needs("root") }, async (t) => {
	const base = scratch(t).mount("tmpfs");
	const lower = plant(join(base, "lower"), { file: "f" });
	const work = join(base, "work");
	const layers = {
		lowers: [lower],
		upper: join(base, "upper"),
		work,
		stateFolder: join(base, "state"),
		isSync: false,
		...keptBy("ordinary"),
	};
	const open = (purpose: OpenOptions["purpose"]) => openOverlay({ ...layers, purpose }).overlay;
	await open("serve").close();
	for (const isDryRun of [true, false]) {
		await assert.rejects(release(open("release"), work, isDryRun), /ordinary user cannot be given back/);
		assert.ok(existsSync(join(work, "work/incompat/holdfast")), "the marker that keeps the kernel away is there");
	}
	await open("serve").close();
});
