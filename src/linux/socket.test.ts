// send(2), poll(2) and SO_PEERCRED on sockets of Node.

import assert from "node:assert/strict";
import { once } from "node:events";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { ERRNO } from "./errno.ts";
import { allocate } from "./memory.ts";
import { hasPeerLeft, isConnectionOver, sendFrom, unixPeerUser } from "./socket.ts";

/** The descriptor of one end, and the other end as a socket that has not begun to read. */
async function pair(t: TestContext): Promise<{ fd: number; near: Socket; far: Socket }> {
	const server = createServer({ pauseOnConnect: true });
	server.listen(0, "127.0.0.1");
	await once(server, "listening");
	const { port } = server.address() as { port: number };
	const accepted = once(server, "connection");
	const near = connect(port, "127.0.0.1");
	await once(near, "connect");
	const [far] = (await accepted) as [Socket];
	t.after(() => {
		near.destroy();
		far.destroy();
		server.close();
	});
	return { fd: (near as unknown as { _handle: { fd: number } })._handle.fd, near, far };
}

async function receive(socket: Socket, length: number): Promise<Buffer> {
	const chunks: Buffer[] = [];
	let got = 0;
	for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
		chunks.push(chunk as Buffer);
		got += (chunk as Buffer).length;
		if (got >= length) break;
	}
	return Buffer.concat(chunks);
}

test("sendFrom sends the memory at an address, in order, whether more follows or not", async (t) => {
	const { fd, far } = await pair(t);
	const memory = allocate(16);
	memory.bytes.write("one two three");
	assert.equal(sendFrom(fd, memory.address, 4, true), 4);
	assert.equal(sendFrom(fd, memory.address + 4, 9, false), 9);
	assert.equal((await receive(far, 13)).toString(), "one two three");
});

test("sendFrom does not wait for a peer that does not read: it takes a part, then says EAGAIN", async (t) => {
	const { fd, far } = await pair(t);
	const size = 64 * 2 ** 20;
	const memory = allocate(size);
	for (let at = 0; at < size; at += 4096) memory.bytes.writeUInt32LE(at, at);
	const sent = sendFrom(fd, memory.address, size, false);
	assert.ok(sent > 0 && sent < size, `${sent}`);
	let more = 0;
	for (let got = 1; got > 0; ) {
		got = sendFrom(fd, memory.address + sent + more, size - sent - more, false);
		if (got > 0) more += got;
		else assert.equal(got, -ERRNO.EAGAIN);
	}
	const received = await receive(far, sent + more);
	assert.ok(received.equals(memory.bytes.subarray(0, sent + more)));
});

test("sendFrom says EPIPE of a socket that was shut down, and is not ended by a signal", async (t) => {
	const { fd, near, far } = await pair(t);
	far.resume();
	near.end();
	await once(far, "end");
	assert.equal(sendFrom(fd, allocate(8).address, 8, false), -ERRNO.EPIPE);
});

test("hasPeerLeft tells a peer that has ended its side, or was reset, from one that is there, also behind bytes that nobody has read", async (t) => {
	const ended = await pair(t);
	assert.equal(hasPeerLeft(ended.fd), false);
	// read by nobody: `near` is paused
	ended.near.pause();
	ended.far.write("some bytes");
	assert.equal(hasPeerLeft(ended.fd), false);
	ended.far.end();
	while (!hasPeerLeft(ended.fd)) await new Promise((resolve) => setTimeout(resolve, 1));
	const reset = await pair(t);
	reset.near.pause();
	reset.far.resetAndDestroy();
	while (!hasPeerLeft(reset.fd)) await new Promise((resolve) => setTimeout(resolve, 1));
	assert.equal(hasPeerLeft(-1), false);
});

test("isConnectionOver tells a connection that was reset, or has ended on both sides, from one that goes on in one direction", async (t) => {
	const ended = await pair(t);
	assert.equal(isConnectionOver(ended.fd), false);
	// read by nobody: `near` is paused
	ended.near.pause();
	ended.far.write("some bytes");
	ended.far.end();
	while (!hasPeerLeft(ended.fd)) await new Promise((resolve) => setTimeout(resolve, 1));
	assert.equal(isConnectionOver(ended.fd), false);
	const reset = await pair(t);
	reset.near.pause();
	reset.far.write("some bytes");
	reset.far.resetAndDestroy();
	while (!isConnectionOver(reset.fd)) await new Promise((resolve) => setTimeout(resolve, 1));
	assert.equal(isConnectionOver(1 << 20), true, "what is no descriptor");
});

test("unixPeerUser is who connected a Unix socket; a TCP socket has none", async (t) => {
	const folder = mkdtempSync(join(tmpdir(), "holdfast-socket-"));
	const server = createServer({ pauseOnConnect: true }).listen(join(folder, "socket"));
	await once(server, "listening");
	t.after(() => {
		server.close();
		rmSync(folder, { recursive: true });
	});
	chmodSync(folder, 0o755);
	chmodSync(join(folder, "socket"), 0o777);
	const root = process.geteuid?.() === 0;
	for (const uid of root ? [0, 65534] : [process.geteuid?.() as number]) {
		const accepted = once(server, "connection");
		if (root) process.seteuid?.(uid);
		const far = connect(join(folder, "socket"));
		if (root) process.seteuid?.(0);
		const [near] = (await accepted) as [Socket];
		assert.equal(unixPeerUser((near as unknown as { _handle: { fd: number } })._handle.fd), uid);
		near.destroy();
		far.destroy();
	}
	const { fd } = await pair(t);
	assert.ok(unixPeerUser(fd) < 0);
	assert.ok(unixPeerUser(-1) < 0);
});
