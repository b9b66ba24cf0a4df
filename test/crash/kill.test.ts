import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Nfs3Client } from "../support/nfs3-client.ts";
import { generator } from "../support/random.ts";
import { needs, seed, volume } from "../support/requirements.ts";
import type { RpcConnection } from "../support/rpc-connection.ts";
import { scratch } from "../support/scratch.ts";
import { startServer } from "../support/server-process.ts";
import { assertSameTree, snapshotTree } from "../support/tree-snapshot.ts";
import { Actor } from "./actor.ts";
import { plantFolder } from "./actors.ts";
import { ResendingConnection } from "./resending-connection.ts";

const skip = needs("root", "getfattr");
const ACTORS = 12;
const CONNECTIONS = 3;
/** Of the server. After each start it answers some requests first, however slow the machine is. */
const KILLS = volume(12, 40, 300);

test("requests of several connections happen exactly once while the server is killed again and again", { skip }, async (t) => {
	const made = scratch(t);
	const lowers = [made.folder("top"), made.folder("bottom")];
	const outside = made.folder("outside");
	for (let actor = 0; actor < ACTORS; actor++) {
		plantFolder(lowers, outside, `actor${actor}`);
	}
	mkdirSync(made.folder("upper"), { recursive: true });
	const before = lowers.map((lower) => snapshotTree(lower));
	const server = await startServer(made, { lowers, upper: made.folder("upper"), args: ["--async", "--state-dir", made.folder("state")] });
	t.diagnostic(`HOLDFAST_TEST_SEED=${seed}`);
	const random = generator(seed);
	const connections = Array.from({ length: CONNECTIONS }, () => new ResendingConnection(server.port, random(2 ** 32)));
	made.beforeRemoval(() => {
		for (const connection of connections) connection.close();
	});
	const clients = connections.map((connection) => new Nfs3Client(connection as unknown as RpcConnection));
	const client = clients[0] as Nfs3Client;
	const root = await client.root();
	const actors: Actor[] = [];
	for (let number = 0; number < ACTORS; number++) {
		const actor = new Actor(clients[number % CONNECTIONS] as Nfs3Client, random(2 ** 32));
		await actor.learn(await client.walk(root, `actor${number}`));
		actors.push(actor);
	}
	let isOver = false;
	let failure: Error | null = null;
	const work = actors.map(async (actor) => {
		while (!isOver && failure === null) await actor.step();
	});
	let kills = 0;
	const all = Promise.all(work).catch((error) => {
		failure = error;
	});
	const requestsOf = () => actors.reduce((sum, actor) => sum + actor.requests, 0);
	while (kills < KILLS && failure === null) {
		const before = requestsOf();
		// some before it has warmed up, most in full swing
		const isEarly = random(4) === 0;
		await sleep(isEarly ? random(150) : 150 + random(700));
		while (!isEarly && requestsOf() < before + ACTORS && failure === null) await sleep(10);
		await server.kill();
		kills++;
		await server.start();
	}
	isOver = true;
	await all;
	const requests = requestsOf();
	const resent = connections.reduce((sum, connection) => sum + connection.resent, 0);
	t.diagnostic(`${kills} kills, ${requests} requests, ${resent} of them sent again`);
	if (failure !== null) throw failure;
	for (const actor of actors) await actor.check();
	await server.restart();
	for (const actor of actors) await actor.check();
	assert.equal(server.stderr, "", "what the server said");
	for (const [index, lower] of lowers.entries()) assertSameTree(before[index] as never, snapshotTree(lower), "a lower");
});
