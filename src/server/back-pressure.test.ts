// Peers that do not read, and more of them than there may be.

import assert from "node:assert/strict";
import { test } from "node:test";
import { allocate } from "../linux/memory.ts";
import { RpcClient } from "../rpc/rpc-client.test-support.ts";
import { Nfs, nfs, nfsCall, nfsRecord, startServer } from "./test-server.test-support.ts";

const MIB = 1 << 20;

function pause(milliseconds: number): Promise<void> {
	return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Counts the memory that the server takes for replies. */
function countingAllocate(): { allocate: typeof allocate; taken: () => number } {
	let taken = 0;
	return {
		allocate: (size) => {
			taken += size;
			return allocate(size);
		},
		taken: () => taken,
	};
}

test("a peer that never reads is given no more memory than the bound, and others are served", async (t) => {
	const { allocate, taken } = countingAllocate();
	const { connect, file, overlay } = await startServer(t, { allocate, limits: { replyBytes: 6 * MIB } });
	const { handle } = file("file", Buffer.alloc(MIB));
	const deaf = await connect();
	deaf.socket.pause();
	const requests = 200;
	deaf.send(Buffer.concat(Array.from({ length: requests }, (_, xid) => nfsRecord(xid, Nfs.read, [handle, 0, 0, MIB]))));
	await pause(100);
	const read = overlay.calls.filter((call) => call === "read").length;
	assert.ok(read < 100, `${read} requests were executed`);
	assert.ok(taken() <= 12 * MIB, `${taken()} bytes were allocated`);
	const good = await connect();
	for (let index = 0; index < 20; index++) assert.equal((await nfs(good, Nfs.read, [handle, 0, 0, MIB])).u32(), 0);
	deaf.socket.resume();
	for (let index = 0; index < requests; index++) assert.equal(((await deaf.receive()) as Buffer).readUInt32BE(0), index);
	assert.ok(taken() <= 14 * MIB, `${taken()} bytes were allocated`);
});

test("small requests behind replies that nobody reads stay in the kernel", async (t) => {
	const { connect, overlay } = await startServer(t, { limits: { replyBytes: 128 * 1024 } });
	const deaf = await connect();
	deaf.socket.pause();
	const record = nfsRecord(1, Nfs.getattr, [overlay.root.handle]);
	const burst = Buffer.concat(new Array<Buffer>(10_000).fill(record));
	let sent = 0;
	while (deaf.socket.writableLength === 0 && sent < 100) {
		deaf.send(burst);
		sent++;
		await pause(5);
	}
	assert.ok(sent < 100, "the server stopped reading");
	deaf.socket.resume();
	for (let index = 0; index < sent * 10_000; index++) await deaf.receive();
});

test("replies to all peers together are bounded: who has not read for the longest is cut off", async (t) => {
	const { allocate, taken } = countingAllocate();
	const limits = { replyBytes: 8 * MIB, replyBytesTotal: 16 * MIB };
	const { connect, file, server } = await startServer(t, { allocate, limits });
	const { handle } = file("file", Buffer.alloc(MIB));
	const reads = Buffer.concat(Array.from({ length: 50 }, (_, xid) => nfsRecord(xid, Nfs.read, [handle, 0, 0, MIB])));
	for (let index = 0; index < 6; index++) {
		const deaf = await connect();
		deaf.socket.pause();
		deaf.send(reads);
		await pause(20);
	}
	while (server.connectionCount === 6) await pause(10);
	const good = await connect();
	assert.equal((await nfs(good, Nfs.read, [handle, 0, 0, MIB])).u32(), 0);
	assert.ok(taken() < 64 * MIB, `${taken()} bytes were allocated`);
});

test("of too many connections the longest idle is closed", async (t) => {
	const { connect, server } = await startServer(t, { limits: { connections: 3 } });
	const [first, second, third] = [await connect(), await connect(), await connect()];
	for (const client of [first, second, third]) await client.call(nfsCall(Nfs.null));
	await first.call(nfsCall(Nfs.null));
	const fourth = await connect();
	await fourth.call(nfsCall(Nfs.null));
	await second.end();
	for (const client of [first, third, fourth]) await client.call(nfsCall(Nfs.null));
	assert.equal(server.connectionCount, 3);
});

test("a connection whose requests are being worked on is not closed for a new one", async (t) => {
	const { connect, overlay, port, file } = await startServer(t, { limits: { connections: 1 } });
	const { handle } = file("file", "content");
	const busy = await connect();
	let open = (): void => {};
	overlay.flush = () =>
		new Promise((resolve) => {
			open = resolve;
		});
	busy.send(nfsRecord(5, Nfs.commit, [handle, 0, 0, 0]));
	while (!overlay.calls.includes("commit")) await pause(1);
	const refused = await RpcClient.connect({ host: "127.0.0.1", port });
	await refused.end();
	open();
	assert.equal((await busy.receive())?.readUInt32BE(0), 5);
});
