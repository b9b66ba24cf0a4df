/** Many exports in one process: no handle, name or failure of one reaches another. */

import assert from "node:assert/strict";
import { existsSync, readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { BudgetLimits } from "../../src/overlay/opening/budget.ts";
import { type ExportToServe, type OpenServer, openExports, type ServedExport } from "../../src/server/serve-exports.ts";
import { ROOT } from "../in-process/walk.ts";
import { plant } from "../support/lower-tree.ts";
import { Nfs3Client, refused } from "../support/nfs3-client.ts";
import { needs } from "../support/requirements.ts";
import { type Scratch, scratch } from "../support/scratch.ts";
import { startServer } from "../support/server-process.ts";
import { cannotMountSlowDisk, SlowDisk } from "../support/slow-disk.ts";

const skip = needs("root");
const FILES = 30;

interface Stage {
	readonly made: Scratch;
	readonly base: string;
	readonly state: string;
}

function stage(t: TestContext): Stage {
	const made = scratch(t);
	const base = made.mount("tmpfs");
	return { made, base, state: join(base, "state") };
}

/** A tree in which the same names hold what says whose they are. A read-only one with portable handles is recognised by the names in its root. */
function tree(base: string, name: string): string {
	const files = Object.fromEntries(Array.from({ length: FILES }, (_, i) => [`directory/file${i}`, `${name} ${i}`]));
	return plant(join(base, name), { same: name, [`only in ${name}`]: "", ...files });
}

/** Ten exports: read-only and not, of kernel and portable handles, with lowers that others have too. */
function tenExports({ base, state }: Stage): ExportToServe[] {
	const shared = tree(base, "shared");
	const of = (name: string, layers: Partial<ExportToServe["layers"]> & { isWritable?: boolean } = {}): ExportToServe => {
		const { isWritable = true, ...rest } = layers;
		const upper = isWritable ? { upper: join(base, `${name}.upper`) } : {};
		return { name: `/${name}`, layers: { lowers: [tree(base, name)], stateFolder: state, isSync: false, ...upper, ...rest } };
	};
	return [
		of("kernel"),
		of("kernel-too"),
		of("read-only", { isWritable: false }),
		of("portable", { handles: "portable" }),
		of("portable-read-only", { handles: "portable", isWritable: false }),
		of("fake-root", { handles: "portable", fakeRoot: true }),
		of("link-names", { handles: "portable", linkNames: true }),
		of("above", { lowers: [tree(base, "above"), shared] }),
		of("beside", { lowers: [tree(base, "beside"), shared] }),
		of("many", {
			lowers: [tree(base, "many"), ...Array.from({ length: 15 }, (_, i) => tree(base, `layer${i}`)), shared],
			isWritable: false,
		}),
	];
}

async function start(t: TestContext, state: string, exports: readonly ExportToServe[], limits: BudgetLimits = {}, port = 0) {
	const warnings: string[] = [];
	const listen = [{ host: "127.0.0.1", port }];
	const served = await openExports({
		exports: exports.map((one) => ({ ...one, insecure: true })),
		listen,
		stateFolder: state,
		limits,
		warn: (sentence) => warnings.push(sentence),
	});
	t.after(() => served.close());
	await served.listen();
	const client = await connect(t, served);
	return { served, client, warnings };
}

async function connect(t: TestContext, { server }: OpenServer): Promise<Nfs3Client> {
	const [address] = server.addresses;
	const client = await Nfs3Client.connect("port" in address ? address.port : 0);
	t.after(() => client.close());
	return client;
}

function isWritable({ opened }: ServedExport): boolean {
	return opened.upper !== null;
}

/** Reads all of an export, and finds in it what is its own. */
async function readAll(client: Nfs3Client, { name }: ServedExport): Promise<void> {
	const root = await client.root(name);
	const own = name.slice(1);
	assert.equal((await client.readFile(await client.walk(root, "same"))).toString(), own);
	const directory = await client.walk(root, "directory");
	for (const { name: file, handle } of await client.listPlus(directory, { dots: false })) {
		assert.equal((await client.readFile(handle ?? (await client.walk(directory, file)))).toString(), `${own} ${file.slice(4)}`);
	}
}

/** Files and directories that this process has open. */
function openFiles(): string[] {
	const open: string[] = [];
	for (const fd of readdirSync("/proc/self/fd")) {
		try {
			const path = readlinkSync(`/proc/self/fd/${fd}`);
			if (path.startsWith("/") && !path.startsWith("/proc/") && !path.startsWith("/dev/")) open.push(path);
		} catch {
			// the descriptor of this very listing
		}
	}
	return open.sort();
}

test("ten exports of one process: every handle is of its own export, and of no other", { skip }, async (t) => {
	const at = stage(t);
	const { served, client } = await start(t, at.state, tenExports(at));
	assert.equal(served.exports.length, 10);
	const handles: { readonly name: string; readonly handle: Buffer }[] = [];
	for (const one of served.exports) {
		await readAll(client, one);
		for (const { handle } of (await client.tree(await client.root(one.name))).values()) handles.push({ name: one.name, handle });
	}
	assert.equal(new Set(handles.map(({ handle }) => handle.toString("hex"))).size, handles.length);
	// in process: each overlay knows its own, and says of all others without a doubt that they are bad
	for (const { name, opened } of served.exports) {
		opened.overlay.beginPass();
		for (const other of handles) {
			if (other.name === name) assert.deepEqual(opened.overlay.decode(other.handle).handle, other.handle);
			else assert.throws(() => opened.overlay.decode(other.handle), { code: "badhandle" });
		}
	}
	// over the wire: with the id of another export a handle is bad
	for (const [i, { handle }] of handles.entries()) {
		const other = handles[(i + 1) % handles.length].handle;
		const forged = Buffer.from(handle);
		other.copy(forged, 4, 4, 8);
		if (!forged.equals(handle)) await refused(client.getattr(forged), "badhandle");
	}
	const unknown = Buffer.from(handles[0].handle);
	unknown.writeUInt32BE(1, 4);
	await refused(client.getattr(unknown), "badhandle");
	const numbers = await Promise.all(served.exports.map(async ({ name }) => (await client.attributesOf(await client.root(name))).fsid));
	assert.equal(new Set(numbers).size, 10);
	assert.deepEqual(
		(await client.exports()).map(({ path }) => path),
		served.exports.map(({ name }) => name),
	);
});

test("RENAME and LINK between exports are refused, and a change in one is seen in no other", { skip }, async (t) => {
	const at = stage(t);
	const { served, client } = await start(t, at.state, tenExports(at));
	const roots = new Map<ServedExport, Buffer>();
	for (const one of served.exports) roots.set(one, await client.root(one.name));
	for (const [from, root] of roots) {
		const file = await client.walk(root, "same");
		for (const [to, other] of roots) {
			if (from === to) continue;
			await refused(client.rename(root, "same", other, "moved"), "xdev");
			await refused(client.link(file, other, "moved"), "xdev");
		}
	}
	for (const [one, root] of roots) {
		if (isWritable(one)) await client.createFile(root, `new in ${one.name.slice(1)}`, one.name);
		else await refused(client.create(root, "new", { guarded: {} }), "rofs");
		if (isWritable(one)) await client.writeFile(await client.walk(root, "directory/file0"), `changed in ${one.name}`);
	}
	for (const [one, root] of roots) {
		const names = (await client.list(root)).map(({ name }) => name).filter((name) => name.startsWith("new in"));
		assert.deepEqual(names, isWritable(one) ? [`new in ${one.name.slice(1)}`] : []);
		const content = (await client.readFile(await client.walk(root, "directory/file0"))).toString();
		assert.equal(content, isWritable(one) ? `changed in ${one.name}` : `${one.name.slice(1)} 0`);
	}
});

test("objects, descriptors and listings of all exports together stay within one budget, and nothing is wrong for it", {
	skip,
}, async (t) => {
	const at = stage(t);
	const limits = { nodesMax: 40, descriptorsMax: 20, listingBytesMax: 8192 };
	const { served, client } = await start(t, at.state, tenExports(at), limits);
	for (let round = 0; round < 2; round++) {
		for (const one of served.exports) await readAll(client, one);
		for (const { opened } of served.exports) opened.overlay.beginPass();
		const engines = served.exports.map(({ opened }) => opened.overlay.engine);
		const nodes = engines.reduce((sum, engine) => sum + engine.nodes.size, 0);
		assert.ok(nodes <= limits.nodesMax, `${nodes} objects`);
		assert.equal(new Set(engines.map(({ descriptors }) => descriptors)).size, 1);
		assert.ok(engines[0].descriptors.count <= limits.descriptorsMax);
		const bytes = served.exports.reduce((sum, { opened }) => sum + opened.overlay.listings.bytes, 0);
		const largest = Math.max(...served.exports.map(({ opened }) => opened.overlay.listings.bytes));
		assert.ok(bytes <= limits.listingBytesMax || bytes === largest, `${bytes} bytes of listings`);
	}
});

test("an export that is closed is stale; the others go on, and all handles are good again after a restart", { skip }, async (t) => {
	const at = stage(t);
	const exports = tenExports(at);
	const { served, client } = await start(t, at.state, exports);
	const [gone, ...others] = served.exports;
	const roots = await Promise.all(served.exports.map(({ name }) => client.root(name)));
	for (const one of served.exports) await readAll(client, one);
	const file = await client.walk(roots[0], "directory/file1");
	await gone.opened.overlay.close();
	await refused(client.getattr(roots[0]), "stale");
	await refused(client.getattr(file), "stale");
	await refused(client.remove(roots[0], "same"), "stale");
	assert.equal((await client.mnt(gone.name)).status, 2);
	for (const one of others) await readAll(client, one);
	for (const [i, one] of served.exports.entries()) if (i > 0 && isWritable(one)) await client.createFile(roots[i], "after", "x");
	await served.close();
	const again = await start(t, at.state, exports);
	for (const [i, root] of roots.entries()) {
		assert.deepEqual(await again.client.root(exports[i].name), root);
		await readAll(again.client, again.served.exports[i]);
	}
	assert.equal((await again.client.readFile(file)).toString(), "kernel 1");
});

test("closing answers what was taken in every export, and leaves nothing open", { skip }, async (t) => {
	const at = stage(t);
	const exports = tenExports(at);
	const before = openFiles();
	const { served, client } = await start(t, at.state, exports);
	const writable = served.exports.filter(isWritable);
	const roots = await Promise.all(writable.map(({ name }) => client.root(name)));
	for (const root of roots) await client.createFile(root, "large", Buffer.alloc(512 * 1024));
	const taken = roots.flatMap((root, i) => [
		client.rename(root, "large", root, "moved"),
		client.mkdir(root, `made${i}`),
		client.remove(root, "same"),
	]);
	// what has come to the server is answered; a call that is answered shows that those before it on its connection have come
	const last = client.getattr(roots[0]);
	for (const reply of [...taken, last]) assert.equal((await reply).status, 0);
	await served.close();
	client.close();
	assert.deepEqual(openFiles(), before);
	const again = await start(t, at.state, exports);
	for (const [i, { name }] of writable.entries()) {
		const names = (await again.client.list(await again.client.root(name))).map((entry) => entry.name);
		for (const expected of ["moved", `made${i}`]) assert.ok(names.includes(expected), `${expected} in ${name}`);
		assert.ok(!names.includes("same"));
	}
});

test("replies are saved by the server, and are those of each export after a restart at the same address", { skip }, async (t) => {
	const at = stage(t);
	const exports = tenExports(at);
	const { served, client, warnings } = await start(t, at.state, exports);
	const [address] = served.server.addresses;
	const port = "port" in address ? address.port : 0;
	const writable = served.exports.filter(isWritable);
	const roots = await Promise.all(writable.map(({ name }) => client.root(name)));
	const replies = new Map<number, Awaited<ReturnType<Nfs3Client["remove"]>>>();
	for (const [i, root] of roots.entries()) replies.set(i, await client.remove(root, "same", 7000));
	await served.close();
	client.close();
	assert.equal(readdirSync(join(at.state, "replies")).length, 1);
	for (const { opened } of writable) assert.ok(!existsSync(join(opened.folder, "replies")));
	const again = await start(t, at.state, exports, {}, port);
	for (const [i, root] of roots.entries()) {
		// the reply as it was, with the attributes of then
		await again.client.mkdir(root, "since");
		assert.deepEqual(await again.client.remove(root, "same", 7000), replies.get(i));
		await refused(again.client.remove(root, "same", 7001), "noent");
	}
	assert.deepEqual([...warnings, ...again.warnings], []);
});

test("an idle export costs less than 2 MB of memory, and few descriptors", { skip }, async (t) => {
	setFlagsFromString("--expose-gc");
	const gc = runInNewContext("gc") as () => void;
	const memory = (): number => {
		gc();
		const { heapUsed, external } = process.memoryUsage();
		return heapUsed + external;
	};
	const at = stage(t);
	const exports = Array.from({ length: 21 }, (_, i): ExportToServe => {
		const layers = { lowers: [tree(at.base, `idle${i}`)], upper: join(at.base, `upper${i}`), stateFolder: at.state, isSync: false };
		return { name: `/idle${i}`, layers };
	});
	await start(t, at.state, exports.slice(0, 1));
	const before = { memory: memory(), files: openFiles().length };
	await start(t, at.state, exports.slice(1));
	const after = { memory: memory(), files: openFiles().length };
	assert.ok((after.memory - before.memory) / 20 < 2e6, `${(after.memory - before.memory) / 20} bytes for each`);
	assert.ok((after.files - before.files) / 20 <= 20, `${(after.files - before.files) / 20} descriptors for each`);
});

test("two names for the same layers are refused, and nothing stays open or locked", { skip }, async (t) => {
	const at = stage(t);
	const [first, ...rest] = tenExports(at);
	const readOnly = rest.find(({ layers }) => layers.upper === undefined) as ExportToServe;
	await assert.rejects(start(t, at.state, [first, readOnly, { ...readOnly, name: "/twin" }]), /the same id/);
	await assert.rejects(start(t, at.state, [first, { ...first, name: "/twin" }]), /Cannot lock the upper/);
	const { client, served } = await start(t, at.state, [first, readOnly]);
	for (const one of served.exports) await readAll(client, one);
});

test("an export whose disk hangs, and then is gone, holds up no other", { skip: skip || cannotMountSlowDisk() }, async (t) => {
	const at = stage(t);
	const disk = await SlowDisk.make(at.made, "slow", 32, (folder) => tree(folder, "slow"));
	const slow: ExportToServe = {
		name: "/slow",
		layers: { lowers: [join(disk.path, "slow")], handles: "portable", stateFolder: at.state, isSync: false },
	};
	const { served, client } = await start(t, at.state, [slow, ...tenExports(at)]);
	// names near the root were looked at when the server started
	const file = await client.walk(await client.root("/slow"), "directory/file0");
	await disk.setDelay("hang");
	const waiting = await connect(t, served);
	const hanging = waiting.read(file, 0n, 100).catch(() => null);
	for (const one of served.exports.slice(1)) await readAll(client, one);
	await disk.fail();
	const reply = await hanging;
	assert.notEqual(reply?.status, 0);
	for (const one of served.exports.slice(1)) {
		await readAll(client, one);
		if (isWritable(one)) await client.createFile(await client.root(one.name), "still", "writable");
	}
	assert.equal(served.exports[1].opened.overlay.lookup(served.exports[1].opened.overlay.root, Buffer.from("still"), ROOT) !== null, true);
});

test("a state folder in a lower is not written to: replies are kept with an export, and taken from there", { skip }, async (t) => {
	const at = stage(t);
	const lower = tree(at.base, "outer");
	const state = join(lower, "state");
	const exports: ExportToServe[] = [
		{ name: "/outer", layers: { lowers: [lower], upper: join(at.base, "upper"), stateFolder: state, isSync: false } },
	];
	const { served, client } = await start(t, state, exports);
	const [address] = served.server.addresses;
	const root = await client.root("/outer");
	const reply = await client.remove(root, "same", 7000);
	await served.close();
	client.close();
	assert.ok(!existsSync(state));
	const kept = join(served.exports[0].opened.folder, "replies");
	assert.ok(existsSync(kept));
	const again = await start(t, state, exports, {}, "port" in address ? address.port : 0);
	await again.client.mkdir(root, "since");
	assert.deepEqual(await again.client.remove(root, "same", 7000), reply);
	await again.served.close();
	// with a place of its own the server takes over what lies there, and that goes
	const other = await start(t, at.state, exports, {}, "port" in address ? address.port : 0);
	assert.deepEqual(await other.client.remove(root, "same", 7000), reply);
	await other.served.close();
	assert.ok(!existsSync(kept));
	assert.equal(readdirSync(join(at.state, "replies")).length, 1);
});

test("--export serves many trees in one server, each with its changes in the state folder, found again by the next start", {
	skip,
}, async (t) => {
	const at = stage(t);
	const args = ["a", "b"].flatMap((name) => ["--export", `/${name}=${tree(at.base, name)}`]);
	const server = await startServer(at.made, { args: [...args, "--state-dir", at.state] });
	assert.match(server.stdout, /^ready /m);
	for (let round = 0; round < 2; round++) {
		const client = await server.client();
		for (const name of ["a", "b"]) {
			const root = await client.root(`/${name}`);
			assert.equal((await client.readFile(await client.walk(root, "same"))).toString(), name);
			if (round === 0) await client.createFile(root, "new", name);
			else assert.equal((await client.readFile(await client.walk(root, "new"))).toString(), name);
		}
		assert.match(server.stdout, /^Export \/a\nOn Linux:\nsudo .*:\/a \/mnt$[\s\S]*^Export \/b\nOn Linux:\nsudo .*:\/b \/mnt$/m);
		client.close();
		if (round === 0) await server.restart();
	}
});
