/** Layers that fuse-overlayfs, podman, docker, AUFS or a rootless kernel overlay have left: shown as they showed them, or refused with a sentence. */

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, existsSync, lstatSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { asFuseUser } from "../support/fuse-user.ts";
import { giveTo } from "../support/held-tree.ts";
import { plant, type TreeDescription } from "../support/lower-tree.ts";
import { FileType3 } from "../support/nfs3-client.ts";
import { missing, needs, sampled } from "../support/requirements.ts";
import { cannotMount, type Scratch, scratch } from "../support/scratch.ts";
import { layerArguments, NOBODY, type OrdinaryUser, ordinaryUser, runHoldfast, startServer } from "../support/server-process.ts";
import { snapshotTree } from "../support/tree-snapshot.ts";

const skip = needs("root", "setpriv", "setfattr", "getfattr", "find") || cannotMount("tmpfs");
const noFuse = skip || (missing("fuse-overlayfs") || !existsSync("/dev/fuse") ? "needs fuse-overlayfs" : false);

const LOWER: TreeDescription = {
	gone: "gone",
	stays: "stays",
	"dir/of lower": "below",
	"dir/sub/of lower": "below",
	"keep/gone": "gone",
	"keep/stays": "stays",
	"whole/of lower": "below",
	link: { link: "stays" },
};

/** What is done to the tree, as a script of the shell. */
const CHANGES = `
umask 022
rm gone keep/gone
rm -r dir whole
mkdir dir
echo new >dir/new
echo changed >stays
mv link renamed
chmod 700 keep
`;

const CHANGED = {
	dir: "d 755",
	"dir/new": "f 644 new\n",
	keep: "d 700",
	"keep/stays": "f 644 stays",
	renamed: "l stays",
	stays: "f 644 changed\n",
};

interface Layers {
	readonly base: string;
	readonly lowers: readonly string[];
	readonly upper: string;
	readonly work: string;
	readonly state: string;
}

/** Layers on a file system of their own, lowers from the topmost down. */
function layersOf(made: Scratch, ...lowers: readonly TreeDescription[]): Layers {
	const base = made.mount("tmpfs", "layers");
	for (const name of ["upper", "work", "mounted", "state"]) mkdirSync(join(base, name));
	const paths = lowers.map((tree, i) => plant(join(base, `lower${i}`), { "/": "", ...tree }));
	for (const path of paths) chmodSync(path, 0o755);
	return { base, lowers: paths, upper: join(base, "upper"), work: join(base, "work"), state: join(base, "state") };
}

interface Served {
	readonly user?: OrdinaryUser;
	readonly args?: readonly string[];
	/** Without upper. */
	readonly isReadOnly?: boolean;
	/** With owners. */
	readonly owners?: boolean;
}

/** What clients see: type, permissions, and content or target, by path. */
async function shown(made: Scratch, { lowers, upper, work, state }: Layers, how: Served = {}): Promise<Record<string, string>> {
	const { user, args = [], isReadOnly = false, owners = false } = how;
	const server = await startServer(made, {
		lowers,
		...(isReadOnly ? {} : { upper, work }),
		...(user === undefined ? {} : { user }),
		args: ["--state-dir", state, ...args],
	});
	const client = await server.client();
	const found: Record<string, string> = {};
	for (const [path, { handle, attributes }] of await client.tree(await client.root())) {
		const { type, mode, uid, gid, rdev } = attributes;
		const bits = (mode & 0o7777).toString(8);
		const who = owners ? ` ${uid}:${gid}` : "";
		if (type === FileType3.dir) found[path] = `d ${bits}${who}`;
		else if (type === FileType3.reg) found[path] = `f ${bits}${who} ${await client.readFile(handle)}`;
		else if (type === FileType3.lnk) {
			const link = await client.readlink(handle);
			found[path] = `l ${link.status === 0 ? link.target : link.status}`;
		} else found[path] = `${type} ${bits}${who} ${rdev.join(":")}`;
	}
	client.close();
	await server.terminate();
	return Object.fromEntries(Object.entries(found).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function adopt({ lowers, upper, work, state }: Layers, how: Served = {}): ReturnType<typeof runHoldfast> {
	const args = ["adopt", ...layerArguments({ lowers, upper, work }), "--state-dir", state, ...(how.args ?? [])];
	return runHoldfast(args, how.user === undefined ? {} : { user: how.user });
}

function refusal(run: ReturnType<typeof runHoldfast>): string {
	assert.equal(run.code, 1, run.stdout);
	assert.match(run.stderr, /^holdfast: Cannot .*\.\n$/);
	return run.stderr;
}

function serveRefused({ lowers, upper, work, state }: Layers, how: Served = {}): string {
	const named = how.isReadOnly ? { lowers } : { lowers, upper, work };
	const args = ["serve", "--listen", "127.0.0.1:0", ...layerArguments(named), "--state-dir", state, ...(how.args ?? [])];
	return refusal(runHoldfast(args, how.user === undefined ? {} : { user: how.user }));
}

function mark(path: string, name: string, value: string): void {
	execFileSync("setfattr", ["-h", "-n", name, "-v", value, path]);
}

/** The tree of a mount as the program that made it shows it, in the form of `shown`. `mount` is a command, in the folder of the layers. */
function asMounted(base: string, mount: string, owners = false): Record<string, string> {
	const who = owners ? " %U:%G" : "";
	const list = `find . -mindepth 1 -type d -printf '%P\\0d %m${who}\\0' -o -type l -printf '%P\\0l %l\\0' -o -printf '%P\\0%y %m${who} \\0'`;
	const script = `${mount}; cd mounted; ${list}; cd ..; umount mounted`;
	const output = execFileSync("unshare", ["-m", "--propagation", "private", "sh", "-ec", script], {
		cwd: base,
		stdio: ["ignore", "pipe", "ignore"],
	});
	const fields = output.toString().split("\0");
	const found: [string, string][] = [];
	for (let i = 0; i + 1 < fields.length; i += 2) found.push([fields[i] as string, fields[i + 1] as string]);
	return Object.fromEntries(found.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Without the content of files. */
function outlines(tree: Record<string, string>): Record<string, string> {
	return Object.fromEntries(Object.entries(tree).map(([path, what]) => [path, what.replace(/^(f \d+(?: \d+:\d+)? ).*/s, "$1")]));
}

/** Runs a script in a user namespace of an ordinary user, who may use FUSE. */
function asUser(made: Scratch, base: string, script: string): void {
	const [command, ...words] = asFuseUser(made, ["unshare", "-Urm", "sh", "-ec", script]);
	execFileSync(command, words, { cwd: base, stdio: ["ignore", "pipe", "pipe"] });
}

/** Why an ordinary user mounts no kernel overlay here; false where one does. */
function cannotMountAsUser(): string | false {
	if (skip !== false) return skip;
	const script = "mkdir l u w; mount -t overlay overlay -o userxattr,lowerdir=l,upperdir=u,workdir=w l";
	const within = `d=$(mktemp -d); mount -t tmpfs none $d; cd $d; ${script}`;
	const { status } = spawnSync("unshare", ["-Urm", "sh", "-ec", within], { uid: NOBODY, gid: NOBODY, cwd: "/", stdio: "ignore" });
	return status === 0 ? false : "this kernel lets no ordinary user mount an overlay";
}

function tracesOf({ lowers }: Layers): unknown {
	return lowers.map((path) => snapshotTree(path, { exact: true }));
}

const FUSE = "fuse-overlayfs -o lowerdir=lower0,upperdir=upper,workdir=work mounted";

test("an upper that fuse-overlayfs has made as root is refused, adopted, and shown as it was", { skip: noFuse }, async (t) => {
	const made = scratch(t);
	const layers = layersOf(made, LOWER);
	const script = `${FUSE}; cd mounted; ${CHANGES} chown 1:2 keep/stays; cd ..; umount mounted`;
	execFileSync("unshare", ["-m", "sh", "-ec", script], { cwd: layers.base, stdio: ["ignore", "pipe", "pipe"] });
	const expected = asMounted(layers.base, FUSE, true);
	assert.match(serveRefused(layers), /adopt/);
	const adopted = adopt(layers);
	assert.equal(adopted.code, 0, adopted.stderr);
	const tree = await shown(made, layers, { owners: true });
	assert.deepEqual(outlines(tree), expected);
	assert.equal(tree["keep/stays"], "f 644 1:2 stays");
	assert.deepEqual(await shown(made, layers), CHANGED);
});

test("an upper that fuse-overlayfs has made in an ordinary user's namespace is that user's, and root says so", {
	skip: noFuse,
}, async (t) => {
	const made = scratch(t);
	const user = ordinaryUser(made);
	const layers = layersOf(made, LOWER);
	giveTo(user, layers.base);
	asUser(made, layers.base, `${FUSE}; cd mounted; ${CHANGES} cd ..; umount mounted`);
	assert.match(refusal(adopt(layers)), new RegExp(`user ${NOBODY}`));
	assert.match(serveRefused(layers, { user }), /adopt/);
	const adopted = adopt(layers, { user });
	assert.equal(adopted.code, 0, adopted.stderr);
	assert.deepEqual(await shown(made, layers, { user }), CHANGED);
});

test("an upper of a kernel overlay in a user namespace is adopted and served by that user", { skip: cannotMountAsUser() }, async (t) => {
	const made = scratch(t);
	const user = ordinaryUser(made);
	const layers = layersOf(made, LOWER);
	giveTo(user, layers.base);
	const mount = "mount -t overlay overlay -o userxattr,lowerdir=lower0,upperdir=upper,workdir=work mounted";
	asUser(made, layers.base, `${mount}; cd mounted; ${CHANGES}`);
	assert.equal(lstatSync(join(layers.work, "work")).mode & 0o777, 0);
	assert.match(refusal(adopt(layers)), new RegExp(`user ${NOBODY}`));
	const adopted = adopt(layers, { user });
	assert.equal(adopted.code, 0, adopted.stderr);
	assert.deepEqual(await shown(made, layers, { user }), CHANGED);
	assert.deepEqual(await shown(made, layers, { user }), CHANGED, "again");
});

/** An upper in the form of AUFS, with folders of its own. */
const AUFS_UPPER: TreeDescription = {
	".wh.gone": "",
	".wh.link": "",
	".wh.whole": "",
	"dir/.wh..wh..opq": "",
	"dir/new": "new\n",
	"keep/.wh.gone": "",
	renamed: { link: "stays" },
	stays: "changed\n",
	".wh..wh.plnk/1.2": "of AUFS",
	".wh..wh.aufs": "",
};

for (const who of ["root", "an ordinary user"] as const) {
	test(`an upper whose whiteouts are files is adopted by ${who}, and nothing that may be data goes`, { skip }, async (t) => {
		const made = scratch(t);
		const layers = layersOf(made, LOWER);
		plant(layers.upper, AUFS_UPPER);
		chmodSync(join(layers.upper, "keep"), 0o700);
		const how = who === "root" ? {} : { user: ordinaryUser(made) };
		if (how.user !== undefined) giveTo(how.user, layers.base);
		assert.match(serveRefused(layers, how), /adopt/);
		const adopted = adopt(layers, how);
		assert.equal(adopted.code, 0, adopted.stderr);
		assert.match(adopted.stdout, /[1-9]\d* marks of other programs converted/);
		assert.deepEqual(await shown(made, layers, how), CHANGED);
		assert.deepEqual(readdirSync(join(layers.work, "holdfast/lost+found/1-.wh..wh.plnk")), ["1.2"]);
	});
}

test("whether files of an upper are whiteouts is asked where nothing tells it, and what is made in ours is not asked about", {
	skip,
}, async (t) => {
	const made = scratch(t);
	const layers = layersOf(made, LOWER);
	writeFileSync(join(layers.upper, ".wh.gone"), "");
	assert.match(serveRefused(layers), /adopt/);
	assert.match(refusal(adopt(layers)), /\.wh\.gone.*--whiteout-files yes.*--whiteout-files no/);
	const plain = await shown(made, layers, { args: ["--whiteout-files", "no"] });
	assert.deepEqual([plain[".wh.gone"], plain.gone], ["f 644 ", "f 644 gone"]);
	assert.deepEqual(await shown(made, layers), plain, "it is asked once");
	const released = runHoldfast(["release", ...layerArguments(layers)]);
	assert.equal(released.code, 0, released.stderr);
	assert.deepEqual(await shown(made, layers), plain, "a file that clients could have made");
});

/** Lowers of which the upper one hides much of the lower one, in each form; `hides` is told the path of the upper one. */
const FORMS: readonly {
	readonly name: string;
	readonly tree: TreeDescription;
	readonly dress?: (top: string) => void;
	/** Files of such names hide nothing in the kernel. */
	readonly isKernels?: boolean;
	/** Root has made it, and others do not see what it hides. */
	readonly isRoots?: boolean;
	readonly args?: readonly string[];
}[] = [
	{
		name: "AUFS, as image layers are unpacked for fuse-overlayfs",
		tree: {
			".wh.gone": "",
			".wh.link": "",
			".wh.whole": "",
			"dir/.wh..wh..opq": "",
			"dir/new": "new\n",
			"keep/.wh.gone": "",
			renamed: { link: "stays" },
			stays: "changed\n",
		},
	},
	{
		name: "AUFS without a proof, by the option",
		tree: {
			".wh.gone": "",
			".wh.link": "",
			".wh.whole": "",
			".wh.dir": "",
			"dir/new": "new\n",
			"keep/.wh.gone": "",
			renamed: { link: "stays" },
			stays: "changed\n",
		},
		args: ["--whiteout-files", "yes"],
	},
	...(["trusted.overlay", "user.overlay", "user.fuseoverlayfs"] as const).map((prefix) => ({
		name: `devices, and ${prefix}.opaque`,
		tree: {
			gone: { node: ["c", "0", "0"] },
			link: { node: ["c", "0", "0"] },
			whole: { node: ["c", "0", "0"] },
			"dir/new": "new\n",
			"keep/gone": { node: ["c", "0", "0"] },
			renamed: { link: "stays" },
			stays: "changed\n",
		} as TreeDescription,
		dress: (top: string) => mark(join(top, "dir"), `${prefix}.opaque`, "y"),
		isKernels: prefix === "trusted.overlay",
		isRoots: prefix === "trusted.overlay",
	})),
	...(["trusted", "user"] as const).map((space) => ({
		name: `files with ${space}.overlay.whiteout`,
		tree: { gone: "", link: "", whole: "", "dir/new": "new\n", "keep/gone": "", renamed: { link: "stays" }, stays: "changed\n" },
		dress: (top: string) => {
			for (const path of ["gone", "link", "whole", "keep/gone"]) mark(join(top, path), `${space}.overlay.whiteout`, "y");
			for (const path of ["", "keep"]) mark(join(top, path), `${space}.overlay.opaque`, "x");
			mark(join(top, "dir"), `${space}.overlay.opaque`, "y");
		},
		isKernels: space === "trusted",
		isRoots: space === "trusted",
	})),
];

for (const { name, tree, dress, isKernels = false, isRoots = false, args = [] } of sampled(FORMS, 3)) {
	test(`what a lower hides is hidden: ${name}`, { skip }, async (t: TestContext) => {
		const made = scratch(t);
		const layers = layersOf(made, tree, LOWER);
		const [top] = layers.lowers as [string];
		dress?.(top);
		chmodSync(join(top, "keep"), 0o700);
		const before = tracesOf(layers);
		const all = { ...CHANGED };
		assert.deepEqual(await shown(made, layers, { args, isReadOnly: true }), all);
		assert.deepEqual(await shown(made, layers, { args }), all);
		// what was found out is kept
		assert.deepEqual(await shown(made, layers), all);
		if (isKernels) {
			assert.deepEqual(
				asMounted(layers.base, "mount -t overlay overlay -o ro,lowerdir=lower0:lower1 mounted"),
				outlines(all),
				"the kernel's",
			);
		}
		// it takes no attributes for whiteouts, and lets a whiteout hide what lies beside it
		if (noFuse === false && !name.includes("whiteout") && !name.includes("proof")) {
			assert.deepEqual(asMounted(layers.base, "fuse-overlayfs -o lowerdir=lower0:lower1 mounted"), outlines(all), "fuse-overlayfs'");
		}
		const checked = runHoldfast(["check", ...layerArguments(layers)]);
		assert.equal(checked.code, 0, checked.stdout + checked.stderr);
		assert.deepEqual(tracesOf(layers), before);
		if (isRoots) return;
		const user = ordinaryUser(made);
		const users = layersOfUser(made, layers, user);
		assert.deepEqual(await shown(made, users, { args, user }), all, "an ordinary user's");
	});
}

/** The same lowers, an ordinary user's own, with an upper of that user. */
function layersOfUser(made: Scratch, { base, lowers }: Layers, user: OrdinaryUser): Layers {
	const own = join(base, "own");
	for (const name of ["", "upper", "work", "state"]) mkdirSync(join(own, name));
	chmodSync(made.path, 0o755);
	giveTo(user, base);
	return { base, lowers, upper: join(own, "upper"), work: join(own, "work"), state: join(own, "state") };
}

test("files named as whiteouts are asked about where nothing tells what they are, and are files where the user says so", {
	skip,
}, async (t) => {
	const made = scratch(t);
	const layers = layersOf(made, { ".wh.gone": "", "keep/.wh.stays": "data" }, LOWER);
	assert.match(serveRefused(layers, { isReadOnly: true }), /lower0.*--whiteout-files yes.*--whiteout-files no/);
	assert.match(serveRefused(layers), /--whiteout-files/);
	assert.deepEqual(readdirSync(layers.work), []);
	const tree = await shown(made, layers, { args: ["--whiteout-files", "no"] });
	assert.equal(tree[".wh.gone"], "f 644 ");
	assert.deepEqual(asMounted(layers.base, "mount -t overlay overlay -o ro,lowerdir=lower0:lower1 mounted"), outlines(tree));
	assert.deepEqual(await shown(made, layers), tree, "it is asked once");
	const other = await shown(made, layers, { args: ["--whiteout-files", "yes"] });
	assert.deepEqual([other[".wh.gone"], other.gone, other["keep/stays"], other.stays], [undefined, undefined, undefined, "f 644 stays"]);
});

test("in the lowest layer, which hides nothing, files of such names are files", { skip }, async (t) => {
	const made = scratch(t);
	const layers = layersOf(made, { ".wh.gone": "", ".wh..wh..opq": "", gone: "there" });
	const tree = await shown(made, layers);
	assert.deepEqual(tree, { ".wh..wh..opq": "f 644 ", ".wh.gone": "f 644 ", gone: "f 644 there" });
});

test("a layer in podman's store is read as fuse-overlayfs reads it", { skip }, async (t) => {
	const made = scratch(t);
	const layers = layersOf(made, LOWER);
	const store = join(layers.base, "overlay/1234/diff");
	mkdirSync(store, { recursive: true });
	plant(store, { ".wh.gone": "", "keep/.wh.gone": "" });
	writeFileSync(join(store, "../link"), "ABC");
	const tree = await shown(made, { ...layers, lowers: [store, ...layers.lowers] });
	assert.deepEqual([tree.gone, tree["keep/gone"], tree[".wh.gone"], tree.stays], [undefined, undefined, undefined, "f 644 stays"]);
});

test("what root's overlay has hidden, which an ordinary user cannot see, is refused to that user", { skip }, async (t) => {
	const made = scratch(t);
	const user = ordinaryUser(made);
	const layers = layersOf(made, { "dir/gone": { node: ["c", "0", "0"] } }, { "dir/gone": "gone" });
	for (const path of [layers.upper, layers.work, layers.state]) giveTo(user, path);
	assert.match(serveRefused(layers, { user }), /root has made the whiteout \/dir\/gone/);
});

for (const xattr of sampled(
	["user.containers.override_stat", "user.fuseoverlayfs.override_stat", "security.fuseoverlayfs.override_stat"],
	1,
)) {
	test(`owners and modes that stand in ${xattr} are shown, copied up, and taken over`, { skip }, async (t) => {
		const made = scratch(t);
		const dress = (top: string) => {
			plant(top, { "dir/file": "text", device: "", plain: "plain" });
			mark(top, xattr, "0:0:0755");
			mark(join(top, "dir"), xattr, "3:4:0750");
			mark(join(top, "dir/file"), xattr, "1:2:04755");
			mark(join(top, "device"), xattr, "0:0:0666:char-1-3");
		};
		const layers = layersOf(made, {});
		dress(layers.lowers[0] as string);
		const expected = {
			device: `${FileType3.chr} 666 0:0 1:3`,
			dir: "d 750 3:4",
			"dir/file": "f 4755 1:2 text",
			plain: "f 644 0:0 plain",
		};
		assert.deepEqual(await shown(made, layers, { owners: true }), expected);
		const server = await startServer(made, {
			lowers: layers.lowers,
			upper: layers.upper,
			work: layers.work,
			args: ["--state-dir", layers.state],
		});
		const client = await server.client();
		await client.writeFile(await client.walk(await client.root(), "dir/file"), "TEXT");
		client.close();
		await server.terminate();
		const { mode, uid, gid } = lstatSync(join(layers.upper, "dir/file"));
		assert.deepEqual([mode & 0o777, uid, gid], [0o755, 1, 2]);
		const names = execFileSync("getfattr", ["-m", "-", join(layers.upper, "dir/file")], { encoding: "utf8" });
		assert.ok(!names.includes("override_stat"), names);
		// the same as an upper
		const other = { ...layers, upper: join(layers.base, "other"), work: join(layers.base, "other work") };
		for (const path of [other.upper, other.work]) mkdirSync(path);
		mkdirSync(join(layers.base, "empty"));
		dress(other.upper);
		const adopted = adopt({ ...other, lowers: [join(layers.base, "empty")] });
		assert.equal(adopted.code, 0, adopted.stderr);
		assert.deepEqual(await shown(made, { ...other, lowers: [join(layers.base, "empty")] }, { owners: true }), expected);
	});
}

test("attributes of an overlay with values that none writes are a client's own, and stay when the upper is adopted", { skip }, (t) => {
	const layers = layersOf(scratch(t), { "dir/below": "", "hides/below": "" });
	plant(layers.upper, { "dir/new": "new", "hides/new": "", "empty/": "", file: "text", owned: "text" });
	const own: readonly (readonly [path: string, name: string, value: string])[] = [
		["dir", "user.overlay.opaque", "yes"],
		["empty", "user.overlay.opaque", "no mark"],
		["empty", "user.fuseoverlayfs.opaque", "Y"],
		["file", "user.overlay.whiteout", "mine"],
		["file", "user.fuseoverlayfs.override_stat", "mine"],
		["file", "user.fuseoverlayfs.origin", "/mine"],
	];
	for (const [path, name, value] of own) mark(join(layers.upper, path), name, value);
	mark(layers.upper, "user.fuseoverlayfs.override_stat", "0:0:0755");
	mark(join(layers.upper, "owned"), "user.fuseoverlayfs.override_stat", "1:2:0640");
	mark(join(layers.upper, "owned"), "user.fuseoverlayfs.origin", "owned");
	mark(join(layers.upper, "hides"), "user.overlay.opaque", "y");
	const adopted = adopt(layers);
	assert.equal(adopted.code, 0, adopted.stderr);
	const keptBy = (path: string, name: string) =>
		spawnSync("getfattr", ["-h", "--only-values", "-n", name, join(layers.upper, path)], { encoding: "utf8" }).stdout;
	for (const [path, name, value] of own) assert.equal(keptBy(path, name), value, `${name} of ${path}`);
	for (const name of ["override_stat", "origin"]) assert.equal(keptBy("owned", `user.fuseoverlayfs.${name}`), "", name);
	assert.equal(keptBy("hides", "user.overlay.opaque"), "");
	assert.deepEqual(
		["dir", "hides"].map((path) => keptBy(path, "trusted.overlay.opaque")),
		["", "y"],
	);
	const { mode, uid, gid } = lstatSync(join(layers.upper, "owned"));
	assert.deepEqual([mode & 0o777, uid, gid], [0o640, 1, 2]);
});

test("layers in all of these forms, one upon the other, show what each of them hides", { skip }, async (t) => {
	const made = scratch(t);
	const named = (names: string) => Object.fromEntries(names.split(" ").map((name) => [name, name])) as TreeDescription;
	const layers = layersOf(
		made,
		{ ...named("a"), ".wh.b": "", "d/.wh..wh..opq": "", "d/a": "a" },
		{ b: "b", c: { node: ["c", "0", "0"] }, "d/hidden": "", "e/b": "b" },
		{ c: "c", f: "", "e/c": "c", "g/c": "c" },
		{ ...named("a b c f h"), "e/d": "d", "g/d": "d", "d/d": "d" },
	);
	const [, , third] = layers.lowers as [string, string, string];
	mark(third, "user.overlay.opaque", "x");
	mark(join(third, "f"), "user.overlay.whiteout", "y");
	mark(join(third, "e"), "user.fuseoverlayfs.opaque", "y");
	const tree = await shown(made, layers);
	assert.deepEqual(Object.keys(tree), ["a", "d", "d/a", "e", "e/b", "e/c", "g", "g/c", "g/d", "h"]);
});
