/** Uppers that the kernel's overlayfs has made, taken over and discarded: the lowers are seen, also by the kernel again. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { discard } from "../../src/overlay/changes/discard.ts";
import type { OpenedOverlay } from "../../src/overlay/opening/opened-overlay.ts";
import { kernelTree, LOWERS, Stand, sorted, texts, useTree } from "../in-process/stand.ts";
import { needs } from "../support/requirements.ts";
import { cannotMount } from "../support/scratch.ts";
import { snapshotTree } from "../support/tree-snapshot.ts";

const skip = needs("root") || cannotMount("ext4");

for (const [options, mayRename] of [
	["index=off,redirect_dir=off", false],
	["index=on,nfs_export=on,redirect_dir=on", true],
	["index=on,metacopy=on,redirect_dir=on", true],
	["index=off,userxattr", false],
] as const) {
	test(`an upper that the kernel made with ${options} is discarded, and the kernel sees the lowers`, { skip }, async (t) => {
		const stand = new Stand(t, LOWERS);
		const userXattrs = options.includes("userxattr");
		stand.options = { userXattrs };
		const lowersBefore = stand.lowers.map((lower) => snapshotTree(lower, { exact: true }));
		const before = stand.kernel(options, (tree) => {
			const shown = kernelTree(tree);
			useTree(tree, mayRename);
			execFileSync("chown", ["7:7", join(tree, "links/1")]);
			renameSync(join(tree, "file"), join(tree, "d/file"));
			rmSync(join(tree, "links"), { recursive: true });
			writeFileSync(join(tree, "links"), "in the place of a directory");
			return shown;
		});
		assert.deepEqual((await stand.adopt()).problems, []);
		const handles = new Map((await stand.tree()).entries());
		const report = await stand.run((overlay) => discard({ overlay } as OpenedOverlay));
		assert.deepEqual(report.left, []);
		const after = await stand.tree();
		assert.deepEqual(sorted(texts(after)), sorted(before));
		assert.equal(after.get("/links/1")?.links, 2);
		assert.deepEqual(after.get("/links/1")?.handle, after.get("/links/2")?.handle);
		const now = new Map([...after.values()].map((seen) => [seen.handle.toString("hex"), seen]));
		for (const [path, { handle, fileid }] of handles) {
			const found = await stand.outcome(handle);
			if (found === "stale") assert.ok(!now.has(handle.toString("hex")), `${path} is there, and its handle is stale`);
			else assert.deepEqual([found.fileid, now.get(handle.toString("hex"))?.fileid], [fileid, fileid], path);
		}
		await stand.close();
		assert.deepEqual(sorted(texts(await stand.tree())), sorted(before), "after a start");
		if (!userXattrs) {
			await stand.release();
			assert.deepEqual(sorted(stand.kernel(options, kernelTree)), sorted(before), "as the kernel sees it");
		}
		await stand.close();
		assert.deepEqual(readdirSync(stand.upper), []);
		assert.deepEqual(
			stand.lowers.map((lower) => snapshotTree(lower, { exact: true })),
			lowersBefore,
		);
	});
}
