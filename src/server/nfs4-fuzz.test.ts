// Mutated compounds: none of them brings the server down, or gets an answer that is no answer.

import assert from "node:assert/strict";
import { channel } from "node:diagnostics_channel";
import { test } from "node:test";
import { seed, volume } from "../../test/support/requirements.ts";
import { Op } from "../nfs4/protocol.ts";
import { Status } from "../nfs4/status.ts";
import { results, xdr } from "../rpc/rpc-client.test-support.ts";
import type { RpcFailure } from "../rpc/rpc-failure.ts";
import { FileType } from "../vfs/operations.ts";
import {
	ANONYMOUS,
	bitmap,
	CURRENT,
	compoundArgs,
	compoundCall,
	fattr,
	Nfs4Client,
	NO_ATTRIBUTES,
	type Step,
	startNfs4,
} from "./nfs4-client.test-support.ts";
import { checkResults } from "./nfs4-results.test-support.ts";
import { ROOT, type TestServer } from "./test-server.test-support.ts";

/** 10,000 in `npm run test:all`; a campaign of as many as HOLDFAST_FUZZ_COMPOUNDS says. */
const count = Number(process.env.HOLDFAST_FUZZ_COMPOUNDS ?? volume(400, 10_000));
/** After so many the client begins anew, with another session and a tree that is whole. */
const ROUND = 200;

/** Numbers that are the same for one seed (xorshift). */
function randomFrom(start: number): (below: number) => number {
	let state = start | 1;
	return (below) => {
		state ^= state << 13;
		state ^= state >>> 17;
		state ^= state << 5;
		return (state >>> 0) % below;
	};
}

const OPEN: Step = [Op.open, 0, 3, 0, 0, 0, "owner", 1, 0, fattr([33, 0o600]), 0, "made"];

/** Compounds that are served, with each operation and each arm of its unions. */
function seeds(client: Nfs4Client, handle: Buffer): Step[][] {
	const at = (...steps: Step[]): Step[] => [[Op.putrootfh], ...steps];
	const file = (...steps: Step[]): Step[] => [[Op.putfh, handle], ...steps];
	const time = { raw: xdr(1, 0, 5, 6) };
	const everything = fattr([4, { raw: xdr(0, 9) }], [33, 0o600], [36, "5"], [37, "6"], [48, time], [54, { raw: xdr(0) }]);
	const verifier = { raw: Buffer.from("verifier") };
	const open = (how: Step[1][], claim: Step[1][]): Step => [Op.open, 0, 3, 0, 0, 0, "owner", ...how, ...claim];
	return [
		at([Op.getfh], [Op.savefh], [Op.lookup, "dir"], [Op.lookupp], [Op.restorefh], [Op.putpubfh]),
		at([Op.access, 63], [Op.getattr, bitmap(0, 1, 3, 4, 8, 19, 20, 33, 36, 75)], [Op.lookup, "link"], [Op.readlink]),
		at([Op.readdir, 0, 0, 0, 0, 512, 4096, bitmap(1, 11, 20, 55)], [Op.secinfoNoName, 0]),
		at([Op.secinfo, "dir"]),
		file([Op.read, ANONYMOUS, 0, 0, 100], [Op.write, ANONYMOUS, 0, 3, 2, "data"], [Op.commit, 0, 0, 0]),
		file([Op.setattr, ANONYMOUS, everything], [Op.verify, fattr([1, 1])], [Op.nverify, fattr([1, 2])]),
		file([Op.setattr, ANONYMOUS, fattr([74, { raw: xdr(1, 3) }])]),
		at([Op.create, 2, "d2", fattr([33, 0o700])], [Op.create, 5, "to", "l", NO_ATTRIBUTES]),
		at([Op.create, 3, 8, 1, "block", NO_ATTRIBUTES]),
		at([Op.create, 7, "pipe", NO_ATTRIBUTES]),
		at([Op.savefh], [Op.rename, "a", "b"], [Op.remove, "b"]),
		[[Op.putfh, handle], [Op.savefh], [Op.putrootfh], [Op.link, "again"], [Op.remove, "again"]],
		at(OPEN, [Op.write, CURRENT, 0, 0, 0, "x"], [Op.openDowngrade, CURRENT, 0, 1, 0], [Op.close, 0, CURRENT]),
		at(
			OPEN,
			[Op.lock, 2, 0, 0, 0, 0, 9, 1, 0, CURRENT, 0, 0, 0, "locker"],
			[Op.lockt, 1, 0, 0, 0, 9, 0, 0, "o"],
			[Op.locku, 1, 0, CURRENT, 0, 0, 0, 9],
		),
		at(open([1, 1, NO_ATTRIBUTES], [0, "guarded"]), [Op.close, 0, CURRENT]),
		at(open([1, 2, verifier], [0, "exclusive"])),
		at(open([1, 3, verifier, fattr([33, 0o600])], [0, "exclusive too"])),
		file(open([0], [4])),
		file(open([0], [1, 0])),
		at(open([0], [2, ANONYMOUS, "file"])),
		file(open([0], [5, ANONYMOUS])),
		[
			[Op.testStateid, 2, ANONYMOUS, CURRENT],
			[Op.freeStateid, ANONYMOUS],
		],
		[
			[Op.reclaimComplete, 0],
			[Op.backchannelCtl, 5, 2, 0, 1, 5, "host", 0, 0, 1, 7],
		],
		[[Op.destroySession, { raw: Buffer.alloc(16) }]],
		[[Op.destroyClientid, { raw: client.clientId }]],
	];
}

/** Compounds without SEQUENCE. */
function loneSeeds(client: Nfs4Client): Step[][] {
	const channel = [0, 4096, 4096, 100, 8, 4, 0];
	return [
		[[Op.exchangeId, { raw: Buffer.from("verifier") }, "another", 0x101, 0, 1, "example.org", "name", 0, 0, 0]],
		[[Op.createSession, { raw: client.clientId }, 1, 3, ...channel, ...channel, 5, 2, 0, 1, 1, "host", 0, 0, 1, 2]],
		[[Op.bindConnToSession, { raw: client.session }, 3, 0]],
		[[Op.destroySession, { raw: Buffer.alloc(16, 3) }]],
		[[Op.destroyClientid, { raw: Buffer.alloc(8, 3) }]],
	];
}

const ODD = [0, 1, 2, 3, 4, 5, 7, 9, 0x7fffffff, 0x80000000, 0xffffffff, 0x00200000, 1025, 129, 256];

/** One to four changes of words, lengths and ends, behind the part that is left alone. */
function mutated(args: Buffer, from: number, random: (below: number) => number): Buffer {
	let bytes = Buffer.from(args);
	for (let changes = 1 + random(4); changes > 0; changes--) {
		const words = (bytes.length - from) >> 2;
		if (words < 1) break;
		const at = from + 4 * random(words);
		switch (random(6)) {
			case 0:
				bytes.writeUInt32BE(ODD[random(ODD.length)] as number, at);
				break;
			case 1:
				bytes.writeUInt32BE((bytes.readUInt32BE(at) ^ (1 << random(32))) >>> 0, at);
				break;
			case 2:
				bytes = Buffer.from(bytes.subarray(0, at));
				break;
			case 3:
				bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(Math.min(bytes.length, at + 4 * (1 + random(4))))]);
				break;
			case 4:
				bytes = Buffer.concat([bytes.subarray(0, at), xdr(ODD[random(ODD.length)] as number), bytes.subarray(at)]);
				break;
			default:
				bytes[at + random(4)] = random(256);
		}
	}
	return bytes;
}

function plant(server: TestServer): Buffer {
	const { overlay } = server;
	for (const name of [...overlay.root.names.keys()]) overlay.root.names.delete(name);
	overlay.root.mode = 0o755;
	overlay.mkdir(overlay.root, Buffer.from("dir"), ROOT, {});
	overlay.symlink(overlay.root, Buffer.from("link"), ROOT, Buffer.from("target"), {});
	overlay.mknod(overlay.root, Buffer.from("fifo"), ROOT, FileType.fifo, 0, 0, {});
	server.file("a", "a");
	return server.file("file", "content").handle;
}

test(`${count} mutated compounds neither bring the server down nor get an answer that is malformed`, async (t) => {
	const server = await startNfs4(t);
	const failures: RpcFailure[] = [];
	const note = (failure: unknown): void => void failures.push(failure as RpcFailure);
	channel("holdfast:rpc:failure").subscribe(note);
	t.after(() => channel("holdfast:rpc:failure").unsubscribe(note));
	const random = randomFrom(seed);
	const met = new Map<number, number>();
	let client = await Nfs4Client.connect(server);
	let handle = plant(server);
	for (let index = 0; index < count; index++) {
		if (index % ROUND === ROUND - 1) {
			client.rpc.close();
			client = await Nfs4Client.connect(server, newOwner(index));
			handle = plant(server);
		}
		const isLone = random(10) === 0;
		const all = isLone ? loneSeeds(client) : seeds(client, handle);
		const steps = all[random(all.length)] as Step[];
		client.sequence++;
		const head = compoundArgs([client.sequenceStep()]).length;
		const args = mutated(compoundArgs(isLone ? steps : [client.sequenceStep(), ...steps]), isLone || random(8) === 0 ? 0 : head, random);
		const text = `compound ${index} of seed ${seed}: ${args.toString("hex")}`;
		const reply = await client.rpc.call(compoundCall([], { args }));
		if (reply.readUInt32BE(20) === 4) continue;
		let status: number;
		try {
			status = checkResults(results(reply));
		} catch (error) {
			throw new Error(`${(error as Error).message}: ${text}`);
		}
		assert.notEqual(status, Status.serverfault, text);
		met.set(status, (met.get(status) ?? 0) + 1);
		// what was not taken has moved no slot
		if (!isLone) await resynchronise(client, index);
	}
	assert.deepEqual(failures, []);
	assert.ok((met.get(0) ?? 0) > count / 100 && met.size > 15, `of many kinds: ${[...met].join(" ")}`);
});

/** A client that takes the place of one of long ago: so they stay within the bounds of the server. */
function newOwner(index: number): { owner: string; verifier: string } {
	return { owner: `client ${index % 100}`, verifier: `v${index}`.padEnd(8).slice(0, 8) };
}

/** Finds out which number the slot has come to, or begins a new session. */
async function resynchronise(client: Nfs4Client, index: number): Promise<void> {
	for (const sequence of [client.sequence + 1, client.sequence]) {
		client.sequence = sequence;
		const reply = await client.rpc.call(compoundCall([client.sequenceStep(), [Op.putrootfh]]));
		const status = results(reply).u32();
		if (status === Status.ok) return;
	}
	await client.exchangeId(newOwner(index));
	await client.createSession();
}
