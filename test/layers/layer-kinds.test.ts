/** Layers of all kinds: many of them, on every file system that is served, alone and mixed; and those that are refused. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, linkSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { ID_BYTES_MAX } from "../../src/handle/wire-handle.ts";
import { KERNEL_HANDLE_BYTES_MAX } from "../../src/layer/layer.ts";
import { plant, type TreeDescription } from "../support/lower-tree.ts";
import { FileType3, type Nfs3Client, ok } from "../support/nfs3-client.ts";
import { needs, repository, sampled, sbinPath } from "../support/requirements.ts";
import { cannotMount, type FileSystem, type Scratch, scratch } from "../support/scratch.ts";
import { runHoldfast, type ServerOptions, startServer } from "../support/server-process.ts";
import { assertSameTree, snapshotTree, type TreeSnapshot } from "../support/tree-snapshot.ts";

const skip = needs("root");

function run(command: string, ...args: string[]): string {
	return execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, PATH: sbinPath() } });
}

type Objects = Map<string, { readonly handle: Buffer; readonly fileid: bigint }>;

/** Every object by its path. LOOKUP, GETATTR, READDIR and READDIRPLUS must agree on it, and no two may share anything but by a link. */
async function survey(client: Nfs3Client, root: Buffer): Promise<Objects> {
	const objects: Objects = new Map();
	const paths = new Map<bigint, string>();
	for (const [path, { handle, attributes, fileidInListing }] of await client.tree(root)) {
		const { fileid } = await client.attributesOf(handle);
		assert.deepEqual([attributes.fileid, fileidInListing], [fileid, fileid], `${path}: file ids of READDIRPLUS and GETATTR`);
		assert.deepEqual(await client.walk(root, path), handle, `${path}: handle of LOOKUP`);
		const other = paths.get(fileid);
		if (other !== undefined) assert.deepEqual(objects.get(other)?.handle, handle, `${path} and ${other} have one file id`);
		paths.set(fileid, path);
		objects.set(path, { handle, fileid });
	}
	for (const directory of new Set([...objects.keys()].map((path) => path.split("/").slice(0, -1).join("/")))) {
		for (const { name, fileid } of await client.list(await client.walk(root, directory), { dots: false })) {
			assert.equal(fileid, objects.get(directory === "" ? name : `${directory}/${name}`)?.fileid, `${directory}/${name}: READDIR`);
		}
	}
	return objects;
}

function assertSameObjects(was: Objects, is: Objects, moved: readonly (readonly [from: string, to: string])[], what: string): void {
	for (const [path, { handle, fileid }] of was) {
		const [from, to] = moved.find(([old]) => path === old || path.startsWith(`${old}/`)) ?? ["", ""];
		const now = to + path.slice(from.length);
		assert.deepEqual(is.get(now)?.handle, handle, `${what}: handle of ${now}`);
		assert.equal(is.get(now)?.fileid, fileid, `${what}: file id of ${now}`);
	}
	assert.equal(is.size, was.size, `${what}: number of objects`);
}

const TOP: TreeDescription = {
	"merged/a": "a",
	"merged/both": "top",
	file: "in the top",
	"links/one": "1",
	lnk: { link: "file" },
	fifo: { node: ["p"] },
};
const BOTTOM: TreeDescription = {
	"merged/b": "b",
	"merged/both": "bottom",
	"merged/sub/c": "c",
	"deep/x/y/z": "z",
	other: "in the bottom",
};

/** Plants the trees of the layers, from the topmost down. */
function plantLayers(lowers: readonly string[]): void {
	for (const [i, lower] of lowers.entries()) plant(lower, i === 0 ? TOP : { ...BOTTOM, [`own${i}`]: `${i}`, [`merged/own${i}`]: `${i}` });
	linkSync(join(lowers[0], "links/one"), join(lowers[0], "links/two"));
}

interface Served extends Pick<ServerOptions, "lowers" | "upper"> {
	/** What must be as it was in the end: the lowers, if nothing is said. */
	readonly untouched?: readonly string[];
	/** Between two lives of the server. */
	readonly between?: () => void;
}

/** Handles and file ids are the same before and after copy up, rename and a restart, and the lowers are not written to. */
async function exercise(made: Scratch, served: Served): Promise<Objects> {
	const untouched = served.untouched ?? served.lowers ?? [];
	const snapshots = () => untouched.map((path): [string, TreeSnapshot] => [path, snapshotTree(path, { exact: true })]);
	let before = snapshots();
	const assertUntouched = (when: string) => {
		for (const [i, [path, now]] of snapshots().entries()) assertSameTree(before[i][1], now, `${path} was changed ${when}`);
	};
	const state = made.folder("state");
	const server = await startServer(made, {
		lowers: served.lowers,
		upper: served.upper,
		args: ["--async", "--state-dir", state],
	} as ServerOptions);
	let client = await server.client();
	const root = await client.root();
	const first = await survey(client, root);
	assertUntouched("by reading");

	const handle = (path: string) => first.get(path)?.handle as Buffer;
	await client.writeFile(handle("file"), "IN");
	await client.writeFile(handle("links/two"), "2");
	await ok(client.setattr(handle("other"), { mode: 0o600 }), "SETATTR");
	await ok(client.rename(root, "merged", root, "moved"), "RENAME of a merged directory");
	await ok(client.rename(handle("deep"), "x", root, "x"), "RENAME of a directory of a lower");
	await client.writeFile(handle("deep/x/y/z"), "Z");
	await client.writeFile(handle("merged/sub/c"), "C");
	const moved = [
		["merged", "moved"],
		["deep/x", "x"],
	] as const;
	const second = await survey(client, root);
	assertSameObjects(first, second, moved, "after the changes");
	assert.equal((await client.readFile(handle("file"))).toString(), "IN the top");
	assert.equal((await client.readFile(handle("links/one"))).toString(), "2");
	assert.equal((await client.readFile(handle("merged/both"))).toString(), "top");
	client.close();

	await server.terminate();
	assertUntouched("while it was served");
	served.between?.();
	before = snapshots();
	await server.start();
	client = await server.client();
	assert.deepEqual(await client.root(), root, "handle of the root");
	// by the handles alone, before any name has been looked up
	for (const [path, { handle, fileid }] of first)
		assert.equal((await client.attributesOf(handle)).fileid, fileid, `${path} after a restart`);
	assert.equal((await client.readFile(handle("deep/x/y/z"))).toString(), "Z");
	assertSameObjects(first, await survey(client, root), moved, "after a restart");
	client.close();
	await server.terminate();
	assertUntouched("after a restart");
	return first;
}

const KINDS = ["ext4", "xfs", "btrfs", "tmpfs"] as const;

/** Upper, then the lowers from the topmost down. */
const STACKS: readonly (readonly FileSystem[])[] = [
	...KINDS.map((kind) => [kind, kind, kind] as const),
	["ext4", "xfs", "btrfs", "tmpfs"],
	["btrfs", "tmpfs", "ext4"],
	["tmpfs", "btrfs", "xfs", "ext4"],
];

test("layers on each file system, alone and mixed", {
	skip: skip || KINDS.map((kind) => cannotMount(kind)).find(Boolean) || false,
}, async (t) => {
	const made = scratch(t);
	const at = new Map<FileSystem, string>(KINDS.map((kind) => [kind, made.mount(kind)]));
	for (const [number, [upperKind, ...lowerKinds]] of sampled(STACKS, 3).entries()) {
		await t.test(`upper on ${upperKind}, lowers on ${lowerKinds.join(", ")}`, async () => {
			const place = (kind: FileSystem, name: string) => {
				const path = join(at.get(kind) as string, `stack${number}`, name);
				mkdirSync(path, { recursive: true });
				return path;
			};
			const lowers = lowerKinds.map((kind, i) => place(kind, `lower${i}`));
			plantLayers(lowers);
			await exercise(made, { lowers, upper: place(upperKind, "upper") });
		});
	}
});

test("two subvolumes of a btrfs as lowers and a third for the upper; a nested one is an empty directory", {
	skip: skip || cannotMount("btrfs"),
}, async (t) => {
	const made = scratch(t);
	const btrfs = made.mount("btrfs");
	const subvolume = (name: string) => {
		run("btrfs", "subvolume", "create", join(btrfs, name));
		return join(btrfs, name);
	};
	const lowers = ["a", "b"].map(subvolume);
	plantLayers(lowers);
	plant(subvolume("a/nested"), { "unseen/file": "" });
	const places = subvolume("places");
	mkdirSync(join(places, "upper"));
	const objects = await exercise(made, { lowers, upper: join(places, "upper") });
	assert.ok(objects.has("nested"));
	assert.deepEqual(
		[...objects.keys()].filter((path) => path.startsWith("nested/")),
		[],
	);
	// given as a layer of its own it lies inside the other one
	const nested = runHoldfast(["serve", "--lower", lowers[0], "--lower", join(lowers[0], "nested"), "--state-dir", made.folder("state")]);
	assert.match(nested.stderr, /inside/);
});

// 500 layers

const LAYERS = 500;

function plantMany(base: string): string[] {
	return Array.from({ length: LAYERS }, (_, i) => {
		const last = i === LAYERS - 1;
		return plant(join(base, `${i}`), {
			shared: `${i}`,
			[`only${i}`]: `${i}`,
			[`merged/f${i}`]: `${i}`,
			// each hides those below it, as do files and directories one another
			...(i % 2 === 0 ? { "merged/even": `${i}` } : { "merged/odd/inside": `${i}` }),
			...(last ? { "merged/bottom/deep/file": "bottom" } : {}),
		});
	});
}

test(`${LAYERS} lowers: a start in seconds, merged as by the kernel, handles that hold, two descriptors each`, {
	skip: skip || needs("prlimit"),
}, async (t) => {
	const made = scratch(t);
	const base = made.mount("tmpfs", "tmpfs", 64);
	const lowers = plantMany(base);
	const kernels = cannotMountOverlay() ? null : contentsByKernel(base);
	if (kernels === null) t.diagnostic(`not compared with the kernel: ${cannotMountOverlay()}`);
	const launcher = made.file(
		"launcher",
		`#!/bin/sh\nexec prlimit --nofile=4096:4096 ${process.execPath} ${join(repository, "dist/src/cli/main.js")} "$@"\n`,
	);
	chmodSync(launcher, 0o755);
	const begun = performance.now();
	const server = await startServer(made, {
		lowers,
		upper: join(base, "upper"),
		launcher,
		args: ["--async", "--state-dir", made.folder("state")],
	});
	const seconds = (performance.now() - begun) / 1000;
	const descriptors = () => readdirSync(`/proc/${server.pid}/fd`).length;
	t.diagnostic(`ready after ${seconds.toFixed(2)} s with ${descriptors()} descriptors`);
	assert.ok(descriptors() < 2 * LAYERS + 100, `${descriptors()} descriptors`);

	let client = await server.client();
	const root = await client.root();
	const read = async (path: string) => (await client.readFile(await client.walk(root, path))).toString();
	assert.equal(await read("shared"), "0");
	for (const i of [0, 1, 250, LAYERS - 1]) assert.equal(await read(`only${i}`), `${i}`);
	assert.equal(await read("merged/even"), "0");
	assert.equal(await read("merged/odd/inside"), "1");
	const merged = await client.walk(root, "merged");
	const listed = (await client.list(merged, { dots: false })).map(({ name }) => name);
	assert.equal(listed.length, LAYERS + 3);
	assert.equal(new Set(listed).size, listed.length);
	if (kernels !== null) {
		const ours = new Map<string, string>();
		for (const [path, { handle, attributes }] of await client.tree(root)) {
			ours.set(path, attributes.type === FileType3.reg ? (await client.readFile(handle)).toString() : "directory");
		}
		assert.deepEqual(new Map([...ours].sort()), new Map([...kernels].sort()), "as the kernel merges them");
	}

	const handles = new Map<string, Buffer>();
	for (const path of ["merged", "merged/f0", "merged/f499", "merged/bottom/deep", "merged/bottom/deep/file", "only499"]) {
		handles.set(path, await client.walk(root, path));
	}
	const handle = (path: string) => handles.get(path) as Buffer;
	await client.writeFile(handle("merged/bottom/deep/file"), "BOT");
	await ok(client.rename(root, "merged", root, "moved"), "RENAME");
	t.diagnostic(`${descriptors()} descriptors in use`);
	assert.ok(descriptors() < 4096);
	client.close();
	await server.restart();
	client = await server.client();
	assert.equal((await client.readFile(handle("merged/bottom/deep/file"))).toString(), "BOTtom");
	assert.equal((await client.readFile(handle("merged/f499"))).toString(), "499");
	assert.equal((await client.list(handle("merged"), { dots: false })).length, LAYERS + 3);
	for (const path of handles.keys()) {
		assert.deepEqual(await client.walk(root, path.replace("merged", "moved")), handle(path), `handle of ${path}`);
	}
	client.close();
	await server.terminate();
});

/** What stands under each path of the kernel's own overlay of the folders "0", "1" and so on, from the topmost down. */
function contentsByKernel(base: string): Map<string, string> {
	const at = join(base, "mounted");
	mkdirSync(at);
	// paths from the current directory: the options of mount(2) have room for one page
	const options = `ro,lowerdir=${Array.from({ length: LAYERS }, (_, i) => i).join(":")}`;
	execFileSync("mount", ["-t", "overlay", "overlay", "-o", options, at], { cwd: base });
	const contents = new Map<string, string>();
	for (const entry of readdirSync(at, { recursive: true, withFileTypes: true })) {
		const path = join(entry.parentPath ?? entry.path, entry.name);
		contents.set(path.slice(at.length + 1), entry.isFile() ? readFileSync(path, "utf8") : "directory");
	}
	execFileSync("umount", [at]);
	return contents;
}

function cannotMountOverlay(): string | false {
	return readFileSync("/proc/filesystems", "utf8").includes("\toverlay\n") ? false : "this kernel has no overlay";
}

// A kernel overlay as lower

interface KernelOverlay {
	readonly lowers: readonly string[];
	readonly upper: string;
	readonly work: string;
	readonly at: string;
}

const EXPORT = "index=on,nfs_export=on";

function mountOverlay(overlay: KernelOverlay, options: string): string {
	const layers = `lowerdir=${overlay.lowers.join(":")},upperdir=${overlay.upper},workdir=${overlay.work}`;
	run("mount", "-t", "overlay", "overlay", "-o", `${layers},${options}`, overlay.at);
	return overlay.at;
}

/** An overlay whose upper holds changes of all kinds that the kernel made; not mounted. */
function kernelOverlay(made: Scratch, name: string, upperBase: string, lowerBase: string, options: string, lowers = 1): KernelOverlay {
	const overlay = {
		lowers: Array.from({ length: lowers }, (_, i) => join(lowerBase, `${name}-lower${i}`)),
		upper: join(upperBase, `${name}-upper`),
		work: join(upperBase, `${name}-work`),
		at: made.folder(`${name}-mounted`),
	};
	for (const path of [...overlay.lowers, overlay.upper, overlay.work]) mkdirSync(path);
	for (const lower of overlay.lowers) plantLayersAt(lower);
	const at = mountOverlay(overlay, options);
	plant(at, { "made/inside": "made", "merged/born": "born" });
	writeFileSync(join(at, "merged/a"), "changed");
	writeFileSync(join(at, "links/two"), "1");
	run("mv", join(at, "other"), join(at, "merged/other"));
	run("mv", join(at, "merged/other"), join(at, "other"));
	if (options.includes("redirect_dir=on")) run("mv", join(at, "extra"), join(at, "renamed"));
	run("rm", join(at, "gone"));
	rmdirSync(join(at, "empty"));
	run("umount", at);
	return overlay;
}

function plantLayersAt(lower: string): void {
	plant(lower, { ...BOTTOM, ...TOP, "extra/in/file": "", gone: "", "empty/": "" });
	linkSync(join(lower, "links/one"), join(lower, "links/two"));
}

const OVERLAYS: readonly (readonly [upper: FileSystem, lower: FileSystem, options: string])[] = [
	["ext4", "ext4", `${EXPORT},redirect_dir=on`],
	["ext4", "xfs", `${EXPORT},xino=on`],
	["xfs", "tmpfs", `${EXPORT},xino=on`],
];

test("a kernel overlay that is mounted read-only is a lower, its layers stay as they are, and handles hold when it is mounted again", {
	skip: skip || cannotMountOverlay() || cannotMount("ext4") || cannotMount("xfs"),
}, async (t) => {
	const made = scratch(t);
	const at = new Map<FileSystem, string>((["ext4", "xfs", "tmpfs"] as const).map((kind) => [kind, made.mount(kind)]));
	for (const [number, [upperKind, lowerKind, options]] of sampled(OVERLAYS, 1).entries()) {
		await t.test(`its upper on ${upperKind}, its lower on ${lowerKind}`, async () => {
			const place = (kind: FileSystem) => at.get(kind) as string;
			const overlay = kernelOverlay(made, `overlay${number}`, place(upperKind), place(lowerKind), options);
			mountOverlay(overlay, `ro,${options}`);
			const beside = plant(join(place("tmpfs"), `beside${number}`), { "merged/beside": "", own: "" });
			await exercise(made, {
				lowers: [overlay.at, beside],
				upper: join(place("ext4"), `changes${number}`),
				untouched: [...overlay.lowers, overlay.upper, overlay.work, beside],
				between: () => {
					run("umount", overlay.at);
					writeFileSync("/proc/sys/vm/drop_caches", "2");
					mountOverlay(overlay, `ro,${options}`);
				},
			});
			run("umount", overlay.at);
		});
	}
});

test("an upper of ours that was released is a lower, mounted read-only by the kernel", {
	skip: skip || cannotMountOverlay() || cannotMount("ext4"),
}, async (t) => {
	const made = scratch(t);
	const ext4 = made.mount("ext4");
	const [lower, upper, work] = ["lower", "upper", "work"].map((name) => join(ext4, name)) as [string, string, string];
	plant(lower, { "merged/deep/a": "a", other: "" });
	const layers = ["--lower", lower, "--upper", upper, "--work", work, "--state-dir", made.folder("state")];
	const writer = await startServer(made, { lowers: [lower], upper, work, args: ["--create", ...layers.slice(-2)] });
	const writing = await writer.client();
	await ok(writing.create(await writing.walk(await writing.root(), "merged/deep"), "born"));
	writing.close();
	await writer.terminate();
	const released = runHoldfast(["release", ...layers]);
	assert.equal(released.code, 0, released.stderr);
	const at = mountOverlay({ lowers: [lower], upper, work, at: made.folder("mounted") }, `ro,${EXPORT},uuid=on`);
	const server = await startServer(made, { lowers: [at], args: ["--state-dir", made.folder("state above")] });
	const client = await server.client();
	const entries = await client.list(await client.walk(await client.root(), "merged/deep"), { dots: false });
	assert.deepEqual(entries.map(({ bytes }) => bytes.toString()).sort(), ["a", "born"]);
	client.close();
	await server.terminate();
	run("umount", at);
});

test("kernel overlays that cannot be lowers are refused, each with what to do", {
	skip: skip || cannotMountOverlay() || cannotMount("ext4") || cannotMount("btrfs"),
}, async (t) => {
	const made = scratch(t);
	const ext4 = made.mount("ext4");
	const other = made.mount("ext4", "other");
	const btrfs = made.mount("btrfs");
	const serve = (lower: string, sentence: RegExp) => assertRefused(made, lower, sentence);
	const plain = kernelOverlay(made, "plain", ext4, ext4, EXPORT);
	const mounted = (overlay: KernelOverlay, options: string, sentence: RegExp) => {
		mountOverlay(overlay, options);
		serve(overlay.at, sentence);
		run("umount", overlay.at);
	};
	mounted(plain, EXPORT, /mounted read-write.*mount -o remount,ro/);
	mounted(plain, "ro", /gives no file handles.*nfs_export=on/);
	mounted(kernelOverlay(made, "nameless", ext4, ext4, `${EXPORT},uuid=null`), `ro,${EXPORT},uuid=null`, /no uuid.*uuid=on/);
	mounted(kernelOverlay(made, "apart", ext4, other, EXPORT), `ro,${EXPORT}`, /two file systems.*xino=on/);
	mounted(kernelOverlay(made, "on-btrfs", btrfs, btrfs, EXPORT), `ro,${EXPORT}`, /on btrfs/);
	const two = kernelOverlay(made, "two-lowers", ext4, ext4, EXPORT, 2);
	mounted(two, `ro,${EXPORT}`, /with 2 lowers.*holdfast adopt/);
	await assertServedByItsLayers(made, two);
	mounted(kernelOverlay(made, "unindexed", ext4, ext4, "index=off"), `ro,${EXPORT},uuid=on`, /was changed while.*not in its index.*adopt/);

	const [upperAbove, workAbove] = ["above-upper", "above-work"].map((name) => plant(join(ext4, name), { "./": "" }));
	const stacked = { lowers: [mountOverlay(plain, `ro,${EXPORT}`)], upper: upperAbove, work: workAbove, at: made.folder("above") };
	mounted(stacked, `ro,${EXPORT},xino=on`, /one of whose layers is on overlay: .*too long/);
	run("umount", plain.at);

	// read-only for one mount of it is not read-only
	mountOverlay(plain, EXPORT);
	run("mount", "-o", "remount,bind,ro", plain.at);
	serve(plain.at, /mounted read-write/);
	run("mount", "-o", "remount,ro", plain.at);
	for (const lower of [plain.at, join(plain.at, "merged")]) {
		const server = await startServer(made, { lowers: [lower], args: ["--state-dir", made.folder("state")] });
		const client = await server.client();
		assert.ok((await survey(client, await client.root())).size > 3);
		client.close();
		await server.terminate();
	}
	run("umount", plain.at);

	run(
		"mount",
		"-t",
		"overlay",
		"overlay",
		"-o",
		`ro,nfs_export=on,redirect_dir=nofollow,lowerdir=${plain.upper}:${plain.lowers[0]}`,
		plain.at,
	);
	serve(plain.at, /without an upper.*--lower/);
	const upper = runHoldfast([
		"serve",
		"--create",
		"--lower",
		plain.lowers[0],
		"--upper",
		join(plain.at, "changes"),
		"--state-dir",
		made.folder("state"),
	]);
	assert.equal(upper.code, 1);
	run("umount", plain.at);
	// nothing may be found in a handle that does not fit into one on the wire
	assert.equal(KERNEL_HANDLE_BYTES_MAX, ID_BYTES_MAX);
});

/** As the refusals advise: the layers of an overlay, named one by one. */
async function assertServedByItsLayers(made: Scratch, { upper, lowers }: KernelOverlay): Promise<void> {
	const layers = [upper, ...lowers];
	const state = ["--state-dir", made.folder("state-of-layers")];
	const adopted = runHoldfast(["adopt", ...layers.flatMap((layer) => ["--lower", layer]), ...state]);
	assert.equal(adopted.code, 0, adopted.stderr);
	const server = await startServer(made, { lowers: layers, args: state });
	const client = await server.client();
	const root = await client.root();
	assert.equal((await client.readFile(await client.walk(root, "merged/a"))).toString(), "changed");
	assert.ok(!(await survey(client, root)).has("gone"));
	client.close();
	await server.terminate();
}

// What is refused

/** Exit status 1, one sentence or a few on one line, and nothing made. */
function assertRefused(made: Scratch, lower: string, sentence: RegExp): void {
	const place = made.folder(`refused-${readdirSync(made.path).length}`);
	const upper = join(place, "upper");
	const kernel = ["--handles", "kernel"];
	const answer = runHoldfast([
		"serve",
		"--create",
		"--lower",
		lower,
		"--upper",
		upper,
		...kernel,
		"--state-dir",
		join(place, "state"),
		"--listen",
		"127.0.0.1:0",
	]);
	assert.equal(answer.code, 1, answer.stdout + answer.stderr);
	assert.match(answer.stderr, sentence);
	assert.equal(answer.stderr.trimEnd().split("\n").length, 1, answer.stderr);
	assert.equal(answer.stdout, "");
	assert.deepEqual(readdirSync(place), [], "something was left behind");
}

const UNTIL = "With portable handles \\(--handles portable\\) it can be served.*[Cc]opy the tree to";

/** As `auto` serves what kernel handles cannot. */
async function assertServedPortably(made: Scratch, lower: string): Promise<void> {
	const server = await startServer(made, { lowers: [lower], upper: join(made.folder("portable"), "upper") });
	assert.match(server.stdout, /^Handles: portable \(/m);
	const client = await server.client();
	const file = await client.walk(await client.root(), "dir/file");
	assert.equal((await client.readFile(file)).toString(), "x");
	await client.writeFile(file, "y");
	client.close();
	await server.terminate();
	await server.start();
	const again = await server.client();
	assert.equal((await again.readFile(file)).toString(), "y");
	again.close();
	await server.terminate();
}

function image(made: Scratch, kind: "squashfs" | "erofs"): string {
	const contents = plant(made.folder("contents"), { "dir/file": "x" });
	const path = join(made.path, `${kind}.img`);
	if (kind === "squashfs") run("mksquashfs", contents, path, "-quiet", "-no-progress");
	else run("mkfs.erofs", path, contents);
	return made.mountImage(kind);
}

for (const [kind, program] of [
	["squashfs", "mksquashfs"],
	["erofs", "mkfs.erofs"],
] as const) {
	test(`a ${kind} is refused as a lower with kernel handles, and served with portable ones`, {
		skip: skip || needs(program) || cannotLoop(kind),
	}, async (t) => {
		const made = scratch(t);
		const lower = image(made, kind);
		assertRefused(made, lower, new RegExp(`its file system \\(${kind}\\) keeps no generation numbers.*${UNTIL}`));
		await assertServedPortably(made, lower);
	});
}

test("a FUSE file system is refused as a lower with kernel handles, and served with portable ones", {
	skip: skip || needs("bindfs") || noFuse(),
}, async (t) => {
	const made = scratch(t);
	const at = made.folder("mounted");
	run("bindfs", plant(made.folder("contents"), { "dir/file": "x" }), at);
	assertRefused(made, at, new RegExp(`its file system \\(fuse(\\.bindfs)?\\) is run by a program in user space.*${UNTIL}`));
	assertRefused(made, join(at, "dir"), /FUSE/);
	await assertServedPortably(made, at);
});

test("file systems that the kernel makes up are refused", { skip }, (t) => {
	const made = scratch(t);
	for (const path of ["/proc", "/sys", "/proc/self"]) assertRefused(made, path, /is made up by the kernel/);
});

test("an upper where it cannot be is refused with where it may be", { skip: skip || noFuse() || needs("bindfs") }, (t: TestContext) => {
	const made = scratch(t);
	const at = made.folder("mounted");
	run("bindfs", made.folder("contents"), at);
	mkdirSync(join(at, "upper"));
	const lower = plant(made.folder("lower"), { f: "" });
	const { code, stderr } = runHoldfast([
		"serve",
		"--lower",
		lower,
		"--upper",
		join(at, "upper"),
		"--handles",
		"kernel",
		"--state-dir",
		made.folder("state"),
	]);
	assert.equal(code, 1);
	assert.match(stderr, /Cannot serve the upper .*Choose an upper on ext4, xfs, btrfs or tmpfs/);
});

function cannotLoop(kind: string): string | false {
	if (!existsSync("/dev/loop-control")) return "no loop devices here";
	return new RegExp(`\\b${kind}\\n`).test(readFileSync("/proc/filesystems", "utf8")) ? false : `this kernel has no ${kind}`;
}

function noFuse(): string | false {
	return existsSync("/dev/fuse") ? false : "no FUSE here";
}
