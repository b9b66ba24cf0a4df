// Several exports as one tree, for clients of version 4.1.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Op } from "../nfs4/protocol.ts";
import { Status } from "../nfs4/status.ts";
import { MemoryOverlay } from "../vfs/memory-overlay.test-support.ts";
import type { XdrReader } from "../xdr/xdr-reader.ts";
import {
	ANONYMOUS,
	bitmap,
	bytesOf,
	fattr,
	Nfs4Client,
	NO_ATTRIBUTES,
	OK,
	pass,
	ROOT_STEP,
	readBits,
	type Step,
	startNfs4,
	u64,
} from "./nfs4-client.test-support.ts";
import { ROOT, type TestServer } from "./test-server.test-support.ts";

const FSID = 8;
const FILEID = 20;
const MOUNTED_ON = 55;

async function served(
	t: TestContext,
	...names: readonly string[]
): Promise<{ client: Nfs4Client; overlays: MemoryOverlay[]; server: TestServer }> {
	const overlays = names.map((_, index) => new MemoryOverlay(index + 1));
	const exports = names.map((name, index) => ({ name, overlay: overlays[index] }));
	const server = await startNfs4(t, { exports });
	return { client: await Nfs4Client.connect(server), overlays, server };
}

interface Seen {
	readonly fsid: string;
	readonly fileid: bigint;
	readonly mountedOn: bigint;
}

function readSeen(reader: XdrReader): Seen {
	assert.deepEqual(readBits(reader), [FSID, FILEID, MOUNTED_ON]);
	reader.u32();
	return { fsid: `${u64(reader)} ${u64(reader)}`, fileid: u64(reader), mountedOn: u64(reader) };
}

const SEE: Step = [Op.getattr, bitmap(FSID, FILEID, MOUNTED_ON)];

async function look(client: Nfs4Client, ...path: readonly string[]): Promise<Seen & { handle: Buffer }> {
	const { reader, status } = await client.run(ROOT_STEP, ...path.map((name): Step => [Op.lookup, name]), SEE, [Op.getfh]);
	assert.equal(status, OK);
	pass(reader, Op.putrootfh, ...path.map(() => Op.lookup), Op.getattr);
	const seen = readSeen(reader);
	pass(reader, Op.getfh);
	return { ...seen, handle: bytesOf(reader) };
}

/** Names with what is seen of them, in a listing. */
async function list(client: Nfs4Client, ...path: readonly string[]): Promise<Map<string, Seen>> {
	const steps = path.map((name): Step => [Op.lookup, name]);
	const { reader, status } = await client.run(ROOT_STEP, ...steps, [Op.readdir, 0, 0, 0, 0, 0, 4096, bitmap(FSID, FILEID, MOUNTED_ON)]);
	assert.equal(status, OK);
	pass(reader, Op.putrootfh, ...path.map(() => Op.lookup), Op.readdir);
	reader.fixed(8);
	const found = new Map<string, Seen>();
	while (reader.bool()) {
		reader.fixed(8);
		found.set(bytesOf(reader).toString(), readSeen(reader));
	}
	assert.equal(reader.bool(), true);
	return found;
}

test("one export named / is the whole tree", async (t) => {
	const { client, overlays } = await served(t, "/");
	const root = await look(client);
	assert.deepEqual(root.handle, overlays[0].root.handle);
	assert.equal(root.fileid, root.mountedOn);
	assert.equal(await client.status(ROOT_STEP, [Op.lookupp]), Status.noent);
});

test("directories lie above and between exports; entering one changes fsid and tells the fileid of the place it covers", async (t) => {
	const { client, overlays } = await served(t, "/a", "/b/c", "/b/d");
	const root = await look(client);
	assert.equal(root.fsid, "0 0");
	assert.deepEqual([...(await list(client)).keys()].sort(), ["a", "b"]);
	const below = await list(client, "b");
	assert.deepEqual([...below.keys()].sort(), ["c", "d"]);
	const b = await look(client, "b");
	assert.equal(b.fsid, "0 0");
	assert.equal((await list(client)).get("b")?.fileid, b.fileid);
	const c = await look(client, "b", "c");
	assert.deepEqual(c.handle, overlays[1].root.handle);
	assert.notEqual(c.fsid, "0 0");
	assert.notEqual(c.fileid, c.mountedOn);
	assert.deepEqual({ ...below.get("c"), handle: c.handle }, c, "a listing tells what a look-up tells");
	const ids = [root, b, await look(client, "a"), c].map(({ mountedOn }) => mountedOn);
	assert.equal(new Set(ids).size, ids.length);
});

test("the parent of an export's root is the directory that it lies in, up to the root of all", async (t) => {
	const { client } = await served(t, "/a", "/b/c");
	const path: Step[] = [ROOT_STEP, [Op.lookup, "b"], [Op.lookup, "c"]];
	const up = async (count: number): Promise<Buffer> => {
		const { reader, status } = await client.run(...path, ...Array.from({ length: count }, (): Step => [Op.lookupp]), [Op.getfh]);
		assert.equal(status, OK);
		pass(reader, Op.putrootfh, Op.lookup, Op.lookup, ...Array.from({ length: count }, () => Op.lookupp), Op.getfh);
		return bytesOf(reader);
	};
	assert.deepEqual(await up(1), (await look(client, "b")).handle);
	assert.deepEqual(await up(2), (await look(client)).handle);
	assert.equal(await client.status(...path, [Op.lookupp], [Op.lookupp], [Op.lookupp]), Status.noent);
});

test("an export within another one hides what lies there, in look-ups, listings and parents", async (t) => {
	const { client, overlays } = await served(t, "/a", "/a/b", "/a/x/y");
	const [a, b, y] = overlays;
	const covered = a.mkdir(a.root, Buffer.from("b"), ROOT, {});
	a.mkdir(covered, Buffer.from("hidden"), ROOT, {});
	const x = a.mkdir(a.root, Buffer.from("x"), ROOT, {});
	a.mkdir(x, Buffer.from("y"), ROOT, {});
	b.mkdir(b.root, Buffer.from("seen"), ROOT, {});
	assert.deepEqual((await look(client, "a", "b")).handle, b.root.handle);
	assert.deepEqual([...(await list(client, "a", "b")).keys()], ["seen"]);
	assert.deepEqual((await look(client, "a", "x", "y")).handle, y.root.handle);
	assert.equal((await list(client, "a")).get("b")?.fsid, (await look(client, "a", "b")).fsid);
	assert.equal((await list(client, "a")).get("b")?.mountedOn, BigInt(covered.id));
	const { reader } = await client.run(ROOT_STEP, [Op.lookup, "a"], [Op.lookup, "x"], [Op.lookup, "y"], [Op.lookupp], [Op.getfh]);
	pass(reader, Op.putrootfh, Op.lookup, Op.lookup, Op.lookup, Op.lookupp, Op.getfh);
	assert.deepEqual(bytesOf(reader), x.handle);
	assert.ok(!y.calls.includes("lookup"), "no export is asked for what belongs to another");
	assert.equal(await client.status(ROOT_STEP, [Op.lookup, "a"], [Op.lookup, "b"], [Op.lookup, "b"]), Status.noent);
});

test("directories between exports cannot be changed, opened or read", async (t) => {
	const { client } = await served(t, "/a", "/b");
	const change = async (...steps: Step[]): Promise<number> => client.status(ROOT_STEP, ...steps);
	assert.equal(await change([Op.create, 2, "x", NO_ATTRIBUTES]), Status.rofs);
	assert.equal(await change([Op.remove, "a"]), Status.rofs);
	assert.equal(await change([Op.savefh], [Op.rename, "a", "c"]), Status.rofs);
	assert.equal(await change([Op.setattr, ANONYMOUS, fattr([33, 0o777])]), Status.rofs);
	assert.equal(await change([Op.read, ANONYMOUS, 0, 0, 10]), Status.isdir);
	assert.equal(await change([Op.write, ANONYMOUS, 0, 0, 0, "x"]), Status.isdir);
	assert.equal(await change([Op.readlink]), Status.wrongType);
	assert.equal(await change([Op.open, 0, 1, 0, 0, 0, "owner", 0, 0, "a"]), Status.isdir);
	assert.equal(await change([Op.open, 0, 2, 0, 0, 0, "owner", 1, 0, { raw: NO_ATTRIBUTES.raw }, 0, "new"]), Status.rofs);
	const { reader } = await client.run(ROOT_STEP, [Op.access, 0x3f]);
	pass(reader, Op.putrootfh, Op.access);
	assert.deepEqual([reader.u32(), reader.u32()], [0x1f, 0x3]);
});

test("names are not moved or linked from one export to another", async (t) => {
	const { client, overlays } = await served(t, "/a", "/b");
	overlays[0].create(overlays[0].root, Buffer.from("f"), ROOT, { mode: "guarded", attributes: {} });
	const [a, b]: Step[][] = [
		[ROOT_STEP, [Op.lookup, "a"]],
		[ROOT_STEP, [Op.lookup, "b"]],
	];
	assert.equal(await client.status(...a, [Op.savefh], ...b, [Op.rename, "f", "g"]), Status.xdev);
	assert.equal(await client.status(...a, [Op.lookup, "f"], [Op.savefh], ...b, [Op.link, "g"]), Status.xdev);
});

test("handles of these directories hold over restarts and other exports; those below which none lies any more are stale", async (t) => {
	const before = await served(t, "/a", "/b/c");
	const root = (await look(before.client)).handle;
	const b = (await look(before.client, "b")).handle;
	const after = await served(t, "/b/c", "/e");
	for (const handle of [root, b]) assert.equal(await after.client.status([Op.putfh, handle], SEE), OK);
	const without = await served(t, "/a", "/e");
	assert.equal(await without.client.status([Op.putfh, b]), Status.stale);
	assert.equal(await without.client.status([Op.putfh, Buffer.alloc(16, 1)]), Status.badhandle);
	const whole = await served(t, "/");
	assert.equal(await whole.client.status([Op.putfh, root]), Status.badhandle);
});

test("an export that is not for this client is ACCESS by its name and STALE by its handles, and the others are served", async (t) => {
	const overlays = [new MemoryOverlay(1), new MemoryOverlay(2)];
	const server = await startNfs4(t, {
		exports: [
			{ name: "/a", overlay: overlays[0] },
			{ name: "/b", overlay: overlays[1], flavors: [0] },
		],
	});
	const client = await Nfs4Client.connect(server);
	assert.equal(await client.status(ROOT_STEP, [Op.lookup, "a"]), OK);
	assert.equal(await client.status(ROOT_STEP, [Op.lookup, "b"]), Status.access);
	assert.equal(await client.status([Op.putfh, overlays[1].root.handle]), Status.stale);
	const alone = await startNfs4(t, { exports: [{ name: "/", overlay: new MemoryOverlay(3), flavors: [0] }] });
	assert.equal(await (await Nfs4Client.connect(alone)).status(ROOT_STEP), Status.wrongsec);
});
