// Exports over the wire: allowed clients, squashing, handles of other exports.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { ClientRule } from "../exports/allowed-clients.ts";
import { AUTH_NONE, authSys, RpcClient, results, type XdrItem, xdr } from "../rpc/rpc-client.test-support.ts";
import { MemoryOverlay } from "../vfs/memory-overlay.test-support.ts";
import { bytes, Nfs, NO_CHANGE, nfs, ROOT, startServer } from "./test-server.test-support.ts";

const [OK, ACCES, XDEV, ROFS, BADHANDLE] = [0, 13, 18, 30, 10001];
const NO_SATTR = { raw: NO_CHANGE };
const [MNT, EXPORT] = [1, 5];

/** A server of one export with these rules, and a way to come from any address of this host. */
async function startWith(t: TestContext, clients: readonly ClientRule[]) {
	const overlay = new MemoryOverlay(1);
	const open = new MemoryOverlay(2);
	overlay.root.mode = 0o777;
	const exports = [
		{ name: "/some", overlay, clients, squash: { anonUid: 500, anonGid: 500 } },
		{ name: "/all", overlay: open },
	];
	const { port, file } = await startServer(t, { exports }, overlay);
	const from = async (localAddress: string): Promise<RpcClient> => {
		const client = await RpcClient.connect({ host: "127.0.0.1", port, localAddress });
		t.after(() => client.close());
		return client;
	};
	return { overlay, open, file, from };
}

async function mount(client: RpcClient, procedure: number, ...args: XdrItem[]) {
	return results(await client.call({ program: 100005, version: 3, procedure, args: xdr(...args) }));
}

test("a client that no rule names may neither mount nor use a handle, and the overlay is never asked", async (t) => {
	const { overlay, open, from } = await startWith(t, [{ clients: "127.0.0.2" }, { clients: "127.1.0.0/16" }]);
	const stranger = await from("127.0.0.1");
	overlay.calls.length = 0;
	assert.equal((await mount(stranger, MNT, "/some")).u32(), ACCES);
	assert.equal((await mount(stranger, MNT, "/some/below")).u32(), ACCES);
	for (const procedure of [Nfs.getattr, Nfs.fsinfo, Nfs.fsstat, Nfs.readlink])
		assert.equal((await nfs(stranger, procedure, [overlay.root.handle])).u32(), ACCES);
	assert.equal((await nfs(stranger, Nfs.mkdir, [overlay.root.handle, "x", NO_SATTR])).u32(), ACCES);
	assert.deepEqual(overlay.calls, []);
	assert.equal((await nfs(stranger, Nfs.getattr, [open.root.handle])).u32(), OK);
	assert.equal((await nfs(stranger, Nfs.rename, [open.root.handle, "a", overlay.root.handle, "b"])).u32(), ACCES);
	for (const address of ["127.0.0.2", "127.1.200.3"]) {
		const client = await from(address);
		assert.equal((await mount(client, MNT, "/some")).u32(), OK);
		assert.equal((await nfs(client, Nfs.getattr, [overlay.root.handle])).u32(), OK);
	}
});

test("peers that nothing is for get AUTH_TOOWEAK, and take the place of nobody but one another", async (t) => {
	const overlay = new MemoryOverlay();
	const exports = [{ name: "/", overlay, clients: [{ clients: "127.0.0.2" }] }];
	const told: string[] = [];
	const { port, server } = await startServer(t, { exports, limits: { connections: 17 }, warn: (sentence) => told.push(sentence) });
	const from = async (localAddress: string): Promise<RpcClient> => {
		const client = await RpcClient.connect({ host: "127.0.0.1", port, localAddress });
		t.after(() => client.close());
		return client;
	};
	const listed: RpcClient[] = [];
	for (let i = 0; i < 17; i++) listed.push(await from("127.0.0.2"));
	const strangers: RpcClient[] = [];
	for (let i = 0; i < 40; i++) {
		const stranger = await from(`127.0.1.${i}`);
		strangers.push(stranger);
		results(await stranger.call({ program: 100003, version: 3, procedure: 0 }));
		const refused = await stranger.call({ program: 100003, version: 3, procedure: Nfs.getattr, args: xdr(overlay.root.handle) });
		assert.deepEqual(refused.subarray(8), xdr(1, 1, 5));
	}
	assert.equal(server.connectionCount, 17 + 3);
	assert.equal(told.length, 40);
	for (const client of listed) assert.equal((await nfs(client, Nfs.getattr, [overlay.root.handle])).u32(), OK);
	// one more who may come takes the place of the longest idle one of them
	const last = await from("127.0.0.2");
	assert.equal((await nfs(last, Nfs.getattr, [overlay.root.handle])).u32(), OK);
	assert.equal(server.connectionCount, 17 + 3);
	results(await strangers[39].call({ program: 100003, version: 3, procedure: 0 }));
	const crowd = await Promise.all(Array.from({ length: 100 }, (_, i) => from(`127.0.2.${i}`)));
	results(await crowd[99].call({ program: 100003, version: 3, procedure: 0 }));
	assert.equal(server.connectionCount, 17 + 3);
	assert.equal((await nfs(last, Nfs.getattr, [overlay.root.handle])).u32(), OK);
});

test("EXPORT lists the clients of each export", async (t) => {
	const { from } = await startWith(t, [{ clients: "127.0.0.1" }, { clients: "2001:db8::/32", readOnly: true }]);
	const reply = await mount(await from("127.0.0.1"), EXPORT);
	const listed: string[][] = [];
	while (reply.bool()) {
		const entry = [bytes(reply).toString()];
		while (reply.bool()) entry.push(bytes(reply).toString());
		listed.push(entry);
	}
	assert.deepEqual(listed, [["/some", "127.0.0.1", "2001:db8::/32"], ["/all"]]);
});

test("a client that may only read changes nothing, is told so by ACCESS, and reads", async (t) => {
	const { overlay, file, from } = await startWith(t, [{ clients: "127.0.0.1", readOnly: true }, { clients: "127.0.0.2" }]);
	const { handle } = file("file", "content");
	const { handle: root } = overlay.root;
	const [reader, writer] = [await from("127.0.0.1"), await from("127.0.0.2")];
	const before = [...overlay.root.names.keys()];
	const refused: [number, XdrItem[]][] = [
		[Nfs.setattr, [handle, NO_SATTR, 0]],
		[Nfs.write, [handle, 0, 0, 1, 2, "x"]],
		[Nfs.create, [root, "new", 0, NO_SATTR]],
		[Nfs.mkdir, [root, "new", NO_SATTR]],
		[Nfs.symlink, [root, "new", NO_SATTR, "target"]],
		[Nfs.mknod, [root, "new", 7, NO_SATTR]],
		[Nfs.remove, [root, "file"]],
		[Nfs.rmdir, [root, "file"]],
		[Nfs.rename, [root, "file", root, "new"]],
		[Nfs.link, [handle, root, "new"]],
	];
	for (const [procedure, args] of refused) assert.equal((await nfs(reader, procedure, args)).u32(), ROFS, `procedure ${procedure}`);
	assert.deepEqual([...overlay.root.names.keys()], before);
	const granted = async (client: RpcClient, object: Buffer): Promise<number> => {
		const reply = await nfs(client, Nfs.access, [object, 0x3f]);
		assert.equal(reply.u32(), OK);
		reply.fixed(4 + 84);
		return reply.u32();
	};
	for (const object of [handle, root]) assert.equal(await granted(reader, object), (await granted(writer, object)) & ~(4 | 8 | 16));
	const read = await nfs(reader, Nfs.read, [handle, 0, 0, 100]);
	assert.equal(read.u32(), OK);
	read.fixed(4 + 84 + 8);
	assert.equal(bytes(read).toString(), "content");
	assert.equal((await nfs(writer, Nfs.remove, [root, "file"])).u32(), OK);
});

test("squashing goes by the rule of the client, on one connection by the export", async (t) => {
	const { overlay, open, from } = await startWith(t, [
		{ clients: "127.0.0.0/8" },
		{ clients: "127.0.0.2", squash: { rootSquash: true } },
		{ clients: "127.0.0.3", squash: { allSquash: true } },
	]);
	open.root.mode = 0o777;
	let made = 0;
	const owner = async (client: RpcClient, on: MemoryOverlay, credential: readonly [number, Uint8Array]) => {
		const name = `made${made++}`;
		await nfs(client, Nfs.mkdir, [on.root.handle, name, NO_SATTR], { credential });
		return on.root.names.get(name)?.uid;
	};
	const [one, two, three] = [await from("127.0.0.1"), await from("127.0.0.2"), await from("127.0.0.3")];
	for (let round = 0; round < 2; round++) {
		assert.equal(await owner(one, overlay, authSys(0, 0)), 0);
		assert.equal(await owner(one, overlay, AUTH_NONE), 500);
		assert.equal(await owner(one, open, AUTH_NONE), 65534);
		assert.equal(await owner(two, overlay, authSys(0, 0)), 500);
		assert.equal(await owner(two, open, authSys(0, 0)), 0);
		assert.equal(await owner(two, overlay, authSys(7, 7)), 7);
		assert.equal(await owner(three, overlay, authSys(7, 7)), 500);
		assert.equal(await owner(three, open, authSys(7, 7)), 7);
	}
});

test("a handle of an export that is not here is bad, and no overlay is asked", async (t) => {
	const { overlay, open, from } = await startWith(t, []);
	const client = await from("127.0.0.1");
	const [other, here] = [new MemoryOverlay(3).root.handle, overlay.root.handle];
	overlay.calls.length = 0;
	open.calls.length = 0;
	assert.equal((await nfs(client, Nfs.getattr, [other])).u32(), BADHANDLE);
	assert.deepEqual([...overlay.calls, ...open.calls], []);
	assert.equal((await nfs(client, Nfs.rename, [here, "a", other, "b"])).u32(), BADHANDLE);
});

test("RENAME and LINK between exports are XDEV and change neither", async (t) => {
	const { overlay, open, file, from } = await startWith(t, []);
	const { handle } = file("file", "content");
	const client = await from("127.0.0.1");
	open.mkdir(open.root, Buffer.from("there"), ROOT, {});
	const namesIn = (): string[] => [...overlay.root.names.keys(), ...open.root.names.keys()];
	const before = namesIn();
	assert.equal((await nfs(client, Nfs.rename, [overlay.root.handle, "file", open.root.handle, "file"])).u32(), XDEV);
	assert.equal((await nfs(client, Nfs.rename, [open.root.handle, "there", overlay.root.handle, "there"])).u32(), XDEV);
	assert.equal((await nfs(client, Nfs.link, [handle, open.root.handle, "file"])).u32(), XDEV);
	assert.deepEqual(namesIn(), before);
});
