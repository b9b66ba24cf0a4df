// What happens to connections and requests when a server closes.

import assert from "node:assert/strict";
import { test } from "node:test";
import { RpcClient } from "../rpc/rpc-client.test-support.ts";
import { Nfs, NO_CHANGE, nfsCall, nfsRecord, startServer } from "./test-server.test-support.ts";

const NO_SATTR = { raw: NO_CHANGE };

function pause(milliseconds: number): Promise<void> {
	return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

test("close() sends the reply of every request that was taken, also while the peer goes on sending", async (t) => {
	const { connect, overlay, server } = await startServer(t);
	overlay.stable = () => pause(30);
	const clients = await Promise.all(Array.from({ length: 4 }, connect));
	let xid = 0;
	const sending = setInterval(() => {
		for (const [index, client] of clients.entries()) {
			if (!client.ended) client.send(nfsRecord(++xid, Nfs.mkdir, [overlay.root.handle, `${index} ${xid}`, NO_SATTR]));
		}
	}, 1);
	t.after(() => clearInterval(sending));
	while (!overlay.calls.includes("mkdir")) await pause(1);
	await pause(50);
	const closed = server.close();
	let replies = 0;
	for (const client of clients) {
		for (let reply = await client.receive(); reply !== null; reply = await client.receive()) {
			assert.equal(reply.readUInt32BE(24), 0);
			replies++;
		}
		client.socket.end();
	}
	assert.ok(replies > 0);
	assert.equal(replies, overlay.calls.filter((call) => call === "mkdir").length);
	await closed;
	assert.equal(server.connectionCount, 0);
});

test("close() shuts its side down after the replies, and waits for a peer that stays no longer than the bound", async (t) => {
	const { connect, server } = await startServer(t, { lingerSeconds: 2 });
	const client = await connect();
	await client.call(nfsCall(Nfs.null));
	let isClosed = false;
	const closed = server.close().then(() => {
		isClosed = true;
	});
	await client.end();
	assert.ok(!isClosed, "the peer hears before the bound is over");
	client.send(nfsRecord(1, Nfs.null, []));
	await closed;
});

test("close() waits for a request that hangs no longer than the bound", async (t) => {
	const { connect, overlay, server } = await startServer(t, { drainSeconds: 0.1 });
	const client = await connect();
	overlay.stable = () => new Promise(() => {});
	client.send(nfsRecord(1, Nfs.mkdir, [overlay.root.handle, "dir", NO_SATTR]));
	while (!overlay.calls.includes("mkdir")) await pause(1);
	await server.close();
});

test("close() refuses new connections, and destroy() ends all at once", async (t) => {
	const { connect, server, port } = await startServer(t);
	const client = await connect();
	const closed = server.close();
	await assert.rejects(RpcClient.connect({ host: "127.0.0.1", port }));
	server.destroy();
	await closed;
	await client.end();
});

test("a peer that shuts its side down gets the replies it waits for, and then the end", async (t) => {
	const { connect, overlay, server } = await startServer(t);
	const client = await connect();
	overlay.stable = () => pause(20);
	client.send(nfsRecord(7, Nfs.mkdir, [overlay.root.handle, "dir", NO_SATTR]));
	client.socket.end();
	assert.equal((await client.receive())?.readUInt32BE(0), 7);
	assert.equal(await client.receive(), null);
	while (server.connectionCount > 0) await pause(1);
});

test("close() cuts no peer off that still reads its replies", async (t) => {
	const { connect, file, server } = await startServer(t, { lingerSeconds: 0.05 });
	const { handle } = file("file", Buffer.alloc(1 << 20, "x"));
	const client = await connect();
	client.socket.pause();
	for (let xid = 0; xid < 20; xid++) client.send(nfsRecord(xid, Nfs.read, [handle, 0, 0, 1 << 20]));
	await pause(50);
	const closed = server.close();
	await pause(200);
	client.socket.resume();
	let replies = 0;
	for (let reply = await client.receive(); reply !== null; reply = await client.receive()) {
		assert.equal(reply.length, 28 + 88 + 12 + (1 << 20));
		assert.equal(reply.readUInt32BE(0), replies++);
	}
	assert.ok(replies > 2, `${replies} replies`);
	await closed;
});
