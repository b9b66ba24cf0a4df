/** Promises H1, H2, H3 and H6: handles are taken before an event and used after it, and after a restart. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { plant } from "../support/lower-tree.ts";
import { FileType3, type Nfs3Client, Nfs3Status, ok, refused, statusName } from "../support/nfs3-client.ts";
import { needs, sampled } from "../support/requirements.ts";
import { cannotMount, type FileSystem, type Scratch, scratch } from "../support/scratch.ts";
import { startServer } from "../support/server-process.ts";

const skip = needs("root");

/** Where the objects of a test come from. */
type Birth = "lower" | "upper" | "copied up";
const births: Birth[] = ["lower", "upper", "copied up"];
const kinds = ["reg", "dir", "lnk", "fifo", "chr", "blk", "sock"] as const;
type Kind = (typeof kinds)[number];

interface Taken {
	readonly handle: Buffer;
	readonly fileid: bigint;
	readonly type: number;
}

interface Stage {
	client: Nfs3Client;
	root: Buffer;
	restart(): Promise<void>;
}

async function stage(made: Scratch, base: string, trees: Parameters<typeof plant>[1][], args: string[] = []): Promise<Stage> {
	const lowers = trees.map((tree, index) => plant(join(base, `lower${index}`), { "./": "", ...tree }));
	const upper = join(base, "upper");
	plant(upper, { "./": "" });
	const server = await startServer(made, { lowers, upper, args: ["--async", "--state-dir", made.folder("state"), ...args] });
	const client = await server.client();
	const it: Stage = {
		client,
		root: await client.root(),
		async restart() {
			it.client.close();
			await server.restart();
			it.client = await server.client();
			const again = await it.client.root();
			assert.deepEqual(again, it.root, "handle of the root after a restart");
		},
	};
	made.beforeRemoval(() => it.client.close());
	return it;
}

async function take(client: Nfs3Client, root: Buffer, path: string): Promise<Taken> {
	const handle = await client.walk(root, path);
	const { fileid, type } = await client.attributesOf(handle);
	return { handle, fileid, type };
}

/** All four ways to the object agree, and are what was taken before. */
async function assertFound(client: Nfs3Client, root: Buffer, path: string, taken: Taken): Promise<void> {
	const attributes = await client.attributesOf(taken.handle);
	assert.equal(attributes.fileid, taken.fileid, `${path}: fileid of the handle taken before`);
	assert.equal(attributes.type, taken.type, `${path}: type`);
	const parent = await client.walk(root, path.split("/").slice(0, -1).join("/"));
	const name = path.split("/").at(-1) as string;
	const looked = await ok(client.lookup(parent, name), `LOOKUP ${path}`);
	assert.deepEqual(looked.handle, taken.handle, `${path}: handle by LOOKUP`);
	assert.equal(looked.attributes?.fileid ?? taken.fileid, taken.fileid, `${path}: fileid by LOOKUP`);
	const plus = (await client.listPlus(parent)).filter((entry) => entry.name === name);
	assert.equal(plus.length, 1, `${path}: entries by READDIRPLUS`);
	assert.deepEqual(plus[0]?.handle, taken.handle, `${path}: handle by READDIRPLUS`);
	assert.equal(plus[0]?.fileid, taken.fileid, `${path}: fileid by READDIRPLUS`);
	assert.equal(plus[0]?.attributes?.fileid, taken.fileid, `${path}: fileid in attributes by READDIRPLUS`);
	const plain = (await client.list(parent)).filter((entry) => entry.name === name);
	assert.deepEqual(
		plain.map(({ fileid }) => fileid),
		[taken.fileid],
		`${path}: fileid by READDIR`,
	);
}

async function assertStale(client: Nfs3Client, taken: Taken, what: string): Promise<void> {
	const { status } = await client.getattr(taken.handle);
	assert.equal(statusName(status), "stale", what);
}

async function makeKind(client: Nfs3Client, parent: Buffer, name: string, kind: Kind): Promise<void> {
	if (kind === "reg") await client.createFile(parent, name, `born in the upper: ${name}`);
	else if (kind === "dir") await client.makeDirectory(parent, name);
	else if (kind === "lnk") await ok(client.symlink(parent, name, "target"));
	else await ok(client.mknod(parent, name, FileType3[kind], { mode: 0o644 }, [7, 9]), `MKNOD ${kind}`);
}

function lowerOfAllKinds(prefix: string): Parameters<typeof plant>[1] {
	return {
		[`${prefix}/reg`]: "lower contents",
		[`${prefix}/dir/inside`]: "inside",
		[`${prefix}/lnk`]: { link: "target" },
		[`${prefix}/fifo`]: { node: ["p"] },
		[`${prefix}/chr`]: { node: ["c", "7", "9"] },
		[`${prefix}/blk`]: { node: ["b", "7", "9"] },
	};
}

const events: [name: string, kinds: readonly Kind[], apply: (it: Stage, parent: Buffer, name: string, taken: Taken) => Promise<string>][] =
	[
		[
			"write",
			["reg"],
			async ({ client }, _parent, name, taken) => {
				await client.writeFile(taken.handle, "NEW", 2n);
				return name;
			},
		],
		[
			"truncate",
			["reg"],
			async ({ client }, _parent, name, taken) => {
				await ok(client.setattr(taken.handle, { size: 3n }));
				return name;
			},
		],
		[
			"chmod",
			kinds.filter((kind) => kind !== "lnk"),
			async ({ client }, _parent, name, taken) => {
				await ok(client.setattr(taken.handle, { mode: 0o751 }));
				assert.equal((await client.attributesOf(taken.handle)).mode, 0o751);
				return name;
			},
		],
		[
			"chown",
			kinds,
			async ({ client }, _parent, name, taken) => {
				await ok(client.setattr(taken.handle, { uid: 12, gid: 34 }));
				const { uid, gid } = await client.attributesOf(taken.handle);
				assert.deepEqual([uid, gid], [12, 34]);
				return name;
			},
		],
		[
			"utimes",
			kinds,
			async ({ client }, _parent, name, taken) => {
				const time = { sec: 1_234_567_890, nsec: 123_456_789 };
				await ok(client.setattr(taken.handle, { atime: time, mtime: time }));
				assert.deepEqual((await client.attributesOf(taken.handle)).mtime, time);
				return name;
			},
		],
		[
			"rename within its folder",
			kinds,
			async ({ client }, parent, name) => {
				await ok(client.rename(parent, name, parent, `${name}-renamed`), `RENAME ${name}`);
				return `${name}-renamed`;
			},
		],
		[
			"rename to and fro",
			kinds,
			async ({ client }, parent, name) => {
				await ok(client.rename(parent, name, parent, "away"), `RENAME ${name}`);
				await ok(client.rename(parent, "away", parent, name), `RENAME ${name} back`);
				return name;
			},
		],
		[
			"rename into another folder",
			kinds,
			async ({ client, root }, parent, name) => {
				const other = await client.walk(root, "other");
				await ok(client.rename(parent, name, other, name), `RENAME ${name}`);
				await ok(client.rename(other, name, parent, name), `RENAME ${name} back`);
				return name;
			},
		],
	];

for (const fileSystem of sampled(["root", "ext4", "xfs", "btrfs"] satisfies FileSystem[], 1)) {
	const on = fileSystem === "root" ? "" : `on ${fileSystem}, `;
	test(`${on}a handle of any kind of object finds it after each event, and after a restart`, {
		skip: skip || cannotMount(fileSystem),
	}, async (t) => {
		const made = scratch(t);
		// What is copied up lies in the lower below the first: it is found by a handle through another layer than the first.
		const [top, bottom]: Parameters<typeof plant>[1][] = [{ "other/": "" }, {}];
		for (const [index] of events.entries()) {
			Object.assign(top as object, lowerOfAllKinds(`lower/${index}`));
			Object.assign(bottom as object, lowerOfAllKinds(`copied up/${index}`));
		}
		const it = await stage(made, made.mount(fileSystem), [top, bottom] as never);
		const expectations: [path: string, taken: Taken][] = [];
		const upperTop = await it.client.makeDirectory(it.root, "upper");
		for (const [index, [eventName, eventKinds, apply]] of events.entries()) {
			await it.client.makeDirectory(upperTop, String(index));
			for (const birth of births) {
				const parent = await it.client.walk(it.root, `${birth}/${index}`);
				for (const kind of eventKinds) {
					// A socket has no place in a lower that mknod(1) can make; a lower directory cannot be renamed yet.
					if (kind === "sock" && birth !== "upper") continue;
					if (kind === "dir" && birth !== "upper" && eventName.startsWith("rename")) continue;
					if (birth === "upper") await makeKind(it.client, parent, kind, kind);
					let taken = await take(it.client, it.root, `${birth}/${index}/${kind}`);
					if (birth === "copied up") {
						await ok(it.client.setattr(taken.handle, { gid: 77 }), `copy up of ${kind}`);
						const again = await take(it.client, it.root, `${birth}/${index}/${kind}`);
						assert.deepEqual(again, taken, `${kind} after its copy up`);
						taken = again;
					}
					await t.test(`${birth} ${kind}: ${eventName}`, async () => {
						const name = await apply(it, parent, kind, taken);
						const path = `${birth}/${index}/${name}`;
						await assertFound(it.client, it.root, path, taken);
						expectations.push([path, taken]);
					});
				}
			}
		}
		await it.restart();
		await t.test("all of them after a restart", async () => {
			for (const [path, taken] of expectations) await assertFound(it.client, it.root, path, taken);
			const distinct = new Set(expectations.map(([, { handle }]) => handle.toString("hex")));
			assert.equal(distinct.size, expectations.length, "two objects share a handle");
			const fileids = new Set(expectations.map(([, { fileid }]) => fileid));
			assert.equal(fileids.size, expectations.length, "two objects share a fileid");
		});
		await t.test("from cold by the handle alone, before any look-up", async () => {
			await it.restart();
			for (const [path, { handle, fileid, type }] of expectations.reverse()) {
				assert.equal((await it.client.attributesOf(handle)).fileid, fileid, path);
				if (type === FileType3.dir) assert.ok((await it.client.listPlus(handle)).length >= 2, path);
				if (type === FileType3.reg) await it.client.readFile(handle);
			}
		});
	});
}

for (const [shape, trees] of sampled(
	[
		["one lower", [{ "a/b/c/f": "1" }]],
		["the second of two lowers", [{ "x/y": "" }, { "a/b/c/f": "1" }]],
		["two lowers that merge at the top", [{ "a/g": "" }, { "a/b/c/f": "1" }]],
		["two lowers that merge below", [{ "a/b/g": "" }, { "a/b/c/f": "1" }, { "a/b/c/h": "" }]],
	] satisfies [string, Parameters<typeof plant>[1][]][],
	1,
)) {
	test(`a handle taken in ${shape} is the first thing that a server hears after its start`, { skip }, async (t) => {
		const made = scratch(t);
		const it = await stage(made, made.path, trees);
		const taken = new Map<string, { handle: Buffer; fileid: bigint; names: string[] }>();
		for (const path of ["a", "a/b", "a/b/c", "a/b/c/f"]) {
			const handle = await it.client.walk(it.root, path);
			const { fileid, type } = await it.client.attributesOf(handle);
			const names = type === FileType3.dir ? (await it.client.list(handle)).map(({ name }) => name) : [];
			taken.set(path, { handle, fileid, names });
		}
		for (const [path, { handle, fileid, names }] of taken) {
			await it.restart();
			assert.equal((await it.client.attributesOf(handle)).fileid, fileid, `GETATTR ${path}`);
			await it.restart();
			if (names.length === 0) assert.equal((await it.client.readFile(handle)).toString(), "1");
			else
				assert.deepEqual(
					(await it.client.listPlus(handle)).map(({ name }) => name),
					names,
					`READDIRPLUS ${path}`,
				);
			await it.restart();
			await ok(it.client.setattr(handle, { gid: 9 }), `SETATTR ${path}`);
			assert.equal((await it.client.attributesOf(handle)).fileid, fileid, `GETATTR ${path} after copy up`);
			assert.deepEqual(await it.client.walk(it.root, path), handle, `LOOKUP ${path} after copy up`);
		}
	});
}

test("a written file reads the same through its old handle before and after a restart", { skip }, async (t) => {
	const made = scratch(t);
	const it = await stage(made, made.path, [{ "a/b/f": "0123456789" }]);
	const handle = await it.client.walk(it.root, "a/b/f");
	await it.client.writeFile(handle, "XY", 4n);
	await it.client.writeFile(handle, "tail", 20n);
	const expected = Buffer.from("0123XY6789\0\0\0\0\0\0\0\0\0\0tail");
	assert.deepEqual(await it.client.readFile(handle), expected);
	await it.restart();
	assert.deepEqual(await it.client.readFile(handle), expected);
	await ok(it.client.setattr(handle, { size: 5n }));
	assert.equal((await it.client.readFile(handle)).toString(), "0123X");
});

test("handles below a renamed folder of the upper hold, three levels deep", { skip }, async (t) => {
	const made = scratch(t);
	const it = await stage(made, made.path, [{ "old/f": "x" }]);
	const top = await it.client.makeDirectory(it.root, "top");
	const middle = await it.client.makeDirectory(top, "middle");
	const inner = await it.client.makeDirectory(middle, "inner");
	await it.client.createFile(inner, "born", "born");
	const old = await it.client.walk(it.root, "old");
	await ok(it.client.rename(old, "f", inner, "moved"), "lower file into a folder of the upper");
	const paths = ["top", "top/middle", "top/middle/inner", "top/middle/inner/born", "top/middle/inner/moved"];
	const taken: [string, Taken][] = [];
	for (const path of paths) taken.push([path, await take(it.client, it.root, path)]);
	const check = async (renamed: (path: string) => string) => {
		for (const [path, before] of taken) await assertFound(it.client, it.root, renamed(path), before);
	};
	await ok(it.client.rename(it.root, "top", it.root, "top2"));
	await check((path) => path.replace(/^top/, "top2"));
	await it.restart();
	await check((path) => path.replace(/^top/, "top2"));
	await ok(it.client.rename(top, "middle", old, "elsewhere"), "a folder of the upper into a lower one");
	const moved = (path: string) => path.replace(/^top\/middle/, "old/elsewhere").replace(/^top/, "top2");
	await check(moved);
	await it.restart();
	await check(moved);
	await refused(it.client.lookup(top, "middle"), "noent");
});

test("a handle is stale once its object is gone, also when the name lives again", { skip }, async (t) => {
	const made = scratch(t);
	const it = await stage(made, made.path, [
		{ "d/lower": "lower", "d/touched": "touched", "d/over": "over", "d/mover": "mover", "dir/x/y": "y", "both/top": "1" },
		{ "both/bottom": "2" },
	]);
	const d = await it.client.walk(it.root, "d");
	await it.client.createFile(d, "upper", "upper");
	const gone = new Map<string, Taken>();
	for (const path of ["d/lower", "d/touched", "d/upper", "d/over", "dir", "dir/x", "dir/x/y", "both", "both/top", "both/bottom"]) {
		gone.set(path, await take(it.client, it.root, path));
	}
	const mover = await take(it.client, it.root, "d/mover");
	await it.client.writeFile((gone.get("d/touched") as Taken).handle, "T");

	for (const name of ["lower", "touched", "upper"]) await ok(it.client.remove(d, name), `REMOVE ${name}`);
	await ok(it.client.rename(d, "mover", d, "over"), "RENAME over");
	const dirX = await it.client.walk(it.root, "dir/x");
	await ok(it.client.remove(dirX, "y"));
	await ok(it.client.rmdir(await it.client.walk(it.root, "dir"), "x"));
	await ok(it.client.rmdir(it.root, "dir"));
	const both = await it.client.walk(it.root, "both");
	await refused(it.client.rmdir(it.root, "both"), "notempty");
	await ok(it.client.remove(both, "top"));
	await ok(it.client.remove(both, "bottom"));
	await ok(it.client.rmdir(it.root, "both"));
	const assertAllGone = async (when: string) => {
		for (const [path, taken] of gone) await assertStale(it.client, taken, `${path} ${when}`);
		await assertFound(it.client, it.root, "d/over", mover);
	};
	await assertAllGone("after removal");

	for (const name of ["lower", "touched", "upper"]) {
		const again = await it.client.createFile(d, name, `again ${name}`);
		assert.notDeepEqual(again, (gone.get(`d/${name}`) as Taken).handle, `${name} made again has a handle of its own`);
	}
	for (const name of ["dir", "both"]) {
		const again = await it.client.makeDirectory(it.root, name);
		assert.notDeepEqual(again, (gone.get(name) as Taken).handle);
		assert.deepEqual(await it.client.list(again, { dots: false }), [], `${name} made again over a lower one is empty`);
	}
	await assertAllGone("after the names were made again");
	await it.restart();
	await assertAllGone("after a restart");
	assert.equal((await it.client.readFile(await it.client.walk(it.root, "d/lower"))).toString(), "again lower");
	assert.deepEqual(await it.client.list(await it.client.walk(it.root, "both"), { dots: false }), []);
	const dir = await it.client.walk(it.root, "dir");
	await it.client.makeDirectory(dir, "x");
	await assertStale(it.client, gone.get("dir/x") as Taken, "dir/x made again below a folder made again");
	assert.deepEqual(await it.client.list(await it.client.walk(dir, "x"), { dots: false }), []);
});

for (const fileSystem of sampled(["ext4", "xfs", "btrfs", "tmpfs"] satisfies FileSystem[], 1)) {
	test(`on ${fileSystem} an inode number that is used again revives no handle`, { skip: skip || cannotMount(fileSystem) }, async (t) => {
		const made = scratch(t);
		const it = await stage(made, made.mount(fileSystem), [{ "keep/f": "x" }]);
		const old: Taken[] = [];
		const seen = new Set<bigint>();
		let reused = 0;
		for (let round = 0; round < 40; round += 1) {
			const taken: Taken[] = [];
			for (const name of ["a", "b", "c"]) {
				await it.client.createFile(it.root, name, `round ${round}`);
				taken.push(await take(it.client, it.root, name));
			}
			for (const { fileid } of taken) {
				if (seen.has(fileid)) reused += 1;
				seen.add(fileid);
			}
			for (const name of ["a", "b", "c"]) await ok(it.client.remove(it.root, name));
			old.push(...taken);
		}
		if (fileSystem === "ext4" || fileSystem === "xfs") assert.ok(reused > 0, `${fileSystem} never used a number again: this shows nothing`);
		t.diagnostic(`${reused} of ${old.length} numbers were used again`);
		for (const name of ["a", "b", "c"]) await it.client.createFile(it.root, name, "living");
		for (const taken of old) await assertStale(it.client, taken, "a removed file's handle");
		await it.restart();
		for (const taken of old) await assertStale(it.client, taken, "a removed file's handle after a restart");
		assert.equal(new Set(old.map(({ handle }) => handle.toString("hex"))).size, old.length, "a handle was given out twice");
	});
}

test("every handle is at most 64 bytes, the same on every look-up, and unlike any other", { skip }, async (t) => {
	const made = scratch(t);
	const it = await stage(made, made.path, [
		{ ...lowerOfAllKinds("one"), "shared/a": "top" },
		{ ...lowerOfAllKinds("two"), "shared/b": "bottom" },
	]);
	const first = await it.client.tree(it.root);
	const second = await it.client.tree(it.root);
	assert.deepEqual([...second.keys()].sort(), [...first.keys()].sort());
	const owners = new Map<string, string>();
	for (const [path, { handle, attributes, fileidInListing }] of first) {
		assert.ok(handle.length <= 64, `${path}: ${handle.length} bytes`);
		assert.deepEqual(second.get(path)?.handle, handle, path);
		assert.equal(attributes.fileid, fileidInListing, path);
		const hex = handle.toString("hex");
		assert.equal(owners.get(hex), undefined, `${path} shares its handle with ${owners.get(hex)}`);
		owners.set(hex, path);
	}
	assert.deepEqual([...first.keys()].filter((path) => path.startsWith("shared/")).sort(), ["shared/a", "shared/b"]);
});

test('"." and ".." are the directory and its parent', { skip }, async (t) => {
	const made = scratch(t);
	const it = await stage(made, made.path, [{ "a/b/c": "x" }]);
	const a = await take(it.client, it.root, "a");
	const b = await take(it.client, it.root, "a/b");
	assert.deepEqual((await ok(it.client.lookup(b.handle, "."))).handle, b.handle);
	assert.deepEqual((await ok(it.client.lookup(b.handle, ".."))).handle, a.handle);
	assert.deepEqual((await ok(it.client.lookup(it.root, ".."))).handle, it.root);
	const listed = new Map((await it.client.list(b.handle)).map(({ name, fileid }) => [name, fileid]));
	assert.equal(listed.get("."), b.fileid);
	assert.equal(listed.get(".."), a.fileid);
});

test("merged directories move, lower files get further names, and their handles hold", { skip }, async (t) => {
	const made = scratch(t);
	const it = await stage(made, made.path, [{ "dir/f": "x", "dir/sub/deep": "d", file: "y" }, { "dir/g": "z" }]);
	const [dir, sub, deep, g] = await Promise.all(["dir", "dir/sub", "dir/sub/deep", "dir/g"].map((path) => take(it.client, it.root, path)));
	const file = await take(it.client, it.root, "file");
	await ok(it.client.rename(it.root, "dir", it.root, "dir2"), "RENAME of a merged directory");
	await it.client.makeDirectory(it.root, "mine");
	const mine = await it.client.walk(it.root, "mine");
	const dir2 = await it.client.walk(it.root, "dir2");
	await ok(it.client.rename(dir2, "sub", mine, "sub"), "RENAME of a lower directory to another parent");
	await ok(it.client.link(file.handle, it.root, "second"), "LINK of a lower file");
	assert.equal((await it.client.attributesOf(file.handle)).nlink, 2);
	await it.client.writeFile(file.handle, "Y");
	await ok(it.client.link(file.handle, mine, "third"), "LINK of a copied-up file");
	for (const restart of [false, true]) {
		if (restart) await it.restart();
		await refused(it.client.lookup(it.root, "dir"), "noent");
		await assertFound(it.client, it.root, "dir2", dir);
		await assertFound(it.client, it.root, "dir2/g", g);
		await assertFound(it.client, it.root, "mine/sub", sub);
		await assertFound(it.client, it.root, "mine/sub/deep", deep);
		assert.deepEqual(await it.client.walk(it.root, "second"), file.handle);
		assert.deepEqual(await it.client.walk(it.root, "mine/third"), file.handle);
		assert.equal((await it.client.attributesOf(file.handle)).nlink, 3);
	}
	await ok(it.client.remove(it.root, "file"));
	await ok(it.client.remove(it.root, "second"));
	assert.equal((await it.client.readFile(file.handle)).toString(), "Y");
	await ok(it.client.remove(mine, "third"));
	assert.equal((await it.client.getattr(file.handle)).status, Nfs3Status.stale);
});
