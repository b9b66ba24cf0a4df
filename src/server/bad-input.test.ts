// Bytes that are no calls, arguments cut and changed anywhere, and bugs behind them.

import assert from "node:assert/strict";
import { channel } from "node:diagnostics_channel";
import { test } from "node:test";
import { fc } from "../../test/support/fast-check.ts";
import { encodeCall, inFragments, type RpcClient, type XdrItem, xdr } from "../rpc/rpc-client.test-support.ts";
import type { RpcFailure } from "../rpc/rpc-failure.ts";
import { Nfs, NO_CHANGE, nfs, nfsCall, startServer } from "./test-server.test-support.ts";

const NO_SATTR = { raw: NO_CHANGE };
const ALL_SATTR = { raw: xdr(1, 0o644, 1, 5, 1, 5, 1, 0, 5, 2, 1, 2, 2, 3, 4) };
const VERIFIER = { raw: Buffer.alloc(8) };

/** A valid call of every procedure, on a directory or file. */
function validCalls(directory: Buffer, file: Buffer): readonly (readonly [number, XdrItem[]])[] {
	return [
		[Nfs.getattr, [file]],
		[Nfs.setattr, [file, ALL_SATTR, 1, 1, 1]],
		[Nfs.lookup, [directory, "name"]],
		[Nfs.access, [file, 63]],
		[Nfs.readlink, [file]],
		[Nfs.read, [file, 0, 0, 10]],
		[Nfs.write, [file, 0, 0, 5, 2, "bytes"]],
		[Nfs.create, [directory, "name", 0, ALL_SATTR]],
		[Nfs.create, [directory, "other", 2, VERIFIER]],
		[Nfs.mkdir, [directory, "dir", NO_SATTR]],
		[Nfs.symlink, [directory, "symlink", NO_SATTR, "target"]],
		[Nfs.mknod, [directory, "block", 3, NO_SATTR, 8, 1]],
		[Nfs.mknod, [directory, "fifo", 7, NO_SATTR]],
		[Nfs.remove, [directory, "none"]],
		[Nfs.rmdir, [directory, "none"]],
		[Nfs.rename, [directory, "none", directory, "other"]],
		[Nfs.link, [file, directory, "link"]],
		[Nfs.readdir, [directory, 0, 0, VERIFIER, 4096]],
		[Nfs.readdirplus, [directory, 0, 0, VERIFIER, 4096, 4096]],
		[Nfs.fsstat, [directory]],
		[Nfs.fsinfo, [directory]],
		[Nfs.pathconf, [directory]],
		[Nfs.commit, [file, 0, 0, 0]],
	];
}

async function lives(client: RpcClient, handle: Buffer): Promise<void> {
	assert.equal((await nfs(client, Nfs.getattr, [handle])).u32(), 0);
}

test("arguments cut at any byte are GARBAGE_ARGS, and whole ones are not", async (t) => {
	const { connect, overlay, file } = await startServer(t);
	const client = await connect();
	const calls = validCalls(overlay.root.handle, file("file", "content").handle);
	assert.equal(new Set(calls.map(([procedure]) => procedure)).size, 21);
	for (const [procedure, items] of calls) {
		const args = xdr(...items);
		for (let length = 0; length <= args.length; length++) {
			const reply = await client.call(nfsCall(procedure, [{ raw: args.subarray(0, length) }]));
			const whole = length === args.length;
			assert.equal(reply.readUInt32BE(20), whole ? 0 : 4, `procedure ${procedure}, ${length} of ${args.length} bytes`);
		}
	}
});

test("requests with any word changed are answered, and the server lives on without a fault of its own", async (t) => {
	const failures: unknown[] = [];
	const note = (message: unknown): void => void failures.push((message as RpcFailure).error);
	channel("holdfast:rpc:failure").subscribe(note);
	t.after(() => channel("holdfast:rpc:failure").unsubscribe(note));
	const { connect, overlay, file } = await startServer(t);
	const calls = validCalls(overlay.root.handle, file("file", "content").handle);
	const client = await connect();
	const word = fc.oneof(fc.constantFrom(0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff), fc.nat(0xffffffff));
	const changes = fc.array(fc.tuple(fc.nat(), word), { minLength: 1, maxLength: 4 });
	await fc.assert(
		fc.asyncProperty(fc.nat(calls.length - 1), changes, async (index, changed) => {
			const [procedure, items] = calls[index];
			const record = encodeCall(nfsCall(procedure, items, { xid: 5 }));
			// The xid and the message type stay: without them there is nothing to answer.
			for (const [at, value] of changed) record.writeUInt32BE(value, 8 + 4 * (at % ((record.length - 8) / 4)));
			client.send(inFragments(record));
			assert.equal((await client.receive())?.readUInt32BE(0), 5);
		}),
		{ numRuns: 600 },
	);
	assert.deepEqual(failures, []);
	await lives(client, overlay.root.handle);
});

test("connections that send garbage end or wait, and others are served", async (t) => {
	const { connect, overlay } = await startServer(t);
	const good = await connect();
	await fc.assert(
		fc.asyncProperty(fc.uint8Array({ maxLength: 400 }), async (garbage) => {
			const client = await connect();
			client.send(garbage);
			client.socket.end();
			await client.end();
			client.close();
			await lives(good, overlay.root.handle);
		}),
		{ numRuns: 40 },
	);
});

test("a bug in the engine is a SYSTEM_ERR, is published, and is not kept for repetitions", async (t) => {
	const failures: RpcFailure[] = [];
	const note = (message: unknown): void => void failures.push(message as RpcFailure);
	channel("holdfast:rpc:failure").subscribe(note);
	t.after(() => channel("holdfast:rpc:failure").unsubscribe(note));
	const { connect, overlay } = await startServer(t);
	const client = await connect();
	const bug = new TypeError("A bug");
	overlay.bugs.set("mkdir", bug);
	const call = nfsCall(Nfs.mkdir, [overlay.root.handle, "dir", NO_SATTR], { xid: 77 });
	assert.deepEqual(await client.call(call), xdr(77, 1, 0, 0, 0, 5));
	assert.deepEqual(failures, [{ error: bug, program: "NFS", procedure: "MKDIR" }]);
	assert.equal((await client.call(call)).readUInt32BE(24), 0);
	overlay.stable = () => Promise.reject(bug);
	assert.equal((await nfs(client, Nfs.rmdir, [overlay.root.handle, "dir"])).u32(), 5);
	overlay.flush = () => Promise.reject(bug);
	const commit = nfsCall(Nfs.commit, [overlay.root.handle, 0, 0, 0], { xid: 78 });
	assert.deepEqual(await client.call(commit), xdr(78, 1, 0, 0, 0, 5));
});
