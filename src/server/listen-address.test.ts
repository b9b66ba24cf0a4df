// Addresses to listen at, and sockets that are left behind.

import assert from "node:assert/strict";
import { existsSync, linkSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { RpcClient } from "../rpc/rpc-client.test-support.ts";
import { allocateForTest, MemoryOverlay } from "../vfs/memory-overlay.test-support.ts";
import type { ListenAddress } from "./listen-address.ts";
import { NfsServer } from "./nfs-server.ts";
import { Nfs, nfsCall } from "./test-server.test-support.ts";

function serverAt(t: TestContext, ...listen: ListenAddress[]): NfsServer {
	const server = new NfsServer({ exports: [{ name: "/", overlay: new MemoryOverlay() }], listen, allocate: allocateForTest });
	t.after(() => server.destroy());
	return server;
}

function folder(t: TestContext): string {
	const path = mkdtempSync(join(tmpdir(), "holdfast-"));
	t.after(() => rmSync(path, { recursive: true }));
	return path;
}

test("one server answers over IPv4, IPv6 and a Unix socket", async (t) => {
	const path = join(folder(t), "socket");
	const server = serverAt(t, { host: "127.0.0.1", port: 0 }, { host: "::1", port: 0 }, { path });
	await server.listen();
	assert.match(server.addressNames.join(" "), /^127\.0\.0\.1:\d+ \[::1\]:\d+ \/.*socket$/);
	for (const address of server.addresses) {
		const client = await RpcClient.connect({ ...address });
		assert.equal((await client.call(nfsCall(Nfs.null))).length, 24);
		client.close();
	}
	await server.close();
	assert.equal(existsSync(path), false);
});

test("a port in use is refused with a sentence, and nothing stays open", async (t) => {
	const first = serverAt(t, { host: "127.0.0.1", port: 0 });
	await first.listen();
	const [address] = first.addresses;
	const path = join(folder(t), "socket");
	const second = serverAt(t, { path }, address);
	await assert.rejects(second.listen(), /^Error: Cannot listen at 127\.0\.0\.1:\d+: another process does so already\. Stop it, or/);
	assert.equal(existsSync(path), false);
});

test("addresses that cannot be had are refused with a sentence", async (t) => {
	const cases: [ListenAddress, RegExp][] = [
		[{ host: "192.0.2.1", port: 0 }, /Cannot listen at 192\.0\.2\.1:0: this machine has no such address/],
		[{ path: "/nonexistent/socket" }, /Cannot listen at \/nonexistent\/socket: /],
		[{ path: `/tmp/${"x".repeat(200)}` }, /Cannot listen at \/tmp\/x+: the path of a Unix socket has at most 107 bytes/],
	];
	for (const [address, sentence] of cases) await assert.rejects(serverAt(t, address).listen(), sentence);
});

test("the socket file of a dead server is replaced, that of a living one and other files are not", async (t) => {
	const path = join(folder(t), "socket");
	const living = serverAt(t, { path });
	await living.listen();
	await assert.rejects(serverAt(t, { path }).listen(), /another process does so already/);
	assert.equal(existsSync(path), true);
	await living.close();

	const dead = createServer();
	await new Promise<void>((resolve) => dead.listen(path, resolve));
	const kept = join(path, "..", "kept");
	linkSync(path, kept);
	await new Promise((resolve) => dead.close(resolve));
	renameSync(kept, path);
	const next = serverAt(t, { path });
	await next.listen();
	const client = await RpcClient.connect({ path });
	assert.equal((await client.call(nfsCall(Nfs.null))).length, 24);
	client.close();
	await next.close();

	writeFileSync(path, "precious");
	await assert.rejects(serverAt(t, { path }).listen(), /a file that is no socket is there/);
	assert.equal(existsSync(path), true);
});
