// Clients, sessions and slots of NFS version 4.1 on the wire.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Op } from "../nfs4/protocol.ts";
import { Status } from "../nfs4/status.ts";
import { Connection } from "../rpc/connection.ts";
import { authSys, results, xdr } from "../rpc/rpc-client.test-support.ts";
import {
	BACK_CHANNEL,
	bytesOf,
	CALLBACK_PROGRAM,
	CHANNEL,
	compoundCall,
	Nfs4Client,
	NO_ATTRIBUTES,
	OK,
	pass,
	passSequence,
	ROOT_STEP,
	readCompound,
	type Step,
	startNfs4,
} from "./nfs4-client.test-support.ts";

const VERIFIER = { raw: Buffer.from("verifier") };

test("EXCHANGE_ID answers these bytes: no pNFS, SP4_NONE, and one owner and scope", async (t) => {
	const client = new Nfs4Client(await (await startNfs4(t)).connect());
	const reply = await client.rpc.call(
		compoundCall([[Op.exchangeId, VERIFIER, "name", 0x103, 0, 1, "example.org", "an implementation", 0, 0, 0]], { xid: 5 }),
	);
	const id = Buffer.alloc(16, 7);
	const hi = reply.readUInt32BE(44);
	const lo = reply.readUInt32BE(48);
	const sequence = reply.readUInt32BE(52);
	const expected = xdr(5, 1, 0, 0, 0, 0, OK, "", 1, Op.exchangeId, OK, hi, lo, sequence, 0x10000, 0, 0, 0, id, id, 0);
	assert.equal(reply.toString("hex"), expected.toString("hex"));
});

test("EXCHANGE_ID refuses flags that are none, and every state protection", async (t) => {
	const client = new Nfs4Client(await (await startNfs4(t)).connect());
	const status = async (flags: number, ...rest: number[]): Promise<number> =>
		(await client.send([[Op.exchangeId, VERIFIER, "name", flags, ...rest]])).status;
	assert.equal(await status(0x80000000, 0, 0), Status.inval);
	assert.equal(await status(0x8, 0, 0), Status.inval);
	assert.equal(await status(0, 1, 0, 0, 0), Status.inval);
	assert.equal(await status(0, 2), Status.encrAlgUnsupp);
	assert.equal(await status(0, 3), Status.badxdr);
	assert.equal(await status(0, 0, 2), Status.badxdr);
	assert.equal((await client.send([[Op.exchangeId, VERIFIER, "n".repeat(1025), 0, 0, 0]])).status, Status.badxdr);
	assert.equal(await status(0x40000000, 0, 0), Status.noent, "an update of nobody");
});

test("CREATE_SESSION grants what it is asked for within its bounds, and a repeated one the same session", async (t) => {
	const client = new Nfs4Client(await (await startNfs4(t)).connect());
	await client.exchangeId();
	const step: Step = [
		Op.createSession,
		{ raw: client.clientId },
		client.sequence,
		0x7,
		...[8, 2 ** 31, 2 ** 31, 2 ** 31, 1000, 1000, 1, 5],
		...BACK_CHANNEL,
		CALLBACK_PROGRAM,
		1,
		0,
	];
	const first = await client.send([step]);
	assert.equal(first.status, OK);
	pass(first.reader, Op.createSession);
	const session = bytesOf(first.reader, 16);
	assert.deepEqual([first.reader.u32(), first.reader.u32()], [client.sequence, 2], "no persistence in memory, no RDMA");
	const fore = Array.from({ length: 7 }, () => first.reader.u32());
	assert.deepEqual(fore, [0, 1_114_112, 1_114_112, 8192, 64, 64, 0]);
	assert.deepEqual(
		Array.from({ length: 7 }, () => first.reader.u32()),
		[0, 4096, 4096, 0, 2, 16, 0],
	);
	assert.equal(first.reader.remaining, 0);
	const again = (await client.send([step])).reader;
	pass(again, Op.createSession);
	assert.deepEqual(bytesOf(again, 16), session);
	const other: Step = [step[0], step[1], (client.sequence + 5) >>> 0, ...step.slice(3)];
	assert.equal((await client.send([other])).status, Status.seqMisordered);
	const unknown: Step = [step[0], { raw: Buffer.alloc(8, 9) }, ...step.slice(2)];
	assert.equal((await client.send([unknown])).status, Status.staleClientid);
});

test("CREATE_SESSION refuses channels that carry nothing, and callbacks of no known flavor", async (t) => {
	const client = new Nfs4Client(await (await startNfs4(t)).connect());
	await client.exchangeId();
	const status = async (channel: readonly number[], ...security: number[]): Promise<number> =>
		(
			await client.send([
				[Op.createSession, { raw: client.clientId }, client.sequence, 0, ...channel, ...BACK_CHANNEL, CALLBACK_PROGRAM, ...security],
			])
		).status;
	assert.equal(await status([0, 100, 4096, 0, 8, 8, 0], 1, 0), Status.toosmall);
	assert.equal(await status([0, 4096, 100, 0, 8, 8, 0], 1, 0), Status.toosmall);
	assert.equal(await status([0, 4096, 4096, 0, 1, 8, 0], 1, 0), Status.toosmall);
	assert.equal(await status(CHANNEL, 1, 6, 0, 0, 0), Status.inval);
	assert.equal(await status(CHANNEL, 1, 5), Status.badxdr);
	assert.equal(await status([0, 4096, 4096, 0, 8, 8, 2], 1, 0), Status.badxdr);
	assert.equal(await status(CHANNEL, 2, 6, 0, 0, 0, 0), OK);
});

test("SEQUENCE answers these bytes", async (t) => {
	const client = await Nfs4Client.connect(await startNfs4(t));
	const step: Step = [Op.sequence, { raw: client.session }, 1, 3, 5, 0];
	const reply = await client.rpc.call(compoundCall([step], { xid: 5 }));
	const expected = xdr(5, 1, 0, 0, 0, 0, OK, "", 1, Op.sequence, OK, { raw: client.session }, 1, 3, 63, 63, 0);
	assert.equal(reply.toString("hex"), expected.toString("hex"));
});

test("the slot rules: new, repeated, misordered, another request, no such slot", async (t) => {
	const server = await startNfs4(t);
	const client = await Nfs4Client.connect(server);
	const make: Step[] = [ROOT_STEP, [Op.create, 2, "a", NO_ATTRIBUTES]];
	const at = (sequence: number, slot: number, keeps: boolean, highest = slot): Step => [
		Op.sequence,
		{ raw: client.session },
		sequence,
		slot,
		highest,
		keeps,
	];
	const reply = (steps: Step[]): Promise<Buffer> => client.rpc.call(compoundCall(steps, { xid: 77 }));
	const first = await reply([at(1, 0, true), ...make]);
	assert.equal(first.readUInt32BE(24), OK);
	assert.deepEqual(await reply([at(1, 0, true), ...make]), first, "a repeated one gets its reply, byte by byte");
	assert.deepEqual(await reply([at(1, 0, true, 9), ...make]), first, "also where the client uses more slots by now");
	assert.equal(server.overlay.calls.filter((call) => call === "mkdir").length, 1);
	const status = async (steps: Step[]): Promise<number> => (await reply(steps)).readUInt32BE(24);
	assert.equal(await status([at(1, 0, true), ROOT_STEP]), Status.seqFalseRetry);
	assert.equal(await status([at(3, 0, true), ROOT_STEP]), Status.seqMisordered);
	assert.equal(await status([at(0, 0, true), ROOT_STEP]), Status.seqMisordered);
	assert.equal(await status([at(1, 64, true), ROOT_STEP]), Status.badslot);
	assert.equal(await status([at(1, 5, true, 64), ROOT_STEP]), Status.badHighSlot);
	assert.equal(await status([at(2, 0, true), ROOT_STEP]), OK, "what was refused has moved nothing");
	assert.equal(await status([at(1, 1, false), ...make]), Status.exist);
	assert.equal(await status([[Op.sequence, { raw: Buffer.alloc(16, 1) }, 1, 0, 0, 0], ROOT_STEP]), Status.badsession);
});

test("what its session cannot carry is refused before the slot moves", async (t) => {
	const client = await Nfs4Client.connect(await startNfs4(t), { channel: [0, 600, 600, 300, 4, 8, 0] });
	const roots = (count: number): Step[] => Array.from({ length: count }, () => ROOT_STEP);
	client.sequence = 1;
	assert.equal((await client.send([client.sequenceStep(), ...roots(4)])).status, Status.tooManyOps);
	assert.equal((await client.send([client.sequenceStep(), ROOT_STEP, [Op.lookup, "x".repeat(600)]])).status, Status.reqTooBig);
	assert.equal((await client.send([client.sequenceStep(), ...roots(3)])).status, OK);
});

test("REP_TOO_BIG and REP_TOO_BIG_TO_CACHE come before anything is changed", async (t) => {
	const server = await startNfs4(t);
	const target = "t".repeat(200);
	const { overlay } = server;
	overlay.symlink(overlay.root, Buffer.from("link"), { uid: 0, gid: 0, gids: [] }, Buffer.from(target), {});
	const client = await Nfs4Client.connect(server, { channel: [0, 2000, 600, 400, 16, 8, 0] });
	const read: Step[] = [ROOT_STEP, [Op.lookup, "link"], [Op.readlink]];
	assert.equal(await client.status(...read), OK);
	assert.equal(await client.status(...read, ...read), OK);
	assert.equal(await client.status(...read, ...read, ...read), Status.repTooBig);
	const kept = async (...steps: Step[]): Promise<{ status: number; count: number }> => {
		client.sequence++;
		return client.send([client.sequenceStep(true), ...steps]);
	};
	assert.equal((await kept(...read)).status, OK);
	const tooMuch = await kept(...read, ...read);
	assert.deepEqual([tooMuch.status, tooMuch.count], [Status.repTooBigToCache, 7]);
	const makes: Step[] = Array.from({ length: 13 }, (_, index) => [Op.create, 2, `made ${index}`, NO_ATTRIBUTES] as Step);
	const made = await kept(ROOT_STEP, ...makes);
	assert.equal(made.status, Status.repTooBigToCache);
	let depth = 0;
	for (let at = overlay.root.names.get("made 0"); at !== undefined; at = at.names.get(`made ${depth}`)) depth++;
	assert.equal(made.count, depth + 3, "the operation that has no room has made nothing");
});

test("a READ that does not fit is refused, and one that does is served", async (t) => {
	const server = await startNfs4(t);
	server.file("f", "x".repeat(2000));
	const client = await Nfs4Client.connect(server, { channel: [0, 2000, 1000, 0, 16, 8, 0] });
	const read = (count: number): Step[] => [ROOT_STEP, [Op.lookup, "f"], [Op.read, { raw: Buffer.alloc(16) }, 0, 0, count]];
	assert.equal(await client.status(...read(2000)), Status.repTooBig);
	assert.equal(await client.status(...read(800)), OK);
});

test("a reply that was not to be kept is RETRY_UNCACHED_REP for its repetition, unless it is kept anyway", async (t) => {
	const client = await Nfs4Client.connect(await startNfs4(t));
	client.sequence++;
	const steps: Step[] = [client.sequenceStep(false), ROOT_STEP, [Op.getfh]];
	const first = await client.send(steps);
	assert.equal(first.status, OK);
	const again = await client.send(steps);
	assert.ok([OK, Status.retryUncachedRep].includes(again.status as 0));
});

test("RECLAIM_COMPLETE is once, DESTROY_SESSION ends a session, and DESTROY_CLIENTID a client without any", async (t) => {
	const server = await startNfs4(t);
	const client = await Nfs4Client.connect(server);
	assert.deepEqual(await client.statuses([Op.reclaimComplete, 0]), [OK]);
	assert.deepEqual(await client.statuses([Op.reclaimComplete, 0]), [Status.completeAlready]);
	assert.equal(await client.status([Op.reclaimComplete, 1]), Status.nofilehandle);
	assert.equal((await client.send([[Op.destroyClientid, { raw: client.clientId }]])).status, Status.clientidBusy);
	const stranger = await client.send([[Op.destroySession, { raw: client.session }]], { credential: authSys(1000, 1000) });
	assert.notEqual(stranger.status, OK, "nobody ends another's session");
	assert.equal(await client.status([Op.destroySession, { raw: client.session }], ROOT_STEP), Status.notOnlyOp);
	assert.equal(await client.status([Op.destroySession, { raw: client.session }]), OK);
	assert.equal((await client.send([[Op.destroySession, { raw: client.session }]])).status, Status.badsession);
	assert.equal((await client.send([client.sequenceStep()])).status, Status.badsession);
	assert.equal((await client.send([[Op.destroyClientid, { raw: client.clientId }]])).status, OK);
	assert.equal((await client.send([[Op.destroyClientid, { raw: client.clientId }]])).status, Status.staleClientid);
});

test("BIND_CONN_TO_SESSION answers these bytes, in each direction", async (t) => {
	const server = await startNfs4(t);
	const client = await Nfs4Client.connect(server);
	const other = await server.connect();
	other.separatesCalls = true;
	for (const [asked, granted] of [
		[1, 1],
		[2, 2],
		[3, 3],
		[7, 3],
	]) {
		const reply = await other.call(compoundCall([[Op.bindConnToSession, { raw: client.session }, asked, 1]], { xid: 5 }));
		const expected = xdr(5, 1, 0, 0, 0, 0, OK, "", 1, Op.bindConnToSession, OK, { raw: client.session }, granted, 0);
		assert.equal(reply.toString("hex"), expected.toString("hex"));
	}
	const unknown = readCompound(results(await client.rpc.call(compoundCall([[Op.bindConnToSession, { raw: Buffer.alloc(16, 3) }, 1, 0]]))));
	assert.equal(unknown.status, Status.badsession);
	const odd = readCompound(results(await client.rpc.call(compoundCall([[Op.bindConnToSession, { raw: client.session }, 4, 0]]))));
	assert.equal(odd.status, Status.badxdr);
});

test("who has not made a client takes none of its callbacks away", async (t) => {
	const server = await startNfs4(t);
	const client = await Nfs4Client.connect(server);
	const other = new Nfs4Client(await server.connect());
	other.options = { credential: authSys(1000, 1000) };
	const bind = async (direction: number) => other.send([[Op.bindConnToSession, { raw: client.session }, direction, 0]]);
	for (const [asked, granted] of [
		[1, 1],
		[3, 1],
		[7, 1],
	]) {
		const { reader, status } = await bind(asked);
		assert.equal(status, OK);
		pass(reader, Op.bindConnToSession);
		assert.deepEqual([bytesOf(reader, 16), reader.u32()], [client.session, granted]);
	}
	assert.equal((await bind(2)).status, Status.badsession);
});

test("sessions that come and go by one connection leave nothing behind", async (t) => {
	const server = await startNfs4(t);
	const client = new Nfs4Client(await server.connect());
	await client.exchangeId();
	let sequence = client.sequence;
	let listeners = 0;
	const { whenClosed } = Connection.prototype;
	t.after(() => {
		Connection.prototype.whenClosed = whenClosed;
	});
	Connection.prototype.whenClosed = function (listener) {
		listeners++;
		whenClosed.call(this, listener);
	};
	for (let round = 0; round < 20; round++) {
		client.sequence = sequence++;
		await client.createSession({ flags: 2 });
		assert.equal((await client.rpc.takeCall())?.length !== undefined, true);
		assert.equal((await client.send([[Op.destroySession, { raw: client.session }]])).status, OK);
	}
	assert.equal(listeners, 1);
});

test("many sessions serve one connection, and many connections one session", async (t) => {
	const server = await startNfs4(t);
	const client = await Nfs4Client.connect(server);
	const second = new Nfs4Client(client.rpc);
	await second.exchangeId({ owner: "another client" });
	await second.createSession();
	assert.notDeepEqual(second.session, client.session);
	for (const one of [client, second, client]) assert.equal(await one.status(ROOT_STEP), OK);
	const other = new Nfs4Client(await server.connect());
	other.session = client.session;
	other.slot = 1;
	for (const one of [other, client, other]) assert.equal(await one.status(ROOT_STEP), OK);
	const { reader } = await client.send([[Op.sequence, { raw: client.session }, 1, 9, 9, 0]]);
	assert.equal(passSequence(reader).flags, 0);
});
