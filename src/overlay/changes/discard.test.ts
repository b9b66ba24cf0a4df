// What is discarded is as in the lowers again, with the handles and file ids that clients had before.

import assert from "node:assert/strict";
import { linkSync, mkdirSync, readdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fc } from "../../../test/support/fast-check.ts";
import { plant } from "../../../test/support/lower-tree.ts";
import { needs, volume } from "../../../test/support/requirements.ts";
import { scratch } from "../../../test/support/scratch.ts";
import { allocate } from "../../linux/memory.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { FileType, type OverlayObject } from "../../vfs/operations.ts";
import type { OpenOptions } from "../opening/open-options.ts";
import { openOverlay } from "../opening/open-overlay.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { inPasses } from "../operations/until-ready.ts";
import { discard } from "./discard.ts";

const ROOT = { uid: 0, gid: 0, gids: [] };
const skip = needs("root");
const reading = allocate(4096);

interface Seen {
	readonly handle: string;
	/** All that a client sees of it, but for what changes by itself. */
	readonly shown: string;
}

type Tree = Map<string, Seen>;

function seenOf({ overlay }: OpenedOverlay, object: OverlayObject): Seen {
	const { type } = object;
	let content = "";
	if (type === FileType.reg) {
		const { count } = overlay.read(object, ROOT, 0, 4096, reading, 0, "open");
		content = reading.bytes.subarray(0, count).toString("latin1");
	} else if (type === FileType.lnk) content = overlay.readlink(object).toString();
	const { mode, uid, gid, mtime, nlink, fileidHi, fileidLo } = overlay.getattr(object);
	const xattrs = overlay.listxattr(object, ROOT).map((name) => `${name}=${overlay.getxattr(object, ROOT, name)}`);
	const links = type === FileType.dir ? "" : nlink;
	const times = `${mtime.sec}.${mtime.nsec}`;
	const shown = [type, mode.toString(8), uid, gid, times, links, `${fileidHi}:${fileidLo}`, ...xattrs.sort(), content].join(" ");
	return { handle: object.handle.toString("hex"), shown };
}

async function treeOf(opened: OpenedOverlay): Promise<Tree> {
	const { overlay } = opened;
	const tree: Tree = new Map();
	const visit = async (path: string, handle: Buffer): Promise<void> => {
		const below = await inPasses(overlay, () => {
			const now = overlay.decode(handle);
			tree.set(path, seenOf(opened, now));
			const found: [string, Buffer][] = [];
			const cursor = now.type === FileType.dir ? overlay.list(now, ROOT, 0, 2) : null;
			while (cursor?.next()) {
				const child = overlay.lookup(now, cursor.name, ROOT);
				assert.ok(child !== null, `${path}/${cursor.name} is listed, and is not there`);
				found.push([Buffer.from(cursor.name).toString(), child.handle]);
			}
			return found;
		});
		for (const [name, child] of below) await visit(path === "" ? name : `${path}/${name}`, child);
	};
	await visit("", overlay.root.handle);
	return tree;
}

type Step = readonly [operation: number, one: number, other: number, name: number];
const NAMES = ["a", "b", "c", "d e", "ä"];

async function perform(opened: OpenedOverlay, [operation, one, other, name]: Step): Promise<void> {
	const { overlay } = opened;
	const paths = [...(await treeOf(opened)).keys()].sort();
	const find = (path: string) =>
		path
			.split("/")
			.filter(Boolean)
			.reduce<OverlayObject>((at, part) => {
				const found = overlay.lookup(at, Buffer.from(part), ROOT);
				assert.ok(found !== null);
				return found;
			}, overlay.root);
	const source = paths[one % paths.length];
	const parent = source.includes("/") ? source.slice(0, source.lastIndexOf("/")) : "";
	const last = Buffer.from(source.slice(parent === "" ? 0 : parent.length + 1));
	const target = paths[other % paths.length];
	const newName = Buffer.from(NAMES[name % NAMES.length]);
	const place = target.includes("/") ? target.slice(0, target.lastIndexOf("/")) : "";
	const there = Buffer.from(target.slice(place === "" ? 0 : place.length + 1));
	const operations = [
		() => overlay.create(find(target), newName, ROOT, { mode: "guarded", attributes: { mode: 0o644 } }, null),
		() => overlay.write(find(source), ROOT, 0, Buffer.from(`content ${one} ${other}`), "open"),
		() => overlay.remove(find(parent), last, ROOT, null),
		() => overlay.rmdir(find(parent), last, ROOT, null),
		() => overlay.mkdir(find(target), newName, ROOT, { mode: 0o755 }, null),
		() => overlay.rename(find(parent), last, find(target), newName, ROOT, null),
		() => overlay.link(find(source), find(target), newName, ROOT, null),
		() => overlay.setattr(find(source), ROOT, { mode: name % 2 === 0 ? 0o700 : 0o755, uid: 7 }, undefined, null),
		() => overlay.symlink(find(target), newName, ROOT, Buffer.from(`to ${one}`), {}, null),
		() => overlay.exchange(find(parent), last, find(place), there, ROOT, null),
		() => overlay.setxattr(find(source), ROOT, Buffer.from("user.a"), Buffer.from("value"), "any", null),
		() => overlay.remove(find(parent), last, ROOT, null),
		() => overlay.rename(find(parent), last, find(place), there, ROOT, null),
	];
	try {
		await inPasses(overlay, operations[operation % operations.length]);
	} catch (error) {
		if (!(error instanceof OverlayError)) throw error;
	}
}

interface Layers {
	readonly lowers: string[];
	readonly upper: string;
	readonly work: string;
	readonly stateFolder: string;
}

function plantLayers(top: string): Layers {
	const lower = plant(join(top, "lower"), { "a/a/a": "1", "a/a/b": "2", "a/b": "3", "b/a": "4", "b/c/d e": "5", c: "6", "d e/": "" });
	linkSync(join(lower, "a/b"), join(lower, "b/b"));
	linkSync(join(lower, "a/b"), join(lower, "b/c/a"));
	symlinkSync("a/a", join(lower, "ä"));
	const second = plant(join(top, "second"), { "a/c": "under", "b/a": "hidden by the upper one" });
	mkdirSync(join(top, "upper"));
	return { lowers: [lower, second], upper: join(top, "upper"), work: join(top, "work"), stateFolder: join(top, "state") };
}

const OPTIONS = { isSync: false, purpose: "serve" } as const satisfies Partial<OpenOptions>;

/** What is there of an upper that nothing was changed in. */
function leftIn({ upper, work }: Layers, handles: "kernel" | "portable"): string[] {
	const index = join(work, handles === "kernel" ? "index" : "holdfast/index");
	const folders = ["links", "unnamed", "orphans", "ids", "directories", "inodes", "data"].map((name) => join(work, "holdfast", name));
	const below = (folder: string) => {
		try {
			return readdirSync(folder).map((name) => join(folder, name));
		} catch {
			return [];
		}
	};
	return [upper, index, ...folders].flatMap(below);
}

async function stale(opened: OpenedOverlay, handle: string): Promise<boolean> {
	try {
		await inPasses(opened.overlay, () => opened.overlay.decode(Buffer.from(handle, "hex")));
		return false;
	} catch (error) {
		if (error instanceof OverlayError && error.code === "stale") return true;
		throw error;
	}
}

async function assertAsBefore(opened: OpenedOverlay, before: Tree, born: ReadonlySet<string>): Promise<void> {
	const now = await treeOf(opened);
	assert.deepEqual([...now].sort(), [...before].sort());
	for (const [path, { handle, shown }] of before) {
		const seen = await inPasses(opened.overlay, () => seenOf(opened, opened.overlay.decode(Buffer.from(handle, "hex"))));
		assert.equal(seen.shown, shown, path);
	}
	for (const handle of born) assert.ok(await stale(opened, handle), "what was born in upper is stale");
}

let runs = 0;
const sequences = fc.array(fc.tuple(fc.nat(99), fc.nat(99), fc.nat(99), fc.nat(99)), { minLength: 1, maxLength: 24 });

for (const handles of ["kernel", "portable"] as const) {
	test(`random changes, all of them discarded: the lowers, with the handles of before, ${handles} handles`, { skip }, async (t) => {
		const made = scratch(t);
		await fc.assert(
			fc.asyncProperty(sequences, fc.boolean(), async (sequence, isRestarted) => {
				const layers = plantLayers(made.folder(`run-${runs++}`));
				let opened = openOverlay({ ...layers, ...OPTIONS, handles });
				try {
					// the root, which upper always has, gets the attributes that it has in the lowers
					assert.equal((await discard(opened)).removed, 0);
					const before = await treeOf(opened);
					const known = new Set([...before.values()].map(({ handle }) => handle));
					const born = new Set<string>();
					for (const step of sequence) {
						await perform(opened, step);
						for (const { handle } of (await treeOf(opened)).values()) if (!known.has(handle)) born.add(handle);
					}
					if (isRestarted) {
						await opened.overlay.close();
						opened = openOverlay({ ...layers, ...OPTIONS, handles });
					}
					const report = await discard(opened);
					assert.deepEqual(report.left, []);
					await assertAsBefore(opened, before, born);
					await opened.overlay.close();
					assert.deepEqual(leftIn(layers, handles), []);
					opened = openOverlay({ ...layers, ...OPTIONS, handles });
					await assertAsBefore(opened, before, born);
				} finally {
					await opened.overlay.close();
				}
			}),
			{ numRuns: volume(12, 400) },
		);
	});
}
