/** Promise H9 of content: what a client has committed no start takes back by making the steps of the change before it again. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { allocate } from "../../src/linux/memory.ts";
import { needs } from "../support/requirements.ts";
import { cannotMount, scratch } from "../support/scratch.ts";
import { PowerDisk } from "./power-disk.ts";
import { type Act, bytes, Lowers, ROOT, Stage } from "./stage.ts";

const WRITER = { uid: 1000, gid: 1000, gids: [] };

/** By what is done to a file right before it is written to: its path and the change. */
const CHANGES: Readonly<Record<string, readonly [string, (act: Act) => unknown]>> = {
	"cut to nothing": ["u1", ({ overlay, at }) => overlay.setattr(at("u1"), ROOT, { size: 0 })],
	"cut to a part": ["u1", ({ overlay, at }) => overlay.setattr(at("u1"), ROOT, { size: 5 })],
	"made longer": ["u1", ({ overlay, at }) => overlay.setattr(at("u1"), ROOT, { size: 6000 })],
	"given old times": ["u1", ({ overlay, at }) => overlay.setattr(at("u1"), ROOT, { mtime: { sec: 1, nsec: 0 } })],
	"given a set-user-id bit": ["u1", ({ overlay, at }) => overlay.setattr(at("u1"), ROOT, { mode: 0o4777 })],
	"copied up and cut": ["d/in", ({ overlay, at }) => overlay.setattr(at("d/in"), ROOT, { size: 1, mode: 0o666 })],
	made: [
		"new",
		({ overlay }) => overlay.create(overlay.root, bytes("new"), ROOT, { mode: "unchecked", attributes: { mode: 0o666 } }).object,
	],
	"made with a size": [
		"new",
		({ overlay }) => overlay.create(overlay.root, bytes("new"), ROOT, { mode: "guarded", attributes: { size: 3, mode: 0o666 } }).object,
	],
	"made with a set-user-id bit": [
		"new",
		({ overlay }) => overlay.create(overlay.root, bytes("new"), ROOT, { mode: "guarded", attributes: { mode: 0o4777 } }).object,
	],
	"made with old times": [
		"new",
		({ overlay }) =>
			overlay.create(overlay.root, bytes("new"), ROOT, { mode: "guarded", attributes: { mode: 0o666, mtime: { sec: 1, nsec: 0 } } }).object,
	],
};

for (const kind of ["ext4", "xfs"] as const) {
	test(`content that was committed, and the attributes it has, outlive a power failure of ${kind}, whatever was done to the file before`, {
		skip: needs("root") || cannotMount(kind),
	}, async (t) => {
		const made = scratch(t);
		const lowers = new Lowers(made.mount("tmpfs"));
		const disk = new PowerDisk(made, kind);
		for (const [name, [path, change]] of Object.entries(CHANGES)) {
			const stage = new Stage(lowers, name, disk);
			await stage.build();
			if (path === "u1") await stage.change(({ overlay, at }) => overlay.setattr(at(path), ROOT, { mode: 0o666 }) as undefined);
			await stage.overlay.stable();
			await stage.change((act) => change(act) as undefined);
			// the intent is on the disk, and its end is not
			disk.commit();
			for (const [offset, text] of [
				[0, "written"],
				[9000, "and more"],
				[0, "WRITTEN"],
			] as const) {
				await stage.settle(() => stage.overlay.write(stage.find(path), WRITER, offset, bytes(text)));
				await stage.overlay.commit(stage.find(path));
			}
			const before = seen(stage, path);
			await stage.cutPower(false);
			stage.open();
			assert.deepEqual(seen(stage, path), before, name);
			await stage.close();
			stage.remove();
		}
	});
}

function seen(stage: Stage, path: string) {
	const { overlay } = stage;
	const node = stage.find(path);
	const { sizeLo: size, mode, mtime } = overlay.getattr(node);
	const memory = allocate(size);
	const { count } = overlay.read(node, ROOT, 0, size, memory, 0);
	return { size, mode, mtime, content: memory.bytes.toString("latin1", 0, count) };
}
