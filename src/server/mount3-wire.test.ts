// MOUNT version 3, byte by byte.

import assert from "node:assert/strict";
import { test } from "node:test";
import { AUTH_NONE, authSys, type CallOptions, type RpcClient, results, type XdrItem, xdr } from "../rpc/rpc-client.test-support.ts";
import { MemoryOverlay } from "../vfs/memory-overlay.test-support.ts";
import type { XdrReader } from "../xdr/xdr-reader.ts";
import { bytes, ROOT, startServer } from "./test-server.test-support.ts";

const [MNT, DUMP, UMNT, UMNTALL, EXPORT] = [1, 2, 3, 4, 5];

async function mount(client: RpcClient, procedure: number, args: XdrItem[], options: Partial<CallOptions> = {}): Promise<XdrReader> {
	return results(await client.call({ program: 100005, version: 3, procedure, args: xdr(...args), ...options }));
}

async function listed(client: RpcClient): Promise<string[]> {
	const reply = await mount(client, DUMP, []);
	const entries: string[] = [];
	while (reply.bool()) entries.push(`${bytes(reply)} ${bytes(reply)}`);
	return entries;
}

test("MNT gives the root, or a directory below it, and the flavors AUTH_SYS and AUTH_NONE", async (t) => {
	const { connect, overlay } = await startServer(t);
	const client = await connect();
	const a = overlay.mkdir(overlay.root, Buffer.from("a"), ROOT, {});
	const b = overlay.mkdir(a, Buffer.from("b c"), ROOT, {});
	for (const [path, object] of [
		["", overlay.root],
		["/", overlay.root],
		["//", overlay.root],
		["/a", a],
		["/a/", a],
		["//a//b c//", b],
		["/a/./b c/..", a],
	] as const) {
		overlay.passes = 0;
		const reply = await mount(client, MNT, [path]);
		assert.equal(reply.u32(), 0, path);
		assert.equal(overlay.passes, 1, path);
		assert.deepEqual(bytes(reply), object.handle, path);
		assert.deepEqual([reply.u32(), reply.u32(), reply.u32(), reply.remaining], [2, 1, 0, 0]);
	}
});

test("MNT of what is not there, no directory, too long or forbidden gets its status", async (t) => {
	const { connect, overlay, file } = await startServer(t);
	const client = await connect();
	file("file", "");
	const secret = overlay.mkdir(overlay.root, Buffer.from("secret"), ROOT, { mode: 0o700 });
	overlay.mkdir(secret, Buffer.from("below"), ROOT, {});
	const status = async (path: string, options: Partial<CallOptions> = {}): Promise<number> =>
		(await mount(client, MNT, [path], options)).u32();
	assert.equal(await status("/missing"), 2);
	assert.equal(await status("relative"), 2);
	assert.equal(await status("/file"), 20);
	assert.equal(await status("/file/below"), 20);
	assert.equal(await status(`/${"x".repeat(1023)}`), 63);
	assert.equal(await status(`/${"x".repeat(1024)}`), 63);
	assert.equal(await status("/secret/below", { credential: authSys(5, 5) }), 13);
	assert.equal(await status("/secret/below", { credential: AUTH_NONE }), 0);
});

test("several exports are told apart by the longest name, and their handles by their overlays", async (t) => {
	const [one, two] = [new MemoryOverlay(1), new MemoryOverlay(2)];
	const exports = [
		{ name: "/one", overlay: one },
		{ name: "/one/two", overlay: two },
	];
	const { connect } = await startServer(t, { exports });
	const client = await connect();
	const handleOf = async (path: string): Promise<Buffer | number> => {
		const reply = await mount(client, MNT, [path]);
		const status = reply.u32();
		return status === 0 ? bytes(reply) : status;
	};
	assert.deepEqual(await handleOf("/one"), one.root.handle);
	assert.deepEqual(await handleOf("/one/two/"), two.root.handle);
	assert.equal(await handleOf("/"), 2);
	assert.equal(await handleOf("/onetwo"), 2);
	const names = await mount(client, EXPORT, []);
	assert.deepEqual([names.bool(), bytes(names).toString(), names.bool()], [true, "/one", false]);
	assert.deepEqual([names.bool(), bytes(names).toString(), names.bool(), names.bool()], [true, "/one/two", false, false]);
	const nfs = (procedure: number, ...args: XdrItem[]): Promise<Buffer> =>
		client.call({ program: 100003, version: 3, procedure, args: xdr(...args) });
	const fsid = async (handle: Buffer): Promise<string> => (await nfs(1, handle)).subarray(28 + 44, 28 + 52).toString("hex");
	assert.notEqual(await fsid(one.root.handle), await fsid(two.root.handle));
	assert.equal(results(await nfs(14, one.root.handle, "a", two.root.handle, "b")).u32(), 18, "RENAME is XDEV");
});

test("DUMP lists each mount once, until UMNT and UMNTALL", async (t) => {
	const { connect, overlay } = await startServer(t);
	const client = await connect();
	for (const name of ["a", "b", "c"]) overlay.mkdir(overlay.root, Buffer.from(name), ROOT, {});
	for (const path of ["/a", "/b", "/a", "/c", "/missing"]) await mount(client, MNT, [path]);
	assert.deepEqual(await listed(client), ["127.0.0.1 /b", "127.0.0.1 /a", "127.0.0.1 /c"]);
	await mount(client, UMNT, ["/a"]);
	assert.deepEqual(await listed(client), ["127.0.0.1 /b", "127.0.0.1 /c"]);
	await mount(client, UMNTALL, []);
	assert.deepEqual(await listed(client), []);
});

test("MNT that has to wait is answered once it can be", async (t) => {
	const { connect, overlay } = await startServer(t);
	const client = await connect();
	overlay.mkdir(overlay.root, Buffer.from("a"), ROOT, {});
	overlay.waits.set("lookup", 3);
	assert.equal((await mount(client, MNT, ["/a"])).u32(), 0);
});
