/** Names of one object that come and go over restarts, names that are gone for good, and requests that come twice. */

import assert from "node:assert/strict";
import { type Dirent, linkSync, lstatSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { type Ending, HeldTree } from "../support/held-tree.ts";
import { FileType3, Nfs3Client, ok, refused, type SetAttributes3, statusName } from "../support/nfs3-client.ts";
import { needs, onlyInAll, sampled, volume } from "../support/requirements.ts";
import { cannotMount, type Scratch, scratch } from "../support/scratch.ts";
import { type ServerProcess, startServer } from "../support/server-process.ts";

const skip = needs("root");

/** Layers on a file system of their own, which can be mounted anew. */
async function startOnImage(
	made: Scratch,
	how: Ending,
	trees: Parameters<typeof HeldTree.start>[2],
	prepare: (lowers: readonly string[]) => void,
) {
	const at = how === "cold" ? made.mount("ext4", "layers") : made.folder("layers");
	const remount = () => {
		made.unmount(at);
		made.mountImage("layers");
	};
	return HeldTree.start(made, at, trees, { prepare, ...(how === "cold" ? { remount } : {}) });
}

const births = ["lower", "pair", "copied", "born", "unnamed"] as const;
const kinds = ["reg", "lnk", "fifo"] as const;

for (const how of volume<Ending[]>(["plain"], ["plain", "SIGKILL", "cold"], ["plain", "SIGTERM", "SIGKILL", "cold"])) {
	const when = {
		plain: "in one life",
		SIGTERM: "SIGTERM before each step",
		SIGKILL: "SIGKILL before each step",
		cold: "kernel and server cold before each step",
	}[how];
	test(`LINK and REMOVE by handle of lower, twice named, copied-up, upper-born and unnamed objects keep handle, count and contents: ${when}`, {
		skip: skip || (how === "cold" && cannotMount("ext4")),
	}, async (t) => {
		const made = scratch(t);
		const tree = Object.fromEntries(
			["lower", "pair", "copied", "unnamed"].flatMap((birth) => [
				[`${birth}/reg/one`, `${birth} contents`],
				[`${birth}/lnk/one`, { link: `target of ${birth}` }],
				[`${birth}/fifo/one`, { node: ["p"] }],
			]),
		);
		const it = await startOnImage(made, how, [{ "to/here": "h" }, { ...tree, "to/there": "t" }], ([, lower]) => {
			for (const kind of kinds) linkSync(join(lower as string, `pair/${kind}/one`), join(lower as string, `pair/${kind}/two`));
		});
		await it.takeAll();
		await it.makeDirectory("born");
		for (const kind of kinds) {
			await it.makeDirectory(`born/${kind}`);
			await it.changeGroup(`copied/${kind}/one`);
		}
		await it.createFile("born/reg/one", "born contents");
		await it.note("born/lnk/one", (await ok(it.client.symlink(it.directory("born/lnk"), "one", "target of born"))).handle as Buffer);
		await it.note("born/fifo/one", (await ok(it.client.mknod(it.directory("born/fifo"), "one", FileType3.fifo))).handle as Buffer);
		const objects = births.flatMap((birth) => kinds.map((kind) => `${birth}/${kind}`));
		const each = async (what: string, act: (path: string) => Promise<void>) => {
			await it.restart(how);
			for (const path of objects) await act(path);
			await it.check(what);
			await it.check(what, how);
		};
		await it.restart(how);
		for (const kind of kinds) await it.changeGroup(`unnamed/${kind}/one`);
		await it.check("before any link", how);

		await each("LINK into another directory", (path) => it.link(`${path}/one`, `to/${path.replace("/", "-")}`));
		await each("LINK beside it", (path) => it.link(`to/${path.replace("/", "-")}`, `${path}/beside`));
		await each("a change by handle", (path) => (path.endsWith("reg") ? it.write(`${path}/one`, "NEW") : it.changeGroup(`${path}/one`)));
		await each("REMOVE of the first name", (path) => it.remove(`${path}/one`));
		await each("RENAME of another name over a third", async (path) => {
			await it.link(`${path}/beside`, `${path}/third`);
			await it.createFile(`${path}/mover`, "mover");
			await it.rename(`${path}/mover`, `${path}/third`);
		});
		await each("an object in the place of the first name", (path) => it.createFile(`${path}/one`, "another"));
		await each("REMOVE of all names but one", (path) => it.remove(`${path}/beside`));
		await each("REMOVE of the last", async (path) => {
			if (path.startsWith("pair")) await it.remove(`${path}/two`);
			await it.remove(`to/${path.replace("/", "-")}`);
		});
		assert.equal([...it.gone.keys()].filter((path) => path.startsWith("to/")).length, objects.length, "objects that are gone");
		await each("an object in the place of the last name", async (path) => {
			await it.createFile(`to/${path.replace("/", "-")}`, "another");
			await it.link(`${path}/one`, `${path}/beside`);
		});
	});
}

test("LINK is refused as POSIX says: of a directory, to a name that is there, into a file, into what is gone", { skip }, async (t) => {
	const made = scratch(t);
	const it = await HeldTree.start(made, made.path, [{ "d/f": "f", "gone/x": "x", g: "g" }]);
	await it.takeAll();
	const { client, root } = it;
	const file = it.get("d/f").handle;
	const { status } = await client.link(it.get("d").handle, root, "name");
	assert.ok(["isdir", "perm", "inval"].includes(statusName(status)), `LINK of a directory: ${statusName(status)}`);
	await refused(client.link(file, root, "g"), "exist", "LINK to a name that is there");
	await refused(client.link(file, root, "d"), "exist", "LINK to the name of a directory");
	await refused(client.link(file, it.get("g").handle, "name"), "notdir", "LINK into a file");
	const gone = it.get("gone").handle;
	await it.remove("gone/x");
	await it.remove("gone");
	await refused(client.link(file, gone, "name"), "stale", "LINK into a directory that is gone");
	await refused(
		client.link([...it.gone].find(([path]) => path.startsWith("gone/x"))?.[1].handle as Buffer, root, "name"),
		"stale",
		"LINK of a file that is gone",
	);
	await it.check("after all refusals", "SIGKILL");
});

/** What a tree takes on disk. */
function usage(...tops: string[]): { inodes: number; bytes: number; files: string[] } {
	const inodes = new Set<number>();
	const files: string[] = [];
	let bytes = 0;
	for (const top of tops) {
		const entries: Dirent[] = readdirSync(top, { recursive: true, withFileTypes: true });
		for (const path of [top, ...entries.map((entry) => join(entry.parentPath ?? entry.path, entry.name))]) {
			// a thread may be emptying the trash
			const stat = lstatSync(path, { throwIfNoEntry: false });
			if (stat === undefined || inodes.has(stat.ino)) continue;
			inodes.add(stat.ino);
			bytes += stat.blocks * 512;
			if (stat.isFile()) files.push(path);
		}
	}
	return { inodes: inodes.size, bytes, files };
}

async function inParallel<T>(items: readonly T[], act: (item: T) => Promise<void>, width = 64): Promise<void> {
	const queue = [...items].reverse();
	await Promise.all(
		Array.from({ length: width }, async () => {
			for (let item = queue.pop(); item !== undefined; item = queue.pop()) await act(item);
		}),
	);
}

test("pairs of hard links in a lower, as pnpm makes them, are deleted without a byte of data written", {
	skip,
}, async (t) => {
	const began = Date.now();
	const made = scratch(t);
	const lower = made.folder("lower");
	const folders = volume(8, 30);
	const each = 100;
	for (let folder = 0; folder < folders; folder += 1) {
		mkdirSync(join(lower, `store/${folder}`), { recursive: true });
		mkdirSync(join(lower, `node_modules/p${folder}`), { recursive: true });
		for (let file = 0; file < each; file += 1) {
			writeFileSync(join(lower, `store/${folder}/f${file}`), `${folder} ${file}\n`.repeat(700));
			linkSync(join(lower, `store/${folder}/f${file}`), join(lower, `node_modules/p${folder}/f${file}`));
		}
	}
	const upper = made.folder("upper");
	const work = `${upper}.holdfast`;
	const server = await startServer(made, { lowers: [lower], upper, work, args: ["--async", "--state-dir", made.folder("state")] });
	let client = await server.client();
	const root = await client.root();
	const tree = await client.tree(root);
	const before = usage(upper, work);
	const handles = [...tree].filter(([path]) => path.startsWith("store/") && path.includes("/f")).map(([, { handle }]) => handle);
	assert.equal(handles.length, folders * each);
	const removeBelow = async (top: string) => {
		for (let folder = 0; folder < folders; folder += 1) {
			const directory = tree.get(`${top}${folder}`)?.handle as Buffer;
			await inParallel(
				Array.from({ length: each }, (_, file) => `f${file}`),
				async (name) => void (await ok(client.remove(directory, name), `REMOVE ${top}${folder}/${name}`)),
			);
			const slash = top.lastIndexOf("/");
			const parent = await client.walk(root, top.slice(0, slash));
			await ok(client.rmdir(parent, `${top.slice(slash + 1)}${folder}`), `RMDIR ${top}${folder}`);
		}
	};
	await removeBelow("node_modules/p");
	const half = usage(upper, work);
	client.close();
	await server.kill();
	await server.start();
	client = await server.client();
	await inParallel(handles, async (handle) => {
		assert.equal((await client.attributesOf(handle)).nlink, 1, "link count of a file that has lost one of its two names");
	});
	await removeBelow("store/");
	const after = usage(upper, work);
	client.close();
	await server.kill();
	await server.start();
	client = await server.client();
	await inParallel(handles, async (handle) => {
		assert.equal(statusName((await client.getattr(handle)).status), "stale", "a file that has lost both names");
	});
	for (const top of ["store", "node_modules"]) assert.deepEqual(await client.list(await client.walk(root, top), { dots: false }), [], top);
	client.close();
	for (const [when, found] of [
		["before", before],
		["one name of each gone", half],
		["all gone", after],
	] as const) {
		t.diagnostic(`${when}: ${found.inodes} inodes, ${Math.round(found.bytes / 1024)} KiB`);
	}
	const data = folders * each * 8192;
	for (const found of [half, after]) {
		assert.deepEqual(
			found.files.filter((path) => path.startsWith(`${upper}/`)),
			[],
			"regular files in the upper",
		);
		assert.ok(found.bytes - before.bytes < data / 6, `${found.bytes - before.bytes} bytes more on disk; the files have ${data}`);
	}
	// each removed file has a symlink in `bases` that says what it was
	const removed = folders * each;
	assert.ok(after.inodes - before.inodes < removed + 2 * folders + 20, `${after.inodes - before.inodes} inodes more`);
	t.diagnostic(`${((Date.now() - began) / 1000).toFixed(1)} s`);
});

test("66,000 names are deleted on ext4, where a whiteout may have 65,000 links", {
	skip: skip || cannotMount("ext4") || onlyInAll,
}, async (t) => {
	const made = scratch(t);
	const count = 66_000;
	const perFolder = 6_600;
	const lower = made.mount("ext4", "lower");
	for (let index = 0; index < count; index += 1) {
		if (index % perFolder === 0) mkdirSync(join(lower, `d${index / perFolder}`));
		writeFileSync(join(lower, `d${Math.floor(index / perFolder)}/f${index}`), "");
	}
	const at = made.mount("ext4", "ext4", 256);
	const upper = join(at, "upper");
	const server = await startServer(made, {
		lowers: [lower],
		upper,
		work: join(at, "work"),
		args: ["--async", "--state-dir", made.folder("state")],
	});
	let client = await server.client();
	const root = await client.root();
	const taken: Buffer[] = [];
	const began = Date.now();
	for (let folder = 0; folder < count / perFolder; folder += 1) {
		const directory = await client.walk(root, `d${folder}`);
		taken.push((await ok(client.lookup(directory, `f${folder * perFolder}`))).handle);
		await inParallel(
			Array.from({ length: perFolder }, (_, index) => `f${folder * perFolder + index}`),
			async (name) => void (await ok(client.remove(directory, name), `REMOVE ${name}`)),
		);
	}
	t.diagnostic(`${count} REMOVE: ${((Date.now() - began) / 1000).toFixed(1)} s`);
	const links = new Map<number, number>();
	for (const top of [upper, join(at, "work")]) {
		for (const entry of readdirSync(top, { recursive: true, withFileTypes: true })) {
			if (!entry.isCharacterDevice()) continue;
			const stat = lstatSync(join(entry.parentPath ?? entry.path, entry.name));
			links.set(stat.ino, stat.nlink);
		}
	}
	const most = Math.max(...links.values());
	t.diagnostic(`whiteouts: ${links.size} inodes, the largest with ${most} links`);
	assert.ok(most > 60_000, "no whiteout came near its limit: this shows nothing");
	client.close();
	await server.kill();
	await server.start();
	client = await server.client();
	for (const handle of taken) assert.equal(statusName((await client.getattr(handle)).status), "stale");
	for (let folder = 0; folder < count / perFolder; folder += 1) {
		const directory = await client.walk(root, `d${folder}`);
		assert.deepEqual(await client.list(directory, { dots: false }), [], `d${folder}`);
		await client.createFile(directory, `f${folder * perFolder}`, "again");
		await ok(client.remove(directory, `f${folder * perFolder}`), "REMOVE of a name made again");
		if (folder > 0) await ok(client.rmdir(root, `d${folder}`), `RMDIR of d${folder}, which holds whiteouts only`);
	}
	client.close();
});

test("names are deleted and made again, over kills: always another object, never the lower's contents", {
	skip,
}, async (t) => {
	const made = scratch(t);
	const it = await HeldTree.start(made, made.path, [
		{ "d/f": "lower f", "d/sub/x": "lower x", "d/sub/y": "lower y", "d/keep": "k" },
		{ "d/sub/z": "lower z" },
	]);
	await it.takeAll();
	for (let round = 0; round < 4; round += 1) {
		await it.remove("d/f");
		for (const name of [...it.below("d/sub"), "d/sub"]) await it.remove(name);
		if (round % 2 === 0) await it.check(`round ${round}, removed`, "SIGKILL");
		await it.createFile("d/f", `f of round ${round}`);
		await it.makeDirectory("d/sub");
		await it.createFile("d/sub/x", `x of round ${round}`);
		await it.check(`round ${round}, made again`, round % 2 === 0 ? "plain" : "SIGKILL");
	}
	assert.ok(it.gone.size >= 14, `${it.gone.size} objects are gone`);
});

// Requests that come twice

/** One request with all that is needed to send it again, byte for byte. */
interface Request {
	readonly name: string;
	/** The name that is new in `here` when it is done. */
	readonly makes: string | null;
	send(client: Nfs3Client, xid: number): Promise<{ readonly status: number; readonly handle?: Buffer | null }>;
}

/** Calls of this client take this xid. */
async function withXid<T>(client: Nfs3Client, xid: number, send: () => Promise<T>): Promise<T> {
	const kept = client.rpc.nextXid;
	client.rpc.nextXid = () => xid;
	try {
		return await send();
	} finally {
		client.rpc.nextXid = kept;
	}
}

interface Prepared {
	readonly root: Buffer;
	readonly here: Buffer;
	readonly there: Buffer;
	/** Of the file of this name, by now; the guard of its SETATTR. */
	readonly handleOf: (name: string) => Buffer;
	readonly guardOf: (name: string) => { sec: number; nsec: number };
}

const lowerNames = ["remove", "rename", "link", "setattr", "over", "target", "shrink"] as const;

/** One of each kind, on names of its own that end in `suffix`. */
function requests(it: Prepared, suffix: string): Request[] {
	const { here, there } = it;
	const made = (name: string, send: (client: Nfs3Client) => Promise<{ status: number; handle?: Buffer | null }>): Request => ({
		name: `${name}${suffix}`,
		makes: /^(CREATE|MK|SYM)/.test(name) ? `${name.split(" ").at(-1)?.toLowerCase()}${suffix}` : null,
		send: (client, xid) => withXid(client, xid, () => send(client)),
	});
	const changed = (name: string, change: SetAttributes3) =>
		made(`SETATTR ${name}`, (client) => client.setattr(it.handleOf(`${name}${suffix}`), change, it.guardOf(`${name}${suffix}`)));
	return [
		made("CREATE unchecked", (client) => client.create(here, `unchecked${suffix}`, { unchecked: { mode: 0o640, size: 0n } })),
		made("CREATE guarded", (client) => client.create(here, `guarded${suffix}`, { guarded: { mode: 0o640 } })),
		made("CREATE exclusive", (client) =>
			client.create(here, `exclusive${suffix}`, { exclusive: Buffer.from(`${suffix}12345678`.slice(-8)) }),
		),
		made("MKDIR", (client) => client.mkdir(here, `mkdir${suffix}`)),
		made("SYMLINK", (client) => client.symlink(here, `symlink${suffix}`, "target")),
		made("MKNOD", (client) => client.mknod(here, `mknod${suffix}`, FileType3.fifo)),
		made("REMOVE", (client) => client.remove(here, `remove${suffix}`)),
		made("RMDIR", (client) => client.rmdir(here, `rmdir${suffix}`)),
		made("RENAME", (client) => client.rename(here, `rename${suffix}`, there, `renamed${suffix}`)),
		made("RENAME over", (client) => client.rename(here, `over${suffix}`, here, `target${suffix}`)),
		made("RENAME directory", (client) => client.rename(here, `directory${suffix}`, there, `directory${suffix}`)),
		made("LINK", (client) => client.link(it.handleOf(`link${suffix}`), there, `linked${suffix}`)),
		changed("setattr", { mode: 0o600 }),
		changed("shrink", { size: 3n }),
	];
}

function plantForRequests(lower: string, suffixes: readonly string[]): void {
	mkdirSync(join(lower, "here"), { recursive: true });
	mkdirSync(join(lower, "there"), { recursive: true });
	for (const suffix of suffixes) {
		for (const name of lowerNames) writeFileSync(join(lower, `here/${name}${suffix}`), `lower ${name}`);
		mkdirSync(join(lower, `here/rmdir${suffix}`));
		mkdirSync(join(lower, `here/directory${suffix}/sub`), { recursive: true });
	}
}

async function prepare(client: Nfs3Client): Promise<Prepared> {
	const root = await client.root();
	const here = await client.walk(root, "here");
	const there = await client.walk(root, "there");
	const known = new Map((await client.listPlus(here)).map((entry) => [entry.name, entry]));
	return {
		root,
		here,
		there,
		handleOf: (name) => known.get(name)?.handle as Buffer,
		guardOf: (name) => known.get(name)?.attributes?.ctime as { sec: number; nsec: number },
	};
}

async function servedForRequests(t: TestContext, suffixes: readonly string[], args: string[]): Promise<ServerProcess> {
	const made = scratch(t);
	const lower = made.folder("lower");
	plantForRequests(lower, suffixes);
	return startServer(made, { lowers: [lower], upper: made.folder("upper"), args: ["--state-dir", made.folder("state"), ...args] });
}

let others = 0;

/** What a client with another address changes; in all it makes `count` changes, most of them successes. */
async function otherClient(server: ServerProcess, root: Buffer, count: number): Promise<void> {
	const from = { host: "127.0.0.1", port: server.port, localAddress: "127.0.0.2" };
	const other = await Nfs3Client.connect(from);
	assert.equal(other.rpc.socket.localAddress, "127.0.0.2");
	const name = `other${++others}`;
	const folder = await other.makeDirectory(root, name);
	await inParallel(
		Array.from({ length: Math.ceil(count / 3) }, (_, index) => index),
		async (index) => {
			await ok(other.create(folder, `f${index}`, { guarded: { mode: 0o644 } }));
			await ok(other.rename(folder, `f${index}`, folder, `g${index}`));
			await ok(other.remove(folder, `g${index}`));
		},
	);
	other.close();
}

for (const args of sampled([[], ["--async"]], 1)) {
	test(`a request that comes again after SIGKILL has its first status and handle, also after 3,000 changes by another client${args.length ? ", --async" : ""}`, {
		skip,
	}, async (t) => {
		const suffixes = ["-a", "-b", "-c"];
		const server = await servedForRequests(t, suffixes, args);
		const client = await server.client();
		const it = await prepare(client);
		const first = new Map<string, { request: Request; xid: number; status: number; handle: string }>();
		let xid = 0x1000_0000;
		const sendAll = async (suffix: string) => {
			for (const request of requests(it, suffix)) {
				xid += 1;
				const { status, handle } = await request.send(client, xid);
				assert.equal(statusName(status), "ok", request.name);
				first.set(request.name, { request, xid, status, handle: handle?.toString("hex") ?? "" });
			}
			// Failures are answers too.
			for (const failing of failures(it, suffix)) {
				xid += 1;
				const { status } = await failing.send(client, xid);
				assert.notEqual(statusName(status), "ok", failing.name);
				first.set(failing.name, { request: failing, xid, status, handle: "" });
			}
		};
		const repeatAll = async (again: Nfs3Client, when: string) => {
			for (const [name, { request, xid: same, status, handle }] of first) {
				const repeated = await request.send(again, same);
				assert.equal(statusName(repeated.status), statusName(status), `${name}, ${when}: status`);
				assert.equal(repeated.handle?.toString("hex") ?? "", handle, `${name}, ${when}: handle`);
			}
		};
		await sendAll("-a");
		await otherClient(server, it.root, 3_000);
		await sendAll("-b");
		await repeatAll(client, "in the same life");
		client.close();
		await server.kill();
		await server.start();
		let again = await server.client();
		await repeatAll(again, "after SIGKILL");
		await otherClient(server, it.root, 3_000);
		await repeatAll(again, "after SIGKILL and 3,000 changes more");
		again.close();

		// What others have made since in the places of what was removed or moved is not touched by a repetition.
		const other = await Nfs3Client.connect({ host: "127.0.0.1", port: server.port, ...{ localAddress: "127.0.0.2" } });
		for (const name of ["remove-a", "rename-b", "over-a"]) await other.createFile(it.here, name, "of the other");
		await other.makeDirectory(it.here, "rmdir-a");
		await other.writeFile((await ok(other.lookup(it.here, "unchecked-a"))).handle, "written by the other");
		await ok(other.setattr(it.handleOf("setattr-a"), { mode: 0o777 }));
		await ok(other.remove(it.there, "linked-a"));
		await ok(other.remove(it.here, "guarded-b"));
		other.close();
		await server.kill();
		await server.start();
		again = await server.client();
		await repeatAll(again, "after another client's changes and SIGKILL");
		for (const name of ["remove-a", "rename-b", "over-a"]) {
			assert.equal((await again.readFile(await again.walk(it.here, name))).toString(), "of the other", `${name} of the other client`);
		}
		await again.walk(it.here, "rmdir-a");
		assert.equal((await again.readFile(await again.walk(it.here, "unchecked-a"))).toString(), "written by the other");
		assert.equal((await again.attributesOf(it.handleOf("setattr-a"))).mode, 0o777, "mode that the other client set");
		await refused(again.lookup(it.there, "linked-a"), "noent", "a link that the other client removed");
		await refused(again.lookup(it.here, "guarded-b"), "noent", "a file that the other client removed");

		// The same number on another request is another request.
		const { xid: used } = first.get("MKDIR-a") as { xid: number };
		assert.equal((await withXid(again, used, () => again.mkdir(it.here, "another directory"))).status, 0);
		await again.walk(it.here, "another directory");
		again.close();
	});
}

/** Requests that fail because of what those of `requests` have done. */
function failures(it: Prepared, suffix: string): Request[] {
	const { here } = it;
	const of = (name: string, send: (client: Nfs3Client) => Promise<{ status: number }>): Request => ({
		name: `failing ${name}${suffix}`,
		makes: null,
		send: (client, xid) => withXid(client, xid, () => send(client)),
	});
	return [
		of("CREATE", (client) => client.create(here, `guarded${suffix}`, { guarded: { mode: 0o600 } })),
		of("MKDIR", (client) => client.mkdir(here, `mkdir${suffix}`, { mode: 0o700 })),
		of("REMOVE", (client) => client.remove(here, `remove${suffix}`)),
		of("RMDIR", (client) => client.rmdir(here, `rmdir${suffix}`)),
		of("RENAME", (client) => client.rename(here, `rename${suffix}`, here, `nowhere${suffix}`)),
		of("SETATTR", (client) => client.setattr(it.handleOf(`setattr${suffix}`), { mode: 0o711 }, it.guardOf(`setattr${suffix}`))),
	];
}

const batches = volume(6, 10, 60);

for (const args of sampled([[], ["--async"]], 1)) {
	test(`requests under way at a SIGKILL at any moment, sent again after it: each succeeds, once${args.length ? ", --async" : ""}`, {
		skip,
	}, async (t) => {
		const suffixes = Array.from({ length: batches * 2 }, (_, index) => `-${index}`);
		const server = await servedForRequests(t, suffixes, args);
		let client = await server.client();
		const it = await prepare(client);
		let xid = 0x2000_0000;
		let [answered, open, doneSilently] = [0, 0, 0];
		for (let batch = 0; batch < batches; batch += 1) {
			const own = [`-${batch * 2}`, `-${batch * 2 + 1}`];
			const all = own.flatMap((suffix) => requests(it, suffix)).map((request, index) => ({ request, xid: xid + index }));
			xid += all.length;
			// Some have their replies already, four are under way, and the others are sent only afterwards.
			const early = 1 + ((batch * 11) % (all.length - 4));
			const replies: Promise<Awaited<ReturnType<Request["send"]>> | null>[] = [];
			for (const { request, xid: number } of all.slice(0, early)) {
				const reply = request.send(client, number);
				await reply;
				replies.push(reply);
			}
			// Every other time the client is gone before it reads the replies.
			const isLost = batch % 2 === 1;
			if (isLost) client.rpc.socket.pause();
			for (const { request, xid: number } of all.slice(early, early + 4)) replies.push(request.send(client, number).catch(() => null));
			await new Promise((resolve) => setTimeout(resolve, isLost ? 60 : (batch * 7) % 5));
			await server.kill();
			if (isLost) client.close();
			const before = await Promise.all(replies);
			client.close();
			await server.start();
			client = await server.client();
			const existing = new Set((await client.list(it.here)).map(({ name }) => name));
			for (const [index, { request, xid: number }] of all.entries()) {
				const first = before[index];
				if (first) answered += 1;
				else if (index < before.length) {
					open += 1;
					if (request.makes !== null && existing.has(request.makes)) doneSilently += 1;
				}
				const again = await request.send(client, number);
				assert.equal(
					statusName(again.status),
					"ok",
					`batch ${batch}: ${request.name}, ${first ? "answered with ok before" : "not answered before"}`,
				);
				if (!first) continue;
				assert.equal(statusName(first.status), "ok", `batch ${batch}: ${request.name}, before`);
				assert.equal(again.handle?.toString("hex"), first.handle?.toString("hex"), `batch ${batch}: handle of ${request.name}`);
			}
			for (const suffix of own) await assertDoneOnce(client, it, suffix);
		}
		for (const suffix of suffixes) await assertDoneOnce(client, it, suffix);
		t.diagnostic(`${answered} requests had their reply before the kill, ${open} had not, of which at least ${doneSilently} were done`);
		// how many were done is the scheduler's choice; that some were under way is not
		assert.ok(answered > 0 && open + answered > batches, "no request was sent before a kill");
		client.close();
	});
}

async function assertDoneOnce(client: Nfs3Client, it: Prepared, suffix: string): Promise<void> {
	const [here, there] = [new Set<string>(), new Set<string>()];
	for (const { name } of await client.list(it.here, { dots: false })) if (name.endsWith(suffix)) here.add(name.slice(0, -suffix.length));
	for (const { name } of await client.list(it.there, { dots: false })) if (name.endsWith(suffix)) there.add(name.slice(0, -suffix.length));
	assert.deepEqual(
		[...here].sort(),
		["exclusive", "guarded", "link", "mkdir", "mknod", "setattr", "shrink", "symlink", "target", "unchecked"],
		`names with ${suffix}`,
	);
	assert.deepEqual([...there].sort(), ["directory", "linked", "renamed"], `names with ${suffix} there`);
	const read = async (directory: Buffer, name: string) =>
		(await client.readFile(await client.walk(directory, `${name}${suffix}`))).toString();
	assert.equal(await read(it.here, "target"), "lower over");
	assert.equal(await read(it.there, "renamed"), "lower rename");
	assert.equal(await read(it.here, "shrink"), "low");
	assert.deepEqual(await client.walk(it.there, `linked${suffix}`), it.handleOf(`link${suffix}`));
	assert.equal((await client.attributesOf(it.handleOf(`link${suffix}`))).nlink, 2, "links after one LINK");
	assert.equal((await client.attributesOf(it.handleOf(`setattr${suffix}`))).mode, 0o600);
	assert.equal((await client.getattr(it.handleOf(`target${suffix}`))).status, 70, "what was renamed over");
	await client.walk(it.there, `directory${suffix}/sub`);
}
