// OPEN and what follows it: shares, stateids, locks, callbacks.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Op } from "../nfs4/protocol.ts";
import { Status } from "../nfs4/status.ts";
import { authSys, inFragments, type XdrItem, xdr } from "../rpc/rpc-client.test-support.ts";
import type { MemoryObject, MemoryOverlay } from "../vfs/memory-overlay.test-support.ts";
import { FileType } from "../vfs/operations.ts";
import {
	ANONYMOUS,
	bytesOf,
	CALLBACK_PROGRAM,
	CURRENT,
	changeInfo,
	fattr,
	Nfs4Client,
	NO_ATTRIBUTES,
	next,
	OK,
	pass,
	passSequence,
	ROOT_STEP,
	readBits,
	type Step,
	startNfs4,
	stateidOf,
} from "./nfs4-client.test-support.ts";
import { ROOT, type TestServer } from "./test-server.test-support.ts";

const [READ, WRITE, BOTH] = [1, 2, 3];
const FLAGS = 0x2c;

interface OpenOptions {
	readonly access?: number;
	readonly deny?: number;
	readonly owner?: string;
	/** createhow4. */
	readonly how?: readonly XdrItem[];
	/** open_claim4. */
	readonly claim?: readonly XdrItem[];
}

function openStep(name: string, { access = READ, deny = 0, owner = "owner", how, claim = [0, name] }: OpenOptions = {}): Step {
	const creates: XdrItem[] = how === undefined ? [0] : [1, ...how];
	return [Op.open, 0, access, deny, 7, 7, owner, ...creates, ...claim];
}

interface Opened {
	readonly stateid: { raw: Buffer };
	readonly set: number[];
	readonly change: { atomic: boolean; before: bigint; after: bigint };
	readonly delegation: number;
	readonly handle: Buffer;
}

async function open(client: Nfs4Client, name: string, options: OpenOptions = {}, from: Step = ROOT_STEP): Promise<Opened> {
	const { reader, status } = await client.run(from, openStep(name, options), [Op.getfh]);
	assert.equal(status, OK);
	pass(reader, from[0], Op.open);
	const stateid = stateidOf(reader);
	const change = changeInfo(reader);
	assert.equal(reader.u32(), FLAGS);
	const set = readBits(reader);
	const delegation = reader.u32();
	if (delegation === 3 && reader.u32() === 2) reader.bool();
	pass(reader, Op.getfh);
	return { stateid, set, change, delegation, handle: bytesOf(reader) };
}

async function started(
	t: Parameters<typeof startNfs4>[0],
): Promise<{ server: TestServer; overlay: MemoryOverlay; client: Nfs4Client; file: MemoryObject }> {
	const server = await startNfs4(t);
	const file = server.file("file", "content") as MemoryObject;
	file.mode = 0o666;
	return { server, overlay: server.overlay, client: await Nfs4Client.connect(server), file };
}

const seqid = ({ raw }: { raw: Buffer }): number => raw.readUInt32BE(0);

test("OPEN by name answers these bytes, and its stateid serves READ, WRITE and CLOSE", async (t) => {
	const { client, file, overlay } = await started(t);
	const { reader } = await client.run(ROOT_STEP, openStep("file", { access: BOTH }), [Op.getfh]);
	pass(reader, Op.putrootfh);
	const change = [overlay.root.ctime.sec, overlay.root.ctime.nsec];
	const answer = bytesOf(reader, reader.remaining);
	const stateid = { raw: answer.subarray(8, 24) };
	const expected = xdr(Op.open, OK, stateid, 1, ...change, ...change, FLAGS, 0, 0, Op.getfh, OK, file.handle);
	assert.equal(answer.toString("hex"), expected.toString("hex"));
	assert.equal(seqid(stateid), 1);
	const put: Step = [Op.putfh, file.handle];
	file.mode = 0;
	client.options = { credential: authSys(0, 0) };
	assert.equal(await client.status(put, [Op.write, stateid, 0, 0, 0, "CON"]), OK);
	const read = (await client.run(put, [Op.read, stateid, 0, 0, 100])).reader;
	pass(read, Op.putfh, Op.read);
	assert.deepEqual([read.bool(), bytesOf(read).toString()], [true, "CONtent"]);
	const closed = (await client.run(put, [Op.close, 0, stateid])).reader;
	pass(closed, Op.putfh);
	assert.equal(bytesOf(closed, closed.remaining).toString("hex"), xdr(Op.close, OK, 0xffffffff, 0, 0, 0).toString("hex"));
	for (const step of [
		[Op.read, stateid, 0, 0, 1],
		[Op.write, stateid, 0, 0, 0, "x"],
		[Op.close, 0, stateid],
		[Op.openDowngrade, stateid, 0, 1, 0],
	] as const)
		assert.equal(await client.status(put, step), Status.badStateid);
});

test("an open gives its access and no more, whatever the mode becomes", async (t) => {
	const { client, file } = await started(t);
	client.options = { credential: authSys(1000, 1000) };
	const reading = await open(client, "file", { access: READ });
	file.mode = 0;
	const put: Step = [Op.putfh, file.handle];
	assert.equal(await client.status(put, [Op.read, reading.stateid, 0, 0, 1]), OK);
	assert.equal(await client.status(put, [Op.write, reading.stateid, 0, 0, 0, "x"]), Status.openmode);
	assert.equal(await client.status(put, [Op.setattr, reading.stateid, fattr([4, { raw: xdr(0, 1) }])]), Status.openmode);
	assert.equal(await client.status(put, [Op.read, ANONYMOUS, 0, 0, 1]), Status.access);
	assert.equal(await client.status(ROOT_STEP, openStep("file", { owner: "other" })), Status.access);
});

test("the current stateid is that of the OPEN before, is saved and restored with the handle, and gone with another one", async (t) => {
	const { client } = await started(t);
	const { reader, status } = await client.run(
		ROOT_STEP,
		openStep("file", { access: BOTH }),
		[Op.write, CURRENT, 0, 0, 0, "x"],
		[Op.close, 0, CURRENT],
	);
	assert.equal(status, OK);
	pass(reader, Op.putrootfh, Op.open);
	assert.equal(
		await client.status(
			ROOT_STEP,
			openStep("file"),
			[Op.savefh],
			ROOT_STEP,
			[Op.restorefh],
			[Op.read, CURRENT, 0, 0, 1],
			[Op.close, 0, CURRENT],
		),
		OK,
	);
	assert.equal(
		await client.status(ROOT_STEP, openStep("file"), ROOT_STEP, [Op.lookup, "file"], [Op.read, CURRENT, 0, 0, 1]),
		Status.badStateid,
	);
	assert.equal(await client.status(ROOT_STEP, openStep("file"), [Op.close, 0, CURRENT], [Op.close, 0, CURRENT]), Status.badStateid);
});

test("OPEN creates: UNCHECKED4, GUARDED4, EXCLUSIVE4 and EXCLUSIVE4_1", async (t) => {
	const { client, overlay } = await started(t);
	const made = await open(client, "a", { access: BOTH, how: [0, fattr([33, 0o640])] });
	assert.deepEqual(made.set, [33]);
	assert.ok(made.change.atomic && made.change.after > made.change.before);
	assert.equal(overlay.root.names.get("a")?.mode, 0o640);
	const again = await open(client, "a", { access: BOTH, how: [0, fattr([33, 0o600])] });
	assert.deepEqual([again.set, again.change.after], [[], again.change.before]);
	assert.equal(overlay.root.names.get("a")?.mode, 0o640, "attributes of what is there stay");
	assert.equal(await client.status(ROOT_STEP, openStep("a", { how: [1, NO_ATTRIBUTES] })), Status.exist);
	assert.deepEqual((await open(client, "b", { how: [1, fattr([33, 0o600])] })).set, [33]);
	const verifier = { raw: Buffer.from("verify 1") };
	const exclusive = await open(client, "c", { how: [2, verifier] });
	assert.deepEqual(exclusive.set, [47, 53], "the client sets the times, where the verifier is kept");
	assert.deepEqual((await open(client, "c", { how: [2, verifier] })).handle, exclusive.handle);
	assert.equal(await client.status(ROOT_STEP, openStep("c", { how: [2, { raw: Buffer.from("verify 2") }] })), Status.exist);
	const withAttributes = await open(client, "d", { how: [3, verifier, fattr([33, 0o751], [37, "12"])] });
	assert.deepEqual(withAttributes.set, [33, 37, 47, 53]);
	assert.deepEqual([overlay.root.names.get("d")?.mode, overlay.root.names.get("d")?.gid], [0o751, 12]);
	assert.deepEqual((await open(client, "d", { how: [3, verifier, fattr([33, 0o751])] })).handle, withAttributes.handle);
	const now = { raw: xdr(0) };
	assert.equal(await client.status(ROOT_STEP, openStep("e", { how: [3, verifier, fattr([48, now])] })), Status.inval);
	assert.equal(await client.status(ROOT_STEP, openStep("e", { how: [0, fattr([12, 0])] })), Status.attrnotsupp);
	assert.equal(await client.status(ROOT_STEP, openStep("e", { how: [4] })), Status.badxdr);
	assert.equal(overlay.root.names.has("e"), false);
});

test("the creator of a file that nobody may use has it open", async (t) => {
	const { client, overlay } = await started(t);
	overlay.root.mode = 0o777;
	client.options = { credential: authSys(1000, 1000) };
	const { stateid, handle } = await open(client, "mine", { access: BOTH, how: [1, fattr([33, 0])] });
	assert.equal(await client.status([Op.putfh, handle], [Op.write, stateid, 0, 0, 0, "x"]), OK);
	assert.equal(await client.status(ROOT_STEP, openStep("mine", { access: WRITE, owner: "2" })), Status.access);
});

test("UNCHECKED4 with size 0 cuts a file that is there, and only where it may be written and nobody denies it", async (t) => {
	const { client, file, server } = await started(t);
	const cut: OpenOptions = { access: READ, how: [0, fattr([4, { raw: xdr(0, 0) }], [33, 0o600])] };
	const other = await Nfs4Client.connect(server, { owner: "another" });
	const held = await open(other, "file", { deny: WRITE });
	assert.equal(await client.status(ROOT_STEP, openStep("file", { ...cut, access: BOTH })), Status.shareDenied);
	assert.equal(file.size, 7);
	assert.equal(await other.status([Op.putfh, file.handle], [Op.close, 0, held.stateid]), OK);
	file.mode = 0o444;
	client.options = { credential: authSys(1000, 1000) };
	assert.equal(await client.status(ROOT_STEP, openStep("file", cut)), Status.access);
	assert.equal(file.size, 7);
	client.options = {};
	assert.deepEqual((await open(client, "file", cut)).set, [4]);
	assert.equal(file.size, 0);
});

test("what is no regular file is not opened, and names have their errors", async (t) => {
	const { client, overlay } = await started(t);
	overlay.mkdir(overlay.root, Buffer.from("dir"), ROOT, {});
	overlay.symlink(overlay.root, Buffer.from("link"), ROOT, Buffer.from("x"), {});
	overlay.mknod(overlay.root, Buffer.from("fifo"), ROOT, FileType.fifo, 0, 0, {});
	const cases: [string, number][] = [
		["dir", Status.isdir],
		["link", Status.symlink],
		["fifo", Status.wrongType],
		["missing", Status.noent],
		["", Status.inval],
		[".", Status.badname],
		["a/b", Status.badchar],
		["n".repeat(256), Status.nametoolong],
	];
	for (const [name, expected] of cases) {
		assert.equal(await client.status(ROOT_STEP, openStep(name)), expected, name);
		if (expected !== Status.noent)
			assert.equal(await client.status(ROOT_STEP, openStep(name, { how: [0, NO_ATTRIBUTES] })), expected, name);
	}
	assert.equal(await client.status(ROOT_STEP, [Op.lookup, "file"], openStep("x")), Status.notdir);
	assert.equal(await client.status(ROOT_STEP, [Op.lookup, "link"], openStep("x")), Status.symlink);
	for (const access of [0, 4, 0x600 | 1]) assert.equal(await client.status(ROOT_STEP, openStep("file", { access })), Status.inval);
	assert.equal(await client.status(ROOT_STEP, openStep("file", { deny: 4 })), Status.inval);
	assert.equal(await client.status(ROOT_STEP, openStep("file", { claim: [7] })), Status.badxdr);
	assert.equal(await client.status(ROOT_STEP, openStep("file", { owner: "o".repeat(1025) })), Status.badxdr);
});

test("CLAIM_FH opens the current file; claims of delegations are RECLAIM_BAD, and CLAIM_PREVIOUS needs grace", async (t) => {
	const { client, file } = await started(t);
	const put: Step = [Op.putfh, file.handle];
	const { stateid, handle } = await open(client, "", { access: BOTH, claim: [4] }, put);
	assert.deepEqual(handle, file.handle);
	assert.equal(await client.status(put, [Op.write, stateid, 0, 0, 0, "x"]), OK);
	assert.equal(await client.status(ROOT_STEP, openStep("", { claim: [4] })), Status.isdir);
	assert.equal(await client.status(put, openStep("", { claim: [4], how: [0, NO_ATTRIBUTES] })), Status.inval);
	assert.equal(await client.status(put, openStep("", { claim: [1, 0] })), Status.noGrace);
	const delegated: XdrItem[][] = [[2, ANONYMOUS, "file"], [3, "file"], [5, ANONYMOUS], [6]];
	for (const claim of delegated) assert.equal(await client.status(put, openStep("", { claim })), Status.reclaimBad);
});

test("there are no delegations, and who wished for one is told why", async (t) => {
	const { client } = await started(t);
	const answer = async (want: number): Promise<string> => {
		const { reader } = await client.run(ROOT_STEP, openStep("file", { access: READ | want }));
		pass(reader, Op.putrootfh, Op.open);
		reader.fixed(16 + 20 + 4);
		readBits(reader);
		return bytesOf(reader, reader.remaining).toString("hex");
	};
	const hex = (...words: number[]): string => xdr(...words).toString("hex");
	assert.equal(await answer(0), hex(0));
	assert.equal(await answer(0x400), hex(3, 0));
	assert.equal(await answer(0x500), hex(3, 7));
	for (const want of [0x100, 0x200, 0x300, 0x10100, 0x20100]) assert.equal(await answer(want), hex(3, 2, 0));
});

test("a second OPEN of an owner upgrades, OPEN_DOWNGRADE goes back, and the seqid counts", async (t) => {
	const { client, file } = await started(t);
	const put: Step = [Op.putfh, file.handle];
	const first = await open(client, "file", { access: READ });
	const second = await open(client, "file", { access: WRITE });
	assert.deepEqual([seqid(second.stateid), second.stateid.raw.subarray(4)], [2, first.stateid.raw.subarray(4)]);
	assert.equal(await client.status(put, [Op.read, first.stateid, 0, 0, 1]), Status.oldStateid);
	assert.equal(await client.status(put, [Op.write, second.stateid, 0, 0, 0, "x"]), OK);
	const newest = Buffer.from(second.stateid.raw);
	newest.writeUInt32BE(0, 0);
	assert.equal(await client.status(put, [Op.read, { raw: newest }, 0, 0, 1]), OK, "a seqid of 0 is the newest");
	assert.equal(await client.status(put, [Op.openDowngrade, second.stateid, 0, BOTH, WRITE]), Status.inval);
	const { reader, status } = await client.run(put, [Op.openDowngrade, second.stateid, 0, READ, 0]);
	assert.equal(status, OK);
	pass(reader, Op.putfh, Op.openDowngrade);
	const third = stateidOf(reader);
	assert.equal(seqid(third), 3);
	assert.equal(await client.status(put, [Op.write, third, 0, 0, 0, "x"]), Status.openmode);
	assert.equal(await client.status(put, [Op.close, 0, third]), OK);
});

test("shares are kept between owners and clients, for special stateids too", async (t) => {
	const { client, server, file } = await started(t);
	const put: Step = [Op.putfh, file.handle];
	const other = await Nfs4Client.connect(server, { owner: "another" });
	const denying = await open(client, "file", { access: READ, deny: WRITE });
	assert.equal(await other.status(ROOT_STEP, openStep("file", { access: WRITE })), Status.shareDenied);
	assert.equal(await client.status(ROOT_STEP, openStep("file", { access: WRITE, owner: "2" })), Status.shareDenied);
	assert.equal(await other.status(put, [Op.write, ANONYMOUS, 0, 0, 0, "x"]), Status.locked);
	assert.equal(await other.status(put, [Op.setattr, ANONYMOUS, fattr([4, { raw: xdr(0, 0) }])]), Status.locked);
	assert.equal(await other.status(put, [Op.read, ANONYMOUS, 0, 0, 1]), OK);
	const reading = await open(other, "file", { access: READ });
	assert.equal(await other.status(ROOT_STEP, openStep("file", { access: READ, deny: READ, owner: "3" })), Status.shareDenied);
	assert.equal(await client.status(put, [Op.close, 0, denying.stateid]), OK);
	assert.equal(await other.status(ROOT_STEP, openStep("file", { access: WRITE, owner: "3" })), OK);
	assert.equal(await client.status(put, [Op.close, 0, reading.stateid]), Status.badStateid, "it is another client's");
});

interface LockOptions {
	readonly type?: number;
	readonly from?: number;
	readonly length?: number;
	readonly reclaim?: boolean;
}

/** LOCK by a new lock owner. */
function lockStep(open: { raw: Buffer }, owner: string, { type = 2, from = 0, length = 10, reclaim = false }: LockOptions = {}): Step {
	return [Op.lock, type, reclaim, 0, from, 0, length, 1, 0, open, 0, 9, 9, owner];
}

test("LOCK, LOCKT and LOCKU answer these bytes", async (t) => {
	const { client, server, file } = await started(t);
	const put: Step = [Op.putfh, file.handle];
	const other = await Nfs4Client.connect(server, { owner: "another" });
	const mine = await open(client, "file", { access: BOTH });
	const theirs = await open(other, "file", { access: BOTH });
	const locked = (await client.run(put, lockStep(mine.stateid, "me"))).reader;
	pass(locked, Op.putfh, Op.lock);
	const stateid = stateidOf(locked);
	assert.deepEqual([seqid(stateid), locked.remaining], [1, 0]);
	const conflict = xdr(0, 0, 0, 10, 2, { raw: client.clientId }, "me").toString("hex");
	const denied = async (step: Step): Promise<string> => {
		const { reader, status } = await other.run(put, step);
		assert.equal(status, Status.denied);
		pass(reader, Op.putfh);
		assert.deepEqual(next(reader), [step[0], Status.denied]);
		return bytesOf(reader, reader.remaining).toString("hex");
	};
	assert.equal(await denied(lockStep(theirs.stateid, "they", { from: 9 })), conflict);
	assert.equal(await denied([Op.lockt, 1, 0, 0, 0, 1, 0, 0, "they"]), conflict);
	assert.deepEqual(await other.statuses(put, [Op.lockt, 1, 0, 10, 0, 1, 0, 0, "they"]), [OK, OK]);
	assert.deepEqual(await client.statuses(put, [Op.lockt, 2, 0, 0, 0, 1, 0, 0, "me"]), [OK, OK], "nobody is in their own way");
	const more = (await client.run(put, [Op.lock, 1, 0, 0, 20, 0, 5, 0, stateid, 0])).reader;
	pass(more, Op.putfh, Op.lock);
	const second = stateidOf(more);
	assert.equal(seqid(second), 2);
	const unlocked = (await client.run(put, [Op.locku, 2, 0, second, 0, 0, 0, 10])).reader;
	pass(unlocked, Op.putfh, Op.locku);
	assert.equal(seqid(stateidOf(unlocked)), 3);
	assert.equal(await other.status(put, lockStep(theirs.stateid, "they")), OK);
	const to = 0xffffffff;
	assert.equal(await client.status(put, [Op.lockt, 1, 0, 5, 0, 0, 0, 0, "me"]), Status.inval, "a length of zero");
	assert.equal(await client.status(put, [Op.lockt, 1, to, to, 0, 2, 0, 0, "me"]), Status.inval, "beyond 2^64");
	assert.deepEqual(await client.statuses(put, [Op.lockt, 1, 1, 0, to, to, 0, 0, "me"]), [OK, OK]);
	assert.equal(await client.status(put, [Op.lockt, 5, 0, 0, 0, 1, 0, 0, "me"]), Status.badxdr);
	assert.equal(await client.status(ROOT_STEP, [Op.lockt, 1, 0, 0, 0, 1, 0, 0, "me"]), Status.isdir);
	assert.equal(await client.status(put, lockStep(mine.stateid, "me", { reclaim: true })), Status.noGrace);
});

test("locks need an open of the right mode, do not hinder READ and WRITE, and go with CLOSE", async (t) => {
	const { client, server, file } = await started(t);
	const put: Step = [Op.putfh, file.handle];
	const other = await Nfs4Client.connect(server, { owner: "another" });
	const reading = await open(client, "file", { access: READ });
	assert.equal(await client.status(put, lockStep(reading.stateid, "me")), Status.openmode);
	const { reader } = await client.run(put, lockStep(reading.stateid, "me", { type: 1 }));
	pass(reader, Op.putfh, Op.lock);
	const lock = stateidOf(reader);
	assert.equal(await client.status(put, [Op.read, lock, 0, 0, 1]), OK);
	const theirs = await open(other, "file", { access: BOTH });
	assert.equal(await other.status(put, [Op.write, theirs.stateid, 0, 0, 0, "x"]), OK);
	assert.equal(await other.status(put, lockStep(theirs.stateid, "they")), Status.denied);
	assert.equal(await client.status(put, [Op.freeStateid, lock]), Status.locksHeld);
	assert.equal(await client.status(put, [Op.close, 0, reading.stateid]), OK);
	assert.equal(await other.status(put, lockStep(theirs.stateid, "they")), OK);
	const tested = (await client.run([Op.testStateid, 3, lock, reading.stateid, ANONYMOUS])).reader;
	pass(tested, Op.testStateid);
	assert.deepEqual(
		Array.from({ length: 4 }, () => tested.u32()),
		[3, Status.badStateid, Status.badStateid, Status.badStateid],
	);
	const good = (await other.run([Op.testStateid, 1, theirs.stateid])).reader;
	pass(good, Op.testStateid);
	assert.deepEqual([good.u32(), good.u32()], [1, OK]);
	assert.equal(await client.status([Op.freeStateid, lock]), Status.badStateid);
});

/** CB_COMPOUND4res with the result of CB_SEQUENCE alone. */
function callbackResults(args: Buffer, status: number): Buffer {
	const sequence = status === OK ? xdr(11, OK, { raw: args.subarray(20, 36) }, args.readUInt32BE(36), 0, 0, 0) : xdr(11, status);
	return xdr(status, "", 1, { raw: sequence });
}

/** Answers calls of the server as a client does, and gives what CB_COMPOUND carried. */
async function callback(client: Nfs4Client, status = OK): Promise<{ procedure: number; args: Buffer; record: Buffer }> {
	const record = (await client.rpc.takeCall()) as Buffer;
	assert.equal(record.readUInt32BE(12), CALLBACK_PROGRAM);
	const procedure = record.readUInt32BE(20);
	const xid = record.readUInt32BE(0);
	const args = record.subarray(40);
	client.rpc.send(inFragments(xdr(xid, 1, 0, 0, 0, 0, { raw: procedure === 0 ? Buffer.alloc(0) : callbackResults(args, status) })));
	return { procedure, args, record };
}

async function withBackChannel(server: TestServer, owner = "a client"): Promise<Nfs4Client> {
	const client = await Nfs4Client.connect(server, { owner, flags: 2 });
	assert.equal((await callback(client)).procedure, 0, "a probe");
	return client;
}

test("a lock that was waited for is told by CB_NOTIFY_LOCK when it may be had, by one slot whose number moves when it was taken", async (t) => {
	const { server, file } = await started(t);
	const put: Step = [Op.putfh, file.handle];
	const [client, other] = [await withBackChannel(server), await Nfs4Client.connect(server, { owner: "another" })];
	const theirs = await open(other, "file", { access: BOTH });
	const mine = await open(client, "file", { access: BOTH });
	for (const [round, status] of [OK, 10008, OK, OK].entries()) {
		const { reader } = await other.run(put, lockStep(theirs.stateid, `they ${round}`));
		pass(reader, Op.putfh, Op.lock);
		const held = stateidOf(reader);
		assert.equal(await client.status(put, lockStep(mine.stateid, `me ${round}`, { type: 4 })), Status.denied);
		assert.equal(await other.status(put, [Op.locku, 2, 0, held, 0, 0, 0, 10]), OK);
		const { args } = await callback(client, status);
		const sequence = [1, 2, 2, 3][round];
		const expected = xdr(
			...["", 1, 0, 2, 11, { raw: client.session }, sequence, 0, 0, 0, 0],
			...[13, file.handle, { raw: client.clientId }, `me ${round}`],
		);
		assert.equal(args.toString("hex"), expected.toString("hex"));
	}
});

const PATH_DOWN = 1;
const SESSION_PATH_DOWN = 0x200;

test("a back channel that has gone is told until another one has answered a probe; SEQUENCE alone binds none", async (t) => {
	const { server } = await started(t);
	const client = await withBackChannel(server);
	const flagsBy = async (rpc: Nfs4Client): Promise<number> => {
		rpc.sequence++;
		return passSequence((await rpc.send([rpc.sequenceStep()])).reader).flags;
	};
	assert.equal(await flagsBy(client), 0);
	client.rpc.reset();
	while (server.server.connectionCount > 1) await new Promise((resolve) => setImmediate(resolve));
	const next = new Nfs4Client(await server.connect());
	next.session = client.session;
	next.slot = 1;
	assert.equal(await flagsBy(next), PATH_DOWN | SESSION_PATH_DOWN);
	assert.equal(await flagsBy(next), PATH_DOWN | SESSION_PATH_DOWN);
	assert.equal((await next.send([[Op.bindConnToSession, { raw: client.session }, 3, 0]])).status, OK);
	assert.equal((await callback(next)).procedure, 0);
	let flags = await flagsBy(next);
	for (let tries = 0; flags !== 0 && tries < 100; tries++) flags = await flagsBy(next);
	assert.equal(flags, 0);
});

test("a back channel is called with the credential that the client gave, and by the program of BACKCHANNEL_CTL", async (t) => {
	const { server } = await started(t);
	const client = new Nfs4Client(await server.connect());
	await client.exchangeId();
	const channels = [0, 1e6, 1e6, 4096, 16, 8, 0, 0, 4096, 4096, 0, 2, 1, 0];
	const { reader } = await client.send([
		[Op.createSession, { raw: client.clientId }, client.sequence, 2, ...channels, CALLBACK_PROGRAM, 2, 1, 77, "host", 5, 6, 1, 7, 0],
	]);
	pass(reader, Op.createSession);
	client.session = bytesOf(reader, 16);
	client.sequence = 0;
	const { rpc } = client;
	const first = (await rpc.takeCall()) as Buffer;
	const expected = xdr(first.readUInt32BE(0), 0, 2, CALLBACK_PROGRAM, 1, 0, 1, xdr(77, "host", 5, 6, 1, 7), 0, 0);
	assert.equal(first.toString("hex"), expected.toString("hex"));
	assert.equal(await client.status([Op.backchannelCtl, 0x40000001, 1, 0]), OK);
	assert.equal((await client.send([[Op.bindConnToSession, { raw: client.session }, 7, 0]])).status, OK);
	const second = (await rpc.takeCall()) as Buffer;
	assert.equal(second.toString("hex"), xdr(second.readUInt32BE(0), 0, 2, 0x40000001, 1, 0, 0, 0, 0, 0).toString("hex"));
});

test("when connections run out a back channel is the last to be closed", async (t) => {
	const server = await startNfs4(t, { limits: { connections: 3 } });
	const client = await withBackChannel(server);
	const others = [await Nfs4Client.connect(server, { owner: "2" }), await Nfs4Client.connect(server, { owner: "3" })];
	for (const [index, other] of others.entries()) {
		const further = await Nfs4Client.connect(server, { owner: `further ${index}` });
		await other.rpc.end();
		assert.equal(await further.status(ROOT_STEP), OK);
	}
	assert.equal(await client.status(ROOT_STEP), OK);
});

test("OPEN goes on behind the file that it made when its claim has to wait", async (t) => {
	const { client, overlay } = await started(t);
	const getattr = overlay.getattr.bind(overlay);
	let count = 0;
	overlay.getattr = (object) => {
		if (++count === 2) overlay.waits.set("getattr", 3);
		return getattr(object);
	};
	overlay.calls.length = 0;
	const { set } = await open(client, "new", { access: BOTH, how: [1, fattr([33, 0o600])] });
	assert.deepEqual(set, [33]);
	assert.equal(overlay.calls.filter((call) => call === "create").length, 1);
});
