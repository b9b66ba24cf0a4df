// Replies of any size reach a peer whole and in order.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { allocate } from "../linux/memory.ts";
import { RpcClient } from "../rpc/rpc-client.test-support.ts";
import { allocateForTest } from "../vfs/memory-overlay.test-support.ts";
import type { NfsServerOptions } from "./nfs-server.ts";
import { Nfs, nfsCall, nfsRecord, startServer } from "./test-server.test-support.ts";

const MIB = 1 << 20;
/** Where the content of a READ begins: record header, status, attributes, count, eof, length. */
const CONTENT_AT = 24 + 4 + 88 + 12;

function pause(milliseconds: number): Promise<void> {
	return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Reads long and short pieces, with a peer that now and then does not read, and compares each byte. */
async function readAll(t: TestContext, options: Partial<NfsServerOptions>, connectTo?: string): Promise<void> {
	const { connect, file } = await startServer(t, { limits: { replyBytes: 3 * MIB }, ...options });
	const content = Buffer.alloc(2 * MIB);
	for (let at = 0; at < content.length; at += 4) content.writeUInt32BE(Math.imul(at, 0x9e3779b1) >>> 0, at);
	const { handle } = file("file", content);
	const client = connectTo === undefined ? await connect() : await RpcClient.connect({ path: connectTo });
	t.after(() => client.close());
	const calls = Array.from({ length: 120 }, (_, xid) => ({ xid, offset: xid * 4096, length: [MIB, 8, 70_000, 0, 300_000][xid % 5] }));
	for (let first = 0; first < calls.length; first += 30) {
		const batch = calls.slice(first, first + 30);
		client.socket.pause();
		client.send(Buffer.concat(batch.map(({ xid, offset, length }) => nfsRecord(xid, Nfs.read, [handle, 0, offset, length]))));
		await pause(20);
		client.socket.resume();
		for (const { xid, offset, length } of batch) {
			const reply = (await client.receive()) as Buffer;
			assert.equal(reply.readUInt32BE(0), xid);
			assert.equal(reply.readUInt32BE(CONTENT_AT - 4), length);
			assert.ok(reply.subarray(CONTENT_AT, CONTENT_AT + length).equals(content.subarray(offset, offset + length)), `reply ${xid}`);
		}
		// With nothing left to be read, a short one goes the short way again.
		await client.call(nfsCall(Nfs.null));
	}
}

test("replies arrive whole and in order, what the kernel takes at once and what has to wait for the peer", (t) => readAll(t, { allocate }));

test("the same through the socket alone, with memory whose address is not known", (t) => readAll(t, { allocate: allocateForTest }));

test("the same over a Unix socket", async (t) => {
	const folder = mkdtempSync(join(tmpdir(), "holdfast-replies-"));
	t.after(() => rmSync(folder, { recursive: true }));
	const path = join(folder, "socket");
	await readAll(t, { allocate, listen: [{ host: "127.0.0.1", port: 0 }, { path }] }, path);
});

test("a peer that is gone when its replies are sent ends its own connection only", async (t) => {
	const { connect, file, server } = await startServer(t);
	const { handle } = file("file", Buffer.alloc(MIB));
	const good = await connect();
	for (let index = 0; index < 20; index++) {
		const gone = await connect();
		gone.send(Buffer.concat(Array.from({ length: 20 }, (_, xid) => nfsRecord(xid, Nfs.read, [handle, 0, 0, MIB]))));
		if (index % 2 === 0) await pause(2);
		gone.socket.resetAndDestroy();
		await good.call(nfsCall(Nfs.null));
	}
	while (server.connectionCount > 1) await pause(10);
	assert.equal(server.connectionCount, 1);
});
