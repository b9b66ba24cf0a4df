// Client ids: each case of EXCHANGE_ID, CREATE_SESSION with its replay, leases, and all orders of them against a model.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { fc } from "../../test/support/fast-check.ts";
import { checkTables } from "./check-tables.test-support.ts";
import type { Claims } from "./claims.ts";
import { done, LEASE_SECONDS, memoryFolder, newClaims, refuses, startClaims, TestClient, type Told } from "./new-claims.test-support.ts";

const SILENT_MS = (LEASE_SECONDS + 1) * 1000;

test("case 1: a new client owner gets an id that is not confirmed", () => {
	const { claims } = newClaims();
	const { hi, isConfirmed } = new TestClient(claims, "a").exchange();
	assert.deepEqual({ hi, isConfirmed }, { hi: 1, isConfirmed: false });
	checkTables(claims);
});

test("case 2: the same client owner again has the same id, confirmed", () => {
	const { claims } = newClaims();
	const client = new TestClient(claims, "a").connect();
	const { lo } = client.id;
	const again = client.exchange();
	assert.deepEqual([again.lo, again.isConfirmed], [lo, true]);
	claims.session(client.session.id);
});

test("case 3: another principal is refused while the owner has a session or state and keeps its lease, and takes over afterwards", () => {
	const { claims, told } = newClaims();
	const first = new TestClient(claims, "a").connect();
	const thief = new TestClient(claims, "a", 2, "user");
	refuses("clid_inuse", () => thief.exchange());
	told.time += SILENT_MS;
	thief.exchange();
	first.take();
	// it was heard meanwhile: the id that was given does not help
	refuses("clid_inuse", () => thief.create());
	refuses("clid_inuse", () => thief.create(thief.createSequence));
	claims.session(first.session.id);
	told.time += SILENT_MS;
	thief.exchange();
	thief.create();
	refuses("bad_session", () => claims.session(first.session.id));
	checkTables(claims);
});

test("case 4: an id that was not confirmed gives way to another", () => {
	const { claims } = newClaims();
	const client = new TestClient(claims, "a");
	const first = client.exchange();
	const { createSequence } = client;
	const second = client.exchange();
	assert.notEqual(second.lo, first.lo);
	client.id = first;
	refuses("stale_clientid", () => client.create(createSequence));
	checkTables(claims);
});

test("case 5: a client that restarted keeps what it has until the new id is confirmed, then loses it", () => {
	const { claims, told } = newClaims();
	const before = new TestClient(claims, "a").connect();
	before.open("file");
	const after = new TestClient(claims, "a", 2);
	assert.equal(after.exchange().isConfirmed, false);
	before.take();
	after.create();
	refuses("bad_session", () => claims.session(before.session.id));
	refuses("stale_clientid", () => before.create(before.createSequence));
	told.runDeferred();
	assert.equal(told.held.size, 0);
	assert.deepEqual(told.replaced, ["a: host of a -> host of a"]);
	checkTables(claims);
});

test("cases 6 to 9: an update is for a confirmed id, its verifier and its principal", () => {
	const { claims } = newClaims();
	const client = new TestClient(claims, "a");
	refuses("noent", () => client.exchange(true));
	client.connect();
	assert.equal(client.exchange(true).lo, client.id.lo);
	refuses("not_same", () => new TestClient(claims, "a", 2).exchange(true));
	refuses("perm", () => new TestClient(claims, "a", 1, "user").exchange(true));
	checkTables(claims);
});

test("a repeated CREATE_SESSION gets the same session, or the same error; the one before is misordered", () => {
	const { claims } = newClaims({ limits: { sessionsPerClient: 2 } });
	const client = new TestClient(claims, "a");
	const { sequence } = client.exchange();
	refuses("seq_misordered", () => client.create((sequence - 1) >>> 0));
	refuses("seq_misordered", () => client.create((sequence + 1) >>> 0));
	const first = client.create(sequence);
	assert.equal(client.create(sequence), first);
	const second = client.create((sequence + 1) >>> 0);
	assert.notEqual(second, first);
	refuses("seq_misordered", () => client.create(sequence));
	refuses("nospc", () => client.create((sequence + 2) >>> 0));
	claims.destroySession(first.id, "root");
	refuses("nospc", () => client.create((sequence + 2) >>> 0));
	client.create((sequence + 3) >>> 0);
	checkTables(claims);
});

test("nobody gets or destroys sessions of another principal's client, nor the client", () => {
	const { claims } = newClaims();
	const client = new TestClient(claims, "a").connect();
	const request = { flags: 0, callbackProgram: 0, callbackSecurity: Buffer.alloc(0), principal: "user" };
	const { fore, back } = client.session;
	const create = (sequence: number) => claims.createSession({ ...request, sequence, client: client.id, fore, back });
	refuses("clid_inuse", () => create((client.createSequence - 1) >>> 0));
	refuses("seq_misordered", () => create((client.createSequence + 1) >>> 0));
	assert.notEqual(create(client.createSequence).session, client.session);
	create(client.createSequence);
	refuses("clid_inuse", () => client.create());
	const other = new TestClient(claims, "b");
	other.exchange();
	const unconfirmed = { ...request, sequence: other.createSequence, client: other.id, fore, back };
	refuses("clid_inuse", () => claims.createSession(unconfirmed));
	refuses("bad_session", () => claims.destroySession(client.session.id, "user"));
	refuses("stale_clientid", () => claims.destroyClient(client.id, "user"));
	claims.session(client.session.id);
});

test("DESTROY_CLIENTID is for clients without sessions and state", () => {
	const { claims, told } = newClaims();
	const client = new TestClient(claims, "a").connect();
	refuses("clientid_busy", () => claims.destroyClient(client.id, "root"));
	claims.destroySession(client.session.id, "root");
	assert.equal(told.removedSessions.length, 1);
	claims.destroyClient(client.id, "root");
	refuses("stale_clientid", () => claims.destroyClient(client.id, "root"));
	refuses("stale_clientid", () => claims.destroyClient({ hi: 9, lo: client.id.lo }, "root"));
	checkTables(claims);
});

test("an id that is not confirmed lives 60 seconds, and beyond 256 the oldest goes", () => {
	const { claims, told } = newClaims();
	const client = new TestClient(claims, "a");
	client.exchange();
	told.time += 59_000;
	claims.tick();
	client.create();
	const late = new TestClient(claims, "b");
	late.exchange();
	told.time += 60_000;
	claims.tick();
	refuses("stale_clientid", () => late.create());
	const many = Array.from({ length: 257 }, (_, i) => new TestClient(claims, `many ${i}`));
	for (const each of many) each.exchange();
	assert.equal(claims.tables.unconfirmed.size, 256);
	refuses("stale_clientid", () => many[0].create());
	many[1].create();
	checkTables(claims);
});

test("beyond the limit of clients an expired one goes, and where none is, a new one is told to wait", () => {
	const { claims, told } = newClaims({ limits: { clients: 2 } });
	const a = new TestClient(claims, "a").connect();
	told.time += 1000;
	const b = new TestClient(claims, "b").connect();
	const c = new TestClient(claims, "c");
	c.exchange();
	refuses("delay", () => c.create());
	told.time += LEASE_SECONDS * 1000;
	c.exchange();
	c.create();
	refuses("bad_session", () => claims.session(a.session.id));
	claims.session(b.session.id);
	// a restart of one of them needs no further place
	const again = new TestClient(claims, "b", 2).connect();
	claims.session(again.session.id);
	checkTables(claims);
});

test("an owner of 1,024 bytes is taken, a longer one refused", () => {
	const { claims } = newClaims();
	new TestClient(claims, "x".repeat(1024)).connect();
	refuses("inval", () => new TestClient(claims, "x".repeat(1025)).exchange());
});

/** What a server must remember of a client id. */
interface ModelClient {
	readonly owner: string;
	readonly verifier: number;
	readonly principal: string;
	confirmed: boolean;
	sessions: number;
	renewed: number;
}

const STEP = fc.record({
	kind: fc.constantFrom(
		"exchange",
		"exchange",
		"create",
		"create",
		"request",
		"destroySession",
		"destroyClient",
		"silence",
		"restart",
		"tick",
		"kill",
	),
	who: fc.integer({ min: 0, max: 2 }),
});
type Kind = "exchange" | "create" | "request" | "destroySession" | "destroyClient" | "silence" | "restart" | "tick" | "kill";

/** Two machines with one client owner each, and one that uses the second's under another principal; the server beside a model of it. */
class Game {
	claims: Claims;
	told: Told;
	readonly known = new Map<number, ModelClient>();
	readonly players: readonly TestClient[];
	readonly #folder: string;

	constructor(folder: string) {
		this.#folder = folder;
		({ claims: this.claims, told: this.told } = startClaims(folder));
		this.players = [new TestClient(this.claims, "a"), new TestClient(this.claims, "b"), new TestClient(this.claims, "b", 1, "user")];
	}

	async play(kind: Kind, who: number): Promise<void> {
		const player = this.players[who];
		if (kind === "restart") player.verifier = Buffer.alloc(8, player.verifier[0] + 1);
		else if (kind === "silence") this.told.time += SILENT_MS;
		else if (kind === "kill") this.#kill();
		else if (kind === "exchange") this.#exchange(player);
		else if (kind === "create") await this.#create(player);
		else if (kind === "tick") {
			this.claims.tick();
			this.#drop((client) => !client.confirmed && this.told.time - client.renewed >= 60_000);
		} else if (kind === "destroyClient") this.#destroyClient(player);
		else if (player.session !== undefined) this.#useSession(player, kind === "request");
		this.#compare();
	}

	#drop(suits: (client: ModelClient) => boolean): void {
		for (const [lo, client] of this.known) if (suits(client)) this.known.delete(lo);
	}

	/** The confirmed id of the player's owner; and whether another principal has it and uses it. */
	#rival({ name, principal }: TestClient) {
		const confirmed = [...this.known.values()].find((client) => client.owner === name && client.confirmed);
		const isExpired = confirmed !== undefined && this.told.time - confirmed.renewed > LEASE_SECONDS * 1000;
		const isTaken = confirmed !== undefined && confirmed.principal !== principal && confirmed.sessions > 0 && !isExpired;
		return { confirmed, isTaken };
	}

	/** What was not confirmed is gone; every lease begins anew. */
	#kill(): void {
		const { time } = this.told;
		this.claims.destroy();
		({ claims: this.claims, told: this.told } = startClaims(this.#folder));
		this.told.time = time;
		this.#drop((client) => !client.confirmed);
		for (const client of this.known.values()) client.renewed = time;
		for (const client of this.claims.tables.clients.values()) client.renewed = time;
		for (const player of this.players) {
			player.claims = this.claims;
			if (player.session !== undefined && this.#has(player)) player.goOn(this.claims);
		}
	}

	#has({ session }: TestClient): boolean {
		try {
			return this.claims.session(session.id) !== undefined;
		} catch {
			return false;
		}
	}

	#exchange(player: TestClient): void {
		const { confirmed, isTaken } = this.#rival(player);
		const { name: owner, principal } = player;
		if (isTaken) refuses("clid_inuse", () => player.exchange());
		else if (confirmed?.principal === principal && confirmed.verifier === player.verifier[0]) {
			assert.equal(this.known.get(player.exchange().lo), confirmed);
		} else {
			this.#drop((client) => client.owner === owner && !client.confirmed);
			const { lo, isConfirmed } = player.exchange();
			assert.ok(!isConfirmed && !this.known.has(lo));
			this.known.set(lo, { owner, verifier: player.verifier[0], principal, confirmed: false, sessions: 0, renewed: this.told.time });
		}
	}

	async #create(player: TestClient): Promise<void> {
		const own = this.known.get(player.id.lo);
		if (own === undefined) return refuses("stale_clientid", () => player.create());
		if (own.principal !== player.principal) return refuses("clid_inuse", () => player.create());
		const { createSequence } = player;
		if (!own.confirmed && this.#rival(player).isTaken) {
			refuses("clid_inuse", () => player.create());
			player.createSequence = (createSequence + 1) >>> 0;
			return;
		}
		if (own.confirmed && own.sessions >= 16) return;
		await done(() => player.create(createSequence));
		if (!own.confirmed) this.#drop((client) => client.owner === player.name && client.confirmed);
		Object.assign(own, { confirmed: true, sessions: own.sessions + 1, renewed: this.told.time });
	}

	#destroyClient(player: TestClient): void {
		const own = this.known.get(player.id.lo);
		const destroy = () => this.claims.destroyClient(player.id, player.principal);
		if (own === undefined || own.principal !== player.principal) refuses("stale_clientid", destroy);
		else if (own.sessions > 0) refuses("clientid_busy", destroy);
		else {
			destroy();
			this.known.delete(player.id.lo);
		}
	}

	#useSession(player: TestClient, isRequest: boolean): void {
		const owner = this.known.get(player.session.client.lo);
		const isThere = this.#has(player);
		assert.ok(!isThere || owner !== undefined, "a session outlived its client");
		if (!isThere || owner === undefined) return;
		if (isRequest) {
			player.run(() => {});
			owner.renewed = this.told.time;
		} else {
			this.claims.destroySession(player.session.id, player.principal);
			owner.sessions--;
		}
	}

	#compare(): void {
		const { tables } = this.claims;
		assert.deepEqual(new Set(tables.clients.keys()), new Set(this.known.keys()));
		for (const [lo, { confirmed, sessions }] of this.known) {
			const record = tables.clients.get(lo);
			assert.deepEqual([record?.isConfirmed, record?.sessions.size], [confirmed, sessions]);
		}
		checkTables(this.claims);
	}
}

test("in all orders of EXCHANGE_ID, CREATE_SESSION, requests, silence, restarts and kills, ids and sessions are as in a model", async (t) => {
	const root = memoryFolder(t);
	let run = 0;
	await fc.assert(
		fc.asyncProperty(fc.array(STEP, { maxLength: 60, size: "max" }), async (steps) => {
			const game = new Game(join(root, `run ${run++}`));
			for (const { kind, who } of steps) await game.play(kind, who);
			game.claims.destroy();
		}),
		{ numRuns: 80 },
	);
});
