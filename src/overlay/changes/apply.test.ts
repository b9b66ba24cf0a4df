// What is done to an overlay and to a plain copy of its lower is the same, once it is applied to another copy or to the lower itself.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
	chmodSync,
	chownSync,
	closeSync,
	linkSync,
	lstatSync,
	mkdirSync,
	openSync,
	readdirSync,
	readFileSync,
	readlinkSync,
	renameSync,
	rmdirSync,
	rmSync,
	symlinkSync,
	truncateSync,
	unlinkSync,
	utimesSync,
	writeFileSync,
	writeSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fc } from "../../../test/support/fast-check.ts";
import { plant } from "../../../test/support/lower-tree.ts";
import { needs, volume } from "../../../test/support/requirements.ts";
import { scratch } from "../../../test/support/scratch.ts";
import { must } from "../../linux/errno.ts";
import { interceptChanges } from "../../linux/libc.ts";
import { RENAME, renameName } from "../../linux/names.ts";
import { close, O, openPath } from "../../linux/open.ts";
import { getXattr, listXattrs, setXattr } from "../../linux/xattr.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { FileType } from "../../vfs/operations.ts";
import { openOverlay } from "../opening/open-overlay.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { inPasses } from "../operations/until-ready.ts";
import { trustLowers } from "../upkeep/rebase.ts";
import { Application, type ApplyOptions } from "./apply.ts";
import { type Conflict, lookAtTarget } from "./apply-plan.ts";
import type { Change } from "./change.ts";
import { changeList } from "./change-list.ts";
import { NAMES, objectAt, placeOf, plantLower, ROOT, SEQUENCES, type Step } from "./random-changes.test-support.ts";
import { Target } from "./target.ts";

const skip = needs("root");
const XATTR = Buffer.from("user.kind");

function pathsOf(top: string): string[] {
	const found: string[] = [];
	const visit = (path: string) => {
		found.push(path);
		if (!lstatSync(join(top, path)).isDirectory()) return;
		for (const name of readdirSync(join(top, path))) visit(path === "" ? name : `${path}/${name}`);
	};
	visit("");
	return found.sort();
}

/** All that can be seen of a tree, but for the times of what is no regular file. */
function shownTree(top: string): string[] {
	const groups = new Map<bigint, string>();
	return pathsOf(top).map((path) => {
		const at = join(top, path);
		const stat = lstatSync(at, { bigint: true });
		const words = [path, Number(stat.mode).toString(8), `${stat.uid}:${stat.gid}`];
		if (!stat.isDirectory()) {
			if (!groups.has(stat.ino)) groups.set(stat.ino, path);
			words.push(`${stat.nlink} names of ${groups.get(stat.ino)}`);
		}
		if (stat.isFile()) words.push(readFileSync(at, "latin1"), String(stat.mtimeNs));
		if (stat.isSymbolicLink()) words.push(readlinkSync(at));
		const fd = openPath(at, O.path | O.nofollow);
		const xattrs = stat.isFile() || stat.isDirectory() ? must(listXattrs(fd), "Cannot list") : [];
		for (const name of xattrs.filter((one) => one.toString().startsWith("user.")).sort(Buffer.compare))
			words.push(`${name}=${must(getXattr(fd, name), "Cannot read")}`);
		close(fd);
		return words.join(" ");
	});
}

/** By their paths, what is shown of regular files but for their names. */
function shownFiles(top: string): ReadonlyMap<string, string> {
	const files = pathsOf(top).filter((path) => lstatSync(join(top, path)).isFile());
	return new Map(files.map((path) => [path, `${lstatSync(join(top, path)).mode} ${readFileSync(join(top, path), "latin1")}`]));
}

/** Does a step to an overlay, and, where it is allowed there, to a plain tree as well. */
async function perform(opened: OpenedOverlay, plain: string, [operation, one, other, name]: Step, number: number): Promise<void> {
	const { overlay } = opened;
	const paths = pathsOf(plain);
	const source = placeOf(paths[one % paths.length]);
	const target = paths[other % paths.length];
	const newName = NAMES[name % NAMES.length];
	const newPath = join(plain, target, newName);
	const here = join(plain, source.path);
	const find = (path: string) => objectAt(overlay, path);
	const last = Buffer.from(source.last);
	const fresh = Buffer.from(newName);
	const isLink = lstatSync(here).isSymbolicLink();
	const isFile = lstatSync(here).isFile();
	const time = 1_000_000_000 + number;
	const setTime = (path: string) => overlay.setattr(find(path), ROOT, { mtime: { sec: time, nsec: 0 } }, undefined, null);
	const refused = new OverlayError("inval", "not of this type");
	const newPlace = target === "" ? newName : `${target}/${newName}`;
	const operations: (readonly [() => unknown, () => void])[] = [
		[
			() => overlay.create(find(target), fresh, ROOT, { mode: "guarded", attributes: { mode: 0o644 } }, null),
			() => writeFileSync(newPath, "", { flag: "wx", mode: 0o644 }),
		],
		[
			() => {
				if (!isFile) throw refused;
				overlay.write(find(source.path), ROOT, 0, Buffer.from(`content ${one} ${other}`), "open");
			},
			() => {
				const fd = openSync(here, "r+");
				writeSync(fd, `content ${one} ${other}`, 0);
				closeSync(fd);
			},
		],
		[() => overlay.remove(find(source.parent), last, ROOT, null), () => unlinkSync(here)],
		[() => overlay.rmdir(find(source.parent), last, ROOT, null), () => rmdirSync(here)],
		[() => overlay.mkdir(find(target), fresh, ROOT, { mode: 0o755 }, null), () => mkdirSync(newPath, 0o755)],
		[() => overlay.rename(find(source.parent), last, find(target), fresh, ROOT, null), () => renameSync(here, newPath)],
		[() => overlay.link(find(source.path), find(target), fresh, ROOT, null), () => linkSync(here, newPath)],
		[
			() => {
				if (isLink) throw refused;
				overlay.setattr(find(source.path), ROOT, { mode: name % 2 === 0 ? 0o700 : 0o4755 }, undefined, null);
			},
			() => chmodSync(here, name % 2 === 0 ? 0o700 : 0o4755),
		],
		[() => overlay.symlink(find(target), fresh, ROOT, Buffer.from(`to ${one}`), {}, null), () => symlinkSync(`to ${one}`, newPath)],
		[
			() => overlay.exchange(find(source.parent), last, find(target), fresh, ROOT, null),
			() => {
				const fd = openPath(plain, O.path | O.directory);
				must(renameName(fd, source.path, fd, newPlace, RENAME.exchange), "Cannot exchange");
				close(fd);
			},
		],
		[
			() => {
				if (isLink) throw refused;
				overlay.setattr(find(source.path), ROOT, { uid: name, gid: other }, undefined, null);
			},
			() => chownSync(here, name, other),
		],
		[
			() => {
				if (!isFile) throw refused;
				overlay.setxattr(find(source.path), ROOT, XATTR, Buffer.from(`value ${one}`), "any");
			},
			() => {
				const fd = openPath(here, O.path | O.nofollow);
				must(setXattr(fd, XATTR, Buffer.from(`value ${one}`)), "Cannot set");
				close(fd);
			},
		],
		[
			() => overlay.mknod(find(target), fresh, ROOT, FileType.fifo, 0, 0, { mode: 0o644 }),
			() => execFileSync("mkfifo", ["-m", "644", newPath]),
		],
		[
			() => {
				if (!isFile) throw refused;
				overlay.setattr(find(source.path), ROOT, { size: 10_000 * name }, undefined, null);
			},
			() => truncateSync(here, 10_000 * name),
		],
	];
	const [onOverlay, onPlain] = operations[operation % operations.length];
	try {
		await inPasses(overlay, onOverlay);
	} catch (error) {
		if (error instanceof OverlayError) return;
		throw error;
	}
	onPlain();
	const kind = operation % operations.length;
	const changed = kind === 0 ? newPlace : [1, 7, 10, 11, 13].includes(kind) && isFile ? source.path : null;
	if (changed === null) return;
	await inPasses(overlay, () => setTime(changed));
	utimesSync(join(plain, changed), time, time);
}

/** A lower, a plain copy of it, and an export over it. */
interface Stand {
	readonly lower: string;
	readonly plain: string;
	readonly upper: string;
	readonly work: string;
	readonly stateFolder: string;
	readonly handles: "kernel" | "portable";
}

function standIn(top: string, handles: "kernel" | "portable"): Stand {
	const lower = plantLower(join(top, "lower"));
	const plain = join(top, "plain");
	execFileSync("cp", ["-a", lower, plain]);
	return { lower, plain, upper: join(top, "upper"), work: join(top, "work"), stateFolder: join(top, "state"), handles };
}

function opened({ lower, upper, work, stateFolder, handles }: Stand, purpose: "serve" | "release"): OpenedOverlay {
	const kind = purpose === "serve" ? { handles } : {};
	return openOverlay({ lowers: [lower], upper, work, stateFolder, isSync: false, purpose, ...kind });
}

/** The same on the overlay and on the plain copy. */
async function change(stand: Stand, sequence: readonly Step[]): Promise<void> {
	const served = opened(stand, "serve");
	try {
		for (const [number, step] of sequence.entries()) await perform(served, stand.plain, step, number);
	} finally {
		await served.overlay.close();
	}
}

async function inStand<T>(stand: Stand, act: (overlay: OpenedOverlay) => Promise<T>): Promise<T> {
	const overlay = opened(stand, "release");
	try {
		return await act(overlay);
	} finally {
		await overlay.overlay.close();
	}
}

function applyOptions({ upper, work }: Stand, target: string, isInPlace: boolean): ApplyOptions {
	return {
		folder: join(work, "holdfast"),
		upper: isInPlace ? upper : null,
		undo: null,
		isForced: false,
		onApplied: () => {
			if (isInPlace) trustLowers({ lowers: [target], upper, work });
		},
		goOn: () => {},
		onBegun: () => {},
		lose: ({ path, what }) => assert.fail(`${path} loses ${what}`),
		note: (sentence) => assert.fail(sentence),
	};
}

async function applyTo(
	overlay: OpenedOverlay,
	stand: Stand,
	path: string,
	isInPlace: boolean,
	given: Partial<ApplyOptions> = {},
): Promise<readonly Conflict[]> {
	const target = Target.open(path, true);
	try {
		const changes: Change[] = [];
		for await (const one of changeList(overlay)) changes.push(one);
		const look = await lookAtTarget(overlay, target, changes, { isInPlace, isForced: false });
		if (look.conflicts.length === 0)
			await new Application(target, { ...applyOptions(stand, path, isInPlace), ...given }).run(overlay, look);
		return look.conflicts;
	} finally {
		target.close();
	}
}

let runs = 0;

for (const handles of ["kernel", "portable"] as const) {
	for (const isInPlace of [false, true]) {
		const where = isInPlace ? "the lower" : "a copy of the lower";
		test(`random changes: applied to ${where}, they give what they give on a plain tree, ${handles} handles`, { skip }, async (t) => {
			const made = scratch(t);
			await fc.assert(
				fc.asyncProperty(SEQUENCES, async (sequence) => {
					const top = made.folder(`run-${runs++}`);
					const stand = standIn(top, handles);
					const target = isInPlace ? stand.lower : join(top, "copy");
					if (!isInPlace) execFileSync("cp", ["-a", stand.lower, target]);
					await change(stand, sequence);
					await inStand(stand, async (overlay) => assert.deepEqual(await applyTo(overlay, stand, target, isInPlace), []));
					assert.deepEqual(shownTree(target), shownTree(stand.plain));
					await inStand(stand, async (overlay) => {
						const left: string[] = [];
						for await (const { kind, path, isReplaced } of changeList(overlay)) if (!isReplaced) left.push(`${kind} ${path}`);
						if (isInPlace) assert.deepEqual(left, [], "what was applied is no change any more");
						else {
							const conflicts = await applyTo(overlay, stand, target, false);
							const hasRenamed = left.some((one) => one.startsWith("renamed"));
							if (!hasRenamed) assert.deepEqual(conflicts, [], "what is there already is no conflict");
						}
					});
					assert.deepEqual(shownTree(target), shownTree(stand.plain), "applied once more");
				}),
				{ numRuns: volume(5, 40, 500) },
			);
		});
	}
}

/** Renames to and fro, links, removals, new files and other attributes, as the list of changes says below. */
const SEQUENCE: readonly Step[] = [
	[48, 63, 38, 71],
	[91, 98, 1, 20],
	[93, 10, 18, 58],
	[30, 24, 20, 81],
	[40, 18, 7, 87],
	[75, 89, 48, 98],
	[22, 30, 7, 87],
	[60, 47, 58, 25],
	[79, 79, 5, 48],
	[11, 61, 34, 45],
	[40, 52, 34, 17],
	[77, 0, 32, 85],
	[32, 75, 31, 52],
	[94, 18, 11, 0],
	[71, 71, 94, 8],
	[58, 27, 96, 75],
	[88, 35, 65, 94],
	[0, 0, 0, 0],
	[0, 0, 1, 1],
	[0, 0, 2, 2],
	[4, 0, 1, 2],
	[6, 5, 0, 3],
	[8, 1, 3, 4],
	[12, 0, 2, 1],
];

/** The world ends here. */
class End extends Error {}

/** Runs until so many calls that change the disk were made, and whether it was ended there. */
async function endedBefore(calls: number, run: () => Promise<unknown>): Promise<boolean> {
	let left = calls;
	interceptChanges(() => {
		if (left-- <= 0) throw new End();
		return undefined;
	});
	try {
		await run();
		return false;
	} catch (error) {
		if (error instanceof End) return true;
		throw error;
	} finally {
		interceptChanges(null);
	}
}

/** What the same command does when it is run again. */
async function again(stand: Stand, target: string, isInPlace: boolean): Promise<"gone on with" | "begun anew"> {
	const locked = Target.open(target, true);
	try {
		const application = new Application(locked, applyOptions(stand, target, isInPlace));
		const record = application.interrupted();
		if (record !== null) {
			await application.goOn(record);
			return "gone on with";
		}
	} finally {
		locked.close();
	}
	await inStand(stand, (opened) => applyTo(opened, stand, target, isInPlace));
	return "begun anew";
}

for (const isInPlace of [false, true]) {
	const where = isInPlace ? "the lower" : "a copy of the lower";
	test(`an apply to ${where} that is stopped before any call goes on when it is run again, and files are old or new in between`, {
		skip,
	}, async (t) => {
		const made = scratch(t);
		const top = made.mount("tmpfs");
		const outcomes = { "gone on with": 0, "begun anew": 0 };
		let calls = 0;
		let stand: Stand | null = null;
		const stride = isInPlace ? volume(15, 2) : volume(5, 1);
		for (let before = volume(3, 0); ; before += stride) {
			if (stand === null || isInPlace) {
				stand = standIn(join(top, `stand-${before}`), isInPlace && before % 2 === 0 ? "portable" : "kernel");
				await change(stand, SEQUENCE);
				const kinds = new Set<string>();
				await inStand(stand, async (opened) => {
					for await (const { kind } of changeList(opened)) kinds.add(kind);
				});
				assert.deepEqual([...kinds].sort(), ["added", "changed", "metadata", "removed", "renamed"]);
			}
			const current: Stand = stand;
			const { lower, plain } = current;
			const target = isInPlace ? lower : join(top, `copy-${before}`);
			if (!isInPlace) execFileSync("cp", ["-a", lower, target]);
			const [old, now] = [shownFiles(target), shownFiles(plain)];
			const isEnded = await inStand(current, (overlay) => endedBefore(before, () => applyTo(overlay, current, target, isInPlace)));
			for (const [path, shown] of shownFiles(target)) {
				if (path.startsWith(".holdfast-apply-") || !old.has(path) || !now.has(path)) continue;
				assert.ok(shown === old.get(path) || shown === now.get(path), `${path} is neither old nor new before call ${before}: ${shown}`);
			}
			calls = before;
			if (!isEnded) break;
			outcomes[await again(current, target, isInPlace)]++;
			assert.deepEqual(shownTree(target), shownTree(plain), `stopped before call ${before}`);
			assert.deepEqual(
				readdirSync(join(current.work, "holdfast")).filter((name) => name.startsWith("apply")),
				[],
			);
		}
		t.diagnostic(`at most ${calls} calls; ${outcomes["gone on with"]} times gone on with, ${outcomes["begun anew"]} times begun anew`);
		assert.ok(outcomes["gone on with"] > 0 && outcomes["begun anew"] > 0);
	});
}

for (const isInPlace of [false, true]) {
	test(`an apply to ${isInPlace ? "the lower" : "a copy"} that is told to end leaves nothing, or goes on when it is run again`, {
		skip,
	}, async (t) => {
		const made = scratch(t);
		const top = made.mount("tmpfs");
		for (let parts = 0; ; parts += volume(9, 2)) {
			const stand = standIn(join(top, `stand-${parts}`), "kernel");
			const target = isInPlace ? stand.lower : join(top, `copy-${parts}`);
			if (!isInPlace) execFileSync("cp", ["-a", stand.lower, target]);
			await change(stand, SEQUENCE);
			const before = shownTree(target);
			let left = parts;
			let hasBegun = false;
			const ends: Partial<ApplyOptions> = {
				goOn() {
					if (left-- <= 0) throw new End();
				},
				onBegun() {
					hasBegun = true;
				},
			};
			const isEnded = await inStand(stand, (overlay) => applyTo(overlay, stand, target, isInPlace, ends).then(() => false)).catch(
				(error) => {
					if (error instanceof End) return true;
					throw error;
				},
			);
			if (!isEnded) {
				assert.ok(parts > 0);
				return;
			}
			if (!hasBegun) assert.deepEqual(shownTree(target), before);
			else if (isInPlace) assert.throws(() => opened(stand, "serve"), /holdfast apply was stopped/);
			assert.equal(await again(stand, target, isInPlace), hasBegun ? "gone on with" : "begun anew");
			assert.deepEqual(shownTree(target), shownTree(stand.plain));
		}
	});
}

test("what a target without xattrs cannot keep is told by name, and all else is there", { skip }, async (t) => {
	const made = scratch(t);
	const stand = standIn(made.folder("stand"), "kernel");
	const target = made.folder("ramfs");
	execFileSync("mount", ["-t", "ramfs", "holdfast-test", target]);
	made.beforeRemoval(() => void execFileSync("umount", [target]));
	execFileSync("cp", ["-a", `${stand.lower}/.`, target]);
	const served = opened(stand, "serve");
	const { overlay } = served;
	const file = () => objectAt(overlay, "c");
	await inPasses(overlay, () => overlay.setxattr(file(), ROOT, XATTR, Buffer.from("value"), "any"));
	await inPasses(overlay, () => overlay.write(file(), ROOT, 0, Buffer.from("other content"), "open"));
	await overlay.close();
	const lost: string[] = [];
	const lose: ApplyOptions["lose"] = ({ path, what }) => lost.push(`${path}: ${what}`);
	await inStand(stand, async (one) => assert.deepEqual(await applyTo(one, stand, target, false, { lose }), []));
	assert.equal(readFileSync(join(target, "c"), "utf8"), "other content");
	assert.equal(lost.length, 1);
	assert.match(lost[0], /^c: xattr user\.kind \(/);
});

test("a symlink that takes the place of a directory while it runs ends it, and nothing is written where that leads", {
	skip,
}, async (t) => {
	const made = scratch(t);
	const stand = standIn(made.folder("stand"), "kernel");
	const copy = join(made.path, "copy");
	execFileSync("cp", ["-a", stand.lower, copy]);
	const outside = plant(made.folder("outside"), { a: "somebody's", "d e": "somebody's" });
	const served = opened(stand, "serve");
	const { overlay } = served;
	const at = (path: string) => objectAt(overlay, path);
	for (const path of ["b/a", "b/c/d e"]) await inPasses(overlay, () => overlay.write(at(path), ROOT, 0, Buffer.from("changed"), "open"));
	await overlay.close();
	const before = shownTree(outside);
	let hasBegun = false;
	const swap: Partial<ApplyOptions> = {
		onBegun: () => {
			hasBegun = true;
			renameSync(join(copy, "b"), join(copy, "elsewhere"));
			symlinkSync(outside, join(copy, "b"));
		},
	};
	await assert.rejects(
		inStand(stand, (one) => applyTo(one, stand, copy, false, swap)),
		/b\/a is not what it was when it was looked at/,
	);
	assert.ok(hasBegun);
	assert.deepEqual(shownTree(outside), before);
	rmSync(join(copy, "b"));
	renameSync(join(copy, "elsewhere"), join(copy, "b"));
	assert.equal(await again(stand, copy, false), "gone on with");
	assert.equal(readFileSync(join(copy, "b/a"), "utf8"), "changed");
});

test("a note of an apply that is damaged is told, and so is a plan, and nothing more is done", { skip }, async (t) => {
	const stand = standIn(scratch(t).mount("tmpfs"), "kernel");
	await change(stand, SEQUENCE);
	const copy = join(stand.lower, "../copy");
	let before = 0;
	for (; ; before += 10) {
		execFileSync("cp", ["-a", stand.lower, copy]);
		await inStand(stand, (opened) => endedBefore(before, () => applyTo(opened, stand, copy, false)));
		const target = Target.open(copy, true);
		const record = new Application(target, applyOptions(stand, copy, false)).interrupted();
		target.close();
		if (record === null) {
			rmSync(copy, { recursive: true });
			continue;
		}
		const plan = join(copy, record.staging, "plan");
		const whole = readFileSync(plan);
		writeFileSync(plan, whole.subarray(0, whole.length / 2));
		const halfDone = () => shownTree(copy).filter((line) => !line.includes("/plan "));
		const half = halfDone();
		await assert.rejects(again(stand, copy, false), /Cannot go on: the plan in the staging folder is damaged/);
		assert.deepEqual(halfDone(), half);
		writeFileSync(plan, whole);
		const folder = join(stand.work, "holdfast");
		const note = join(folder, readdirSync(folder).find((name) => name.startsWith("apply-")) as string);
		const kept = readFileSync(note);
		for (const bytes of ["", "{}", kept.toString().replace(/"staging":"[^"]*/, '"staging":"../elsewhere')]) {
			writeFileSync(note, bytes);
			await assert.rejects(again(stand, copy, false), /the file is damaged/);
			assert.deepEqual(halfDone(), half);
		}
		writeFileSync(note, kept);
		assert.equal(await again(stand, copy, false), "gone on with");
		assert.deepEqual(shownTree(copy), shownTree(stand.plain));
		return;
	}
});
