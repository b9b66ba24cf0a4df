// Owners of TCP sockets, and addresses of this host.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { ERRNO } from "./errno.ts";
import { isOwnAddress, ownerOfSocket, type SocketEnds } from "./netlink.ts";

const OTHER = 65534;
const LOOPBACK_4 = Uint8Array.of(127, 0, 0, 1);
const LOOPBACK_6 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);

async function listener(t: TestContext, host: string): Promise<{ server: Server; port: number; accepted: Socket[] }> {
	const accepted: Socket[] = [];
	const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => accepted.push(socket));
	server.listen(0, host);
	await once(server, "listening");
	t.after(() => {
		for (const socket of accepted) socket.destroy();
		server.close();
	});
	return { server, port: (server.address() as { port: number }).port, accepted };
}

async function connected(t: TestContext, host: string, port: number): Promise<Socket> {
	const socket = connect({ host, port, allowHalfOpen: true });
	t.after(() => socket.destroy());
	await once(socket, "connect");
	return socket;
}

function ends(socket: Socket, port: number, address = LOOPBACK_4): SocketEnds {
	return { address, port: socket.localPort ?? 0, peerAddress: address, peerPort: port };
}

test("the owner of a connected socket is who made it, over either family, and IPv4 over IPv6", async (t) => {
	const own = process.geteuid?.();
	const [four, six] = [await listener(t, "127.0.0.1"), await listener(t, "::1")];
	assert.equal(ownerOfSocket(ends(await connected(t, "127.0.0.1", four.port), four.port)), own);
	assert.equal(ownerOfSocket(ends(await connected(t, "::ffff:127.0.0.1", four.port), four.port)), own);
	assert.equal(ownerOfSocket(ends(await connected(t, "::1", six.port), six.port, LOOPBACK_6)), own);
	const half = await connected(t, "127.0.0.1", four.port);
	half.end();
	await once(half, "finish");
	assert.equal(ownerOfSocket(ends(half, four.port)), own);
});

test("the owner is another user where another one made the socket", {
	skip: process.geteuid?.() === 0 ? false : "to be two users takes root",
}, async (t) => {
	const { port } = await listener(t, "127.0.0.1");
	process.seteuid?.(OTHER);
	const socket = await connected(t, "127.0.0.1", port).finally(() => process.seteuid?.(0));
	assert.equal(ownerOfSocket(ends(socket, port)), OTHER);
});

test("nobody owns a socket that listens, that is closed and still has its port, or that never was", async (t) => {
	const { port, accepted } = await listener(t, "127.0.0.1");
	// the kernel tells uid 0 of the second and third of these, and our own of the first
	assert.equal(ownerOfSocket({ address: LOOPBACK_4, port, peerAddress: LOOPBACK_4, peerPort: 9 }), -ERRNO.ENOENT);
	const closed = await connected(t, "127.0.0.1", port);
	const was = ends(closed, port);
	closed.destroy();
	await once(closed, "close");
	assert.equal(ownerOfSocket(was), -ERRNO.ENOENT);
	while (accepted.length === 0) await new Promise((resolve) => setImmediate(resolve));
	accepted[0].destroy();
	await once(accepted[0], "close");
	assert.equal(ownerOfSocket(was), -ERRNO.ENOENT);
	assert.equal(ownerOfSocket({ address: LOOPBACK_4, port: 9, peerAddress: LOOPBACK_4, peerPort: 9 }), -ERRNO.ENOENT);
	assert.equal(ownerOfSocket({ address: LOOPBACK_6, port: 9, peerAddress: LOOPBACK_6, peerPort: 9 }), -ERRNO.ENOENT);
});

test("questions leave no descriptor open", async (t) => {
	const { port } = await listener(t, "127.0.0.1");
	const socket = await connected(t, "127.0.0.1", port);
	for (let i = 0; i < 5000; i++) assert.equal(ownerOfSocket(ends(socket, port)), process.geteuid?.());
});

test("loopback addresses are this host's own, and addresses of documentation networks are not", () => {
	for (const address of [LOOPBACK_4, Uint8Array.of(127, 9, 8, 7), LOOPBACK_6]) assert.equal(isOwnAddress(address), 1);
	// where there is no route there is an error
	for (const address of [Uint8Array.of(203, 0, 113, 7), Uint8Array.of(0x20, 1, 0xd, 0xb8, ...new Uint8Array(11), 7)])
		assert.ok(isOwnAddress(address) <= 0);
});
