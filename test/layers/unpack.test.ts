/** Layers of container images become lowers, exactly; and an archive that somebody made to do harm does none. */

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { gunzipSync, gzipSync } from "node:zlib";
import { UnpackError } from "../../src/unpack/unpack-error.ts";
import { unpackLayers } from "../../src/unpack/unpack-layers.ts";
import { fc } from "../support/fast-check.ts";
import { giveTo } from "../support/held-tree.ts";
import { noise, plant } from "../support/lower-tree.ts";
import { FileType3, ok } from "../support/nfs3-client.ts";
import { needs, repository } from "../support/requirements.ts";
import { cannotMount, type Scratch, scratch } from "../support/scratch.ts";
import { ordinaryUser, runHoldfast, type ServerProcess, startServer } from "../support/server-process.ts";
import { END, paxRecords, type RawEntry, raw } from "../support/tar-archive.ts";
import { assertSameTree, readXattrs, snapshotTree } from "../support/tree-snapshot.ts";

const skip = needs("root", "tar", "setfattr", "getfattr", "setfacl");
const main = join(repository, "dist/src/cli/main.js");

function archive(made: Scratch, name: string, ...entries: RawEntry[]): string {
	return made.file(name, Buffer.concat([...entries.map(raw), END]));
}

let outs = 0;

function unpacked(made: Scratch, ...archives: string[]): string {
	const out = join(made.path, `out-${++outs}`);
	const run = runHoldfast(["unpack", ...archives, out]);
	assert.equal(run.code, 0, run.stderr);
	return out;
}

async function assertRefused(made: Scratch, archives: readonly string[], sentence: RegExp): Promise<string> {
	const directory = join(made.path, "refused");
	const refusal = await unpackLayers({ archives, directory, progress: () => {}, signal: new AbortController().signal }).then(
		() => assert.fail(`it should refuse ${archives}, by ${sentence}`),
		(error: unknown) => error,
	);
	assert.ok(refusal instanceof UnpackError, `${(refusal as Error).stack}`);
	assert.match(refusal.message, sentence);
	assert.match(refusal.message, /^Cannot [^\n]+\.$/, "one sentence");
	assert.equal(existsSync(directory), false, "what was unpacked is removed again");
	return refusal.message;
}

const tarArgs = ["--xattrs", "--xattrs-include=*", "--format=posix", "--numeric-owner"];

/** Applies layers as docker does where it has no overlay: deletes what a layer's whiteouts say, then extracts it over what is there. */
function applyClassically(made: Scratch, archives: readonly string[]): string {
	// unpacking in this process has set it to 0
	process.umask(0o022);
	const top = made.folder("classic");
	for (const path of archives) {
		const list = execFileSync("tar", ["-tvf", path], { encoding: "utf8" })
			.split("\n")
			.filter((line) => line !== "");
		const entries = list.map((line) => ({
			isDirectory: line.startsWith("d"),
			path: (line.split(/\s+/, 6)[5] as string).replace(/\/$/, ""),
		}));
		for (const { path: name } of entries) {
			const slash = name.lastIndexOf("/");
			const folder = join(top, name.slice(0, Math.max(slash, 0)));
			const base = name.slice(slash + 1);
			if (base === ".wh..wh..opq")
				for (const each of existsSync(folder) ? readdirSync(folder) : []) rmSync(join(folder, each), { recursive: true });
			else if (base.startsWith(".wh.") && !base.startsWith(".wh..wh."))
				rmSync(join(folder, base.slice(4)), { recursive: true, force: true });
			// a whiteout makes the folder that it lies in
			if (base === ".wh..wh..opq" || (base.startsWith(".wh.") && !base.startsWith(".wh..wh."))) mkdirSync(folder, { recursive: true });
		}
		for (const { isDirectory, path: name } of entries) {
			const there = lstatSync(join(top, name), { throwIfNoEntry: false });
			if (there && there.isDirectory() !== isDirectory) rmSync(join(top, name), { recursive: true });
		}
		execFileSync("tar", ["-xp", ...tarArgs.filter((arg) => !arg.startsWith("--format")), "--exclude=.wh.*", "-f", path, "-C", top]);
	}
	return top;
}

/** A base, a layer over it with everything that layers do, and one that was made by another program in another order. */
async function makeImage(made: Scratch): Promise<string[]> {
	const run = (command: string, ...args: string[]) => execFileSync(command, args, { stdio: "pipe" });
	const base = plant(made.folder("base-tree"), {
		"etc/passwd": "root:x:0:0",
		"etc/old.conf": "old",
		"usr/bin/su": "binary",
		"usr/bin/gone": "x",
		"usr/share/doc/a": "a",
		"usr/share/doc/deep/b": "b",
		"cache/one": "1",
		"cache/sub/two": "2",
		"becomes-dir": "file",
		"becomes-file/inner": "dir",
		"link-dir/kept": "kept",
		"opaque-and-new/below": "below",
		"var/log/mail": "log",
		"var/log/spare": "spare",
		link: { link: "etc/passwd" },
		big: noise(2_500_000, 7),
		null: { node: ["c", "1", "3"] },
		disk: { node: ["b", "8", "17"] },
		fifo: { node: ["p"] },
		"empty/": "",
	});
	run("ln", join(base, "etc/passwd"), join(base, "etc/passwd.hard"));
	run("ln", join(base, "fifo"), join(base, "fifo.hard"));
	run("chmod", "4755", join(base, "usr/bin/su"));
	run("chmod", "1777", join(base, "empty"));
	run("chmod", "2750", join(base, "var/log"));
	run("chown", "-h", "17:18", join(base, "link"), join(base, "var/log"), join(base, "cache/one"));
	run("setfattr", "-n", "security.capability", "-v", "0x0100000200008080000000000000000000000000", join(base, "usr/bin/gone"));
	run("setfattr", "-n", "user.bytes", "-v", "0x00ff80c328", join(base, "var/log"));
	run("setfacl", "-m", "u:1234:rwx,d:u:77:r-x", join(base, "usr/share/doc"));
	run("find", base, "-exec", "touch", "-h", "-d", "2011-12-13T14:15:16.171819202", "{}", "+");

	const second = plant(made.folder("second-tree"), {
		"etc/.wh.old.conf": "",
		"etc/passwd": "root:x:0:0:changed",
		"usr/bin/.wh.gone": "",
		"usr/bin/su": "newer",
		"cache/.wh..wh..opq": "",
		"cache/three": "3",
		"becomes-dir/inside": "x",
		".wh.becomes-dir": "",
		"becomes-file": "now a file",
		"opaque-and-new/.wh..wh..opq": "",
		"opaque-and-new/new": "new",
		".wh.null": "",
		".wh..wh.aufs": "",
		".wh..wh.plnk/77.88": "",
	});
	run("chmod", "6711", join(second, "usr/bin/su"));
	run("setfattr", "-n", "security.capability", "-v", "0x01000002ff008080000000000000000000000000", join(second, "usr/bin/su"));
	run("find", second, "-exec", "touch", "-h", "-d", "2012-12-13T14:15:16.5", "{}", "+");

	const paths = ["base", "second"].map((name) => join(made.path, `${name}.tar`));
	run("tar", "-c", ...tarArgs, "-f", paths[0] as string, "-C", base, ".");
	run("tar", "-c", ...tarArgs, "-f", paths[1] as string, "-C", second, ".");
	writeFileSync(paths[1] as string, gzipSync(readFileSync(paths[1] as string)));
	const third = join(made.path, "third.tar");
	const mtime = Date.parse("2013-01-02T03:04:05Z") / 1000;
	const put = (name: string, header: Partial<RawEntry> = {}, data = ""): RawEntry => ({ name, mtime, ...header, data });
	const entries = [
		// the directories of the first three are nowhere in the archive
		put("var/log/.wh.mail"),
		put("usr/share/doc/deep/c", { uid: 5 }, "c"),
		put("new/implied/file", {}, "first"),
		put("new/implied/file", { mode: 0o600 }, "the last one wins"),
		put("late/x", {}, "x"),
		put("late", { type: "5", mode: 0o1700, uid: 3, gid: 4 }),
		put("link-dir", { type: "2", link: "etc" }),
		put("etc/.wh.passwd.hard"),
		put("cache/two", { pax: { mtime: "1357095845.000000001", "SCHILY.xattr.user.note": "é" } }, "2"),
		put("long", { pax: { path: `${"long/".repeat(60)}name` } }, "long"),
	];
	writeFileSync(third, Buffer.concat([...entries.map(raw), END]));
	return [...paths, third];
}

/** Neither the archive nor anything else says when a directory was made that only other names imply. */
const implied = /^(var|var\/log|usr|usr\/share|usr\/share\/doc|usr\/share\/doc\/deep|new|new\/implied|etc|cache|long(\/long)*|\.)$/;

test("three layers of an image, unpacked and served, are what applying them one after another gives", {
	skip: skip || cannotMount("ext4"),
}, async (t) => {
	const made = scratch(t);
	const disk = made.mount("ext4");
	const archives = await makeImage(made);
	const classic = applyClassically(made, archives);
	const run = runHoldfast(["unpack", ...archives, join(disk, "image")]);
	assert.equal(run.code, 0, run.stderr);
	const [three, two, one, command] = run.stdout.trimEnd().split("\n");
	assert.deepEqual(
		[three, two, one],
		[3, 2, 1].map((number) => join(disk, "image", `${number}`)),
	);
	assert.equal(command, `holdfast serve --lower ${three} --lower ${two} --lower ${one} --upper ${join(disk, "image/upper")} --create`);
	assert.match(run.stderr, /\.wh\.\.wh\.[^\n]*aufs/, "metadata of aufs is noted");
	assert.deepEqual(readdirSync(join(disk, "image")).sort(), ["1", "2", "3"]);

	const expected = snapshotTree(classic);
	const timeless = (tree: ReadonlyMap<string, string>) =>
		new Map([...tree].map(([path, line]) => [path, implied.test(path) ? line.replace(/ mtime=\d+/, "") : line]));
	const merged = made.folder("merged");
	const lowers = [three, two, one] as string[];
	execFileSync("mount", ["-t", "overlay", "-o", `ro,lowerdir=${lowers.join(":")}`, "overlay", merged]);
	made.beforeRemoval(() => execFileSync("umount", [merged]));
	assertSameTree(timeless(expected), timeless(snapshotTree(merged)), "the kernel's overlayfs over the layers");
	assert.equal(
		lstatSync(join(merged, "var/log"), { bigint: true }).mtimeNs,
		lstatSync(join(one as string, "var/log"), { bigint: true }).mtimeNs,
	);

	const server = await startServer(made, { lowers, upper: join(disk, "image/upper"), args: ["--state-dir", made.folder("state")] });
	await assertServed(made, server, classic, true);
});

/** The served tree is that one. `isReal`: with link counts, and owners of symlinks. */
async function assertServed(made: Scratch, server: ServerProcess, classic: string, isReal: boolean): Promise<void> {
	const client = await server.client();
	made.beforeRemoval(() => client.close());
	const tree = await client.tree(await client.root());
	const paths = [...snapshotTree(classic).keys()].filter((path) => path !== ".").sort();
	assert.deepEqual([...tree.keys()].sort(), paths);
	for (const [path, { handle, attributes }] of tree) {
		const stat = lstatSync(join(classic, path), { bigint: true });
		const isLink = attributes.type === FileType3.lnk;
		assert.equal(attributes.mode, Number(stat.mode & 0o7777n), `mode of ${path}`);
		if (isReal || !isLink) assert.deepEqual([attributes.uid, attributes.gid], [Number(stat.uid), Number(stat.gid)], `owner of ${path}`);
		assert.equal(attributes.type, TYPES[Number(stat.mode >> 12n)], `type of ${path}`);
		if (attributes.type === FileType3.chr || attributes.type === FileType3.blk) {
			const rdev = Number(stat.rdev);
			assert.deepEqual(attributes.rdev, [(rdev >>> 8) & 0xfff, rdev & 0xff], `device of ${path}`);
		}
		if (attributes.type === FileType3.reg) {
			assert.deepEqual(await client.readFile(handle), readFileSync(join(classic, path)), `contents of ${path}`);
			if (isReal) assert.equal(attributes.nlink, Number(stat.nlink), `links of ${path}`);
		} else if (isLink) {
			assert.equal((await ok(client.readlink(handle), "READLINK")).target, readlinkSync(join(classic, path)));
		}
	}
}

/** By S_IFMT >> 12. */
const TYPES: Readonly<Record<number, number>> = {
	1: FileType3.fifo,
	2: FileType3.chr,
	4: FileType3.dir,
	6: FileType3.blk,
	8: FileType3.reg,
	10: FileType3.lnk,
};

test("--fake-root: an ordinary user unpacks the same image, and serve --fake-root shows what applying its layers one after another gives", {
	skip: skip || cannotMount("ext4"),
}, async (t) => {
	const made = scratch(t);
	const disk = made.mount("ext4");
	const user = ordinaryUser(made);
	chmodSync(disk, 0o777);
	const archives = await makeImage(made);
	const classic = applyClassically(made, archives);
	const run = runHoldfast(["unpack", "--fake-root", "--json", ...archives, join(disk, "image")], { user });
	assert.equal(run.code, 0, run.stderr);
	const { lowers, upper, serve, layers } = JSON.parse(run.stdout);
	assert.deepEqual(serve.slice(0, 3), ["holdfast", "serve", "--fake-root"]);
	const notes = layers.flatMap(({ notes: some }: { notes: string[] }) => some).join("\n");
	assert.match(notes, /superuser/, "capabilities were left out");
	assert.match(notes, /symlink of somebody else/);
	for (const path of snapshotTree(join(disk, "image")).values()) assert.doesNotMatch(path, / uid=0 /);
	const marks = readXattrs(join(disk, "image"));
	assert.match(marks.get("2/etc/.wh.x") ?? marks.get("2/etc") ?? "", /user\.overlay\.opaque=0x78/);
	assert.match(marks.get("2/etc/old.conf") ?? "", /user\.overlay\.whiteout=/);
	assert.match(marks.get("2/cache") ?? "", /user\.overlay\.opaque=0x79/);
	for (const folder of [upper, `${upper}.work`, join(disk, "state")]) mkdirSync(folder);
	giveTo(user, upper, `${upper}.work`, join(disk, "state"));
	const server = await startServer(made, { lowers, upper, user, args: ["--state-dir", join(disk, "state"), "--fake-root"] });
	await assertServed(made, server, classic, false);
});

test("--fake-root: whiteouts in opaque directories leave nothing behind, and no archive says what an owner is", { skip }, (t) => {
	const made = scratch(t);
	const user = ordinaryUser(made);
	chmodSync(made.path, 0o777);
	const planted = { "SCHILY.xattr.user.containers.override_stat": "0:0:04755:block-8-0", "SCHILY.xattr.user.overlay.whiteout": "y" };
	const path = archive(
		made,
		"a.tar",
		{ name: "opaque/.wh.one" },
		{ name: "opaque/.wh..wh..opq" },
		{ name: "opaque/.wh.two" },
		{ name: "d/.wh.gone" },
		{ name: "d/.wh.back" },
		{ name: "d/back/file", data: "x" },
		{ name: "planted", data: "", pax: planted },
		{ name: "disk", type: "4", device: [8, 1], mode: 0o660, uid: 5 },
		{ name: "locked", type: "5", mode: 0 },
		{ name: "locked/file", mode: 0, data: "x" },
		{ name: "fifo", type: "6" },
		{ name: "other", type: "1", link: "fifo" },
		{ name: "h", type: "1", link: "locked/file" },
	);
	const out = join(made.path, "out");
	const run = runHoldfast(["unpack", "--fake-root", path, out], { user });
	assert.equal(run.code, 0, run.stderr);
	assert.deepEqual(readdirSync(join(out, "1/opaque")), []);
	assert.deepEqual(readdirSync(join(out, "1/d")).sort(), ["back", "gone"]);
	const marks = readXattrs(join(out, "1"));
	assert.equal(marks.get("planted") ?? "", "");
	assert.match(marks.get("d/back") ?? "", /user\.overlay\.opaque=0x79/);
	const text = (name: string) => Buffer.from(/override_stat=0x([0-9a-f]+)/.exec(marks.get(name) ?? "")?.[1] ?? "", "hex").toString();
	assert.equal(text("disk"), "5:0:0660:block-8-1");
	assert.equal(text("locked"), "0:0:00");
	assert.match(text("fifo"), /:pipe$/);
	assert.equal(lstatSync(join(out, "1/h")).ino, lstatSync(join(out, "1/locked/file")).ino);
	assert.equal(lstatSync(join(out, "1/disk")).uid, user.uid);
});

interface RandomLayer {
	/** By the folder d0, d1, d0/d0 and so on: whether it has an entry of its own, whether it is opaque, and its mode. */
	readonly folders: readonly { readonly at: number; readonly hasEntry: boolean; readonly isOpaque: boolean; readonly mode: number }[];
	/** Names in these folders. */
	readonly names: readonly {
		readonly at: number;
		readonly name: string;
		readonly kind: "file" | "symlink" | "folder" | "whiteout";
		readonly data: string;
		readonly uid: number;
	}[];
}

const FOLDERS = ["", "d0/", "d1/", "d0/d0/", "d0/d1/", "d1/d0/d0/"];

/** In the order in which docker writes them: a folder before what is in it, whiteouts first. A name that is repeated counts once. */
function randomEntries({ folders, names }: RandomLayer): RawEntry[] {
	const entries = new Map<string, RawEntry>();
	for (const { at, hasEntry, isOpaque, mode } of folders) {
		const folder = FOLDERS[at] as string;
		if (hasEntry && folder !== "") entries.set(folder, { name: folder, type: "5", mode, uid: 5 });
		if (isOpaque && folder !== "") entries.set(`${folder}.wh..wh..opq`, { name: `${folder}.wh..wh..opq` });
	}
	for (const { at, name, kind, data, uid } of names) {
		const path = `${FOLDERS[at]}${name}`;
		if (kind === "whiteout") entries.set(`${FOLDERS[at]}.wh.${name}`, { name: `${FOLDERS[at]}.wh.${name}` });
		else if (kind === "folder") entries.set(`${path}`, { name: `${path}/`, type: "5", mode: 0o710, uid });
		else if (kind === "symlink") entries.set(path, { name: path, type: "2", link: data, uid });
		else entries.set(path, { name: path, data, uid });
	}
	return [...entries].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, entry]) => entry);
}

test("random layers, unpacked and served, are what applying them one after another gives", {
	skip: skip || cannotMount("tmpfs"),
}, async (t) => {
	const made = scratch(t);
	const at = fc.nat(FOLDERS.length - 1);
	const name = fc.constantFrom("f", "g", "h");
	const layer: fc.Arbitrary<RandomLayer> = fc.record({
		folders: fc.array(fc.record({ at, hasEntry: fc.boolean(), isOpaque: fc.boolean(), mode: fc.constantFrom(0o700, 0o755, 0o2775) }), {
			maxLength: 5,
		}),
		names: fc.array(
			fc.record({
				at,
				name,
				kind: fc.constantFrom("file", "file", "symlink", "folder", "whiteout"),
				data: fc.constantFrom("x", "yy"),
				uid: fc.nat(3),
			}),
			{ maxLength: 10 },
		),
	});
	const memory = made.mount("tmpfs");
	let runs = 0;
	await fc.assert(
		fc.asyncProperty(fc.array(layer, { minLength: 2, maxLength: 4 }), async (layers) => {
			const archives = layers.map((one, place) => archive(made, `random-${place}.tar`, ...randomEntries(one)));
			rmSync(join(made.path, "classic"), { recursive: true, force: true });
			const classic = applyClassically(made, archives);
			const directory = join(memory, `out-${runs}`);
			const unpackedLayers = await unpackLayers({ archives, directory, progress: () => {}, signal: new AbortController().signal });
			// the kernel itself lists whiteouts that hide nothing, in directories that one layer alone has
			const lowers = unpackedLayers.map((one) => one.directory).reverse();
			const server = await startServer(made, { lowers, args: ["--state-dir", made.folder(`state-${runs++}`)] });
			await assertServed(made, server, classic, true);
			await server.kill();
		}),
		{ numRuns: 12, seed: 20_261_201, endOnFailure: true },
	);
});

test("JSON, standard input, and layers that are empty", { skip }, (t) => {
	const made = scratch(t);
	const base = archive(made, "base.tar", { name: "a", data: "1" });
	const empty = archive(made, "empty.tar");
	const input = gzipSync(
		Buffer.concat([raw({ name: "/b", data: "2" }), raw({ name: "c", pax: { "SCHILY.xattr.trusted.overlay.redirect": "/etc" } }), END]),
	);
	const out = join(made.path, "out");
	const run = spawnSync(process.execPath, [main, "unpack", base, "-", empty, out, "--json"], { input });
	assert.equal(run.status, 0, run.stderr.toString());
	const report = JSON.parse(run.stdout.toString());
	assert.deepEqual(report.lowers, [join(out, "3"), join(out, "2"), join(out, "1")]);
	assert.deepEqual(report.serve.slice(0, 3), ["holdfast", "serve", "--lower"]);
	assert.equal(report.layers[1].entries, 2);
	assert.equal(report.layers[1].notes.length, 2);
	assert.equal(readFileSync(join(out, "2/b"), "utf8"), "2");
	assert.deepEqual(readdirSync(join(out, "3")), []);
	assert.equal(execFileSync("getfattr", ["-d", "-m", "-", join(out, "2/c")], { encoding: "utf8" }), "", "no redirect was planted");
});

test("bytes, times, long names and attributes come out as GNU tar takes them out", { skip }, (t) => {
	const made = scratch(t);
	const source = made.folder("source");
	const run = (command: string, ...args: string[]) => execFileSync(command, args, { stdio: "pipe", cwd: source });
	const odd = Buffer.from(Array.from({ length: 255 }, (_, index) => index + 1).filter((byte) => byte !== 0x2f));
	const oddPath = Buffer.concat([Buffer.from(`${source}/`), odd]);
	writeFileSync(oddPath, "odd");
	execFileSync(
		"bash",
		["-c", `ln -s "$(printf '\\377\\376')" "$(printf 'l\\200')"; ln "$(printf 'l\\200')" "$(printf 'h\\377')"; mkdir "$(printf 'd\\301')"`],
		{ cwd: source },
	);
	mkdirSync(join(source, "x".repeat(200), "y".repeat(200)), { recursive: true });
	writeFileSync(join(source, "x".repeat(200), "y".repeat(200), "z".repeat(250)), "z");
	run("ln", "-s", "t".repeat(300), "long-link");
	run(
		"setfattr",
		"-n",
		"user.all",
		"-v",
		`0x${Buffer.from(Array.from({ length: 256 }, (_, index) => index)).toString("hex")}`,
		"x".repeat(200),
	);
	plant(source, { old: "", future: "", hole: "" });
	run("touch", "-d", "1960-01-02T03:04:05.25", "old");
	run("touch", "-d", "2100-01-02T03:04:05.999999999", "future");
	run("chown", "4000000000:4000000001", "future");
	run("chmod", "7777", "old");
	const list = (top: string) => {
		const find = execFileSync("find", [top, "-mindepth", "1", "-printf", "%y %m %U %G %T@ %n %s %l %P\\0"], { encoding: "latin1" });
		const xattrs = execFileSync("getfattr", ["-Rhdm", "-", "-e", "hex", "."], { cwd: top, encoding: "latin1" });
		return {
			find: find
				.split("\0")
				.map((line) => line.replace(/^(d .*?) \d+ \d+ {2}/, "$1 "))
				.sort(),
			xattrs: xattrs.split("\n\n").sort(),
		};
	};
	for (const format of ["posix", "gnu"]) {
		const path = join(made.path, `${format}.tar`);
		execFileSync("tar", [
			"-c",
			`--format=${format}`,
			...(format === "posix" ? ["--xattrs", "--xattrs-include=*"] : []),
			"-f",
			path,
			"-C",
			source,
			".",
		]);
		const reference = made.folder(`reference-${format}`);
		execFileSync("tar", ["-xp", "--xattrs", "--xattrs-include=*", "-f", path, "-C", reference]);
		assert.deepEqual(list(join(unpacked(made, path), "1")), list(reference), format);
		if (format === "posix") assert.deepEqual(list(reference), list(source), "the archive holds all that the tree has");
	}
});

test("repeated entries, whiteouts beside what they hide, and directories that come late", { skip }, (t) => {
	const made = scratch(t);
	const out = join(
		unpacked(
			made,
			archive(
				made,
				"a.tar",
				{ name: "f", data: "first" },
				{ name: "hard", type: "1", link: "f" },
				{ name: "f", data: "last" },
				{ name: "dir/sub/x", data: "x" },
				{ name: "dir", data: "a file now" },
				{ name: "file", data: "x" },
				{ name: "file/", type: "5", mode: 0o700 },
				{ name: "file/in", data: "x" },
				{ name: ".wh.both" },
				{ name: "both", data: "here" },
				{ name: "one" },
				{ name: ".wh.one" },
				{ name: ".wh.seen" },
				{ name: "seen/in", data: "x" },
				{ name: "seen", type: "5", mode: 0o711 },
				{ name: "self", data: "self" },
				{ name: "./self", type: "1", link: "/self" },
				{ name: "old-directory/", data: "" },
				{ name: "./", type: "5", mode: 0o750 },
			),
		),
		"1",
	);
	assert.equal(readFileSync(join(out, "f"), "utf8"), "last");
	assert.equal(readFileSync(join(out, "hard"), "utf8"), "first");
	assert.equal(readFileSync(join(out, "dir"), "utf8"), "a file now");
	assert.equal(lstatSync(join(out, "file")).mode, 0o40700);
	assert.equal(readFileSync(join(out, "both"), "utf8"), "here");
	assert.ok(lstatSync(join(out, "one")).isFile());
	assert.equal(readFileSync(join(out, "self"), "utf8"), "self");
	assert.ok(lstatSync(join(out, "old-directory")).isDirectory());
	assert.equal(lstatSync(out).mode, 0o40750);
	assert.equal(lstatSync(join(out, "seen")).mode, 0o40711);
	assert.match(
		execFileSync("getfattr", ["-n", "trusted.overlay.opaque", join(out, "seen")], {
			encoding: "utf8",
			stdio: ["ignore", "pipe", "ignore"],
		}),
		/="y"/,
	);
});

test("a name below a symlink of the same archive leads where it would lead a process whose root is the layer", { skip }, (t) => {
	const made = scratch(t);
	const victim = plant(made.folder("victim"), { "etc/shadow": "secret", "dir/": "" });
	const before = snapshotTree(victim, { exact: true });
	const out = join(
		unpacked(
			made,
			archive(
				made,
				"a.tar",
				{ name: "usr/lib/", type: "5", mode: 0o711 },
				{ name: "lib", type: "2", link: "usr/lib" },
				{ name: "lib/a", data: "relative" },
				{ name: "lib/sub/b", data: "made on the way" },
				{ name: "usr/up", type: "2", link: "../../../.." },
				{ name: "usr/up/c", data: "the root has no parent" },
				{ name: "way", type: "2", link: victim },
				{ name: "way/etc/shadow", data: "inside" },
				{ name: "way/.wh.dir" },
				{ name: "two", type: "2", link: "lib/./sub/../../bin" },
				{ name: "two/d", data: "over two links" },
				{ name: "hard", type: "1", link: "two/d" },
				{ name: "opaque", type: "2", link: "/lib/sub" },
				{ name: "opaque/.wh..wh..opq" },
				// from here on the name leads elsewhere
				{ name: "opaque/self", type: "2", link: "." },
				{ name: "opaque/self/self/e", data: "round" },
				{ name: "lib", type: "5", mode: 0o700 },
				{ name: "lib/f", data: "a directory now" },
			),
		),
		"1",
	);
	const text = (path: string) => readFileSync(join(out, path), "utf8");
	assert.equal(text("usr/lib/a"), "relative");
	assert.equal(text("usr/lib/sub/b"), "made on the way");
	assert.equal(text("c"), "the root has no parent");
	assert.equal(text(join(victim, "etc/shadow")), "inside");
	assert.equal(text("usr/bin/d"), "over two links");
	assert.equal(text("usr/lib/sub/e"), "round");
	assert.equal(text("lib/f"), "a directory now");
	assert.equal(lstatSync(join(out, "hard")).ino, lstatSync(join(out, "usr/bin/d")).ino);
	assert.equal(lstatSync(join(out, "usr/lib")).mode, 0o40711);
	assert.equal(lstatSync(join(out, "lib")).mode, 0o40700);
	assert.ok(lstatSync(join(out, victim, "dir")).isCharacterDevice(), "the whiteout lies inside");
	assert.match(readXattrs(out).get("usr/lib/sub") ?? "", /trusted\.overlay\.opaque=0x79/);
	assertSameTree(before, snapshotTree(victim, { exact: true }), "the folder of that name outside");
});

test("user xattrs of what can have none are left out with a note; directories behind their whiteouts are root's", { skip }, (t) => {
	const made = scratch(t);
	const pax = { "SCHILY.xattr.user.note": "x" };
	const base = archive(
		made,
		"base.tar",
		{ name: "d/", type: "5", mode: 0o700, uid: 7 },
		{ name: "d/in/", type: "5", mode: 0o711, uid: 8 },
		{ name: "e/", type: "5", mode: 0o701, uid: 9 },
		{ name: "e/in/", type: "5", mode: 0o711, uid: 8 },
		{ name: "f/", type: "5", mode: 0o705, uid: 9 },
	);
	const top = archive(
		made,
		"top.tar",
		{ name: "link", type: "2", link: "x", pax },
		{ name: "fifo", type: "6", pax },
		{ name: "file", data: "x", mtime: -1, pax },
		{ name: ".wh.d" },
		{ name: "d/in/file", data: "x" },
		{ name: "f/in/file", data: "x" },
		{ name: ".wh.f" },
		{ name: "e/.wh..wh..opq" },
		{ name: "e/in/file", data: "x" },
	);
	const out = join(made.path, "out");
	const run = runHoldfast(["unpack", base, top, out]);
	assert.equal(run.code, 0, run.stderr);
	assert.match(run.stderr, /"link" and 1 more: its user extended attributes were left out/);
	const look = (path: string) => {
		const { mode, uid } = lstatSync(join(out, "2", path));
		return [(mode & 0o7777).toString(8), uid];
	};
	for (const path of ["d", "d/in", "f", "f/in", "e/in"]) assert.deepEqual(look(path), ["755", 0], path);
	assert.deepEqual(look("e"), ["701", 9], "an opaque directory is still the one below");
	assert.equal(lstatSync(join(out, "2/file"), { bigint: true }).mtimeNs, -1_000_000_000n);
});

test("twelve layers of directories as deep as a path can be need no descriptor for each", { skip: skip || needs("prlimit") }, async (t) => {
	const made = scratch(t);
	const path = `${"d/".repeat(2047)}f`;
	// the owner is to be found in the lowest layer, at the same depth
	const base = archive(made, "base.tar", { name: "x", type: "5", uid: 5, mode: 0o750, pax: { path: path.slice(0, -2) } });
	const deep = archive(made, "deep.tar", { name: "x", data: "x", pax: { path } });
	const memory = made.mount("tmpfs");
	const out = join(memory, "out");
	const archives = [base, ...Array.from({ length: 11 }, () => deep)];
	const limited = (...args: string[]) => spawnSync("prlimit", ["--nofile=128:128", process.execPath, main, "unpack", ...args]);
	const run = limited(...archives, out);
	assert.equal(run.status, 0, run.stderr.toString());
	const found = execFileSync("find", [join(out, "12"), "-depth", "-printf", "%d %y %U %m\\n"], { encoding: "utf8" }).split("\n");
	assert.deepEqual(found.slice(0, 3), ["2048 f 0 644", "2047 d 5 750", "2046 d 0 755"]);
	// what is removed again is as deep
	const refused = limited(deep, archive(made, "evil.tar", { name: "../x", data: "x" }), join(memory, "refused"));
	assert.equal(refused.status, 1);
	assert.match(refused.stderr.toString(), /"\.\."/);
	assert.equal(existsSync(join(memory, "refused")), false);
});

test("what cannot be unpacked is refused with a sentence, and nothing lies outside or remains", { skip }, async (t) => {
	const made = scratch(t);
	const victim = plant(made.folder("victim"), { "etc/shadow": "secret", "dir/": "" });
	const before = snapshotTree(made.path, { ignore: (path) => path.endsWith(".tar") || path === "." });
	const up = `../../victim/etc/shadow`;
	const absolute = join(victim, "etc/shadow");
	const toVictim: RawEntry = { name: "way", type: "2", link: victim };
	const evil: [sentence: RegExp, ...entries: RawEntry[]][] = [
		[/"\.\."/, { name: "../victim/x", data: "x" }],
		[/"\.\."/, { name: "a/../../../victim/x", data: "x" }],
		[/"\.\."/, { name: "a/..", type: "5" }],
		[/"\.\."/, { name: "x", pax: { path: "../victim/x" } }],
		[/40 symlinks/, { name: "a", type: "2", link: "b" }, { name: "b", type: "2", link: "a" }, { name: "a/x", data: "x" }],
		[/40 symlinks/, { name: "a", type: "2", link: "a/a" }, { name: "a/.wh.x" }],
		[/4095 bytes/, { name: "a", type: "2", pax: { linkpath: "d/".repeat(2000) } }, { name: "x", pax: { path: `a/${"e/".repeat(2000)}x` } }],
		[/no directory/, { name: "f", data: "x" }, { name: "s", type: "2", link: "f" }, { name: "s/x", data: "x" }],
		[/no directory/, { name: "null", type: "3", device: [1, 3] }, { name: "s", type: "2", link: "null" }, { name: "s/x/y", data: "x" }],
		[/hard link.*"\.\."|"\.\."/, { name: "h", type: "1", link: up }],
		[/hard link to/, { name: "h", type: "1", link: absolute }],
		[/hard link to/, toVictim, { name: "h", type: "1", link: "way/etc/shadow" }],
		[/hard link to "only-below", which this archive does not have/, { name: "h", type: "1", link: "only-below" }],
		[/hard link to "w", which this archive does not have/, { name: ".wh.w" }, { name: "h", type: "1", link: "w" }],
		[/is a directory/, { name: "d", type: "5" }, { name: "h", type: "1", link: "d" }],
		[/is a directory/, { name: "h", type: "1", link: "" }],
		[/names nothing/, { name: ".wh." }],
		[/names nothing/, { name: "d/.wh.." }],
		[/names nothing/, { name: "d/.wh..." }],
		[/lies in a whiteout/, { name: ".wh.d/x", data: "x" }],
		[/0:0/, { name: "w", type: "3", device: [0, 0] }],
		[/device number/, { name: "w", type: "4", device: [9000, 1] }],
		[/no directory/, { name: "f", data: "x" }, { name: "f/x", data: "x" }],
		[/no directory/, { name: "f", data: "x" }, { name: "f/.wh.x" }],
		[/root of the layer/, { name: "./", type: "2", link: victim }],
		[/root of the layer/, { name: "/", data: "", type: "0", pax: { path: "." } }],
		[/"bad\\x1b\[31m\\x0aname"/, { name: "bad\x1b[31m\nname", type: "3" }],
		[/NUL/, { name: "x", pax: { path: "a\0b" } }],
		[/255 bytes/, { name: "x", pax: { path: "n".repeat(256) } }],
		[/4095 bytes/, { name: "x", pax: { path: "n/".repeat(3000) } }],
		[/cut off/, { name: "x", data: "", size: 0o77777777777 }],
		[/size|damaged/, { name: "x", pax: { size: "99999999999999999999999" } }],
		[/size|damaged/, { name: "x", pax: { size: "-5" } }],
		[/uid/, { name: "x", pax: { uid: "4294967295" } }],
		[/mtime/, { name: "x", pax: { mtime: "yesterday" } }],
		[/symlink whose target/, { name: "x", type: "2" }],
		[/sparse/, { name: "x", pax: { "GNU.sparse.major": "1", "GNU.sparse.minor": "0" } }],
		[/sparse/, { name: "x", pax: { "GNU.sparse.major": "7", "GNU.sparse.minor": "0" } }],
		[/sparse/, { name: "x", type: "5", pax: { "GNU.sparse.map": "", "GNU.sparse.size": "7" } }],
		[/sparse/, { name: "x", data: "12", pax: { "GNU.sparse.map": "5,2", "GNU.sparse.size": "6" } }],
		[/sparse/, { name: "x", data: "12", pax: { "GNU.sparse.map": "5,1,5,1", "GNU.sparse.size": "9" } }],
		[/sparse/, { name: "x", data: "12", pax: { "GNU.sparse.map": "5,3", "GNU.sparse.size": "9" } }],
		[/sparse/, { name: "x", data: "12", pax: { "GNU.sparse.map": "5,2", "GNU.sparse.size": "99999999999999999" } }],
		[/sparse/, { name: "x", data: "9999999\n", pax: { "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" } }],
		[/sparse/, { name: "x", type: "S", data: "12" }],
		[/type "V"/, { name: "x", type: "V" }],
		[/type "\\x1b"/, { name: "x", type: "\x1b" }],
		[/name of a directory/, { name: "x/", data: "content" }],
		[/too long/, { name: "x", pax: { [`SCHILY.xattr.user.${"n".repeat(300)}`]: "" } }],
		[/one path to all/, { name: "g", type: "g", data: paxRecords({ path: "everything" }) }, { name: "x" }],
		[/PAX header/, { name: "x", type: "x", data: "17 nonsense" }, { name: "y" }],
		[/PAX header/, { name: "x", type: "x", data: "99999999999999999999 a=b\n" }, { name: "y" }],
		[/cut off/, { name: "y" }, { name: "x", type: "x", data: paxRecords({ path: "y" }) }],
		[/cut off/, { name: "y" }, { name: "x", type: "L", data: "y\0" }],
		[/4 MiB/, { name: "x", type: "x", size: 5_000_000 }],
		[/damaged/, { name: "x", type: "x", data: "12345" }, { name: "z" }],
	];
	for (const [sentence, ...entries] of evil) {
		const path = archive(made, "evil.tar", { name: "innocent", data: "x" }, ...entries);
		assert.match(await assertRefused(made, [path], sentence), /evil\.tar/);
		assertSameTree(
			before,
			snapshotTree(made.path, { ignore: (each) => each.endsWith(".tar") || each === "." }),
			`outside of the layer, after ${entries.map(({ name }) => name)}`,
		);
	}
	rmSync(join(made.path, "evil.tar"));
	const printed = runHoldfast([
		"unpack",
		archive(made, "evil.tar", { name: "a", data: "x" }, { name: "../b", data: "x" }),
		join(made.path, "out"),
	]);
	assert.equal(printed.code, 1);
	assert.match(printed.stderr, /^holdfast: Cannot unpack the entry "\.\.\/b" of [^\n]*evil\.tar: [^\n]+\.\n$/);
	assert.equal(printed.stdout, "");
	assert.equal(existsSync(join(made.path, "out")), false);
	const below = archive(made, "below.tar", { name: "only-below", data: "x" });
	await assertRefused(
		made,
		[below, archive(made, "above.tar", { name: "h", type: "1", link: "only-below" })],
		/"h" of .*above\.tar.*hard link to "only-below"/,
	);
});

/** Of the last block of a zstd frame, which is kept as it is. */
function blockHeader(length: number): Buffer {
	const header = Buffer.alloc(3);
	header.writeUIntLE((length << 3) | 1, 0, 3);
	return header;
}

test("archives that are cut off, damaged, of another kind, or several in one", { skip }, async (t) => {
	const made = scratch(t);
	const whole = Buffer.concat([
		raw({ name: "f", data: noise(1500) }),
		raw({ name: "x".repeat(90), pax: { mtime: "1.5" }, data: "x" }),
		END,
	]);
	for (let length = 0; length < whole.length - 512; length += 256) {
		await assertRefused(made, [made.file("cut.tar", whole.subarray(0, length))], /cut off|empty/);
	}
	const zipped = gzipSync(whole);
	for (const length of [1, 2, 9, 100, zipped.length - 9, zipped.length - 1]) {
		await assertRefused(made, [made.file("cut.tgz", zipped.subarray(0, length))], /cut off|no tar archive/);
	}
	const damaged = Buffer.from(zipped);
	damaged.fill(0x55, 200, 260);
	await assertRefused(made, [made.file("damaged.tgz", damaged)], /damaged|cut off/);
	assert.deepEqual(gunzipSync(zipped), whole);
	await assertRefused(made, [made.file("two.tar", Buffer.concat([whole, whole]))], /several archives/);
	await assertRefused(made, [made.file("text", "just a text\n".repeat(100))], /no tar archive/);
	await assertRefused(made, [made.file("x.bz2", Buffer.from("425a6839314159265359", "hex"))], /bzip2 -d/);
	await assertRefused(made, [made.folder("directory")], /directory/);
	await assertRefused(made, [join(made.path, "absent.tar")], /no such file/);
	// one frame, not compressed, that holds a tar archive: each Node.js that knows zstd must see where it is cut off
	const zstd = Buffer.concat([Buffer.from("28b52ffd0058", "hex"), blockHeader(whole.length), whole]);
	for (const length of [5, 6, 9, zstd.length - 600, zstd.length - 1]) {
		await assertRefused(made, [made.file("x.zst", zstd.subarray(0, length))], /zstd, which Node\.js|cut off/);
	}
	// a gzip archive proves by its checksum that it is whole, and some programs leave the end mark out
	const markless = made.file("markless.tgz", gzipSync(whole.subarray(0, whole.length - 1024)));
	assert.equal(lstatSync(join(unpacked(made, markless), "1/f")).size, 1500);
});

test("a signal ends it within one large file, and nothing is left", { skip }, async (t) => {
	const made = scratch(t);
	const large = Buffer.concat([raw({ name: "large", data: Buffer.alloc(8 * 2 ** 20) }), END]);
	for (const path of [made.file("a.tar", large), made.file("a.tgz", gzipSync(large))]) {
		const abort = new AbortController();
		const directory = join(made.path, "out");
		const said: string[] = [];
		const progress = (text: () => string) => {
			if (abort.signal.aborted) said.push(text());
		};
		// as a signal comes: between two chunks
		const timer = setImmediate(function again() {
			if (existsSync(join(directory, "1.part/large"))) abort.abort();
			else setImmediate(again);
		});
		const ending = unpackLayers({ archives: [path], directory, progress, signal: abort.signal });
		await assert.rejects(ending, /^UnpackError: Interrupted: nothing was unpacked\.$/);
		clearImmediate(timer);
		assert.deepEqual(said, ["removing what was unpacked"], "nothing more was read");
		assert.equal(existsSync(directory), false);
	}
});

test("nothing is overwritten, and an ordinary user is told what is missing", { skip }, (t) => {
	const made = scratch(t);
	const path = archive(made, "a.tar", { name: "a", data: "x" });
	const out = unpacked(made, path);
	const before = snapshotTree(out, { exact: true });
	const again = runHoldfast(["unpack", path, out]);
	assert.equal(again.code, 1);
	assert.match(again.stderr, /has a 1 already/);
	mkdirSync(join(made.path, "half/2"), { recursive: true });
	assert.match(runHoldfast(["unpack", path, path, join(made.path, "half")]).stderr, /has a 2 already/);
	assert.deepEqual(readdirSync(join(made.path, "half")), ["2"]);
	assertSameTree(before, snapshotTree(out, { exact: true }), "the layers that were there");
	assert.match(runHoldfast(["unpack", path, path]).stderr, /no directory/);
	assert.match(runHoldfast(["unpack", path, join(made.path, "no/such")]).stderr, /no folder above/);
	assert.match(runHoldfast(["unpack", "-", "-", join(made.path, "twice")]).stderr, /twice/);
	assert.equal(runHoldfast(["unpack", path]).code, 2);
	execFileSync("chmod", ["777", made.path]);
	const user = runHoldfast(["unpack", path, join(made.path, "users")], { uid: 65534 });
	assert.equal(user.code, 1);
	assert.match(user.stderr, /needs root.*CAP_CHOWN/);
	assert.equal(existsSync(join(made.path, "users")), false);
});

test("an archive with any bytes changed is unpacked or refused, and never leaves its directory", { skip }, async (t) => {
	const made = scratch(t);
	const victim = plant(made.folder("victim"), { "a/f": "secret" });
	const before = snapshotTree(victim, { exact: true });
	const entries: RawEntry[] = [
		{ name: "a/", type: "5" },
		{ name: "a/f", data: "content", pax: { mtime: "12.5", "SCHILY.xattr.user.x": "y", path: "a/f" } },
		{ name: "s", type: "2", link: "../../victim/a" },
		{ name: "t/f", data: "x" },
		{ name: "h", type: "1", link: "a/f" },
		{ name: "t/.wh.g" },
		{ name: "a/.wh..wh..opq" },
		{ name: "n", type: "3", device: [1, 3] },
	];
	const names = [
		"a",
		"a/f",
		"s",
		"s/f",
		"t",
		"../victim/a/f",
		"/a",
		".wh.a",
		"s/.wh.f",
		"a/.wh..wh..opq",
		"h",
		"./",
		"a/..",
		".wh..",
		"s/a/b",
		"",
	];
	const entry = fc.record({
		name: fc.constantFrom(...names),
		type: fc.constantFrom("0", "1", "2", "3", "5", "6", "x", "L", "g", "K"),
		link: fc.constantFrom(...names, victim, "../../victim", "../2"),
		data: fc.constantFrom("", "x", "s/f\0", "../victim/a/f", "13 path=s/f\n\n", "12 path=s/f\n", "30 SCHILY.xattr.user.x=12345\n"),
	});
	const change = fc.record({ at: fc.nat(), byte: fc.nat(255) });
	let count = 0;
	await fc.assert(
		fc.asyncProperty(fc.array(entry, { maxLength: 8 }), fc.array(change, { maxLength: 3 }), fc.boolean(), async (extra, changes, fixed) => {
			const bytes = Buffer.concat([...entries, ...extra].map(raw));
			if (!fixed) for (const { at, byte } of changes) bytes[at % bytes.length] = byte;
			const path = made.file("random.tar", Buffer.concat([bytes, END]));
			const out = join(made.path, `random-${count++}`);
			try {
				await unpackLayers({ archives: [path], directory: out, progress: () => {}, signal: new AbortController().signal });
				assert.deepEqual(readdirSync(out), ["1"]);
				rmSync(out, { recursive: true });
			} catch (error) {
				assert.ok(error instanceof UnpackError, `${(error as Error).stack}`);
				assert.equal(existsSync(out), false);
			}
			assertSameTree(before, snapshotTree(victim, { exact: true }), "the victim");
		}),
		{ numRuns: 300, seed: 20_261_130 },
	);
});
