// Calls of the server to its peer, and calls that are suspended in the middle.

import assert from "node:assert/strict";
import { createServer, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { allocate } from "../linux/memory.ts";
import type { XdrReader } from "../xdr/xdr-reader.ts";
import { CallerCache, STRANGER } from "./caller.ts";
import { Connection } from "./connection.ts";
import { Dispatcher, type ReplyChannel } from "./dispatcher.ts";
import { DuplicateRequests } from "./duplicate-requests.ts";
import { DEFAULT_RPC_LIMITS, SERVER_CALLS_MAX } from "./limits.ts";
import type { CallChannel, Procedure, ServerCall, SuspendedCall } from "./program.ts";
import { LargeBuffers } from "./record-receiver.ts";
import { ReplyWriter } from "./reply-writer.ts";
import { encodeCall, inFragments, RpcClient, results, xdr } from "./rpc-client.test-support.ts";
import type { CallError } from "./server-calls.ts";
import { SlabPool } from "./slab-pool.ts";

const PROGRAM = 0x40000000;

/** A client and the server's end of its connection, which answers calls of program 7 by `procedure`. */
async function connected(t: TestContext, procedure?: Procedure["run"]): Promise<{ client: RpcClient; channel: Connection }> {
	const pool = new SlabPool(allocate, DEFAULT_RPC_LIMITS.replyBytesTotal);
	const duplicates = new DuplicateRequests<ReplyChannel>(Date.now);
	const callers = new CallerCache(STRANGER);
	const run: Procedure["run"] = procedure ?? ((_caller, _args, reply) => void reply.u32(5));
	const programs = [{ number: 7, name: "seven", versions: new Map([[1, [{ name: "RUN", remembered: false, run }]]]) }];
	const dispatcher = new Dispatcher(programs, duplicates, new ReplyWriter(pool), callers.anonymous());
	let accept: (connection: Connection) => void = () => {};
	const accepted = new Promise<Connection>((resolve) => {
		accept = resolve;
	});
	const listener = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket: Socket) =>
		accept(
			new Connection(socket, {
				dispatcher,
				limits: DEFAULT_RPC_LIMITS,
				largeBuffers: new LargeBuffers(1 << 24),
				reply: new ReplyWriter(pool),
				callers,
				source: duplicates.connected("10.0.0.1"),
				isRefused: false,
				number: 1,
				inFlight: { requests: 0, bytes: 0 },
				now: () => performance.now(),
				onClose() {},
			}),
		),
	);
	await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
	const { port } = listener.address() as { port: number };
	const client = await RpcClient.connect({ host: "127.0.0.1", port });
	const channel = await accepted;
	t.after(() => {
		client.close();
		channel.destroy();
		listener.close();
	});
	return { client, channel };
}

function call(channel: CallChannel, procedure: number, options: Partial<ServerCall> = {}): Promise<XdrReader> {
	const encode: ServerCall["encode"] = (writer) => writer.u32(1000 + procedure);
	return channel.call({ program: PROGRAM, version: 1, procedure, credential: null, encode, timeoutMilliseconds: 60_000, ...options });
}

function reasonOf(call: Promise<unknown>): Promise<string> {
	return call.then(
		() => "answered",
		(error: unknown) => (error as CallError).reason,
	);
}

async function received(client: RpcClient): Promise<Buffer> {
	const record = await client.receive();
	assert.ok(record !== null);
	return record;
}

/** An accepted reply of success. */
function answer(xid: number, ...words: number[]): Buffer {
	return inFragments(xdr(xid, 1, 0, 0, 0, 0, ...words));
}

test("a call to the peer is these bytes, with AUTH_NONE or the credential that it is given", async (t) => {
	const { client, channel } = await connected(t);
	void reasonOf(call(channel, 1));
	assert.equal((await received(client)).toString("hex"), xdr(1, 0, 2, PROGRAM, 1, 1, 0, 0, 0, 0, 1001).toString("hex"));
	void reasonOf(call(channel, 0, { credential: xdr(9, "host", 0, 0, 0) }));
	const expected = xdr(2, 0, 2, PROGRAM, 1, 0, 1, xdr(9, "host", 0, 0, 0), 0, 0, 1000);
	assert.equal((await received(client)).toString("hex"), expected.toString("hex"));
});

test("answers are matched by xid, in any order and between requests of the peer", async (t) => {
	const { client, channel } = await connected(t);
	const calls = [call(channel, 1), call(channel, 2), call(channel, 3)];
	const xids: number[] = [];
	for (let index = 0; index < 3; index++) xids.push((await received(client)).readUInt32BE(0));
	client.send(Buffer.concat([answer(xids[2], 33), inFragments(encodeCall({ xid: 77, program: 7, version: 1, procedure: 0 }))]));
	assert.equal(results(await received(client)).u32(), 5);
	client.send(Buffer.concat([answer(xids[0], 11), answer(12345, 1), answer(xids[0], 99), answer(xids[1], 22)]));
	assert.deepEqual(
		(await Promise.all(calls)).map((reader) => reader.u32()),
		[11, 22, 33],
	);
});

test("a refusal, and what is no reply at all, fail the call", async (t) => {
	const { client, channel } = await connected(t);
	for (const words of [[1, 1, 1, 5], [1, 0, 0, 0, 1], [1, 0, 0, 0], [1]]) {
		const reason = reasonOf(call(channel, 1));
		const xid = (await received(client)).readUInt32BE(0);
		client.send(inFragments(xdr(xid, ...words)));
		assert.equal(await reason, "refused", `${words}`);
	}
});

test(`beyond ${SERVER_CALLS_MAX} calls without an answer the next one fails at once; all fail when the connection closes`, async (t) => {
	const { client, channel } = await connected(t);
	const reasons = Array.from({ length: SERVER_CALLS_MAX }, () => reasonOf(call(channel, 1)));
	assert.equal(await reasonOf(call(channel, 1)), "too-many");
	assert.ok(channel.idle, "calls of the server's own are no requests");
	let heard = 0;
	channel.whenClosed(() => heard++);
	client.reset();
	assert.deepEqual(new Set(await Promise.all(reasons)), new Set(["closed"]));
	assert.equal(await reasonOf(call(channel, 1)), "closed");
	channel.whenClosed(() => heard++);
	channel.destroy();
	assert.equal(heard, 2);
});

test("a call that is not answered in time fails, and its late answer is passed over", async (t) => {
	const { client, channel } = await connected(t);
	const reason = reasonOf(call(channel, 1, { timeoutMilliseconds: 1 }));
	const xid = (await received(client)).readUInt32BE(0);
	assert.equal(await reason, "late");
	const next = call(channel, 2);
	client.send(Buffer.concat([answer(xid, 1), answer((await received(client)).readUInt32BE(0), 2)]));
	assert.equal((await next).u32(), 2);
});

test("close() of a connection fails the calls that are under way and does not wait for them", async (t) => {
	const { client, channel } = await connected(t);
	const reason = reasonOf(call(channel, 1));
	await received(client);
	channel.drain();
	assert.equal(await reason, "closed");
	await client.end();
});

/** Waits `waits` times; tells how often it went on, and when it was done. */
function suspending(
	waits: number,
	goOn: { ready: () => Promise<unknown> },
): { run: Procedure["run"]; resumed: number; done: Promise<void> } {
	let finish: () => void = () => {};
	const state = { run: (() => suspended(waits)) as Procedure["run"], resumed: 0, done: new Promise<void>((resolve) => (finish = resolve)) };
	const suspended = (left: number): SuspendedCall => ({
		bytesHeld: 100,
		ready: goOn.ready(),
		resume(reply) {
			state.resumed++;
			reply.u32(900 + left);
			if (left > 1) return suspended(left - 1);
			finish();
			return undefined;
		},
	});
	return state;
}

test("a suspended call goes on until it is done, and others are answered meanwhile", async (t) => {
	let open: () => void = () => {};
	const gates = [new Promise<void>((resolve) => (open = resolve)), Promise.reject(new Error("failed")), Promise.resolve()];
	for (const gate of gates) gate.catch(() => {});
	const state = suspending(3, { ready: () => gates.shift() as Promise<void> });
	const { client, channel } = await connected(t, (caller, args, reply, identity, of) => {
		if (args.u32() === 1) return state.run(caller, args, reply, identity, of);
		reply.u32(5);
		return undefined;
	});
	const request = (xid: number, word: number): Buffer =>
		inFragments(encodeCall({ xid, program: 7, version: 1, procedure: 0, args: xdr(word) }));
	client.send(Buffer.concat([request(1, 1), request(2, 2)]));
	assert.equal((await received(client)).toString("hex"), xdr(2, 1, 0, 0, 0, 0, 5).toString("hex"));
	assert.equal(channel.idle, false);
	open();
	assert.equal((await received(client)).toString("hex"), xdr(1, 1, 0, 0, 0, 0, 901).toString("hex"));
	assert.equal(state.resumed, 3);
	assert.ok(channel.idle);
});

test("a suspended call is run to its end when its connection has gone", async (t) => {
	let open: () => void = () => {};
	const gate = new Promise<void>((resolve) => (open = resolve));
	const state = suspending(2, { ready: () => gate });
	const { client, channel } = await connected(t, state.run);
	client.send(inFragments(encodeCall({ program: 7, version: 1, procedure: 0 })));
	while (channel.idle) await new Promise((resolve) => setImmediate(resolve));
	const closed = new Promise<void>((resolve) => channel.whenClosed(resolve));
	client.reset();
	await closed;
	open();
	await state.done;
	assert.equal(state.resumed, 2);
});

test("a suspended call that fails is answered SYSTEM_ERR", async (t) => {
	const { client, channel } = await connected(t, () => ({
		bytesHeld: 1,
		ready: Promise.resolve(),
		resume(reply) {
			reply.u32(1);
			throw new Error("a fault of ours");
		},
	}));
	client.send(inFragments(encodeCall({ xid: 3, program: 7, version: 1, procedure: 0 })));
	assert.equal((await received(client)).toString("hex"), xdr(3, 1, 0, 0, 0, 5).toString("hex"));
	assert.ok(channel.idle);
});
