/** A lower between that once was an upper of the kernel's overlayfs, with redirects that lead into the lowers below it. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { adoptLowers } from "../../src/overlay/opening/former-uppers.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { OpenedOverlay } from "../../src/overlay/opening/opened-overlay.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { untilReady } from "../../src/overlay/operations/until-ready.ts";
import { FileType, type OverlayObject } from "../../src/vfs/operations.ts";
import { ROOT, walk } from "../in-process/walk.ts";
import { needs } from "../support/requirements.ts";
import { cannotMount, scratch } from "../support/scratch.ts";
import { snapshotTree } from "../support/tree-snapshot.ts";

const bytes = (name: string): Buffer => Buffer.from(name);

async function run<T>(opened: OpenedOverlay, act: (overlay: Overlay) => T): Promise<T> {
	return untilReady(() => act(opened.overlay));
}

function list(overlay: Overlay, directory: OverlayObject, prefix: string, found: Map<string, Buffer>): Map<string, Buffer> {
	const cursor = overlay.list(directory, ROOT, 0, 2);
	const below: [string, OverlayObject][] = [];
	while (cursor.next()) {
		const object = cursor.object();
		assert.ok(object);
		const { fileidHi, fileidLo } = overlay.getattr(object);
		assert.deepEqual(cursor.fileid(), { hi: fileidHi, lo: fileidLo });
		const path = prefix + Buffer.from(cursor.name).toString();
		found.set(path, object.handle);
		if (object.type === FileType.dir) below.push([path, object]);
	}
	for (const [path, object] of below) {
		overlay.beginPass();
		list(overlay, overlay.decode(object.handle), `${path}/`, found);
	}
	return found;
}

for (const nodesMax of [2, 1000]) {
	test(`redirects of a middle layer are followed, and handles below hold when its directories move (${nodesMax} objects in memory)`, {
		skip: needs("root") || cannotMount("ext4"),
	}, async (t) => {
		const made = scratch(t);
		const base = made.mount("ext4", "layers");
		const [top, middle, work, lower, lowest, mounted] = ["top", "middle", "work", "lower", "lowest", "mounted"].map((name) => {
			mkdirSync(join(base, name));
			return join(base, name);
		});
		for (const [layer, path] of [
			[lower, "d/s/t/f"],
			[lower, "d/q/x"],
			[lower, "k/z/h"],
			[lowest, "d/s/t/u/g"],
		] as const) {
			mkdirSync(dirname(join(layer, path)), { recursive: true });
			writeFileSync(join(layer, path), path);
		}
		const mount = (options: string) => execFileSync("mount", ["-t", "overlay", "overlay", "-o", options, mounted]);
		mount(`lowerdir=${lower}:${lowest},upperdir=${middle},workdir=${work},redirect_dir=on,index=on`);
		try {
			for (const [from, to] of [
				["d", "e"],
				["e/s", "k/s2"],
				["k/s2/t/u", "e/u"],
				["k", "l"],
			]) {
				renameSync(join(mounted, from as string), join(mounted, to as string));
			}
			writeFileSync(join(mounted, "l/s2/t/new"), "new");
		} finally {
			execFileSync("umount", [mounted]);
		}
		const lowers = [top, middle, lower, lowest];
		const before = lowers.map((path) => snapshotTree(path, { exact: true }));
		const layers = { lowers, upper: join(base, "upper"), stateFolder: join(base, "state"), isSync: false, nodesMax, descriptorsMax: 20 };
		assert.throws(() => openOverlay({ ...layers, purpose: "serve" }), /adopt/);
		const adopting = openOverlay({ ...layers, purpose: "adopt" });
		const reports = adoptLowers(adopting);
		await adopting.overlay.close();
		assert.deepEqual(
			reports.flatMap(({ problems }) => problems),
			[],
		);
		assert.ok(reports.some(({ layer, redirects }) => layer === middle && redirects >= 4));

		let opened = openOverlay({ ...layers, purpose: "serve" });
		t.after(() => opened.overlay.close());
		const first = await run(opened, (overlay) => list(overlay, overlay.root, "", new Map()));
		mount(`ro,lowerdir=${lowers.join(":")},redirect_dir=follow`);
		try {
			const kernel = execFileSync("find", [".", "-mindepth", "1", "-printf", "%P\\n"], { cwd: mounted, encoding: "utf8" });
			assert.deepEqual([...first.keys()].sort(), kernel.trim().split("\n").sort());
		} finally {
			execFileSync("umount", [mounted]);
		}
		const holds = async (now: (path: string) => string): Promise<void> => {
			await opened.overlay.close();
			opened = openOverlay({ ...layers, purpose: "serve" });
			for (const handle of [...first.values()].reverse()) {
				await run(opened, (overlay) => assert.deepEqual(overlay.decode(handle).handle, handle));
			}
			for (const [path, handle] of first) {
				await run(opened, (overlay) => assert.deepEqual(walk(overlay, now(path)).handle, handle, `${path}, now ${now(path)}`));
			}
		};
		await holds((path) => path);
		await run(opened, (overlay) => overlay.rename(overlay.root, bytes("l"), walk(overlay, "e"), bytes("L"), ROOT));
		const moved = (path: string) => path.replace(/^l(?=\/|$)/, "e/L");
		await holds(moved);
		await run(opened, (overlay) => overlay.rename(walk(overlay, "e/L"), bytes("s2"), overlay.root, bytes("S"), ROOT));
		await holds((path) => moved(path).replace(/^e\/L\/s2/, "S"));
		await run(opened, (overlay) => overlay.write(walk(overlay, "S/t/f"), ROOT, 0, bytes("written")));
		await holds((path) => moved(path).replace(/^e\/L\/s2/, "S"));
		await run(opened, (overlay) => overlay.exchange(overlay.root, bytes("S"), walk(overlay, "e"), bytes("q"), ROOT));
		const exchanged = (path: string) =>
			moved(path)
				.replace(/^e\/L\/s2/, "S")
				.replace(/^(S|e\/q)(?=\/|$)/, (place) => (place === "S" ? "e/q" : "S"));
		await holds(exchanged);
		await run(opened, (overlay) => overlay.exchange(walk(overlay, "S"), bytes("x"), walk(overlay, "e"), bytes("L"), ROOT));
		await holds((path) => exchanged(path).replace(/^(S\/x|e\/L)(?=\/|$)/, (place) => (place === "S/x" ? "e/L" : "S/x")));
		lowers.forEach((path, i) => {
			assert.deepEqual(snapshotTree(path, { exact: true }), before[i], path);
		});
	});
}
