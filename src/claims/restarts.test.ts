// Restarts within one boot of the host: nothing is lost, and a request that is sent again gets what it got.

import assert from "node:assert/strict";
import { existsSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { interceptChanges } from "../linux/libc.ts";
import { Pending } from "../vfs/errors.ts";
import { checkTables } from "./check-tables.test-support.ts";
import type { Claims } from "./claims.ts";
import {
	ALL_BYTES,
	bytes,
	claimFolder,
	done,
	memoryFolder,
	refuses,
	startClaims,
	TestClient,
	takeSlot,
	writtenAnew,
} from "./new-claims.test-support.ts";
import type { ClaimChange, Slot, Stateid } from "./operations.ts";
import type { SlotRecord } from "./records.ts";

const X = Buffer.from("x");
const OPEN = { access: 3, deny: 0, owner: Buffer.from("owner"), handle: X, isReclaim: false };

/** Takes slot 0 under a sequence, as a request that is sent again does. */
function take(claims: Claims, client: TestClient, sequence: number): Slot {
	return takeSlot(claims, claims.session(client.session.id), sequence);
}

/** Changes the open until the log is about to be written anew: what the new one has of before, it has from the tables. How often that was. */
function fillLog(folder: string, client: TestClient, open: Stateid): number {
	let changes = 0;
	for (; !existsSync(join(folder, "log.new")); changes++) {
		client.run((change) => client.claims.downgrade(change, { ...open, seqid: 0 }, X, { access: 3, deny: 0 }));
	}
	return changes;
}

test("each change that was made before a kill is answered the same when its request comes again, and is not made again", async (t) => {
	const folder = claimFolder(t);
	let { claims } = startClaims(folder);
	const client = await new TestClient(claims, "a").come();
	const stateid = (given: unknown) => given as Stateid;
	let open = await done(() => client.open("x", 1));
	const other = await done(() => client.open("y"));
	let lock: Stateid | null = null;
	const by = () => ({ open, owner: Buffer.from("locker") });
	const request = { type: "read" as const, handle: X, isReclaim: false, waits: false };
	const changes: readonly (readonly [string, (change: ClaimChange) => unknown])[] = [
		["open", (change) => claims.open(change, OPEN)],
		["downgrade", (change) => claims.downgrade(change, open, X, { access: 1, deny: 0 })],
		["lock", (change) => claims.lock(change, { ...request, ...bytes(0, 10), by: by() })],
		["unlock", (change) => claims.unlock(change, stateid(lock), X, bytes(2, 3))],
		["unlock", (change) => claims.unlock(change, stateid(lock), X, ALL_BYTES)],
		["free", (change) => claims.freeStateid(change, stateid(lock))],
		["close", (change) => claims.close(change, other, Buffer.from("y"))],
		["reclaim_complete", (change) => claims.reclaimComplete(change, false)],
	];
	for (const [kind, act] of changes) {
		const sequence = client.sequence + 1;
		const taken = client.take();
		const first = act({ slot: taken, operation: 3 });
		claims.finish(taken, Buffer.from("a reply that is lost"));
		const { opens, locks, lockStates } = claims.tables;
		claims.destroy();
		({ claims } = startClaims(folder));
		const slot = take(claims, client, sequence);
		assert.equal(slot.outcome, "rerun");
		const change = { slot, operation: 3 };
		const answer = claims.answerOf(change);
		assert.equal(answer?.kind, kind);
		if (kind === "open") assert.deepEqual(answer?.handle, X);
		assert.deepEqual(act(change), first);
		assert.equal(claims.answerOf({ slot, operation: 2 }), null);
		assert.deepEqual([opens, locks, lockStates], [claims.tables.opens, claims.tables.locks, claims.tables.lockStates]);
		claims.finish(slot, Buffer.from("again"));
		assert.equal(take(claims, client, sequence).outcome, "replay");
		client.goOn(claims);
		if (kind === "open" || kind === "downgrade") open = first as Stateid;
		if (kind === "lock") lock = (first as { granted: Stateid }).granted;
		if (kind === "unlock") lock = first as Stateid;
		checkTables(claims);
	}
	assert.equal(claims.tables.opens, 1);
});

test("after a kill a slot takes numbers ahead of its last change, and none before", async (t) => {
	const folder = claimFolder(t);
	let { claims } = startClaims(folder);
	const client = await new TestClient(claims, "a").come();
	for (let i = 0; i < 3; i++) client.run(() => {});
	await done(() => client.open("x"));
	for (let i = 0; i < 3; i++) client.run(() => {});
	const changed = 4;
	const restart = () => {
		claims.destroy();
		({ claims } = startClaims(folder));
	};
	restart();
	refuses("seq_misordered", () => take(claims, client, changed - 1));
	// it does not know of requests that changed nothing
	const slot = take(claims, client, 7);
	assert.equal(slot.outcome, "new");
	claims.finish(slot, Buffer.from("reply"));
	refuses("seq_misordered", () => take(claims, client, 9));
	assert.equal(take(claims, client, 7).outcome, "replay");
	restart();
	const another = { slot: 0, sequence: changed, highestSlot: 0, keepsReply: true, digestHi: 1, digestLo: 1 };
	refuses("seq_false_retry", () => claims.sequence(claims.session(client.session.id), another));
	assert.equal(take(claims, client, changed).outcome, "rerun");
	refuses("delay", () => take(claims, client, changed));
	refuses("seq_misordered", () => take(claims, client, changed + 1));
});

test("a request that was going to change something else comes again as one to be run again", async (t) => {
	const folder = claimFolder(t);
	let { claims } = startClaims(folder);
	const client = await new TestClient(claims, "a").come();
	const slot = client.take();
	claims.willChange(slot);
	claims.willChange(slot);
	claims.finish(slot, Buffer.from("a reply that is lost"));
	claims.destroy();
	({ claims } = startClaims(folder));
	const again = take(claims, client, 1);
	assert.equal(again.outcome, "rerun");
	assert.equal(claims.answerOf({ slot: again, operation: 1 }), null);
});

test("what no request was answered for may be lost in a kill, and then all of it is", async (t) => {
	const folder = claimFolder(t);
	let { claims } = startClaims(folder);
	const client = await new TestClient(claims, "a").come();
	const taken = client.take();
	await done(() => claims.prepareOpen(taken, false, 0));
	const first = claims.open({ slot: taken, operation: 2 }, OPEN);
	claims.downgrade({ slot: taken, operation: 3 }, first, X, OPEN);
	claims.destroy();
	({ claims } = startClaims(folder));
	const slot = take(claims, client, 1);
	assert.equal(slot.outcome, "new");
	assert.equal(claims.tables.opens, 0);
	const open = claims.open({ slot, operation: 2 }, OPEN);
	claims.close({ slot, operation: 3 }, open, X);
	claims.finish(slot, Buffer.from("reply"));
	checkTables(claims);
});

test("an object is not let go before the log says that it is closed", async (t) => {
	const folder = claimFolder(t);
	let { claims, told } = startClaims(folder);
	const client = await new TestClient(claims, "a").come();
	const taken = client.take();
	await done(() => claims.prepareOpen(taken, false, 0));
	const open = claims.open({ slot: taken, operation: 2 }, OPEN);
	told.letGo = () => claims.destroy();
	claims.close({ slot: taken, operation: 3 }, open, X);
	({ claims, told } = startClaims(folder));
	const slot = take(claims, client, 1);
	assert.equal(slot.outcome, "rerun");
	assert.equal(claims.tables.opens, 0);
	assert.deepEqual(
		[2, 3].map((operation) => claims.answerOf({ slot, operation })?.kind),
		["open", "close"],
	);
});

test("a retry finds how far its request had come, its reply, or that this was not kept, also out of a log that was written anew", async (t) => {
	const folder = claimFolder(t);
	let { claims, told } = startClaims(folder, { smallLogBytes: 4000 });
	const [progress, reply] = [Buffer.alloc(600, "progress"), Buffer.from("reply")];
	const client = await new TestClient(claims, "a").come();
	const open = await done(() => client.open("x"));
	const other = await new TestClient(claims, "b").come();
	const killed = client.take();
	claims.keepProgress(killed, progress);
	claims.willChange(killed);
	const again = async (outcome: string, check: (slot: Slot) => void) => {
		claims.destroy();
		({ claims, told } = startClaims(folder, { smallLogBytes: 4000 }));
		client.goOn(claims);
		const slot = take(claims, client, client.sequence);
		assert.equal(slot.outcome, outcome);
		check(slot);
		return slot;
	};
	const rewritten = async () => {
		other.goOn(claims);
		fillLog(folder, other, await done(() => other.open("x")));
		await writtenAnew(folder, told);
	};
	await again("rerun", (slot) => assert.deepEqual(slot.progress, progress));
	await rewritten();
	const rerun = await again("rerun", (slot) => assert.deepEqual(slot.progress, progress));
	claims.finish(rerun, reply);
	await again("replay", (slot) => assert.deepEqual(slot.reply, reply));
	await rewritten();
	await again("replay", (slot) => assert.deepEqual(slot.reply, reply));
	const little = client.take();
	claims.keepProgress(little, Buffer.from("little"));
	claims.finish(little, reply);
	claims.finish(await again("rerun", (slot) => assert.equal(Buffer.from(slot.progress ?? []).toString(), "little")), reply);
	const much = client.take();
	claims.keepProgress(much, null);
	claims.willChange(much);
	const refused = async () => {
		claims.destroy();
		({ claims, told } = startClaims(folder, { smallLogBytes: 4000 }));
		client.goOn(claims);
		refuses("retry_uncached_rep", () => take(claims, client, client.sequence));
	};
	await refused();
	await rewritten();
	await refused();
	client.run((change) => claims.close(change, open, X));
	checkTables(claims);
});

test("of a request with many changes its reply is kept in the log, and not each answer in memory", async (t) => {
	const folder = claimFolder(t);
	let { claims } = startClaims(folder);
	const client = await new TestClient(claims, "a").come();
	const open = await done(() => client.open("x"));
	const change = (keepsReply: boolean, changes: number) => {
		client.sequence++;
		const request = { slot: 0, sequence: client.sequence, highestSlot: 0, keepsReply, digestHi: 0, digestLo: client.sequence };
		const slot = claims.sequence(claims.session(client.session.id), request);
		for (let operation = 1; operation <= changes; operation++) claims.downgrade({ slot, operation }, { ...open, seqid: 0 }, X, OPEN);
		claims.finish(slot, Buffer.from("reply"));
		const kept = (slot as SlotRecord).answers?.length ?? 0;
		claims.destroy();
		({ claims } = startClaims(folder));
		client.goOn(claims);
		return [kept, () => claims.sequence(claims.session(client.session.id), request)] as const;
	};
	for (const keepsReply of [true, false]) {
		const [few, again] = change(keepsReply, 8);
		const slot = again();
		assert.deepEqual([few, slot.outcome], [8, "rerun"]);
		claims.finish(slot, Buffer.from("reply"));
	}
	const [many, retry] = change(true, 9);
	const slot = retry();
	assert.deepEqual([many, slot.outcome, slot.reply?.toString()], [0, "replay", "reply"]);
	const [unkept, refused] = change(false, 9);
	assert.equal(unkept, 0);
	refuses("retry_uncached_rep", refused);
});

test("a request that changed nothing does not get the answer of the one before, also out of a log that was written anew", async (t) => {
	const folder = claimFolder(t);
	const { claims, told } = startClaims(folder, { smallLogBytes: 4000 });
	const client = await new TestClient(claims, "a").come();
	const open = await done(() => client.open("x"));
	fillLog(folder, client, open);
	client.run(() => {});
	await writtenAnew(folder, told);
	const { sequence } = client;
	claims.destroy();
	const again = startClaims(folder).claims;
	const slot = take(again, client, sequence);
	assert.equal(slot.outcome, "rerun");
	assert.equal(again.answerOf({ slot, operation: 1 }), null);
});

test("a log that was written anew has answers, the end of grace, and what numbers were given", async (t) => {
	const folder = claimFolder(t);
	let { claims, told } = startClaims(folder, { smallLogBytes: 4000 });
	const client = await new TestClient(claims, "a").come();
	const open = await done(() => client.open("x"));
	const other = await new TestClient(claims, "other").come();
	const closed = await done(() => other.open("y"));
	other.close(closed, "y");
	claims.destroySession(other.session.id, "root");
	claims.destroyClient(other.id, "root");
	const unconfirmed = new TestClient(claims, "never").exchange();
	const changes = fillLog(folder, client, open);
	const { sequence } = client;
	await writtenAnew(folder, told);
	claims.destroy();
	({ claims, told } = startClaims(folder));
	assert.equal(claims.inGrace, false);
	const slot = take(claims, client, sequence);
	assert.deepEqual(claims.answerOf({ slot, operation: 1 }), { kind: "downgrade", stateid: { ...open, seqid: 1 + changes }, handle: null });
	claims.finish(slot, Buffer.from("reply"));
	client.goOn(claims);
	assert.ok(new TestClient(claims, "new").exchange().lo > unconfirmed.lo);
	assert.ok(client.open("z").generation > closed.generation);
	const next = await new TestClient(claims, "next").come();
	assert.ok(Buffer.compare(next.session.id.subarray(0, 8), other.session.id.subarray(0, 8)) > 0);
});

test("a compound that was killed between two changes makes the second alone", async (t) => {
	const folder = claimFolder(t);
	let { claims } = startClaims(folder);
	const client = await new TestClient(claims, "a").come();
	// whose answers are what the log is written for
	const other = await new TestClient(claims, "b").come();
	const killed = () => {
		other.run(() => {});
		claims.destroy();
		({ claims } = startClaims(folder));
		other.goOn(claims);
	};
	const taken = client.take();
	await done(() => claims.prepareOpen(taken, false, 0));
	const first = claims.open({ slot: taken, operation: 2 }, OPEN);
	killed();
	const slot = take(claims, client, 1);
	assert.deepEqual(claims.open({ slot, operation: 2 }, OPEN), first);
	const second = claims.open({ slot, operation: 5 }, { ...OPEN, handle: Buffer.from("y") });
	killed();
	const again = take(claims, client, 1);
	assert.deepEqual(claims.open({ slot: again, operation: 2 }, OPEN), first);
	assert.deepEqual(claims.open({ slot: again, operation: 5 }, { ...OPEN, handle: Buffer.from("y") }), second);
	assert.equal(claims.tables.opens, 2);
});

test("CREATE_SESSION is answered when the client is on disk, also where another process had written it and was killed", async (t) => {
	const folder = claimFolder(t);
	let { claims } = startClaims(folder);
	const client = new TestClient(claims, "a");
	const { sequence } = client.exchange();
	assert.throws(() => client.create(sequence), Pending);
	claims.destroy();
	({ claims } = startClaims(folder));
	client.claims = claims;
	assert.throws(() => client.create(sequence), Pending);
	const session = await done(() => client.create(sequence));
	assert.equal(claims.tables.sessions.size, 1);
	assert.equal(client.create(sequence), session);
});

test("CREATE_SESSION that is sent again after a kill gets the same session, or the same error", async (t) => {
	const folder = claimFolder(t);
	let { claims } = startClaims(folder, { limits: { sessionsPerClient: 1 } });
	const client = new TestClient(claims, "a");
	const { sequence } = client.exchange();
	const { id } = await done(() => client.create(sequence));
	for (const act of [() => {}, () => refuses("nospc", () => client.create((sequence + 1) >>> 0))]) {
		act();
		claims.destroy();
		({ claims } = startClaims(folder, { limits: { sessionsPerClient: 1 } }));
		client.claims = claims;
	}
	refuses("nospc", () => client.create((sequence + 1) >>> 0));
	assert.deepEqual(claims.session(id).id, id);
	refuses("seq_misordered", () => client.create(sequence));
});

test("an id that was not confirmed is gone after a kill, and nobody else gets its number", async (t) => {
	const folder = claimFolder(t);
	let { claims } = startClaims(folder);
	const seen = new Set<number>();
	for (let i = 0; i < 5; i++) {
		for (let n = 0; n < 300; n++) {
			const { lo } = new TestClient(claims, `client ${n}`).exchange();
			assert.ok(!seen.has(lo));
			seen.add(lo);
		}
		claims.destroy();
		({ claims } = startClaims(folder));
		assert.equal(claims.tables.clients.size, 0);
	}
});

test("stateids and session ids are not given again after a kill", async (t) => {
	const folder = claimFolder(t);
	let { claims } = startClaims(folder);
	const client = await new TestClient(claims, "a").come();
	const seen = new Set<string>();
	const sessions = new Set<string>();
	for (let i = 0; i < 5; i++) {
		const stateid = await done(() => client.open("x"));
		assert.ok(!seen.has(`${stateid.index} ${stateid.generation}`));
		seen.add(`${stateid.index} ${stateid.generation}`);
		client.close(stateid, "x");
		const other = await new TestClient(claims, `other ${i}`).come();
		const name = other.session.id.subarray(0, 8).toString();
		assert.ok(!sessions.has(name));
		sessions.add(name);
		claims.destroySession(other.session.id, "root");
		claims.destroy();
		({ claims } = startClaims(folder));
		client.goOn(claims);
	}
});

test("what was revoked is still told after a kill, and a lease begins anew", async (t) => {
	const folder = claimFolder(t);
	let { claims, told } = startClaims(folder);
	const away = await new TestClient(claims, "a").come();
	const came = await new TestClient(claims, "b").come();
	const stateid = await done(() => away.open("x", 3, 3));
	told.time += 91_000;
	came.run(() => {});
	await done(() => came.open("x"));
	claims.destroy();
	({ claims, told } = startClaims(folder));
	assert.equal(claims.testStateid(claims.session(away.session.id).client, stateid), "expired");
	assert.equal(claims.statusFlags(claims.session(away.session.id)), 8);
	assert.equal(claims.clients.isExpired(claims.session(away.session.id).client), false);
	away.goOn(claims).run((change) => claims.freeStateid(change, stateid));
	claims.destroy();
	({ claims } = startClaims(folder));
	assert.equal(claims.statusFlags(claims.session(away.session.id)), 0);
	checkTables(claims);
});

test("what was revoked and is not taken away yet is told after a kill too, also by a log that was written anew meanwhile", async (t) => {
	for (const smallLogBytes of [0, undefined]) {
		const folder = claimFolder(t);
		let { claims, told } = startClaims(folder, smallLogBytes === undefined ? {} : { smallLogBytes });
		const away = await new TestClient(claims, "a").come();
		const came = await new TestClient(claims, "b").come();
		const stateids: Stateid[] = [];
		for (let i = 0; i < 1500; i++) stateids.push(await done(() => away.open(`file ${i}`, 3, 3)));
		told.time += 91_000;
		came.run(() => {});
		const late = told.deferred.splice(0);
		await done(() => came.open("file 0"));
		const taking = told.deferred.splice(0);
		// only what writes the log goes on
		for (let i = 0; i < 3000; i++) {
			came.close(await done(() => came.open("other")), "other");
			(late.shift() ?? told.deferred.shift())?.();
			if (i % 100 === 0) await turn();
		}
		const again = await done(() => away.open("file 1499", 3, 3));
		assert.ok(taking.length > 0 && claims.tables.opens > 400);
		const written = statSync(join(folder, "log")).size;
		claims.destroy();
		({ claims, told } = startClaims(folder));
		assert.ok(smallLogBytes === undefined || written < 300_000, `the log has ${written} bytes`);
		const { client } = claims.session(away.session.id);
		for (const stateid of stateids) assert.equal(claims.testStateid(client, stateid), "expired");
		assert.equal(claims.testStateid(client, again), null);
		assert.deepEqual([claims.tables.opens, claims.tables.revoked], [2, stateids.length]);
		checkTables(claims);
		claims.destroy();
	}
});

test("a clean stop keeps replies, and all stands after a boot of the host too", async (t) => {
	const folder = claimFolder(t);
	let { claims } = startClaims(folder);
	const client = await new TestClient(claims, "a").come();
	const stateid = await done(() => client.open("x"));
	claims.shutDown();
	const started = startClaims(folder, { bootId: "boot 2" });
	claims = started.claims;
	assert.deepEqual([claims.inGrace, started.told.warnings], [false, []]);
	const slot = take(claims, client, 1);
	assert.deepEqual([slot.outcome, slot.reply], ["replay", Buffer.from("reply")]);
	refuses("seq_false_retry", () =>
		claims.sequence(slot.session, { slot: 0, sequence: 1, highestSlot: 0, keepsReply: true, digestHi: 9, digestLo: 9 }),
	);
	assert.equal(take(claims, client, 2).outcome, "new");
	assert.equal(claims.testStateid(slot.session.client, stateid), null);
	// a kill now is none of a log that was closed
	claims.destroy();
	assert.equal(startClaims(folder, { bootId: "boot 3" }).claims.inGrace, true);
});

/** What is open and locked, as far as a client can see it. */
function seen({ tables }: Claims): unknown {
	const shares = [...tables.files.values()].map(({ firstOpen }) => {
		const found: number[] = [];
		for (let open = firstOpen; open !== null; open = open.nextInFile) found.push(open.share);
		return found.sort();
	});
	return [tables.opens, tables.locks, shares];
}

test("stopped before any write to the log, each change is there after the start or is not, and a retry makes it once", async (t) => {
	class Stop extends Error {}
	const root = memoryFolder(t);
	const X_LOCK = { type: "write" as const, handle: X, isReclaim: false, waits: false };
	let stops = 0;
	let runs = 0;
	// each change, and what must be there before it
	const changes: readonly (readonly [number, (client: TestClient, change: ClaimChange, before: readonly Stateid[]) => unknown])[] = [
		[0, ({ claims }, change) => claims.open(change, OPEN)],
		[1, ({ claims }, change) => claims.open(change, OPEN)],
		[1, ({ claims }, change, [open]) => claims.close(change, open, X)],
		[1, ({ claims }, change, [by]) => claims.lock(change, { ...X_LOCK, ...bytes(0, 9), by: { open: by, owner: Buffer.from("l") } })],
		[2, ({ claims }, change, [, lock]) => claims.lock(change, { ...X_LOCK, ...bytes(5, 20), by: { lock } })],
		[2, ({ claims }, change, [, lock]) => claims.unlock(change, lock, X, bytes(3, 4))],
		[2, ({ claims }, change, [open]) => claims.close(change, open, X)],
		[0, ({ claims }, change) => claims.reclaimComplete(change, false)],
	];
	for (const [steps, act] of changes) {
		for (const smallLogBytes of [0, 1_000_000]) {
			for (let stopAt = 0; stopAt < 4; stopAt++) {
				const folder = join(root, `run ${runs}`);
				let { claims } = startClaims(folder, { smallLogBytes });
				const client = await new TestClient(claims, "a").come();
				await done(() => client.open("kept"));
				const before: Stateid[] = [];
				if (steps > 0) before.push(await done(() => client.open("x", 3)));
				if (steps > 1) before.push((client.lock(before[0], "x", "write", bytes(0, 9), "l") as { granted: Stateid }).granted);
				const atFirst = seen(claims);
				const { sequence } = client.take();
				let left = stopAt;
				interceptChanges(() => {
					if (left-- === 0) throw new Stop();
				});
				let answer: unknown;
				let isStopped = false;
				try {
					const taken = claims.session(client.session.id).slots[0] as Slot;
					answer = act(client, { slot: taken, operation: 1 }, before);
					claims.finish(taken, Buffer.from("a reply that is lost"));
				} catch (error) {
					if (!(error instanceof Stop)) throw error;
					isStopped = true;
				} finally {
					interceptChanges(null);
				}
				const atLast = seen(claims);
				claims.destroy();
				({ claims } = startClaims(folder, { smallLogBytes }));
				checkTables(claims);
				if (isStopped) assert.ok([atFirst, atLast].some((one) => isDeepStrictEqual(one, seen(claims))));
				else assert.deepEqual(seen(claims), atLast);
				const slot = take(claims, client, sequence);
				client.goOn(claims);
				const again = act(client, { slot, operation: 1 }, before);
				if (!isStopped) assert.deepEqual(again, answer);
				const after = seen(claims);
				claims.finish(slot, Buffer.from("reply"));
				claims.destroy();
				({ claims } = startClaims(folder, { smallLogBytes }));
				assert.deepEqual(seen(claims), after);
				checkTables(claims);
				claims.destroy();
				rmSync(folder, { recursive: true });
				if (isStopped) stops++;
				runs++;
			}
		}
	}
	assert.ok(stops >= 16 && runs - stops >= 16, `${stops} of ${runs} were stopped`);
});
