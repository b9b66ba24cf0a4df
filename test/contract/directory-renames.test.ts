/**
 * Directories that lie wholly or partly in lowers move. Handles of everything below, taken before, hold: in one life of the
 * server, and when it is stopped or killed after each move. Handle and file id are one, whichever way they are asked for.
 */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { type Ending, HeldTree } from "../support/held-tree.ts";
import type { TreeDescription } from "../support/lower-tree.ts";
import { FileType3, ok, refused, statusName } from "../support/nfs3-client.ts";
import { full, needs, sampled, seed, volume } from "../support/requirements.ts";
import { cannotMount, scratch } from "../support/scratch.ts";
import { assertSameTree, snapshotTree } from "../support/tree-snapshot.ts";

const skip = needs("root", "getfattr");

/** Files and directories of three births below `top`: lower as planted, copied up and upper-born by `mixed`. */
const deep = (top: string): TreeDescription => ({
	[`${top}/b/c/d/lower`]: `${top} lower`,
	[`${top}/b/c/d/copied`]: `${top} copied`,
	[`${top}/b/c/copied-dir/x`]: `${top} x`,
	[`${top}/b/c/lnk`]: { link: "target" },
	[`${top}/b/near`]: `${top} near`,
	[`${top}/side/s`]: `${top} s`,
});

async function mix(it: HeldTree, top: string): Promise<void> {
	await it.takeAll();
	await it.write(`${top}/b/c/d/copied`, "COPIED");
	await it.changeGroup(`${top}/b/c/copied-dir`);
	await it.createFile(`${top}/b/c/d/born`, `${top} born`);
	await it.makeDirectory(`${top}/b/c/born-dir`);
	await it.createFile(`${top}/b/c/born-dir/inside`, `${top} inside`);
}

interface Scenario {
	readonly name: string;
	readonly lowers: readonly TreeDescription[];
	readonly upper?: TreeDescription;
	/** After takeAll. */
	readonly prepare?: (it: HeldTree) => Promise<void>;
	/** FROM TO, or what else happens. */
	readonly moves: readonly (readonly [string, string] | ((it: HeldTree) => Promise<void>))[];
}

const scenarios: Scenario[] = [
	{
		name: "within its parent, at the top and below",
		lowers: [deep("a")],
		prepare: (it) => mix(it, "a"),
		moves: [
			["a/b/c", "a/b/c2"],
			["a", "a2"],
			["a2/b", "a2/b2"],
			["a2/b2/c2/d", "a2/b2/c2/d2"],
		],
	},
	{
		name: "to another parent: lower to lower, to one born in the upper, and to the root",
		lowers: [{ ...deep("a"), ...deep("z"), "other/o": "o" }],
		prepare: async (it) => {
			await mix(it, "a");
			await it.makeDirectory("born");
		},
		moves: [
			["a/b/c/d", "other/d"],
			["a/b", "born/b"],
			["z/b/c", "c"],
			["c", "born/b/c-of-z"],
			["born", "other/born"],
			["other/born/b/c", "z/c"],
		],
	},
	{
		name: "to and fro, within its parent and to another",
		lowers: [{ ...deep("a"), "other/o": "o" }],
		prepare: (it) => mix(it, "a"),
		moves: [
			["a/b", "a/away"],
			["a/away", "a/b"],
			["a/b", "other/b"],
			["other/b", "a/b"],
			["a/b/c", "c"],
			["c", "a/b/c"],
			["a", "other/a"],
			["other/a", "a"],
		],
	},
	{
		name: "three deep, the outermost first and the innermost first",
		lowers: [{ ...deep("a"), ...deep("z") }],
		prepare: (it) => mix(it, "z"),
		moves: [
			["a", "a2"],
			["a2/b", "a2/b2"],
			["a2/b2/c", "a2/b2/c2"],
			["z/b/c/d", "z/b/c/d2"],
			["z/b/c", "z/b/c2"],
			["z/b", "z/b2"],
			["z", "z2"],
		],
	},
	{
		name: "below other renamed directories, and out of them",
		lowers: [deep("a")],
		prepare: (it) => mix(it, "a"),
		moves: [
			["a", "x"],
			["x/b", "y"],
			["y/c", "x/c"],
			["x/c/d", "y/d"],
			["y", "x/c/y"],
			["x", "a"],
			["a/c/y/d", "a/b"],
		],
	},
	{
		name: "to the old names of others: rotation of three, and parent and child change places",
		lowers: [{ ...deep("a"), ...deep("k"), ...deep("z") }],
		prepare: (it) => mix(it, "k"),
		moves: [
			["a", "t"],
			["k", "a"],
			["z", "k"],
			["t", "z"],
			["a/b", "t"],
			["a", "t/c/a"],
			["t", "a"],
			["a/c/a/side", "k/b/c/side"],
		],
	},
	{
		name: "away, a new directory of its name in its place, and back",
		lowers: [deep("a")],
		prepare: (it) => mix(it, "a"),
		moves: [
			["a/b", "b"],
			async (it) => {
				await it.makeDirectory("a/b");
				await it.makeDirectory("a/b/c");
				await it.createFile("a/b/c/new", "new");
			},
			["a/b", "a/newer"],
			["b", "a/b"],
			async (it) => {
				for (const path of ["a/newer/c/new", "a/newer/c", "a/newer"]) await it.remove(path);
			},
			["a/b/c", "a/newer"],
		],
	},
	{
		name: "over an empty directory: of the lower, merged with whiteouts inside, opaque, and of the upper",
		lowers: [
			{
				...deep("a"),
				...deep("k"),
				"empty/": "",
				"cleared/one": "1",
				"cleared/two": "2",
				"cleared/sub/three": "3",
				"again/gone": "g",
				"p/empty/": "",
			},
			{ "cleared/below": "b", "again/gone2": "g" },
		],
		prepare: async (it) => {
			await mix(it, "a");
			for (const path of ["cleared/one", "cleared/two", "cleared/sub/three", "cleared/sub", "cleared/below"]) await it.remove(path);
			for (const path of ["again/gone", "again/gone2", "again"]) await it.remove(path);
			await it.makeDirectory("again");
			await it.makeDirectory("born");
		},
		moves: [
			["a/b/c/d", "empty"],
			["a/b/c/copied-dir", "cleared"],
			["a/b", "again"],
			["k/b/c", "born"],
			["born/d", "p/empty"],
			["cleared", "a/b"],
		],
	},
	{
		name: "a directory of the upper that a lower merges with by name, as found in the upper at the first serve",
		lowers: [
			{ ...deep("a"), "other/o": "o" },
			{ "a/b/c/from-second": "second", "a/b/only-second/x": "x" },
		],
		upper: { "a/b/upper": "in the upper", "a/b/c/upper": "in the upper too", "plain/p": "p" },
		moves: [
			["a/b", "a/b2"],
			["a/b2/c", "other/c"],
			["a", "plain/a"],
			["plain/a/b2", "a"],
			["other/c/d", "a/d"],
			["a/only-second", "other/only-second"],
		],
	},
	{
		name: "merged of two lowers",
		lowers: [
			{ ...deep("a"), "other/o": "o" },
			{ ...deep("a"), "a/b/c/second": "second", "a/b/second/s": "s" },
		],
		prepare: (it) => mix(it, "a"),
		moves: [
			["a/b/c", "a/b/c2"],
			["a/b", "other/b"],
			["other/b/second", "second"],
			["a", "second/a"],
			["other/b/c2/d", "a"],
		],
	},
	{
		name: "merged of three lowers, with its topmost part in the middle one",
		lowers: [
			{ "a/top": "top", "other/o": "o" },
			{ ...deep("a"), "a/b/c/second": "second" },
			{ "a/b/c/third": "third", "a/b/c/d/third": "third", "a/b/third/t": "t", "other/p": "p" },
		],
		prepare: (it) => mix(it, "a"),
		moves: [
			["a/b/c", "other/c"],
			["a/b", "a/b2"],
			["a", "a2"],
			["other", "a2/other"],
			["a2/other/c/d", "d"],
			["a2/b2/third", "d/third-dir"],
		],
	},
	{
		name: "merged of five lowers, beginning in each of them",
		lowers: [
			{ "in0/b/f0": "0", "other/o": "o" },
			{ "in0/b/f1": "1", "in1/b/f1": "1" },
			{ "in0/b/f2": "2", "in1/b/f2": "2", "in2/b/f2": "2", "in2/b/hidden": "of 2" },
			{ "in0/b/f3": "3", "in1/b/f3": "3", "in2/b/f3": "3", "in3/b/f3": "3", "in2/b/hidden": "of 3" },
			{ "in0/b/f4": "4", "in1/b/f4": "4", "in2/b/f4": "4", "in3/b/f4": "4", "in4/b/f4": "4", "in0/b/c/d": "d" },
		],
		prepare: async (it) => {
			await it.write("in2/b/f3", "COPIED");
			await it.createFile("in3/b/born", "born");
		},
		moves: [
			["in0/b", "other/b0"],
			["in1", "other/in1"],
			["in2/b", "in2/b2"],
			["in3/b", "other/b0/c/b3"],
			["in4/b", "in3/b"],
			["other", "in4/other"],
			["in2", "in4/other/in1/in2"],
			["in4/other/b0/c", "c"],
		],
	},
	{
		name: "a lower directory that a whiteout or a file in a middle layer cuts off from those below",
		lowers: [
			{ "a/top": "top" },
			{ "a/b/middle": "m", "a/cut": "a file", "a/white": { node: ["c", "0", "0"] } },
			{ "a/b/bottom": "b", "a/cut/x": "x", "a/white/y": "y" },
		],
		moves: [
			["a/b", "b"],
			["a", "b/a"],
			["b", "c"],
		],
	},
];

for (const scenario of sampled(scenarios, 2)) {
	// A restart after every other move; in the full campaign after each, and also all moves in one life.
	for (const endings of [...(full ? [["plain"]] : []), ["SIGKILL", "SIGTERM"]] as Ending[][]) {
		const when = endings[0] === "plain" ? "in one life of the server" : "over SIGTERM and SIGKILL";
		test(`directory moves ${scenario.name}: handles, look-ups and file ids hold ${when}`, { skip }, async (t) => {
			const made = scratch(t);
			const it = await HeldTree.start(made, made.path, scenario.lowers, scenario.upper ? { inUpper: scenario.upper } : {});
			await it.takeAll();
			await scenario.prepare?.(it);
			await it.check("before any move");
			for (const [index, move] of scenario.moves.entries()) {
				if (typeof move === "function") await move(it);
				else await it.rename(...move);
				const what = typeof move === "function" ? `step ${index}` : `${move[0]} to ${move[1]}`;
				await it.check(what);
				const isLast = index === scenario.moves.length - 1;
				if (endings[0] !== "plain" && (full || index % 2 === 0 || isLast))
					await it.check(what, endings[(index >> (full ? 0 : 1)) % 2] as Ending);
			}
			if (endings[0] === "plain") await it.check("at the end", "SIGKILL");
			await changeByHandle(it, "SIGKILL");
		});
	}
}

/** Every object is changed through its handle, by a server that has just started, and the handles still hold. */
async function changeByHandle(it: HeldTree, how: Ending): Promise<void> {
	await it.restart(how);
	for (const path of [...it.objects.keys()].sort().reverse()) {
		const { type } = it.get(path);
		if (type === FileType3.reg) await it.write(path, "Z");
		if (type !== FileType3.dir) continue;
		await it.changeGroup(path);
		await it.createFile(`${path}/made by handle`, "made by handle");
	}
	await it.check("after changes by handles from cold");
	await it.check("after changes by handles from cold", how);
}

for (const [depth, fileSystem] of sampled(
	[
		[12, "root"],
		[18, "xfs"],
		// longer than an xattr of ext4
		[18, "ext4"],
	] as const,
	1,
)) {
	test(`a directory below ${depth} names of 255 bytes moves on ${fileSystem}, with a redirect of ${depth * 256} bytes: handles hold`, {
		skip: skip || needs("perl") || cannotMount(fileSystem),
	}, async (t) => {
		const made = scratch(t);
		const base = made.mount(fileSystem, "layers");
		const names = Array.from({ length: depth }, (_, index) => String.fromCharCode(97 + index).repeat(255));
		// Such a path is too long for one call, also to remove it.
		made.beforeRemoval(() => execFileSync("rm", ["-rf", join(base, "lower0"), join(base, "upper")]));
		const it = await HeldTree.start(made, base, [{ "other/o": "o" }], {
			prepare: ([lower]) => {
				const script = 'chdir shift; for (@ARGV) { mkdir $_ or die; chdir $_ or die } open F, ">", "file"; print F "leaf"; close F or die';
				execFileSync("perl", ["-e", script, lower as string, ...names, "leaf"]);
			},
		});
		await it.takeAll();
		const deepest = `${names.join("/")}/leaf`;
		assert.equal(it.get(`${deepest}/file`).contents, "leaf");
		const { status } = await it.client.rename(...it.at(deepest), ...it.at("other/leaf"));
		if (status === 0) it.noteRename(deepest, "other/leaf");
		await it.check(`from the depth to the top: ${statusName(status)}`, "SIGKILL");
		assert.equal(statusName(status), "ok", "RENAME from the depth to the top");
		await it.rename("other/leaf", `${names.slice(0, depth - 1).join("/")}/back`);
		await it.rename(names[0] as string, "other/short");
		await it.check("back, and its ancestor moved", "SIGTERM");
		await it.rename(`other/short/${names[1]}`, "b");
		await it.check("an ancestor moved out of the moved one", "SIGKILL");
	});
}

test("RENAME of a directory is refused as POSIX says, and changes nothing: INVAL, NOTEMPTY, NOTDIR, ISDIR, NOENT, EXIST", {
	skip,
}, async (t) => {
	const made = scratch(t);
	const it = await HeldTree.start(made, made.path, [
		{ ...deep("a"), ...deep("k"), "empty/": "", file: "file", "full/f": "f" },
		{ "a/b/c/second": "second", "merged/below": "below" },
	]);
	await mix(it, "k");
	await it.makeDirectory("merged/top");
	await it.rename("k/b/c", "k/c");
	const before = snapshotTree(it.upper, { exact: true, ignore: (path) => path === "." });
	const cases: [from: string, to: string, status: Parameters<typeof refused>[1]][] = [
		["a", "a/inside", "inval"],
		["a", "a/b/c/d/inside", "inval"],
		["k", "k/c/d/inside", "inval"],
		["k/c", "k/c/d", "inval"],
		["k/c", "k/c/born-dir/inside", "inval"],
		["a/b/c", "a/b", "notempty"],
		["a/b/c/d", "a", "notempty"],
		["a", "k", "notempty"],
		["empty", "full", "notempty"],
		["empty", "merged", "notempty"],
		["k/c", "a/b", "notempty"],
		["a", "file", "notdir"],
		["k/c", "k/c/d/born", "inval"],
		["empty", "k/c/d/born", "notdir"],
		["file", "empty", "isdir"],
		["file", "a", "isdir"],
		["k/c/d/born", "a/b", "isdir"],
		["a/missing", "a/other", "noent"],
		["missing", "a", "noent"],
	];
	for (const [from, to, status] of cases) {
		await refused(it.client.rename(...it.at(from), ...it.at(to)), status, `RENAME ${from} to ${to}`);
	}
	const file = it.get("file").handle;
	await refused(it.client.rename(file, "x", it.root, "y"), "notdir", "from a file");
	await refused(it.client.rename(it.root, "a", file, "y"), "notdir", "into a file");
	for (const [from, to] of [
		[".", "x"],
		["..", "x"],
		["a", "."],
		["a", ".."],
	] as const) {
		const { status } = await it.client.rename(it.root, from, it.root, to);
		assert.ok(
			["inval", "exist", "notempty", "acces", "perm"].includes(statusName(status)),
			`RENAME ${from} to ${to}: ${statusName(status)}`,
		);
	}
	await refused(it.client.rename(it.root, "a", it.root, "n".repeat(256)), "nametoolong", "RENAME to a long name");
	for (const path of ["a", "k", "k/c", "merged", "empty"])
		await ok(it.client.rename(...it.at(path), ...it.at(path)), `RENAME ${path} to itself`);
	const after = snapshotTree(it.upper, { exact: true, ignore: (path) => path === "." });
	assertSameTree(before, after, "a refused RENAME changed the upper");
	await it.check("after all refusals");
	await it.check("after all refusals", "SIGKILL");
});

test("RENAME of a lower directory sets the modification time of both parents and not of the directory, and answers both in wcc", {
	skip,
}, async (t) => {
	const made = scratch(t);
	const it = await HeldTree.start(made, made.path, [{ ...deep("a"), "to/x": "x" }]);
	await it.takeAll();
	const old = { sec: 1_000_000_000, nsec: 5 };
	for (const path of ["a", "a/b", "to"]) await ok(it.client.setattr(it.get(path).handle, { mtime: old }), `SETATTR ${path}`);
	const attributes = (path: string) => it.client.attributesOf(it.get(path).handle);
	const ctimeBefore = (await attributes("a")).ctime;
	await new Promise((resolve) => setTimeout(resolve, 20));
	const reply = await ok(it.client.rename(...it.at("a/b"), ...it.at("to/b")), "RENAME");
	it.noteRename("a/b", "to/b");
	const [from, to, moved] = [await attributes("a"), await attributes("to"), await attributes("to/b")];
	assert.notDeepEqual(from.mtime, old, "mtime of the old parent");
	assert.notDeepEqual(to.mtime, old, "mtime of the new parent");
	assert.deepEqual(moved.mtime, old, "mtime of the directory itself");
	assert.notDeepEqual(from.ctime, ctimeBefore, "ctime of the old parent");
	assert.deepEqual([reply.fromWcc.after?.fileid, reply.toWcc.after?.fileid], [from.fileid, to.fileid], "wcc names the parents");
	assert.deepEqual([reply.fromWcc.after?.mtime, reply.toWcc.after?.mtime], [from.mtime, to.mtime], "wcc has the new times");
	assert.deepEqual(reply.fromWcc.before?.mtime, old, "wcc has the old time");
	await it.restart("SIGKILL");
	assert.deepEqual((await attributes("a")).mtime, from.mtime, "mtime of the old parent after SIGKILL");
	assert.deepEqual((await attributes("to")).mtime, to.mtime, "mtime of the new parent after SIGKILL");
	assert.deepEqual((await attributes("to/b")).mtime, old, "mtime of the directory after SIGKILL");
});

const many = volume(50, 250, 1_500);

test(`${many} random moves, links, creations, removals and writes in three lowers with a kill every 25: all handles hold`, {
	skip,
}, async (t) => {
	t.diagnostic(`HOLDFAST_TEST_SEED=${seed}`);
	const made = scratch(t);
	const tops = ["a", "k", "z"];
	const it = await HeldTree.start(made, made.path, [
		Object.assign({}, deep("a"), { "k/b/c/first": "first" }),
		Object.assign({}, deep("k"), { "a/b/c/d/second": "second", "empty/": "" }),
		Object.assign({}, ...tops.map(deep), { "a/b/third/t": "t", "k/side/third": "3", "empty/": "" }),
	]);
	await it.takeAll();
	let state = seed >>> 0 || 1;
	const random = (below: number) => {
		state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
		return Math.floor((state / 2 ** 32) * below);
	};
	const pick = <T>(from: readonly T[]): T => from[random(from.length)] as T;
	const paths = () => [...it.objects.keys()].sort();
	const isDirectory = (path: string) => path === "" || it.get(path).type === FileType3.dir;
	const log: string[] = [];
	try {
		for (let step = 1; step <= many; step += 1) {
			const directories = ["", ...paths().filter(isDirectory)];
			const inside = (directory: string, name: string) => (directory === "" ? name : `${directory}/${name}`);
			const what = random(11);
			if (what === 10) {
				const from = pick(paths().filter((path) => !isDirectory(path)));
				const to = inside(pick(directories), `linked${step}`);
				log.push(`link ${from} ${to}`);
				await it.link(from, to);
			} else if (what < 6) {
				const from = pick(paths());
				const others = paths().filter((path) => isDirectory(path) === isDirectory(from));
				const to = random(4) === 0 ? pick(others) : inside(pick(directories), pick(["a", "b", "c", "d", "side", `n${step}`]));
				log.push(`rename ${from} ${to}`);
				const expected = expectedStatus(it, from, to);
				const reply = await it.client.rename(...it.at(from), ...it.at(to));
				assert.equal(statusName(reply.status), expected, `RENAME ${from} to ${to}`);
				if (expected === "ok" && it.get(from) !== it.objects.get(to)) it.noteRename(from, to);
			} else if (what === 6) {
				const path = inside(pick(directories), `born${step}`);
				log.push(`create ${path}`);
				if (random(2)) await it.makeDirectory(path);
				else await it.createFile(path, `born ${step}`);
			} else if (what === 7) {
				const path = pick(paths());
				if (isDirectory(path) && it.below(path).length > 0) continue;
				log.push(`remove ${path}`);
				await it.remove(path);
			} else {
				const path = pick(paths());
				log.push(`change ${path}`);
				if (it.get(path).type === FileType3.reg) await it.write(path, `w${step}`);
				else if (isDirectory(path)) await it.changeGroup(path);
			}
			if (step % 25 === 0) {
				log.push("check, SIGKILL, check");
				if (step % 50 === 0) await it.check(`step ${step}`);
				await it.check(`step ${step}`, random(4) === 0 ? "SIGTERM" : "SIGKILL");
			}
		}
	} catch (error) {
		t.diagnostic(log.join("\n"));
		throw error;
	}
});

/** What POSIX answers to a rename in a tree that is known. */
function expectedStatus(it: HeldTree, from: string, to: string): string {
	if (from === to) return "ok";
	const source = it.get(from);
	const target = it.objects.get(to);
	if (target !== undefined && target === source) return "ok";
	if (source.type === FileType3.dir) {
		if (to.startsWith(`${from}/`)) return "inval";
		if (target !== undefined && target.type !== FileType3.dir) return "notdir";
	} else if (target?.type === FileType3.dir) {
		return "isdir";
	}
	if (target?.type === FileType3.dir && it.below(to).length > 0) return "notempty";
	return "ok";
}
