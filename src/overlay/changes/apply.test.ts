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
import { RENAME, renameName } from "../../linux/names.ts";
import { close, O, openPath } from "../../linux/open.ts";
import { getXattr, listXattrs, setXattr } from "../../linux/xattr.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { FileType, type OverlayObject } from "../../vfs/operations.ts";
import { openOverlay } from "../opening/open-overlay.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { inPasses } from "../operations/until-ready.ts";
import { trustLowers } from "../upkeep/rebase.ts";
import { Application, type ApplyOptions } from "./apply.ts";
import { type Conflict, lookAtTarget } from "./apply-plan.ts";
import type { Change } from "./change.ts";
import { changeList } from "./change-list.ts";
import { Target } from "./target.ts";

const ROOT = { uid: 0, gid: 0, gids: [] };
const skip = needs("root");
const NAMES = ["a", "b", "c", "d e", "ä"];
const XATTR = Buffer.from("user.kind");

type Step = readonly [operation: number, one: number, other: number, name: number];

/** A path of the tree, its parent and its last name. */
interface Place {
	readonly path: string;
	readonly parent: string;
	readonly last: string;
}

function placeOf(path: string): Place {
	const end = path.lastIndexOf("/");
	return { path, parent: path.slice(0, Math.max(0, end)), last: path.slice(end + 1) };
}

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

/** Does a step to an overlay, and, where it is allowed there, to a plain tree as well. */
async function perform(opened: OpenedOverlay, plain: string, [operation, one, other, name]: Step, number: number): Promise<void> {
	const { overlay } = opened;
	const paths = pathsOf(plain);
	const source = placeOf(paths[one % paths.length]);
	const target = paths[other % paths.length];
	const newName = NAMES[name % NAMES.length];
	const newPath = join(plain, target, newName);
	const here = join(plain, source.path);
	const find = (path: string) =>
		path
			.split("/")
			.filter(Boolean)
			.reduce<OverlayObject>((at, part) => {
				const found = overlay.lookup(at, Buffer.from(part), ROOT);
				assert.ok(found !== null, path);
				return found;
			}, overlay.root);
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

async function applyTo(
	opened: OpenedOverlay,
	path: string,
	given: Partial<ApplyOptions> & { readonly isInPlace?: boolean } = {},
): Promise<readonly Conflict[]> {
	const target = Target.open(path, true);
	try {
		const changes: Change[] = [];
		for await (const change of changeList(opened)) changes.push(change);
		const { isInPlace = false, isForced = false } = given;
		const look = await lookAtTarget(opened, target, changes, { isInPlace, isForced });
		if (look.conflicts.length > 0 && !isForced) return look.conflicts;
		const application = new Application(target, {
			folder: opened.folder,
			upper: isInPlace ? opened.upper : null,
			undo: null,
			isForced,
			onApplied: () => {
				if (isInPlace) trustLowers({ lowers: [path], upper: opened.upper as string, work: opened.work as string });
			},
			goOn: () => {},
			onBegun: () => {},
			lose: ({ path, what }) => assert.fail(`${path} loses ${what}`),
			note: (sentence) => assert.fail(sentence),
			...given,
		});
		await application.run(opened, look);
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
			const steps = fc.array(fc.tuple(fc.nat(99), fc.nat(99), fc.nat(99), fc.nat(99)), { minLength: 1, maxLength: 24 });
			await fc.assert(
				fc.asyncProperty(steps, async (sequence) => {
					const top = made.folder(`run-${runs++}`);
					const lower = plant(join(top, "lower"), {
						"a/a/a": "1",
						"a/a/b": "2",
						"a/b": "3",
						"b/a": "4",
						"b/c/d e": "5",
						c: "6",
						"d e/": "",
					});
					linkSync(join(lower, "a/b"), join(lower, "b/b"));
					symlinkSync("a/a", join(lower, "ä"));
					const [plain, copy] = ["plain", "copy"].map((name) => join(top, name));
					for (const other of [plain, copy]) execFileSync("cp", ["-a", lower, other]);
					const layers = { lowers: [lower], upper: join(top, "upper"), work: join(top, "work"), stateFolder: join(top, "state") };
					const served = openOverlay({ ...layers, isSync: false, handles, purpose: "serve" });
					try {
						for (const [number, step] of sequence.entries()) await perform(served, plain, step, number);
					} finally {
						await served.overlay.close();
					}
					const opened = openOverlay({ ...layers, isSync: false, purpose: "release" });
					const target = isInPlace ? lower : copy;
					try {
						assert.deepEqual(await applyTo(opened, target, { isInPlace }), []);
					} finally {
						await opened.overlay.close();
					}
					assert.deepEqual(shownTree(target), shownTree(plain));
					const again = openOverlay({ ...layers, isSync: false, purpose: "release" });
					try {
						const changes: string[] = [];
						for await (const { kind, path, isReplaced } of changeList(again)) if (!isReplaced) changes.push(`${kind} ${path}`);
						if (isInPlace) assert.deepEqual(changes, [], "what was applied is no change any more");
						else {
							const conflicts = await applyTo(again, target);
							if (!changes.some((change) => change.startsWith("renamed")))
								assert.deepEqual(conflicts, [], "what is there already is no conflict");
						}
					} finally {
						await again.overlay.close();
					}
					assert.deepEqual(shownTree(target), shownTree(plain), "applied once more");
				}),
				{ numRuns: volume(6, 300) },
			);
		});
	}
}
