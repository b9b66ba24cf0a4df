// A compound of NFSv4.1 that is sent again after the server was killed gets its first outcome, and nothing is done twice.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Op } from "../../src/nfs4/protocol.ts";
import { RpcClient } from "../../src/rpc/rpc-client.test-support.ts";
import {
	ANONYMOUS,
	bytesOf,
	type CompoundReply,
	changeInfo,
	fattr,
	Nfs4Client,
	NO_ATTRIBUTES,
	OK,
	pass,
	passSequence,
	ROOT_STEP,
	type Step,
	stateidOf,
} from "../../src/server/nfs4-client.test-support.ts";
import type { TestServer } from "../../src/server/test-server.test-support.ts";
import { plant } from "../support/lower-tree.ts";
import { needs } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";
import { type ServerProcess, startServer } from "../support/server-process.ts";

const UNCHECKED = 0;
const GUARDED = 1;

function openStep(name: string, mode: number): Step {
	return [Op.open, 0, 3, 0, 0, 0, "owner", 1, mode, fattr([33, 0]), 0, name];
}

function connecting(server: ServerProcess): TestServer {
	return { connect: () => RpcClient.connect({ host: "127.0.0.1", port: server.port }) } as unknown as TestServer;
}

/** Runs a compound, kills the server, and sends it again on a new connection. */
async function twice(
	server: ServerProcess,
	client: Nfs4Client,
	steps: readonly Step[],
): Promise<[CompoundReply, CompoundReply, Nfs4Client]> {
	client.sequence++;
	const all = [client.sequenceStep(true), ...steps];
	const first = await client.send(all);
	await server.kill();
	await server.start();
	const next = new Nfs4Client(await connecting(server).connect());
	next.session = client.session;
	next.clientId = client.clientId;
	next.sequence = client.sequence;
	const second = await next.send(all);
	for (const { reader, status } of [first, second]) if (status === OK) passSequence(reader);
	return [first, second, next];
}

test("what was done before a kill is done once: opens, creates, removals, renames, links, attributes, locks", {
	skip: needs("root"),
}, async (t) => {
	const made = scratch(t);
	const lower = plant(made.folder("lower"), { file: "content", gone: "x", moved: "y", "empty/": "" });
	const server = await startServer(made, { lowers: [lower], upper: made.folder("upper"), args: ["--state-dir", made.folder("state")] });
	let client = await Nfs4Client.connect(connecting(server), { flags: 1 });
	assert.equal(await client.status([Op.reclaimComplete, 0]), OK);
	const again = async (what: string, ...steps: Step[]): Promise<[CompoundReply, CompoundReply]> => {
		const [first, second, next] = await twice(server, client, steps);
		assert.deepEqual([first.status, second.status, second.count], [OK, OK, first.count], what);
		client = next;
		return [first, second];
	};
	const opened = (await again("OPEN", ROOT_STEP, openStep("guarded", GUARDED))).map(({ reader }) => {
		pass(reader, Op.putrootfh, Op.open);
		return stateidOf(reader).raw.toString("hex");
	});
	assert.equal(opened[0], opened[1], "the stateid");
	await again("OPEN, unchecked", ROOT_STEP, openStep("unchecked", UNCHECKED));
	const atomic = (replies: readonly CompoundReply[], operation: number) =>
		replies.map(({ reader }) => {
			pass(reader, Op.putrootfh, operation);
			return changeInfo(reader).atomic;
		});
	assert.deepEqual(atomic(await again("CREATE", ROOT_STEP, [Op.create, 2, "directory", NO_ATTRIBUTES]), Op.create), [true, false]);
	assert.deepEqual(atomic(await again("REMOVE of a file", ROOT_STEP, [Op.remove, "gone"]), Op.remove), [true, false]);
	await again("REMOVE of a directory", ROOT_STEP, [Op.remove, "empty"]);
	await again("RENAME", ROOT_STEP, [Op.savefh], [Op.rename, "moved", "here"]);
	await again("LINK", ROOT_STEP, [Op.lookup, "file"], [Op.savefh], ROOT_STEP, [Op.link, "linked"]);
	await again("SETATTR", ROOT_STEP, [Op.lookup, "file"], [Op.setattr, ANONYMOUS, fattr([33, 0o600])]);
	const open = { raw: Buffer.from(opened[0] as string, "hex") };
	const locked = (await again("LOCK", ROOT_STEP, [Op.lookup, "guarded"], [Op.lock, 2, 0, 0, 0, 0, 9, 1, 0, open, 0, 0, 0, "locker"])).map(
		({ reader }) => {
			pass(reader, Op.putrootfh, Op.lookup, Op.lock);
			return stateidOf(reader).raw.toString("hex");
		},
	);
	assert.equal(locked[0], locked[1], "the stateid of the lock");
	await again("CLOSE", ROOT_STEP, [Op.lookup, "guarded"], [Op.close, 0, open]);
	const { reader, status } = await client.run(ROOT_STEP, [Op.create, 2, "new", NO_ATTRIBUTES]);
	assert.equal(status, OK, "the session goes on");
	pass(reader, Op.putrootfh, Op.create);
	assert.ok(changeInfo(reader).atomic);
});

test("a read-only export keeps what is open over a kill too", { skip: needs("root") }, async (t) => {
	const made = scratch(t);
	const lower = plant(made.folder("lower"), { file: "content" });
	const server = await startServer(made, { lowers: [lower], args: ["--state-dir", made.folder("state")] });
	// its state is found by the port, which is chosen at the first start
	await server.restart();
	const client = await Nfs4Client.connect(connecting(server));
	assert.equal(await client.status([Op.reclaimComplete, 0]), OK);
	const opening: Step = [Op.open, 0, 1, 0, 0, 0, "owner", 0, 0, "file"];
	const [first, second, next] = await twice(server, client, [ROOT_STEP, opening]);
	const [open, again] = [first, second].map(({ reader }) => {
		pass(reader, Op.putrootfh, Op.open);
		return stateidOf(reader);
	});
	assert.deepEqual(again, open);
	await server.kill();
	await server.start();
	const last = new Nfs4Client(await connecting(server).connect());
	Object.assign(last, { session: next.session, clientId: next.clientId, sequence: next.sequence });
	const { reader, status } = await last.run(ROOT_STEP, [Op.lookup, "file"], [Op.read, open, 0, 0, 100], [Op.close, 0, open]);
	assert.equal(status, OK);
	pass(reader, Op.putrootfh, Op.lookup, Op.read);
	assert.equal(reader.bool(), true);
	assert.equal(bytesOf(reader).toString(), "content");
});
