import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { linkSync, mkdirSync, rmSync, statfsSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { TRUSTED_XATTRS } from "../../src/layer/layer.ts";
import { allocate } from "../../src/linux/memory.ts";
import { checkUpper } from "../../src/overlay/check/check.ts";
import type { Writable } from "../../src/overlay/journal/writable.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { untilReady } from "../../src/overlay/operations/until-ready.ts";
import { OverlayError } from "../../src/vfs/errors.ts";
import { type ChangeKey, FileType, type OverlayObject } from "../../src/vfs/operations.ts";
import { abandon } from "../crash/stage.ts";
import { keyed, keyOf } from "../in-process/keyed.ts";
import { ROOT, walk } from "../in-process/walk.ts";
import { needs } from "../support/requirements.ts";
import { cannotMount, scratch } from "../support/scratch.ts";

const bytes = (name: string): Buffer => Buffer.from(name);

/** Each with the object whose handle tells whether it happened. */
const OPERATIONS: Record<string, readonly [watched: string, run: (overlay: Overlay) => void]> = {
	"remove an untouched file": ["d/file", (overlay) => overlay.remove(walk(overlay, "d"), bytes("file"), ROOT)],
	"remove a copied up file": ["up", (overlay) => overlay.remove(overlay.root, bytes("up"), ROOT)],
	"remove one name of two": ["d/one", (overlay) => overlay.remove(walk(overlay, "d"), bytes("one"), ROOT)],
	"remove one name of a copied up file of two": ["two1", (overlay) => overlay.remove(overlay.root, bytes("two2"), ROOT)],
	"remove a directory": ["empty", (overlay) => overlay.rmdir(overlay.root, bytes("empty"), ROOT)],
	"remove a copied up directory": ["empty2", (overlay) => overlay.rmdir(overlay.root, bytes("empty2"), ROOT)],
	"rename over an untouched file": [
		"d/file",
		(overlay) => overlay.rename(overlay.root, bytes("up"), walk(overlay, "d"), bytes("file"), ROOT),
	],
	"rename over a copied up file": ["up", (overlay) => overlay.rename(walk(overlay, "d"), bytes("file"), overlay.root, bytes("up"), ROOT)],
	"rename a lower directory": ["d", (overlay) => overlay.rename(overlay.root, bytes("d"), overlay.root, bytes("D"), ROOT)],
	"rename over an empty directory": [
		"empty",
		(overlay) => overlay.rename(overlay.root, bytes("empty2"), overlay.root, bytes("empty"), ROOT),
	],
	"copy up by chmod": ["d/file", (overlay) => overlay.setattr(walk(overlay, "d/file"), ROOT, { mode: 0o600 })],
	"link a lower file": ["d/file", (overlay) => overlay.link(walk(overlay, "d/file"), overlay.root, bytes("link"), ROOT)],
	"make a directory": ["", (overlay) => void overlay.mkdir(overlay.root, bytes("new"), ROOT, { mode: 0o755 })],
	"make a file where one was removed": [
		"",
		(overlay) => void overlay.create(overlay.root, bytes("removed"), ROOT, { mode: "guarded", attributes: { mode: 0o644 } }).object,
	],
};

/** Inodes that are left when an operation begins; in tmpfs every name takes one. */
const FREE = [0, 1, 2, 4];

test("an operation for which there is no space has happened or has not, and happens when there is space again", {
	skip: needs("root") || cannotMount("tmpfs"),
}, async (t) => {
	const made = scratch(t);
	const lower = join(made.mount("tmpfs", "lowers"), "lower");
	for (const path of ["d", "empty", "empty2"]) mkdirSync(join(lower, path), { recursive: true });
	for (const path of ["d/file", "d/one", "up", "two1", "removed"]) writeFileSync(join(lower, path), path);
	linkSync(join(lower, "d/one"), join(lower, "d/two"));
	linkSync(join(lower, "two1"), join(lower, "two2"));
	const disk = made.mount("tmpfs", "disk");
	execFileSync("mount", ["-o", "remount,nr_inodes=200", disk]);
	let refused = 0;
	for (const [name, [watched, run]] of Object.entries(OPERATIONS)) {
		for (const free of FREE) {
			const [upper, work] = [join(disk, "upper"), join(disk, "work")];
			const open = () =>
				openOverlay({ lowers: [lower], upper, work, stateFolder: made.folder("state"), isSync: false, purpose: "serve" }).overlay;
			mkdirSync(upper);
			mkdirSync(work);
			let overlay = open();
			const settle = async (act: () => void): Promise<string> => {
				try {
					await untilReady(act);
					return "ok";
				} catch (error) {
					if (error instanceof OverlayError) return error.code;
					throw error;
				}
			};
			const setUp: ((overlay: Overlay) => void)[] = [
				(o) => o.setattr(walk(o, "up"), ROOT, { mode: 0o640 }),
				(o) => o.setattr(walk(o, "two1"), ROOT, { mode: 0o640 }),
				(o) => o.setattr(walk(o, "empty2"), ROOT, { mode: 0o700 }),
				(o) => o.remove(o.root, bytes("removed"), ROOT),
			];
			for (const step of setUp) assert.equal(await settle(() => step(overlay)), "ok");
			const { handle } = walk(overlay, watched);
			const before = describe(overlay, handle);
			const fillers: string[] = [];
			for (let left = statfsSync(disk).ffree - free; left > 0; left--) {
				fillers.push(join(disk, `filler${left}`));
				writeFileSync(fillers[fillers.length - 1], "");
			}
			const where = `${name}, with ${free} inodes free`;
			const result = await settle(() => run(overlay));
			if (result !== "ok") {
				refused++;
				assert.equal(result, "nospc", where);
				assert.equal(describe(overlay, handle), before, where);
			}
			const after = describe(overlay, handle);
			for (const filler of fillers) unlinkSync(filler);
			await overlay.close();
			overlay = open();
			assert.equal(describe(overlay, handle), after, `${where}, after a restart`);
			if (result !== "ok") assert.equal(await settle(() => run(overlay)), "ok", `${where}, once more`);
			await overlay.close();
			const { findings } = checkUpper({
				lowers: [lower],
				upper,
				work,
				xattr: TRUSTED_XATTRS,
				isRepair: false,
			});
			assert.deepEqual(
				findings.filter(({ severity }) => severity === "error"),
				[],
				where,
			);
			execFileSync("rm", ["-rf", upper, work]);
		}
	}
	t.diagnostic(`${refused} refusals`);
	assert.ok(refused > 20);
});

/** Fills it to its last byte, and where inodes take room to those; some names may still be made. */
function fill(disk: string): void {
	let count = 0;
	for (const size of [1 << 20, 1 << 16, 4096, 512, 0]) {
		for (let more = true; more && count < FILLERS_MAX; count++) {
			try {
				writeFileSync(join(disk, `filler${count}`), Buffer.alloc(size, 1));
			} catch (error) {
				assert.equal((error as NodeJS.ErrnoException).code, "ENOSPC");
				more = false;
			}
		}
	}
}

const FILLERS_MAX = 5000;
const DISK_MEGABYTES = { tmpfs: 32, ext4: 32, xfs: 320, btrfs: 128 };

for (const kind of ["tmpfs", "ext4", "xfs", "btrfs"] as const) {
	for (const handles of ["kernel", "portable"] as const) {
		test(`a server starts on a full disk, and what clients remove makes room: ${kind}, ${handles} handles`, {
			skip: needs("root") || cannotMount(kind) || cannotMount("ext4"),
		}, async (t) => {
			const made = scratch(t);
			const lower = join(made.mount("ext4", "lowers", 64), "lower");
			mkdirSync(join(lower, "d"), { recursive: true });
			writeFileSync(join(lower, "d/file"), "file");
			writeFileSync(join(lower, "large"), Buffer.alloc(8 << 20, 7));
			for (const path of ["e/below", "f"]) mkdirSync(join(lower, path), { recursive: true });
			for (const [name, size] of Object.entries({ one: 10, two: 10, three: 300_000 }))
				writeFileSync(join(lower, "f", name), Buffer.alloc(size, 5));
			const disk = made.mount(kind, "disk", DISK_MEGABYTES[kind]);
			const [upper, work] = [join(disk, "upper"), join(disk, "work")];
			mkdirSync(upper);
			mkdirSync(work);
			const open = () =>
				openOverlay({ lowers: [lower], upper, work, stateFolder: join(disk, "state"), isSync: true, handles, purpose: "serve" }).overlay;
			let overlay = open();
			for (const name of ["big", "big2"]) {
				const { object } = await untilReady(() =>
					overlay.create(overlay.root, bytes(name), ROOT, { mode: "guarded", attributes: { mode: 0o644 } }),
				);
				await untilReady(() => overlay.write(object, ROOT, 0, Buffer.alloc(1 << 20, 3)));
			}
			const before = describe(overlay, overlay.root.handle);
			await overlay.close();
			fill(disk);
			overlay = open();
			assert.equal(describe(overlay, overlay.root.handle), before);
			const changes: Record<string, () => void> = {
				"the first write to a large file": () => overlay.write(walk(overlay, "large"), ROOT, 5, bytes("x")),
				"the removal of a lower file": () => overlay.remove(walk(overlay, "d"), bytes("file"), ROOT),
				"the rename of a lower directory": () => overlay.rename(overlay.root, bytes("e"), walk(overlay, "d"), bytes("e"), ROOT),
				"the rename of a lower file": () => overlay.rename(walk(overlay, "f"), bytes("one"), overlay.root, bytes("one"), ROOT),
				"a copy up by its mode": () => overlay.setattr(walk(overlay, "f/two"), ROOT, { mode: 0o600 }),
				"a copy up with its data": () => overlay.write(walk(overlay, "f/three"), ROOT, 1, bytes("x")),
				"a further name": () => overlay.link(walk(overlay, "f/two"), overlay.root, bytes("two"), ROOT),
				"a new directory": () => void overlay.mkdir(walk(overlay, "f"), bytes("new"), ROOT, { mode: 0o755 }),
			};
			const refused: (() => void)[] = [];
			for (const [what, change] of Object.entries(changes)) {
				const unchanged = describe(overlay, overlay.root.handle);
				try {
					await untilReady(change);
				} catch (error) {
					assert.ok(error instanceof OverlayError && error.code === "nospc", `${what}: ${error}`);
					assert.equal(describe(overlay, overlay.root.handle), unchanged, what);
					refused.push(change);
				}
			}
			for (const name of ["big", "big2"]) await untilReady(() => overlay.remove(overlay.root, bytes(name), ROOT));
			// xfs makes new inodes by many, in one piece
			for (let i = 0; i < 8; i++) rmSync(join(disk, `filler${i}`), { force: true });
			for (const change of refused) await untilReady(change);
			await overlay.close();
			overlay = open();
			const after = describe(overlay, overlay.root.handle);
			for (const name of ["/d/file", "/big", "/e", "/f/one"]) assert.doesNotMatch(after, new RegExp(`^${name} `, "m"));
			for (const name of ["/d/e/below", "/one", "/two", "/f/new"]) assert.match(after, new RegExp(`^${name} `, "m"));
			await overlay.close();
			const { findings } = checkUpper({ lowers: [lower], upper, work, xattr: TRUSTED_XATTRS, isRepair: false });
			const errors = findings.filter(({ severity }) => severity === "error");
			assert.deepEqual(errors, []);
			t.diagnostic(`${refused.length} of ${Object.keys(changes).length} were refused before there was room`);
		});
	}
}

/** Bytes, and inodes, until there is none left. */
function fillUp(disk: string): void {
	for (const size of [1 << 20, 1 << 16, 4096, 512, 0]) {
		for (let i = 0; i < 9000; i++) {
			try {
				writeFileSync(join(disk, `filler ${size} ${i}`), Buffer.alloc(size, 1), { flag: "wx" });
			} catch (error) {
				if ((error as NodeJS.ErrnoException).code === "EEXIST") continue;
				break;
			}
		}
	}
}

for (const kind of ["ext4", "xfs", "btrfs", "tmpfs"] as const) {
	test(`what was changed on a full disk has its answer after a kill: ${kind}`, { skip: needs("root") || cannotMount(kind) }, async (t) => {
		const made = scratch(t);
		for (const handles of ["kernel", "portable"] as const) {
			const lower = join(made.mount("tmpfs", `lowers-${handles}`), "lower");
			mkdirSync(lower);
			const disk = made.mount(kind, `disk-${handles}`, { ext4: 64, xfs: 320, btrfs: 160, tmpfs: 48 }[kind], 3000);
			const [upper, work] = [join(disk, "upper"), join(disk, "work")];
			for (const path of [upper, work]) mkdirSync(path);
			const open = () =>
				openOverlay({ lowers: [lower], upper, work, stateFolder: join(disk, "state"), isSync: true, purpose: "serve", handles }).overlay;
			let overlay = open();
			t.after(() => overlay.close());
			let number = 0;
			const answered: ChangeKey[] = [];
			const change = async (run: (overlay: Overlay) => unknown) => {
				const key = keyOf("client", ++number);
				try {
					await untilReady(() => {
						overlay.beginPass();
						run(keyed(overlay, key));
					});
					answered.push(key);
				} catch (error) {
					assert.ok(error instanceof OverlayError && ["nospc", "noent"].includes(error.code), `${error}`);
				}
			};
			for (let i = 0; i < 90; i++) {
				await change((overlay) => overlay.create(overlay.root, bytes(`old ${i}`), ROOT, { mode: "guarded", attributes: { mode: 0o600 } }));
			}
			for (let round = 0; round < 3; round++) {
				fillUp(disk);
				answered.length = 0;
				for (let i = round * 30; i < round * 30 + 30; i++) {
					await change((overlay) => overlay.setattr(walk(overlay, `old ${i}`), ROOT, { mode: 0o640 }));
					await change((overlay) => overlay.rename(overlay.root, bytes(`old ${i}`), overlay.root, bytes(`new ${i}`), ROOT));
					if (i % 2 === 0) await change((overlay) => overlay.remove(overlay.root, bytes(`new ${i}`), ROOT));
				}
				abandon(overlay);
				overlay = open();
				const { journal } = overlay.engine.writable as Writable;
				const lost = answered.filter(({ request, change }) => journal.answered({ request: { ...request }, change }) === null);
				assert.ok(answered.length > 0);
				assert.deepEqual(lost, [], `of ${answered.length} answers, ${handles} handles`);
			}
		}
	});
}

test("a write for which there is room in part says how much was written, and nothing else of the file changes", {
	skip: needs("root") || cannotMount("tmpfs"),
}, async (t) => {
	const made = scratch(t);
	const lower = join(made.mount("tmpfs", "lowers", 64), "lower");
	mkdirSync(lower);
	writeFileSync(join(lower, "large"), Buffer.alloc(2 << 20, "l"));
	writeFileSync(join(lower, "small"), "small");
	const disk = made.mount("tmpfs", "disk", 16);
	const [upper, work] = [join(disk, "upper"), join(disk, "work")];
	mkdirSync(upper);
	mkdirSync(work);
	const partialLimits = { bytesMin: 1 << 20, granuleBytes: 64 << 10, fills: false };
	const { overlay } = openOverlay({
		lowers: [lower],
		upper,
		work,
		stateFolder: join(disk, "state"),
		isSync: false,
		purpose: "serve",
		partialLimits,
	});
	t.after(() => overlay.close());
	const write = (name: string, offset: number, size: number) =>
		untilReady(() => overlay.write(walk(overlay, name), ROOT, offset, Buffer.alloc(size, "W")));
	const read = async (name: string) => {
		const into = allocate(4 << 20);
		const { count } = await untilReady(() => overlay.read(walk(overlay, name), ROOT, 0, into.bytes.length, into, 0));
		return Buffer.from(into.bytes.subarray(0, count));
	};
	for (const name of ["small", "large"]) await write(name, 0, 1);
	const cases: [name: string, offset: number, size: number, pages: number][] = [
		["small", 3, 100_000, 5],
		// a granule and a half: the half would not have the rest of its granule
		["large", 128 << 10, 192 << 10, 24],
		// from within a granule that is all there, over the end of the file
		["large", (2 << 20) - 10, 100_000, 40],
	];
	for (const [name, offset, size, pages] of cases) {
		const expected = await read(name);
		const filler = join(disk, "filler");
		const { bfree, bsize } = statfsSync(disk);
		writeFileSync(filler, Buffer.alloc((bfree - pages) * bsize, 1));
		const count = await write(name, offset, size);
		assert.ok(count > 0 && count < size, `${name}: ${count} of ${size} bytes`);
		const wanted = Buffer.alloc(Math.max(expected.length, offset + count));
		expected.copy(wanted);
		wanted.fill("W", offset, offset + count);
		assert.ok((await read(name)).equals(wanted), `${name}, of which ${count} bytes were written`);
		await assert.rejects(write(name, offset + count, size - count), { code: "nospc" });
		assert.ok((await read(name)).equals(wanted), `${name}, after a write that was refused`);
		unlinkSync(filler);
	}
});

/** The whole tree, and what one handle finds. */
function describe(overlay: Overlay, handle: Buffer): string {
	const lines: string[] = [];
	const visit = (directory: OverlayObject, path: string): void => {
		const cursor = overlay.list(directory, ROOT, 0, 2);
		const below: [OverlayObject, string][] = [];
		while (cursor.next()) {
			const object = cursor.object();
			const name = `${path}/${Buffer.from(cursor.name)}`;
			assert.ok(object, name);
			const { mode, nlink, sizeLo } = overlay.getattr(object);
			const isDirectory = object.type === FileType.dir;
			lines.push(`${name} ${mode.toString(8)} ${isDirectory ? "" : `${nlink} ${sizeLo}`} ${object.handle.toString("hex")}`);
			if (isDirectory) below.push([object, name]);
		}
		for (const [object, name] of below) visit(object, name);
	};
	visit(overlay.root, "");
	let found: string;
	try {
		found = overlay.decode(handle).handle.toString("hex");
	} catch (error) {
		if (!(error instanceof OverlayError)) throw error;
		found = error.code;
	}
	return [...lines.sort(), found].join("\n");
}
