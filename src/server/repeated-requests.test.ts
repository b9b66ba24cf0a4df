// Requests that come again, over other connections and while the first runs.

import assert from "node:assert/strict";
import { test } from "node:test";
import { OWN_ADDRESS } from "../../test/support/peers.ts";
import { authSys, encodeCall, inFragments, RpcClient, xdr } from "../rpc/rpc-client.test-support.ts";
import { MemoryOverlay } from "../vfs/memory-overlay.test-support.ts";
import { gate, Nfs, NO_CHANGE, nfsCall, nfsRecord, ROOT, startServer, until } from "./test-server.test-support.ts";

const NO_SATTR = { raw: NO_CHANGE };

function count(overlay: MemoryOverlay, operation: string): number {
	return overlay.calls.filter((call) => call === operation).length;
}

test("each change that is sent again gets the same bytes and is not run again, also over a new connection", async (t) => {
	const { connect, overlay, file } = await startServer(t);
	const root = overlay.root.handle;
	const { handle } = file("file", "content");
	overlay.mkdir(overlay.root, Buffer.from("empty"), ROOT, {});
	const calls = [
		[Nfs.setattr, "setattr", [handle, { raw: xdr(1, 0o600, 0, 0, 0, 0, 0) }, 0]],
		[Nfs.create, "create", [root, "new", 1, NO_SATTR]],
		[Nfs.mkdir, "mkdir", [root, "dir", NO_SATTR]],
		[Nfs.symlink, "symlink", [root, "symlink", NO_SATTR, "target"]],
		[Nfs.mknod, "mknod", [root, "fifo", 7, NO_SATTR]],
		[Nfs.link, "link", [handle, root, "link"]],
		[Nfs.rename, "rename", [root, "new", root, "renamed"]],
		[Nfs.remove, "remove", [root, "renamed"]],
		[Nfs.rmdir, "rmdir", [root, "empty"]],
	] as const;
	for (const [index, [procedure, operation, args]] of calls.entries()) {
		const before = count(overlay, operation);
		const client = await connect();
		const first = await client.call(nfsCall(procedure, args, { xid: 500 + index }));
		assert.equal(first.readUInt32BE(24), 0, operation);
		assert.deepEqual(await client.call(nfsCall(procedure, args, { xid: 500 + index })), first);
		client.close();
		const again = await connect();
		assert.deepEqual(await again.call(nfsCall(procedure, args, { xid: 500 + index })), first);
		// Another stamp is the same call: some clients make one for each transmission.
		const stamped = nfsCall(procedure, args, { xid: 500 + index, credential: authSys(0, 0, [], 12345) });
		assert.deepEqual(await again.call(stamped), first);
		assert.equal(count(overlay, operation) - before, 1, operation);
	}
});

test("another xid, another user and other arguments are other requests", async (t) => {
	const { connect, overlay } = await startServer(t);
	const client = await connect();
	const mkdir = async (xid: number, name: string, credential = authSys(0, 0)): Promise<number> =>
		(await client.call(nfsCall(Nfs.mkdir, [overlay.root.handle, name, NO_SATTR], { xid, credential }))).readUInt32BE(24);
	assert.equal(await mkdir(1, "a"), 0);
	assert.equal(await mkdir(2, "a"), 17);
	assert.equal(await mkdir(1, "b"), 0);
	assert.equal(await mkdir(1, "a", authSys(0, 5)), 17);
	assert.equal(await mkdir(1, "a"), 0);
});

test("an equal request of another open connection is another request: each is run, and gets its own reply, at once or while the other waits", async (t) => {
	const { connect, overlay } = await startServer(t);
	const [first, second] = [await connect(), await connect()];
	const mkdir = nfsCall(Nfs.mkdir, [overlay.root.handle, "lock", NO_SATTR], { xid: 9 });
	assert.equal((await first.call(mkdir)).readUInt32BE(24), 0);
	assert.equal((await second.call(mkdir)).readUInt32BE(24), 17, "the lock is taken");
	assert.equal((await first.call(mkdir)).readUInt32BE(24), 0, "still its own reply");
	const { opened, open } = gate();
	overlay.stable = () => opened;
	const setattr = nfsRecord(10, Nfs.setattr, [overlay.root.handle, NO_SATTR, 0]);
	for (const client of [first, second]) client.send(setattr);
	await until(() => count(overlay, "setattr") === 2);
	open();
	for (const client of [first, second]) assert.equal((await client.receive())?.readUInt32BE(0), 10);
});

test("a repetition of a request that still waits, over a new connection, is not run, and the reply goes to all who wait for it", async (t) => {
	const { connect, overlay } = await startServer(t);
	const { opened, open } = gate();
	overlay.stable = () => opened;
	const [first, second, third] = [await connect(), await connect(), await connect()];
	const record = nfsRecord(9, Nfs.mkdir, [overlay.root.handle, "dir", NO_SATTR]);
	for (const [index, client] of [first, second, third].entries()) {
		client.send(record);
		client.send(nfsRecord(1000 + index, Nfs.null, []));
		assert.equal((await client.receive())?.readUInt32BE(0), 1000 + index);
		// it reads on, but sends nothing any more: whoever sends the same after that repeats it
		if (client !== third) client.socket.end();
	}
	open();
	for (const client of [first, second, third]) {
		const reply = await client.receive();
		assert.deepEqual([reply?.readUInt32BE(0), reply?.readUInt32BE(24)], [9, 0]);
	}
	assert.equal(count(overlay, "mkdir"), 1);
});

test("a change whose connection broke before it was stable is answered when it is sent again", async (t) => {
	const { connect, overlay, server } = await startServer(t);
	const { opened, open } = gate();
	overlay.stable = () => opened;
	const record = nfsRecord(9, Nfs.mkdir, [overlay.root.handle, "dir", NO_SATTR]);
	const first = await connect();
	first.send(record);
	await until(() => count(overlay, "mkdir") === 1);
	first.reset();
	await until(() => server.connectionCount === 0);
	open();
	await opened;
	const second = await connect();
	second.send(record);
	assert.equal((await second.receive())?.readUInt32BE(24), 0);
	assert.equal(count(overlay, "mkdir"), 1);
});

test("a request that waited before its change, and whose connection broke, is run when it is sent again", async (t) => {
	const { connect, overlay, server } = await startServer(t);
	const { opened, open } = gate();
	overlay.waits.set("mkdir", 1);
	overlay.wait = () => opened;
	const record = nfsRecord(9, Nfs.mkdir, [overlay.root.handle, "dir", NO_SATTR]);
	const first = await connect();
	first.send(record);
	await until(() => count(overlay, "mkdir") === 1);
	first.reset();
	await until(() => server.connectionCount === 0);
	open();
	await new Promise((resolve) => setImmediate(resolve));
	assert.equal(overlay.root.names.size, 0);
	const second = await connect();
	second.send(record);
	assert.equal((await second.receive())?.readUInt32BE(24), 0);
});

test("a request that waits goes on for the connection that sent it again", async (t) => {
	const { connect, overlay, server } = await startServer(t);
	const { opened, open } = gate();
	overlay.waits.set("mkdir", 2);
	overlay.wait = () => opened;
	const record = nfsRecord(9, Nfs.mkdir, [overlay.root.handle, "dir", NO_SATTR]);
	const [first, second] = [await connect(), await connect()];
	first.send(record);
	await until(() => count(overlay, "mkdir") === 1);
	first.reset();
	await until(() => server.connectionCount === 1);
	second.send(record);
	second.send(nfsRecord(10, Nfs.null, []));
	await second.receive();
	open();
	const reply = await second.receive();
	assert.deepEqual([reply?.readUInt32BE(0), reply?.readUInt32BE(24)], [9, 0]);
	assert.equal(count(overlay, "mkdir"), 3);
});

test("a new server that restored the old one's replies gives them again", async (t) => {
	const overlay = new MemoryOverlay();
	const before = await startServer(t, {}, overlay);
	const call = nfsCall(Nfs.mkdir, [overlay.root.handle, "dir", NO_SATTR], { xid: 5 });
	const client = await before.connect();
	const first = await client.call(call);
	client.close();
	await before.server.close();
	const after = await startServer(t, {}, overlay);
	after.server.duplicateRequests.restore(before.server.duplicateRequests.save());
	assert.deepEqual(await (await after.connect()).call(call), first);
	assert.equal(count(overlay, "mkdir"), 1);
});

test("repetitions in one burst get one reply each, and the change is made once", async (t) => {
	const { connect, overlay } = await startServer(t);
	const client = await connect();
	const record = inFragments(encodeCall(nfsCall(Nfs.mkdir, [overlay.root.handle, "dir", NO_SATTR], { xid: 3 })));
	client.send(Buffer.concat(new Array<Buffer>(50).fill(record)));
	const first = await client.receive();
	for (let index = 1; index < 50; index++) assert.deepEqual(await client.receive(), first);
	assert.equal(count(overlay, "mkdir"), 1);
});

test("a client that comes back from the same port, or another, is answered, and two of one address that come back after a restart one each", async (t) => {
	const overlay = new MemoryOverlay();
	let current = await startServer(t, {}, overlay);
	const from = async (localPort?: number) => {
		const client = await RpcClient.connect({
			host: "127.0.0.1",
			port: current.port,
			localAddress: OWN_ADDRESS,
			...(localPort === undefined ? {} : { localPort }),
		});
		t.after(() => client.close());
		return client;
	};
	const status = async (client: RpcClient) =>
		(await client.call(nfsCall(Nfs.mkdir, [overlay.root.handle, "lock", NO_SATTR], { xid: 7 }))).readUInt32BE(24);
	let a = await from();
	let b = await from();
	assert.deepEqual([await status(a), await status(b)], [0, 17]);
	const ports = [a, b].map(({ socket }) => socket.localPort);
	for (let restarts = 0; restarts < 2; restarts++) {
		for (const client of [a, b]) client.reset();
		await until(() => current.server.connectionCount === 0);
		if (restarts === 1) {
			await current.server.close();
			const saved = current.server.duplicateRequests.save();
			current = await startServer(t, {}, overlay);
			current.server.duplicateRequests.restore(saved);
		}
		// in the other order than before, which does not matter where the ports are the same
		b = await from(ports[1]);
		a = await from(ports[0]);
		assert.deepEqual([await status(b), await status(a)], [17, 0], `after ${restarts} restarts`);
	}
	for (const client of [a, b]) client.reset();
	await until(() => current.server.connectionCount === 0);
	const others = [await from(), await from(), await from()];
	const statuses = [];
	for (const client of others) statuses.push(await status(client));
	assert.equal(statuses.filter((one) => one === 0).length, 1, "the lock is taken by one");
	assert.equal(count(overlay, "mkdir"), 3);
});
