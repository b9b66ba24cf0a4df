// COMPOUND: its header, its order, what stops it, and how it waits.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Op } from "../nfs4/protocol.ts";
import { Status } from "../nfs4/status.ts";
import { encodeCall, inFragments, results, xdr } from "../rpc/rpc-client.test-support.ts";
import { MemoryOverlay } from "../vfs/memory-overlay.test-support.ts";
import {
	ANONYMOUS,
	bytesOf,
	changeInfo,
	compoundArgs,
	compoundCall,
	fattr,
	Nfs4Client,
	NO_ATTRIBUTES,
	next,
	OK,
	pass,
	passSequence,
	ROOT_STEP,
	readCompound,
	type Step,
	startNfs4,
} from "./nfs4-client.test-support.ts";
import { gate, Nfs, nfsCall } from "./test-server.test-support.ts";

const ROOT = { uid: 0, gid: 0, gids: [] };
const MKDIR = (name: string): Step => [Op.create, 2, name, NO_ATTRIBUTES];

test("an empty compound is answered by its status, its tag and no results", async (t) => {
	const client = new Nfs4Client(await (await startNfs4(t)).connect());
	const reply = await client.rpc.call(compoundCall([], { xid: 7, args: compoundArgs([], "tag") }));
	assert.equal(reply.toString("hex"), xdr(7, 1, 0, 0, 0, 0, OK, "tag", 0).toString("hex"));
});

test("other minor versions are MINOR_VERS_MISMATCH, with no results", async (t) => {
	const client = new Nfs4Client(await (await startNfs4(t)).connect());
	for (const minor of [0, 2, 3, 0xffffffff]) {
		const args = compoundArgs([[Op.putrootfh]], "t", minor);
		const reply = await client.rpc.call(compoundCall([], { xid: 7, args }));
		assert.equal(reply.toString("hex"), xdr(7, 1, 0, 0, 0, 0, Status.minorVersMismatch, "t", 0).toString("hex"));
	}
});

test("version 4 does not take calls of other procedures, and answers NULL", async (t) => {
	const client = new Nfs4Client(await (await startNfs4(t)).connect());
	assert.equal((await client.rpc.call(compoundCall([], { procedure: 0 }))).subarray(4).toString("hex"), xdr(1, 0, 0, 0, 0).toString("hex"));
	assert.equal((await client.rpc.call(compoundCall([], { procedure: 2 }))).readUInt32BE(20), 3);
	assert.equal((await client.rpc.call(compoundCall([], { args: xdr("tag") }))).readUInt32BE(20), 4);
	assert.equal((await client.rpc.call(compoundCall([], { args: xdr("x".repeat(1025), 1, 0) }))).readUInt32BE(20), 4);
});

test("requests of versions 3 and 4 alternate on one connection", async (t) => {
	const server = await startNfs4(t);
	const client = await Nfs4Client.connect(server);
	for (let round = 0; round < 2; round++) {
		const { reader } = await client.run(ROOT_STEP, [Op.getfh]);
		pass(reader, Op.putrootfh, Op.getfh);
		assert.deepEqual(bytesOf(reader), server.overlay.root.handle);
		assert.equal(results(await client.rpc.call(nfsCall(Nfs.getattr, [server.overlay.root.handle]))).u32(), OK);
	}
});

test("what is no operation is OP_ILLEGAL, and what 4.1 has dropped or this server does not serve has its own error", async (t) => {
	const client = await Nfs4Client.connect(await startNfs4(t));
	for (const number of [0, 1, 2, 59, 60, 75, 10044, 0xffffffff]) {
		const { reader, status, count } = await client.run([number], ROOT_STEP);
		assert.deepEqual([status, count, ...next(reader)], [Status.opIllegal, 2, Op.illegal, Status.opIllegal]);
		assert.equal(reader.remaining, 0);
	}
	const alone = await client.send([[0]]);
	assert.deepEqual([alone.status, ...next(alone.reader)], [Status.opIllegal, Op.illegal, Status.opIllegal]);
	const dropped = [Op.openConfirm, Op.renew, Op.setclientid, Op.setclientidConfirm, Op.releaseLockowner];
	const unserved = [Op.openattr, Op.getDirDelegation, Op.wantDelegation, Op.delegpurge, Op.getDeviceInfo, Op.layoutGet, Op.layoutReturn];
	for (const number of [...dropped, ...unserved]) {
		const { reader, status } = await client.run([number]);
		assert.deepEqual([status, ...next(reader)], [Status.notsupp, number, Status.notsupp]);
	}
	assert.equal(await client.status([Op.delegreturn, ANONYMOUS]), Status.badStateid);
	assert.equal(await client.status([Op.setSsv]), Status.inval, "no client is protected by an SSV");
});

test("only SEQUENCE begins a compound, but for operations that come alone", async (t) => {
	const client = await Nfs4Client.connect(await startNfs4(t));
	for (const number of [Op.putrootfh, Op.getattr, Op.reclaimComplete, Op.renew]) {
		const { reader, status, count } = await client.send([[number]]);
		assert.deepEqual([status, count, ...next(reader)], [Status.opNotInSession, 1, number, Status.opNotInSession]);
	}
	for (const number of [Op.exchangeId, Op.createSession, Op.destroySession, Op.destroyClientid, Op.bindConnToSession]) {
		const { status } = await client.send([[number], ROOT_STEP]);
		assert.equal(status, Status.notOnlyOp);
	}
	const set = await client.send([[Op.setattr]]);
	assert.deepEqual(
		[...next(set.reader), set.reader.u32(), set.reader.remaining],
		[Op.setattr, Status.opNotInSession, 0, 0],
		"its bitmap is there",
	);
	client.sequence++;
	const twice = await client.send([client.sequenceStep(), client.sequenceStep()]);
	assert.equal(twice.status, Status.sequencePos);
	assert.equal(await client.status([Op.bindConnToSession, { raw: client.session }, 1, 0]), Status.notOnlyOp);
});

test("malformed arguments of operation n: the results before it, then BADXDR for n", async (t) => {
	const client = await Nfs4Client.connect(await startNfs4(t));
	const { reader, status, count } = await client.run(ROOT_STEP, [Op.lookup, 0x7fffffff]);
	assert.deepEqual([status, count], [Status.badxdr, 3]);
	pass(reader, Op.putrootfh);
	assert.deepEqual([...next(reader), reader.remaining], [Op.lookup, Status.badxdr, 0]);
	client.sequence++;
	const args = xdr("", 1, 3, { raw: xdr(...client.sequenceStep()) }, Op.putrootfh);
	const cut = readCompound(results(await client.rpc.call(compoundCall([], { args }))));
	assert.deepEqual([cut.status, cut.count], [Status.badxdr, 2]);
	passSequence(cut.reader);
	pass(cut.reader, Op.putrootfh);
	assert.equal(cut.reader.remaining, 0);
});

test("an operation that fails ends the compound", async (t) => {
	const { overlay, ...server } = await startNfs4(t);
	const client = await Nfs4Client.connect({ overlay, ...server });
	const { reader, status, count } = await client.run(ROOT_STEP, [Op.lookup, "missing"], MKDIR("never"));
	assert.deepEqual([status, count], [Status.noent, 3]);
	pass(reader, Op.putrootfh);
	assert.deepEqual([...next(reader), reader.remaining], [Op.lookup, Status.noent, 0]);
	assert.equal(overlay.calls.includes("mkdir"), false);
});

test("what has to wait goes on behind the operations that are done, and none of them is done twice", async (t) => {
	const server = await startNfs4(t);
	const { overlay } = server;
	const client = await Nfs4Client.connect(server);
	overlay.calls.length = 0;
	overlay.waits.set("lookup", 3);
	overlay.waits.set("readlink", 2);
	const { reader, status } = await client.run(
		ROOT_STEP,
		MKDIR("a"),
		[Op.create, 5, "target", "link", NO_ATTRIBUTES],
		[Op.readlink],
		ROOT_STEP,
		[Op.lookup, "a"],
		MKDIR("b"),
		[Op.getfh],
	);
	assert.equal(status, OK);
	pass(reader, Op.putrootfh, Op.create);
	changeInfo(reader);
	assert.equal(reader.u32(), 0);
	pass(reader, Op.create);
	changeInfo(reader);
	assert.equal(reader.u32(), 0);
	pass(reader, Op.readlink);
	assert.equal(bytesOf(reader).toString(), "target");
	pass(reader, Op.putrootfh, Op.lookup, Op.create);
	changeInfo(reader);
	assert.equal(reader.u32(), 0);
	pass(reader, Op.getfh);
	const made = overlay.lookup(overlay.lookup(overlay.root, Buffer.from("a"), { uid: 0, gid: 0, gids: [] }) as never, Buffer.from("b"), {
		uid: 0,
		gid: 0,
		gids: [],
	});
	assert.deepEqual(bytesOf(reader), made?.handle);
	assert.equal(reader.remaining, 0);
	assert.equal(overlay.calls.filter((call) => call === "mkdir").length, 2);
	assert.equal(overlay.calls.filter((call) => call === "symlink").length, 1);
});

test("what waits after its change was made goes on behind it", async (t) => {
	const server = await startNfs4(t);
	const { overlay } = server;
	const client = await Nfs4Client.connect(server);
	const getattr = overlay.getattr.bind(overlay);
	overlay.calls.length = 0;
	// the second one is for the change attribute after the change
	let count = 0;
	overlay.getattr = (object) => {
		if (++count === 2) overlay.waits.set("getattr", 2);
		return getattr(object);
	};
	const { reader, status } = await client.run(ROOT_STEP, MKDIR("a"));
	assert.equal(status, OK);
	pass(reader, Op.putrootfh, Op.create);
	const { atomic, before, after } = changeInfo(reader);
	assert.ok(atomic && after > before);
	assert.equal(overlay.calls.filter((call) => call === "mkdir").length, 1);
});

test("arguments and handles outlive a wait, whatever the connection receives meanwhile", async (t) => {
	const server = await startNfs4(t);
	const { overlay } = server;
	const client = await Nfs4Client.connect(server);
	const { opened, open } = gate();
	overlay.wait = () => opened;
	overlay.waits.set("mkdir", 1);
	client.sequence++;
	client.rpc.send(client.record(1, [client.sequenceStep(), ROOT_STEP, MKDIR("first"), [Op.getfh]]));
	while (!overlay.calls.includes("mkdir")) await new Promise((resolve) => setImmediate(resolve));
	// overwrites the receive buffer
	for (let index = 0; index < 50; index++) await client.rpc.call(compoundCall([[0]], { args: compoundArgs([], "x".repeat(1000)) }));
	open();
	const record = (await client.rpc.receive()) as Buffer;
	const { status, tag } = readCompound(results(record));
	assert.deepEqual([status, tag], [OK, ""]);
	assert.ok(overlay.root.names.has("first"));
});

test("a compound whose connection has gone is run to its end, and its retry on another connection gets the reply", async (t) => {
	const server = await startNfs4(t);
	const { overlay } = server;
	const client = await Nfs4Client.connect(server);
	const { opened, open } = gate();
	overlay.wait = () => opened;
	client.sequence++;
	const steps: Step[] = [client.sequenceStep(true), ROOT_STEP, MKDIR("a"), MKDIR("b")];
	overlay.waits.set("mkdir", 1);
	client.rpc.send(client.record(1, steps));
	while (!overlay.calls.includes("mkdir")) await new Promise((resolve) => setImmediate(resolve));
	const other = new Nfs4Client(await server.connect());
	assert.equal((await other.send(steps)).status, Status.delay, "it is running");
	client.rpc.reset();
	while (server.server.connectionCount > 1) await new Promise((resolve) => setImmediate(resolve));
	open();
	let reply = await other.send(steps);
	while (reply.status === Status.delay) reply = await other.send(steps);
	assert.equal(reply.status, OK);
	assert.equal(reply.count, 4);
	assert.ok(overlay.root.names.has("a"));
	assert.equal(overlay.calls.filter((call) => call === "mkdir").length, 3, "one of them waited");
});

test("one wait for stable storage stands at the end of a compound, and the reply behind it", async (t) => {
	const server = await startNfs4(t);
	const { overlay } = server;
	const client = await Nfs4Client.connect(server);
	let asked = 0;
	const { opened, open } = gate();
	overlay.stable = () => {
		asked++;
		return opened;
	};
	const reply = client.run(ROOT_STEP, MKDIR("a"), ROOT_STEP, MKDIR("b"));
	let isAnswered = false;
	void reply.then(() => {
		isAnswered = true;
	});
	while (!overlay.root.names.has("b")) await new Promise((resolve) => setImmediate(resolve));
	await new Promise((resolve) => setTimeout(resolve, 5));
	assert.deepEqual([asked, isAnswered], [1, false]);
	open();
	assert.equal((await reply).status, OK);
	assert.equal(await client.status(ROOT_STEP, [Op.getfh]), OK);
	assert.equal(asked, 1, "nothing was changed");
});

test("a compound of many operations lets others in while it runs, and is answered as any other", async (t) => {
	let now = 0;
	let passes = 0;
	class SlowOverlay extends MemoryOverlay {
		override beginPass(): void {
			passes++;
		}

		override lookup(...args: Parameters<MemoryOverlay["lookup"]>): ReturnType<MemoryOverlay["lookup"]> {
			now++;
			return super.lookup(...args);
		}
	}
	const overlay = new SlowOverlay();
	overlay.create(overlay.root, Buffer.from("file"), ROOT, { mode: "unchecked", attributes: {} });
	const client = await Nfs4Client.connect(await startNfs4(t, { now: () => now }, overlay));
	const steps = Array.from({ length: 30 }, (_, index): Step => (index % 2 === 0 ? ROOT_STEP : [Op.lookup, "file"]));
	const run = async () => {
		passes = 0;
		const { reader, status, count } = await client.run(...steps);
		assert.deepEqual([status, count], [OK, 31]);
		pass(reader, ...steps.map(([number]) => number));
		return passes;
	};
	assert.equal(await run(), 2, "15 milliseconds: one turn behind 16 operations, and the rest");
	overlay.lookup = (...args) => MemoryOverlay.prototype.lookup.call(overlay, ...args);
	assert.equal(await run(), 1, "no time at all");
});

test("where the change does not reach the disk, it is IO, and nothing behind it is told", async (t) => {
	const server = await startNfs4(t);
	const client = await Nfs4Client.connect(server);
	server.overlay.stable = () => Promise.reject(new Error("no disk"));
	const { reader, status, count } = await client.run(ROOT_STEP, [Op.setattr, ANONYMOUS, fattr([33, 0o700])], MKDIR("b"));
	assert.deepEqual([status, count], [Status.io, 3]);
	pass(reader, Op.putrootfh);
	assert.deepEqual([...next(reader), reader.u32(), reader.remaining], [Op.setattr, Status.io, 0, 0]);
});

test("a fault of the server's own is SERVERFAULT, and the slot is free again", async (t) => {
	const server = await startNfs4(t);
	const client = await Nfs4Client.connect(server);
	server.overlay.bugs.set("lookup", new Error("a fault"));
	assert.equal(await client.status(ROOT_STEP, [Op.lookup, "x"]), Status.serverfault);
	assert.equal(await client.status(ROOT_STEP, [Op.lookup, "x"]), Status.noent);
});

test("a compound in many fragments is one", async (t) => {
	const client = await Nfs4Client.connect(await startNfs4(t));
	client.sequence++;
	const call = encodeCall(compoundCall([client.sequenceStep(), ROOT_STEP, [Op.getfh]], { xid: 9 }));
	client.rpc.send(inFragments(call, [10, 1, 0, 50]));
	assert.equal(readCompound(results((await client.rpc.receive()) as Buffer)).status, OK);
});
