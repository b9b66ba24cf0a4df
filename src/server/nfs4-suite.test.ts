// What the suite of tests that servers of NFSv4.1 are judged by asks for, where no other test here does.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Op } from "../nfs4/protocol.ts";
import { Status } from "../nfs4/status.ts";
import { authSys, xdr } from "../rpc/rpc-client.test-support.ts";
import {
	BACK_CHANNEL,
	bytesOf,
	CALLBACK_PROGRAM,
	CURRENT,
	fattr,
	Nfs4Client,
	next,
	OK,
	pass,
	passSequence,
	ROOT_STEP,
	type Step,
	startNfs4,
	stateidOf,
} from "./nfs4-client.test-support.ts";

const USER = { credential: authSys(1000, 1000) };
const CHANNEL = [0, 8192, 8192, 8192, 128, 8, 0] as const;
const NON_PNFS = 0x10000;
const DATA_SERVER = 0x40000;
const CONFIRMED = 0x80000000;
const PARENT = 1;

function exchange(owner: string, flags = 0): Step {
	return [Op.exchangeId, { raw: Buffer.from("verifier") }, owner, flags, 0, 0];
}

function creating(
	client: Nfs4Client,
	{ sequence = client.sequence, fore = CHANNEL as readonly number[], back = CHANNEL as readonly number[] } = {},
): Step {
	return [Op.createSession, { raw: client.clientId }, sequence, 0, ...fore, ...back, CALLBACK_PROGRAM, 1, 0];
}

function opening(name: string, mode = 0): Step {
	return [Op.open, 0, 3, 0, 0, 0, "owner", 1, mode, fattr([33, 0o644]), 0, name];
}

test("EXCHANGE_ID within a session, with any role that a client may have, and not with bits of the reply", async (t) => {
	const client = await Nfs4Client.connect(await startNfs4(t));
	const { reader, status } = await client.run(exchange("another", DATA_SERVER));
	assert.equal(status, OK);
	pass(reader, Op.exchangeId);
	reader.fixed(12);
	assert.equal(reader.u32() & 0x70000, NON_PNFS, "its role is told");
	assert.equal((await client.send([exchange("a third", (NON_PNFS | CONFIRMED) >>> 0)])).status, Status.inval);
	assert.equal((await client.send([exchange("a third", 4)])).status, Status.inval);
	assert.equal((await client.send([exchange("a third"), ROOT_STEP])).status, Status.notOnlyOp);
});

test("CREATE_SESSION within a session, for its own client and for another, and repeated with and without SEQUENCE", async (t) => {
	const server = await startNfs4(t);
	const [one, other] = [new Nfs4Client(await server.connect()), new Nfs4Client(await server.connect())];
	await one.exchangeId({ owner: "one" });
	const first = one.sequence;
	assert.equal((await one.send([creating(one, { sequence: (first - 1) >>> 0 })])).status, Status.seqMisordered, "before there was any");
	await one.createSession();
	await other.exchangeId({ owner: "other" });
	const { reader, status } = await one.run(creating(other));
	assert.equal(status, OK);
	pass(reader, Op.createSession);
	other.session = bytesOf(reader, 16);
	other.sequence = 0;
	assert.equal(await other.status(ROOT_STEP), OK);
	const again = creating(one, { sequence: (first + 1) >>> 0 });
	const within = await one.run(again);
	pass(within.reader, Op.createSession);
	const alone = await one.send([again]);
	pass(alone.reader, Op.createSession);
	assert.deepEqual(bytesOf(alone.reader), bytesOf(within.reader));
	assert.equal((await one.send([creating(one, { sequence: (first + 3) >>> 0 })])).status, Status.seqMisordered);
	assert.equal((await one.send([creating(one, { sequence: first })])).status, Status.seqMisordered);
});

test("a client id is confirmed by who made it; then others may open sessions for it, if they know its next sequence", async (t) => {
	const client = new Nfs4Client(await (await startNfs4(t)).connect());
	await client.exchangeId();
	const sequence = client.sequence;
	for (let i = 0; i < 2; i++) assert.equal((await client.send([creating(client)], USER)).status, Status.clidInuse);
	await client.createSession();
	const second = creating(client, { sequence: (sequence + 1) >>> 0 });
	for (let i = 0; i < 2; i++) assert.equal((await client.send([second], USER)).status, OK);
	assert.equal((await client.send([second])).status, Status.clidInuse);
});

test("CREATE_SESSION refuses channels that carry nothing, forth and back, and takes the same sequence afterwards", async (t) => {
	const client = new Nfs4Client(await (await startNfs4(t)).connect());
	await client.exchangeId();
	const status = async (fore: readonly number[], back: readonly number[]): Promise<number> =>
		(await client.send([creating(client, { fore, back })])).status;
	for (let i = 0; i < 100; i++) assert.equal(await status(CHANNEL, [0, 10, 8192, 8192, 128, 1, 0]), Status.toosmall);
	assert.equal(await status([0, 8192, 0, 8192, 128, 8, 0], BACK_CHANNEL), Status.toosmall);
	assert.equal(await status([0, 20, 8192, 8192, 128, 8, 0], BACK_CHANNEL), Status.toosmall);
	assert.equal(await status([...CHANNEL.slice(0, 6), 1, 57], [...CHANNEL.slice(0, 6), 1, 57]), OK, "RDMA of one");
});

test("callback security of every flavor is taken, and more slots than there are are cut down", async (t) => {
	const client = new Nfs4Client(await (await startNfs4(t)).connect());
	await client.exchangeId();
	const gss = [6, 1, "handle of the server", "handle of the client"] as const;
	const fore = [0, 8192, 8192, 8192, 128, 500, 0];
	const { reader, status } = await client.send([
		[Op.createSession, { raw: client.clientId }, client.sequence, 0, ...fore, ...CHANNEL, 123, 3, 0, ...gss, 1, 5, "machine", 7, 11, 0],
	]);
	assert.equal(status, OK);
	pass(reader, Op.createSession);
	reader.fixed(16);
	assert.equal(reader.u32(), client.sequence, "csr_sequence");
	reader.fixed(4 + 20);
	assert.ok(reader.u32() < 500);
});

test("SEQUENCE that asks to keep a reply where not even its own can be kept is refused, and leaves the slot", async (t) => {
	const client = await Nfs4Client.connect(await startNfs4(t), { channel: [0, 8192, 8192, 10, 128, 8, 0] });
	client.sequence = 1;
	assert.equal((await client.send([client.sequenceStep(true)])).status, Status.repTooBigToCache);
	const { status, reader } = await client.send([client.sequenceStep()]);
	assert.equal(status, OK);
	passSequence(reader);
});

test("each kind of compound gets the same reply when it is repeated: done, failed and illegal", async (t) => {
	const client = await Nfs4Client.connect(await startNfs4(t));
	for (const [expected, ...steps] of [
		[OK],
		[OK, ROOT_STEP],
		[OK, ROOT_STEP, opening("x"), [Op.close, 0, CURRENT]],
		[OK, ROOT_STEP, [Op.savefh], [Op.rename, "x", "y"]],
		[Status.inval, ROOT_STEP, [Op.lookup, ""]],
		[Status.inval, ROOT_STEP, [Op.savefh], [Op.rename, "", "foo"]],
		[Status.opIllegal, [Op.illegal]],
	] as readonly (readonly [number, ...Step[]])[]) {
		client.sequence++;
		const all = [client.sequenceStep(true), ...steps];
		const [first, second] = [await client.send(all), await client.send(all)];
		assert.deepEqual([first.status, second.status, second.count], [expected, expected, first.count]);
		const rest = ({ reader }: typeof first) => Buffer.from(reader.bytes.subarray(reader.position, reader.end));
		assert.deepEqual(rest(second), rest(first));
	}
});

test("numbers that are no operation of minor version 1 are answered as OP_ILLEGAL, also in the first place", async (t) => {
	const client = new Nfs4Client(await (await startNfs4(t)).connect());
	for (const number of [0, 1, 2, 59, 72, Op.illegal]) {
		const { status, reader } = await client.send([[number]]);
		assert.equal(status, Status.opIllegal);
		assert.deepEqual(next(reader), [Op.illegal, Status.opIllegal]);
	}
});

test("the current stateid serves LOCK, WRITE, LOCKU, SETATTR and CLOSE of its compound, FREE_STATEID refuses it, and RESTOREFH brings it back", async (t) => {
	const client = await Nfs4Client.connect(await startNfs4(t));
	const close: Step = [Op.close, 0, CURRENT];
	const write: Step = [Op.write, CURRENT, 0, 5, 2, "data"];
	assert.equal(await client.status(ROOT_STEP, opening("a"), write, close), OK);
	assert.equal(await client.status(ROOT_STEP, opening("b"), [Op.setattr, CURRENT, fattr([4, { raw: xdr(0, 8) }])], close), OK);
	const { reader } = await client.run(ROOT_STEP, opening("c"));
	pass(reader, Op.putrootfh, Op.open);
	const open = stateidOf(reader);
	const lookup: Step = [Op.lookup, "c"];
	const lock: Step = [Op.lock, 2, 0, 0, 0, 0xffffffff, 0xffffffff, 1, 0, open, 0, 0, 0, "locker"];
	const unlock: Step = [Op.locku, 2, 0, CURRENT, 0, 0, 0xffffffff, 0xffffffff];
	assert.equal(await client.status(ROOT_STEP, lookup, lock, write, unlock, [Op.close, 0, open]), OK);
	assert.equal(await client.status(ROOT_STEP, lookup, close), Status.badStateid);
	assert.equal(await client.status(ROOT_STEP, opening("d"), ROOT_STEP, [Op.lookup, "d"], close), Status.badStateid);
	assert.equal(await client.status(ROOT_STEP, opening("e"), [Op.freeStateid, CURRENT], close), Status.locksHeld);
	assert.equal(await client.status(ROOT_STEP, opening("f"), [Op.savefh], ROOT_STEP, [Op.restorefh], close), OK);
});

test("DESTROY_CLIENTID: unconfirmed ones, within another's session too; not twice, not with sessions, not with others", async (t) => {
	const server = await startNfs4(t);
	const client = await Nfs4Client.connect(server);
	const destroy = (id: Uint8Array): Step => [Op.destroyClientid, { raw: id }];
	const [one, other] = [new Nfs4Client(client.rpc), new Nfs4Client(client.rpc)];
	await one.exchangeId({ owner: "one" });
	await other.exchangeId({ owner: "other" });
	assert.equal((await client.send([destroy(one.clientId)])).status, OK);
	assert.equal((await client.send([destroy(one.clientId)])).status, Status.staleClientid);
	assert.equal(await client.status(destroy(other.clientId)), OK);
	assert.equal(await client.status(destroy(Buffer.alloc(8))), Status.staleClientid);
	assert.equal(await client.status(destroy(client.clientId)), Status.clientidBusy);
	assert.equal((await client.send([destroy(client.clientId)])).status, Status.clientidBusy);
	assert.equal((await client.send([destroy(Buffer.alloc(8)), [Op.reclaimComplete, 1]])).status, Status.notOnlyOp);
});

test("DESTROY_SESSION is alone, or the last of its own compound; another session of the client goes on", async (t) => {
	const client = await Nfs4Client.connect(await startNfs4(t));
	const destroy: Step = [Op.destroySession, { raw: client.session }];
	assert.equal(await client.status(destroy, ROOT_STEP), Status.notOnlyOp);
	assert.equal((await client.send([destroy, ROOT_STEP])).status, Status.notOnlyOp);
	const second = new Nfs4Client(client.rpc);
	await second.exchangeId();
	await second.createSession();
	assert.deepEqual(second.clientId, client.clientId);
	assert.equal((await client.send([destroy])).status, OK);
	assert.equal((await client.send([client.sequenceStep()])).status, Status.badsession);
	assert.equal(await second.status(ROOT_STEP), OK);
});

test("RECLAIM_COMPLETE comes before the first OPEN that reclaims nothing, and nothing is reclaimed behind it", async (t) => {
	const client = await Nfs4Client.connect(await startNfs4(t, {}, undefined, {}));
	assert.equal(await client.status(ROOT_STEP, opening("x")), Status.grace);
	assert.equal(await client.status(ROOT_STEP, [Op.lookup, "x"]), Status.noent, "nothing was made");
	assert.equal(await client.status(ROOT_STEP, [Op.reclaimComplete, 1]), OK);
	assert.equal(await client.status(ROOT_STEP, opening("x")), Status.grace, "it was of one file system");
	assert.equal(await client.status([Op.reclaimComplete, 0]), OK);
	assert.equal(await client.status(ROOT_STEP, opening("x")), OK);
	const previous: Step = [Op.open, 0, 3, 0, 0, 0, "owner", 0, 1, 0];
	assert.equal(await client.status(ROOT_STEP, [Op.lookup, "x"], previous), Status.noGrace);
	assert.equal(await client.status([Op.reclaimComplete, 0]), Status.completeAlready);
});

test("SECINFO_NO_NAME of the parent, LOOKUPP and names at the root have their errors", async (t) => {
	const client = await Nfs4Client.connect(await startNfs4(t));
	assert.equal(await client.status(ROOT_STEP, [Op.secinfoNoName, PARENT]), Status.noent);
	assert.equal(await client.status(ROOT_STEP, [Op.lookupp]), Status.noent);
	assert.equal(await client.status([Op.lookupp]), Status.nofilehandle);
	assert.equal(await client.status([Op.lookup, "x"]), Status.nofilehandle);
	assert.equal(await client.status(ROOT_STEP, [Op.lookup, "abc".repeat(512)]), Status.nametoolong);
	assert.equal(await client.status([Op.putfh, "abc"]), Status.badhandle);
	assert.equal(await client.status(ROOT_STEP, [Op.rename, "a", "b"]), Status.nofilehandle, "without a saved one");
});
