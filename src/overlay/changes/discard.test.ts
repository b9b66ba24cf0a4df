// What is discarded is as in the lowers again, with the handles and file ids that clients had before.

import assert from "node:assert/strict";
import { linkSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fc } from "../../../test/support/fast-check.ts";
import { plant } from "../../../test/support/lower-tree.ts";
import { needs, volume } from "../../../test/support/requirements.ts";
import { type Scratch, scratch } from "../../../test/support/scratch.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { FileType, type OverlayObject } from "../../vfs/operations.ts";
import type { OpenOptions } from "../opening/open-options.ts";
import { openOverlay } from "../opening/open-overlay.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { inPasses } from "../operations/until-ready.ts";
import { discard } from "./discard.ts";
import { contentOf, lookAtAll, MORE_OPERATIONS, objectAt, perform, plantLower, ROOT, SEQUENCES } from "./random-changes.test-support.ts";

const skip = needs("root");

interface Seen {
	readonly handle: string;
	/** All that a client sees of it, but for what changes by itself. */
	readonly shown: string;
}

type Tree = Map<string, Seen>;

function seenOf({ overlay }: OpenedOverlay, object: OverlayObject): Seen {
	const { type } = object;
	const { mode, uid, gid, mtime, nlink, fileidHi, fileidLo } = overlay.getattr(object);
	const xattrs = overlay.listxattr(object, ROOT).map((name) => `${name}=${overlay.getxattr(object, ROOT, name)}`);
	const links = type === FileType.dir ? "" : nlink;
	const times = `${mtime.sec}.${mtime.nsec}`;
	const content = contentOf(overlay, object);
	const shown = [type, mode.toString(8), uid, gid, times, links, `${fileidHi}:${fileidLo}`, ...xattrs.sort(), content].join(" ");
	return { handle: object.handle.toString("hex"), shown };
}

function treeOf(opened: OpenedOverlay): Promise<Tree> {
	return lookAtAll(opened, (object) => seenOf(opened, object));
}

interface Layers {
	readonly lowers: string[];
	readonly upper: string;
	readonly work: string;
	readonly stateFolder: string;
}

function plantLayers(top: string): Layers {
	const lower = plantLower(join(top, "lower"));
	linkSync(join(lower, "a/b"), join(lower, "b/c/a"));
	const second = plant(join(top, "second"), { "a/c": "under", "b/a": "hidden by the upper one" });
	mkdirSync(join(top, "upper"));
	return { lowers: [lower, second], upper: join(top, "upper"), work: join(top, "work"), stateFolder: join(top, "state") };
}

const OPTIONS = { isSync: false, purpose: "serve" } as const satisfies Partial<OpenOptions>;

/** How an upper is kept. "ordinary": as an ordinary user does, with owners and modes in xattrs and whiteouts that are files. */
const KINDS = {
	kernel: { handles: "kernel" },
	portable: { handles: "portable" },
	ordinary: { handles: "portable", fakeRoot: true },
} as const satisfies Record<string, Partial<OpenOptions>>;
type Kind = keyof typeof KINDS;

/** All files count as large ones, which are copied up in parts. */
const IN_PARTS: Partial<OpenOptions> = { partialLimits: { bytesMin: 1, granuleBytes: 2, fills: false } };

/** What is there of an upper that nothing was changed in. */
function leftIn({ upper, work }: Layers, kind: Kind): string[] {
	const index = join(work, kind === "kernel" ? "index" : "holdfast/index");
	const folders = ["links", "unnamed", "orphans", "ids", "directories", "inodes", "data", "partial"].map((name) =>
		join(work, "holdfast", name),
	);
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

for (const kind of ["kernel", "portable", "ordinary"] as const) {
	test(`random changes, all of them discarded: the lowers, with the handles of before: ${kind}`, { skip }, async (t) => {
		const made = scratch(t);
		await fc.assert(
			fc.asyncProperty(SEQUENCES, fc.boolean(), fc.boolean(), async (sequence, isRestarted, isInParts) => {
				const layers = plantLayers(made.folder(`run-${runs++}`));
				const options = { ...layers, ...OPTIONS, ...KINDS[kind], ...(isInParts ? IN_PARTS : {}) };
				let opened = openOverlay(options);
				try {
					// the root, which upper always has, gets the attributes that it has in the lowers
					assert.equal((await discard(opened)).removed, 0);
					const before = await treeOf(opened);
					const known = new Set([...before.values()].map(({ handle }) => handle));
					const born = new Set<string>();
					for (const step of sequence) {
						await perform(opened, step, MORE_OPERATIONS);
						for (const { handle } of (await treeOf(opened)).values()) if (!known.has(handle)) born.add(handle);
					}
					if (isRestarted) {
						await opened.overlay.close();
						opened = openOverlay(options);
					}
					const report = await discard(opened);
					assert.deepEqual(report.left, []);
					await assertAsBefore(opened, before, born);
					await opened.overlay.close();
					assert.deepEqual(leftIn(layers, kind), []);
					opened = openOverlay(options);
					await assertAsBefore(opened, before, born);
				} finally {
					await opened.overlay.close();
				}
			}),
			{ numRuns: volume(4, 150) },
		);
	});
}

function isBelow(path: string, directory: string): boolean {
	return directory === "" || path === directory || path.startsWith(`${directory}/`);
}

/** Without what changes of a directory with a name in it, and how many names an object has. */
function core(shown: string): string {
	const [type, mode, uid, gid, times, , ...rest] = shown.split(" ");
	return [type, mode, uid, gid, type === String(FileType.dir) ? "" : times, ...rest].join(" ");
}

/** What may differ from `now`, outside of a discarded path: what had a name there, and what came back with it. */
function assertOthers(path: string, trees: { readonly before: Tree; readonly now: Tree; readonly after: Tree }): void {
	const { before, now, after } = trees;
	const taken = new Set([...now].filter(([at]) => isBelow(at, path)).map(([, { handle }]) => handle));
	for (const [at, { handle, shown }] of now) {
		if (isBelow(at, path) || taken.has(handle)) continue;
		const there = after.get(at);
		assert.ok(there !== undefined, `${at} is gone with ${path}`);
		assert.deepEqual([there.handle, core(there.shown)], [handle, core(shown)], `${at}, when ${path} was discarded`);
	}
	for (const [at, { handle, shown }] of after) {
		if (isBelow(at, path) || now.has(at)) continue;
		assert.ok(taken.has(handle) || before.get(at)?.handle === handle, `${at} has come with ${path}`);
		// the directory that it was in may stand elsewhere by now
		const known = [...before.values()].find((seen) => seen.handle === handle);
		assert.equal(core(shown), core(known?.shown ?? ""), `${at} has come with ${path}`);
	}
}

/** Where a path is that nothing above it has moved or replaced, it is all as in the lowers. */
function assertDiscarded(path: string, { before, now, after }: { readonly before: Tree; readonly now: Tree; readonly after: Tree }): void {
	const above = path.split("/").map((_, i, names) => names.slice(0, i).join("/"));
	if (!before.has(path) || above.some((at) => before.get(at)?.handle !== now.get(at)?.handle)) return;
	const of = (tree: Tree) => [...tree].filter(([at]) => isBelow(at, path)).map(([at, { handle, shown }]) => [at, handle, core(shown)]);
	assert.deepEqual(of(after).sort(), of(before).sort(), `below ${path}`);
}

for (const kind of ["kernel", "portable", "ordinary"] as const) {
	test(`random changes, a random path of them discarded: all else stays as it was: ${kind}`, { skip }, async (t) => {
		const made = scratch(t);
		await fc.assert(
			fc.asyncProperty(SEQUENCES, fc.nat(99), fc.boolean(), async (sequence, chosen, isOfLowers) => {
				const layers = plantLayers(made.folder(`run-${runs++}`));
				const opened = openOverlay({ ...layers, ...OPTIONS, ...KINDS[kind] });
				try {
					await discard(opened);
					const before = await treeOf(opened);
					for (const step of sequence) await perform(opened, step, MORE_OPERATIONS);
					const now = await treeOf(opened);
					const paths = [...(isOfLowers ? before : now).keys()].filter((path) => path !== "").sort();
					const path = paths[chosen % paths.length];
					if (path === undefined) return;
					const { left } = await discard(opened, { paths: [Buffer.from(path)] });
					const after = await treeOf(opened);
					assertOthers(path, { before, now, after });
					if (left.length === 0) assertDiscarded(path, { before, now, after });
					const known = new Map([...before.values(), ...now.values()].map(({ handle, shown }) => [handle, shown.split(" ")[6]]));
					for (const [at, { handle, shown }] of after) assert.equal(shown.split(" ")[6], known.get(handle), `file id of ${at}`);
					assert.deepEqual((await discard(opened)).left, []);
					assert.deepEqual([...(await treeOf(opened))].sort(), [...before].sort());
				} finally {
					await opened.overlay.close();
				}
			}),
			{ numRuns: volume(4, 150) },
		);
	});
}

/** An overlay of its own, and what to do with it by paths. */
function small(made: Scratch, more: Partial<OpenOptions> = {}) {
	const lower = plant(join(made.path, "lower"), { changed: "lower", removed: "lower", written: "lower", "d/f": "1" });
	const [upper, work, stateFolder] = ["upper", "work", "state"].map((name) => made.folder(name));
	const opened = openOverlay({ lowers: [lower], upper, work, stateFolder, ...OPTIONS, ...more });
	const { overlay } = opened;
	const at = (path: string) => objectAt(overlay, path);
	const run = <T>(step: () => T) => inPasses(overlay, step);
	const read = (handle: Uint8Array) => run(() => contentOf(overlay, overlay.decode(handle)));
	const write = (path: string, text: string) => run(() => overlay.write(at(path), ROOT, 0, Buffer.from(text), "open"));
	return { opened, overlay, at, run, read, write };
}

for (const handles of ["kernel", "portable"] as const) {
	test(`what is held open goes on by its handle when changes are discarded: ${handles} handles`, { skip }, async (t) => {
		const { opened, overlay, at, run, read, write } = small(scratch(t), { handles });
		try {
			const held = new Map<string, Buffer>();
			await write("changed", "UPPER and longer");
			const born = await run(
				() => overlay.create(overlay.root, Buffer.from("born"), ROOT, { mode: "guarded", attributes: {} }).object.handle,
			);
			await write("born", "born");
			for (const name of ["changed", "removed", "written"]) held.set(name, await run(() => at(name).handle as Buffer));
			held.set("born", born);
			for (const handle of held.values()) await run(() => overlay.hold(handle));
			await run(() => overlay.remove(overlay.root, Buffer.from("removed"), ROOT));
			await run(() => overlay.remove(overlay.root, Buffer.from("written"), ROOT));
			const written = held.get("written") as Buffer;
			await run(() => overlay.write(overlay.decode(written), ROOT, 0, Buffer.from("UPPER"), "open"));
			assert.equal(await read(written), "UPPER");
			assert.deepEqual((await discard(opened)).left, []);
			for (const name of ["changed", "removed", "written"]) {
				const handle = held.get(name) as Buffer;
				assert.equal(await read(handle), "lower", name);
				await run(() => assert.deepEqual([at(name).handle, overlay.getattr(at(name)).nlink], [handle, 1]));
			}
			assert.equal(await read(born), "born", "it is held");
			await run(() => assert.equal(overlay.getattr(overlay.decode(born)).nlink, 0));
			await write("written", "again");
			for (const handle of held.values()) await run(() => overlay.letGo(handle));
			assert.ok(await stale(opened, born.toString("hex")));
			assert.equal(await read(written), "again");
			for (const name of ["changed", "removed"]) assert.equal(await read(held.get(name) as Buffer), "lower", name);
		} finally {
			await overlay.close();
		}
	});
}

test("change attribute and ctime are others after a discard, and after each change that follows", { skip }, async (t) => {
	const { opened, overlay, at, run, write } = small(scratch(t));
	try {
		const seen = { file: new Set<string>(), directory: new Set<string>(), times: new Set<string>() };
		const look = (isOfLower: boolean) =>
			run(() => {
				for (const [path, values] of [
					["d/f", seen.file],
					["d", seen.directory],
				] as const) {
					const { changeHi, changeLo, ctime, mtime } = overlay.getattr(at(path));
					const value = `${changeHi}:${changeLo}`;
					const times = `${path} ${ctime.sec}.${ctime.nsec} ${mtime.sec}.${mtime.nsec}`;
					assert.equal(values.has(value) || seen.times.has(times), isOfLower, path);
					values.add(value);
					seen.times.add(times);
				}
			});
		await look(false);
		for (let round = 0; round < 20; round++) {
			await write("d/f", `content ${round}`);
			await run(() => overlay.create(at("d"), Buffer.from("new"), ROOT, { mode: "guarded", attributes: {} }));
			await look(false);
			assert.deepEqual((await discard(opened)).left, []);
			// the lower's value stands for the lower's content
			await look(true);
		}
	} finally {
		await overlay.close();
	}
});
