// Requests that wait: run again from their start, overtaken, bounded, and held back until stable.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type RpcClient, results } from "../rpc/rpc-client.test-support.ts";
import { OverlayError } from "../vfs/errors.ts";
import { bytes, gate, Nfs, NO_CHANGE, nfs, nfsRecord, postAttributes, startServer, wccData } from "./test-server.test-support.ts";

const NO_SATTR = { raw: NO_CHANGE };

test("a request that has to wait is run again from its start, while others overtake it", async (t) => {
	const { connect, overlay, file } = await startServer(t);
	const client = await connect();
	const { handle } = file("file", "content");
	overlay.waits.set("read", 3);
	client.send(Buffer.concat([nfsRecord(1, Nfs.read, [handle, 0, 0, 100]), nfsRecord(2, Nfs.getattr, [handle])]));
	assert.equal((await client.receive())?.readUInt32BE(0), 2);
	const reply = results((await client.receive()) as Buffer);
	assert.equal(reply.u32(), 0);
	assert.equal(postAttributes(reply)?.size, 7);
	reply.fixed(8);
	assert.equal(bytes(reply).toString(), "content");
});

test("every operation may wait, at every point before its change", async (t) => {
	const { connect, overlay, file } = await startServer(t);
	const client = await connect();
	const { handle } = file("file", "content");
	const root = overlay.root.handle;
	const verifier = { raw: Buffer.alloc(8) };
	const calls = [
		[Nfs.getattr, [handle], ["decode", "getattr"]],
		[Nfs.setattr, [handle, NO_SATTR, 0], ["decode", "getattr", "setattr"]],
		[Nfs.lookup, [root, "file"], ["lookup", "getattr"]],
		[Nfs.access, [root, 63], ["access"]],
		[Nfs.write, [handle, 0, 0, 1, 0, "x"], ["getattr", "write"]],
		[Nfs.create, [root, "new", 1, NO_SATTR], ["getattr", "create"]],
		[Nfs.rename, [root, "new", root, "newer"], ["getattr", "rename"]],
		[Nfs.link, [handle, root, "link"], ["getattr", "link"]],
		[Nfs.remove, [root, "newer"], ["getattr", "remove"]],
		[Nfs.readdir, [root, 0, 0, verifier, 4096], ["list", "next"]],
		[Nfs.readdirplus, [root, 0, 0, verifier, 4096, 4096], ["list", "next", "object", "getattr"]],
		[Nfs.fsstat, [root], ["statfs"]],
		[Nfs.commit, [handle, 0, 0, 0], ["commit"]],
	] as const;
	for (const [procedure, args, operations] of calls) {
		for (const operation of operations) overlay.waits.set(operation, 4);
		assert.equal((await nfs(client, procedure, args)).u32(), 0, `procedure ${procedure}`);
		for (const operation of operations) assert.equal(overlay.waits.get(operation), 0, `${operation} of procedure ${procedure}`);
	}
});

test("every pass of every procedure begins once in the export that it asks, however many handles it names", async (t) => {
	const { connect, overlay, file } = await startServer(t);
	const client = await connect();
	const { handle } = file("file", "content");
	const root = overlay.root.handle;
	const verifier = { raw: Buffer.alloc(8) };
	const calls = [
		[Nfs.null, [], 0],
		[Nfs.getattr, [handle], 1],
		[Nfs.setattr, [handle, NO_SATTR, 0], 1],
		[Nfs.lookup, [root, "file"], 1],
		[Nfs.access, [root, 63], 1],
		[Nfs.readlink, [handle], 1],
		[Nfs.read, [handle, 0, 0, 100], 1],
		[Nfs.write, [handle, 0, 0, 1, 0, "x"], 1],
		[Nfs.create, [root, "new", 1, NO_SATTR], 1],
		[Nfs.mkdir, [root, "directory", NO_SATTR], 1],
		[Nfs.symlink, [root, "symlink", NO_SATTR, "target"], 1],
		[Nfs.mknod, [root, "fifo", 7, NO_SATTR], 1],
		[Nfs.rename, [root, "new", root, "newer"], 1],
		[Nfs.link, [handle, root, "link"], 1],
		[Nfs.remove, [root, "newer"], 1],
		[Nfs.rmdir, [root, "directory"], 1],
		[Nfs.readdir, [root, 0, 0, verifier, 4096], 1],
		[Nfs.readdirplus, [root, 0, 0, verifier, 4096, 4096], 1],
		[Nfs.fsstat, [root], 1],
		[Nfs.fsinfo, [root], 1],
		[Nfs.pathconf, [root], 1],
		[Nfs.commit, [handle, 0, 0, 0], 1],
	] as const;
	for (const [procedure, args, passes] of calls) {
		overlay.passes = 0;
		await nfs(client, procedure, args);
		assert.equal(overlay.passes, passes, `procedure ${procedure}`);
	}
	overlay.passes = 0;
	overlay.waits.set("read", 3);
	await nfs(client, Nfs.read, [handle, 0, 0, 100]);
	assert.equal(overlay.passes, 4, "a request that had to wait three times");
});

test("a wait after the change only leaves attributes out", async (t) => {
	const { connect, overlay } = await startServer(t);
	const client = await connect();
	const getattr = overlay.getattr.bind(overlay);
	overlay.getattr = (object) => {
		if (overlay.root.names.size > 0) overlay.waits.set("getattr", 1);
		return getattr(object);
	};
	const reply = await nfs(client, Nfs.mkdir, [overlay.root.handle, "dir", NO_SATTR]);
	assert.equal(reply.u32(), 0);
	assert.equal(reply.bool(), true);
	bytes(reply);
	assert.equal(postAttributes(reply), null);
	assert.deepEqual(wccData(reply), { before: 0, after: null });
	assert.equal(overlay.calls.filter((call) => call === "mkdir").length, 1);
});

test("a long listing that meets many waits is cut short instead of begun again each time", async (t) => {
	const { connect, overlay, file } = await startServer(t);
	const client = await connect();
	for (let index = 0; index < 300; index++) file(`file${index}`, "");
	const cursorOf = overlay.list.bind(overlay);
	const warm = new Set<string>();
	overlay.list = (...args) => {
		const cursor = cursorOf(...args);
		const object = cursor.object;
		cursor.object = () => {
			const name = Buffer.from(cursor.name).toString();
			if (!warm.has(name)) overlay.waits.set("object", 1);
			warm.add(name);
			return object();
		};
		return cursor;
	};
	const reply = await nfs(client, Nfs.readdirplus, [overlay.root.handle, 0, 0, { raw: Buffer.alloc(8) }, 1 << 20, 1 << 20]);
	assert.equal(reply.u32(), 0);
	assert.ok(overlay.calls.filter((call) => call === "object").length < 3000);
});

test("a change is answered only when it is stable, and with IO when it does not get there", async (t) => {
	const { connect, overlay } = await startServer(t);
	const client = await connect();
	let open = (): void => {};
	overlay.stable = () =>
		new Promise((resolve) => {
			open = resolve;
		});
	client.send(nfsRecord(1, Nfs.mkdir, [overlay.root.handle, "dir", NO_SATTR]));
	client.send(nfsRecord(2, Nfs.null, []));
	assert.equal((await client.receive())?.readUInt32BE(0), 2);
	assert.equal(overlay.root.names.size, 1);
	open();
	const reply = results((await client.receive()) as Buffer);
	assert.equal(reply.u32(), 0);
	overlay.stable = () => Promise.reject(new OverlayError("nospc", "Full"));
	const failed = await nfs(client, Nfs.rmdir, [overlay.root.handle, "dir"]);
	assert.deepEqual([failed.u32(), wccData(failed)], [5, { before: null, after: null }]);
	overlay.flush = () => Promise.reject(new OverlayError("nospc", "Full"));
	assert.equal((await nfs(client, Nfs.commit, [overlay.root.handle, 0, 0, 0])).u32(), 28);
});

test("a failure is not held back until anything is stable", async (t) => {
	const { connect, overlay } = await startServer(t);
	const client = await connect();
	overlay.stable = () => new Promise(() => {});
	assert.equal((await nfs(client, Nfs.rmdir, [overlay.root.handle, "none"])).u32(), 2);
});

test("requests in flight are bounded, and those behind are served in the end", async (t) => {
	const { connect, overlay, file } = await startServer(t, { limits: { requestsInFlight: 8 } });
	const client = await connect();
	const { handle } = file("file", "content");
	const { opened, open } = gate();
	overlay.flush = () => opened;
	const commits = Array.from({ length: 100 }, (_, index) => nfsRecord(index, Nfs.commit, [handle, 0, 0, 0]));
	client.send(Buffer.concat(commits));
	const commitsBegun = () => overlay.calls.filter((call) => call === "commit").length;
	while (commitsBegun() < 8) await new Promise((resolve) => setTimeout(resolve, 1));
	await new Promise((resolve) => setTimeout(resolve, 30));
	assert.equal(commitsBegun(), 8);
	open();
	const xids = new Set<number>();
	while (xids.size < 100) xids.add(((await client.receive()) as Buffer).readUInt32BE(0));
	assert.equal(overlay.calls.filter((call) => call === "commit").length, 100);
});

test("records of waiting requests are bounded in bytes", async (t) => {
	const { connect, overlay, file } = await startServer(t, { limits: { requestBytesInFlight: 1 << 20 } });
	const client = await connect();
	const { handle } = file("file", "");
	const { opened, open } = gate();
	overlay.wait = () => opened;
	overlay.waits.set("write", 6);
	const data = Buffer.alloc(600_000, "x");
	overlay.calls.length = 0;
	for (let xid = 0; xid < 6; xid++) client.send(nfsRecord(xid, Nfs.write, [handle, 0, xid * data.length, data.length, 0, data]));
	const writesBegun = () => overlay.calls.filter((call) => call === "write").length;
	while (writesBegun() < 2) await new Promise((resolve) => setTimeout(resolve, 1));
	await new Promise((resolve) => setTimeout(resolve, 50));
	assert.equal(writesBegun(), 2);
	open();
	const xids = new Set<number>();
	while (xids.size < 6) xids.add(((await client.receive()) as Buffer).readUInt32BE(0));
	const read = await nfs(client, Nfs.read, [handle, 0, 5 * data.length, data.length]);
	assert.equal(read.u32(), 0);
	postAttributes(read);
	read.fixed(8);
	assert.ok(bytes(read).equals(data));
});

test("many connections that send much at one moment are executed in turns", async (t) => {
	const { connect, overlay, file } = await startServer(t);
	const { handle } = file("file", "content");
	const clients: RpcClient[] = [];
	for (let i = 0; i < 30; i++) clients.push(await connect());
	const getattr = overlay.getattr.bind(overlay);
	let calls = 0;
	overlay.getattr = (object) => {
		calls++;
		// as long as some requests take
		for (const until = performance.now() + 1; performance.now() < until; );
		return getattr(object);
	};
	const many = Buffer.concat(Array.from({ length: 16 }, (_, i) => nfsRecord(i, Nfs.getattr, [handle])));
	let most = 0;
	let before = 0;
	let isOver = false;
	const turn = (): void => {
		most = Math.max(most, calls - before);
		before = calls;
		if (!isOver) setImmediate(turn);
	};
	setImmediate(turn);
	for (const client of clients) client.send(many);
	for (const client of clients) for (let i = 0; i < 16; i++) assert.ok(await client.receive());
	isOver = true;
	assert.equal(calls, 480);
	assert.ok(most <= 90, `${most} requests in one turn of the event loop`);
});

test("a request that comes alone waits for no round of the connections that have sent much", async (t) => {
	const { connect, overlay, file } = await startServer(t);
	const [busy, cached] = [file("busy", ""), file("cached", "")];
	const clients: RpcClient[] = [];
	for (let i = 0; i < 20; i++) clients.push(await connect());
	const alone = await connect();
	const getattr = overlay.getattr.bind(overlay);
	let calls = 0;
	let seen = 0;
	overlay.getattr = (object) => {
		if (object === cached) seen = calls;
		else {
			calls++;
			for (const until = performance.now() + 0.5; performance.now() < until; );
		}
		return getattr(object);
	};
	const many = Buffer.concat(Array.from({ length: 30 }, (_, i) => nfsRecord(i, Nfs.getattr, [busy.handle])));
	for (const client of clients) client.send(many);
	const waits: number[] = [];
	for (let xid = 1; calls < 600; xid++) {
		const before = calls;
		alone.send(nfsRecord(xid, Nfs.getattr, [cached.handle]));
		assert.ok(await alone.receive());
		waits.push(seen - before);
	}
	for (const client of clients) for (let i = 0; i < 30; i++) assert.ok(await client.receive());
	// a slice and one request of each connection in a turn of the event loop, and a request is met in the second one
	assert.ok(waits.length >= 10, `${waits.length} requests beside 600 others`);
	assert.ok(Math.max(...waits) <= 2 * (10 + 20), `a request waited for ${Math.max(...waits)} others`);
});
