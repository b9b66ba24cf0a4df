// Another boot of the host: who may reclaim what, until when, and who never.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { interceptChanges } from "../linux/libc.ts";
import { Pending } from "../vfs/errors.ts";
import { checkTables } from "./check-tables.test-support.ts";
import { ClaimFolder } from "./claim-folder.ts";
import {
	ALL_BYTES,
	bytes,
	claimFolder,
	done,
	LEASE_SECONDS,
	refuses,
	startClaims,
	TestClient,
	takeSlot,
} from "./new-claims.test-support.ts";
import { readClients } from "./recovery-file.ts";

const GRACE_MS = (LEASE_SECONDS + 10) * 1000;
const SILENT_MS = (LEASE_SECONDS + 1) * 1000;

function listed(folder: string): readonly string[] {
	const opened = new ClaimFolder(folder);
	try {
		return [...readClients(opened).keys()].map((key) => key.slice(key.indexOf("\0") + 1)).sort();
	} finally {
		opened.close();
	}
}

/** Lets what is written beside this thread come to its end. */
async function settle(): Promise<void> {
	do await turn();
	while (process.getActiveResourcesInfo().includes("FSReqCallback"));
}

/** A start, with clients that have one file of their name open each. */
async function startWith(folder: string, names: readonly string[]) {
	const started = startClaims(folder);
	for (const name of names) {
		const client = await new TestClient(started.claims, name).come();
		await done(() => client.open(name));
	}
	return started;
}

async function reclaim(client: TestClient, file: string, access = 3, deny = 0) {
	return await done(() => client.open(file, access, deny, "owner", true));
}

test("a client stands in the list on disk before its first open is answered", async (t) => {
	const folder = claimFolder(t);
	const { claims } = startClaims(folder);
	const client = await new TestClient(claims, "a").come();
	assert.deepEqual(listed(folder), []);
	assert.throws(() => client.open("x"), Pending);
	assert.equal(claims.tables.opens, 0);
	await done(() => client.open("x"));
	assert.deepEqual(listed(folder), ["a"]);
	client.open("y");
});

test("after a boot of the host: old ids are stale, sessions dead, and who had state reclaims it while all others wait", async (t) => {
	const folder = claimFolder(t);
	let { claims } = startClaims(folder);
	const before = await new TestClient(claims, "a").come();
	const stateid = await done(() => before.open("x"));
	const locked = await done(() => before.lock(stateid, "x", "write", bytes(0, 10)));
	assert.ok("granted" in locked);
	const { serverId } = claims;
	claims.destroy();

	const started = startClaims(folder, { bootId: "boot 2" });
	const { told } = started;
	({ claims } = started);
	assert.deepEqual([claims.inGrace, claims.isContentInGrace, told.restoresEnded], [true, false, 0]);
	assert.deepEqual(claims.serverId, serverId);
	before.claims = claims;
	refuses("stale_clientid", () => before.create());
	const dead = claims.session(before.session.id);
	assert.equal(dead.isDead, true);
	refuses("dead_session", () => takeSlot(claims, dead, 3));
	// the last request comes again, and does what it had not done before
	const slot = takeSlot(claims, dead, 2);
	assert.equal(slot.outcome, "dead");
	const by = { open: stateid, owner: Buffer.from("locker") };
	const again = { ...bytes(0, 10), type: "write" as const, handle: Buffer.from("x"), isReclaim: false, waits: false, by };
	assert.deepEqual(claims.lock({ slot, operation: 1 }, again), locked);
	refuses("dead_session", () =>
		claims.open({ slot, operation: 2 }, { access: 1, deny: 0, owner: Buffer.from("o"), handle: Buffer.from("x"), isReclaim: true }),
	);
	claims.finish(slot, Buffer.from("reply"));
	assert.equal(takeSlot(claims, dead, 2).outcome, "replay");
	refuses("dead_session", () => takeSlot(claims, dead, 3));

	const a = await new TestClient(claims, "a").come();
	const b = await new TestClient(claims, "b").come();
	for (const client of [a, b]) {
		refuses("grace", () => client.open("x"));
		refuses("bad_stateid", () => client.close(stateid, "x"));
		refuses("grace", () => claims.lockTest(client.session.client, Buffer.from("l"), Buffer.from("x"), "read", ALL_BYTES));
	}
	refuses("reclaim_bad", () => b.open("x", 3, 0, "owner", true));
	const open = await reclaim(a, "x");
	refuses("grace", () => a.lock(open, "x", "write", bytes(0, 10)));
	assert.ok("granted" in (await done(() => a.lock(open, "x", "write", bytes(0, 10), "locker", false, true))));
	claims.checkAnonymous(Buffer.from("x"), 3);
	b.reclaimComplete();
	refuses("complete_already", () => b.reclaimComplete());
	assert.equal(claims.inGrace, true);
	a.run((change) => claims.reclaimComplete(change, true));
	assert.equal(claims.inGrace, true);
	a.reclaimComplete();
	await settle();
	assert.deepEqual([claims.inGrace, told.restoresEnded], [false, 1]);
	refuses("no_grace", () => a.open("x", 3, 0, "owner", true));
	const other = await done(() => b.open("x"));
	refuses("no_grace", () => b.lock(other, "x", "read", ALL_BYTES, "locker", false, true));
	assert.ok("denied" in b.lock(other, "x", "read", ALL_BYTES));
	assert.deepEqual(listed(folder), ["a", "b"]);
	checkTables(claims);
});

test("two who reclaim what does not go together: the second is refused", async (t) => {
	const folder = claimFolder(t);
	let { claims } = await startWith(folder, ["a", "b"]);
	claims.destroy();
	({ claims } = startClaims(folder, { bootId: "boot 2" }));
	const a = await new TestClient(claims, "a").come();
	const b = await new TestClient(claims, "b").come();
	const open = await reclaim(a, "x", 3, 0);
	await done(() => a.lock(open, "x", "write", ALL_BYTES, "locker", false, true));
	refuses("reclaim_conflict", () => b.open("x", 1, 2, "owner", true));
	const other = await reclaim(b, "x", 3, 0);
	refuses("reclaim_conflict", () => b.lock(other, "x", "read", ALL_BYTES, "locker", false, true));
});

test("there is no grace where nobody had state, and where all who had it have closed or left", async (t) => {
	const folder = claimFolder(t);
	let { claims, told } = startClaims(folder);
	await new TestClient(claims, "idle").come();
	const closed = await new TestClient(claims, "closed").come();
	const left = await new TestClient(claims, "left").come();
	const stateid = await done(() => closed.open("x"));
	left.close(await done(() => left.open("y")), "y");
	closed.close(stateid, "x");
	claims.destroySession(left.session.id, "root");
	claims.destroyClient(left.id, "root");
	told.time += SILENT_MS;
	claims.tick();
	await settle();
	assert.deepEqual(listed(folder), []);
	claims.destroy();
	({ claims, told } = startClaims(folder, { bootId: "boot 2" }));
	assert.deepEqual([claims.inGrace, told.restoresEnded], [false, 1]);
	const client = await new TestClient(claims, "new").come();
	await done(() => client.open("x"));
});

test("grace ends at the latest 10 seconds after a lease, and who did not come never reclaims", async (t) => {
	const folder = claimFolder(t);
	let { claims } = await startWith(folder, ["here", "gone"]);
	claims.destroy();
	const started = startClaims(folder, { bootId: "boot 2" });
	({ claims } = started);
	const here = await new TestClient(claims, "here").come();
	await reclaim(here, "here");
	started.told.time += GRACE_MS - 1;
	claims.tick();
	await settle();
	assert.equal(claims.inGrace, true);
	started.told.time += 1;
	claims.tick();
	assert.throws(() => here.open("z", 3, 0, "owner", true), Pending);
	await settle();
	assert.equal(claims.inGrace, false);
	assert.deepEqual(listed(folder), ["here"]);
	const gone = await new TestClient(claims, "gone").come();
	refuses("no_grace", () => gone.open("gone", 3, 0, "owner", true));
	claims.destroy();
	({ claims } = startClaims(folder, { bootId: "boot 3" }));
	const back = await new TestClient(claims, "gone").come();
	refuses("reclaim_bad", () => back.open("gone", 3, 0, "owner", true));
});

test("the host fails again within grace: the same clients reclaim the same again", async (t) => {
	const folder = claimFolder(t);
	let { claims } = await startWith(folder, ["a", "b"]);
	for (const boot of ["boot 2", "boot 3", "boot 4"]) {
		claims.destroy();
		({ claims } = startClaims(folder, { bootId: boot }));
		assert.equal(claims.inGrace, true);
		const a = await new TestClient(claims, "a").come();
		await reclaim(a, "a");
		a.reclaimComplete();
		await settle();
		assert.equal(claims.inGrace, true);
		assert.deepEqual(listed(folder), ["a", "b"]);
	}
});

test("killed within grace, in the same boot: grace goes on, with what was reclaimed, for who has not completed", async (t) => {
	const folder = claimFolder(t);
	let { claims } = await startWith(folder, ["a", "b"]);
	claims.destroy();
	({ claims } = startClaims(folder, { bootId: "boot 2" }));
	const a = await new TestClient(claims, "a").come();
	const stateid = await reclaim(a, "a");
	a.reclaimComplete();
	claims.destroy();
	({ claims } = startClaims(folder, { bootId: "boot 2" }));
	assert.equal(claims.inGrace, true);
	a.goOn(claims);
	assert.equal(claims.testStateid(a.session.client, stateid), null);
	refuses("no_grace", () => a.open("a", 3, 0, "owner", true));
	const b = await new TestClient(claims, "b").come();
	await reclaim(b, "b");
	b.reclaimComplete();
	await settle();
	assert.equal(claims.inGrace, false);
	claims.destroy();
	({ claims } = startClaims(folder, { bootId: "boot 2" }));
	assert.equal(claims.inGrace, false);
});

test("who expired while another was given what it had is off the disk first, and never reclaims it", async (t) => {
	const folder = claimFolder(t);
	let { claims, told } = startClaims(folder);
	const away = await new TestClient(claims, "away").come();
	const open = await done(() => away.open("x"));
	await done(() => away.lock(open, "x", "write", ALL_BYTES));
	const came = await new TestClient(claims, "came").come();
	const other = await done(() => came.open("x"));
	told.time += SILENT_MS;
	const waiting = () => came.lock(other, "x", "write", ALL_BYTES);
	assert.throws(waiting, Pending);
	assert.equal(claims.tables.locks, 0);
	assert.ok(listed(folder).includes("away"));
	assert.ok("granted" in (await done(waiting)));
	assert.deepEqual(listed(folder), ["came"]);
	claims.destroy();
	({ claims, told } = startClaims(folder, { bootId: "boot 2" }));
	const again = await new TestClient(claims, "away").come();
	refuses("reclaim_bad", () => again.open("x", 3, 0, "owner", true));
	await reclaim(await new TestClient(claims, "came").come(), "x");
});

test("where a client that may reclaim had denied others a mode, content is not to be had without an open in grace", async (t) => {
	const folder = claimFolder(t);
	let { claims } = startClaims(folder);
	const client = await new TestClient(claims, "a").come();
	await done(() => client.open("x", 1, 0));
	// the word that it denies something is flushed too
	assert.throws(() => client.open("y", 1, 2), Pending);
	await done(() => client.open("y", 1, 2));
	claims.destroy();
	({ claims } = startClaims(folder, { bootId: "boot 2" }));
	assert.equal(claims.isContentInGrace, true);
	refuses("grace", () => claims.checkAnonymous(Buffer.from("y"), 2));
	const again = await new TestClient(claims, "a").come();
	await reclaim(again, "y", 1, 2);
	again.reclaimComplete();
	await settle();
	refuses("locked", () => claims.checkAnonymous(Buffer.from("y"), 2));
	claims.checkAnonymous(Buffer.from("y"), 1);
});

test("dead sessions are forgotten after a quarter of an hour, and not by a kill before", async (t) => {
	const folder = claimFolder(t);
	let { claims, told } = startClaims(folder);
	const client = await new TestClient(claims, "a").come();
	for (const boot of ["boot 2", "boot 2"]) {
		claims.destroy();
		({ claims, told } = startClaims(folder, { bootId: boot }));
		assert.equal(claims.session(client.session.id).isDead, true);
	}
	told.time += 15 * 60 * 1000;
	claims.tick();
	refuses("bad_session", () => claims.session(client.session.id));
	assert.equal(told.removedSessions.length, 1);
});

test("stopped at any write of the list at the end of grace: the old list or the new one stands, and a start goes on from it", async (t) => {
	class Stop extends Error {}
	for (let stopAt = 0; stopAt < 8; stopAt++) {
		const folder = claimFolder(t);
		let { claims } = await startWith(folder, ["a", "b"]);
		claims.destroy();
		const started = startClaims(folder, { bootId: "boot 2" });
		({ claims } = started);
		const a = await new TestClient(claims, "a").come();
		await reclaim(a, "a");
		a.reclaimComplete();
		started.told.time += GRACE_MS;
		let left = stopAt;
		interceptChanges(() => {
			if (left-- <= 0) throw new Stop();
		});
		try {
			claims.tick();
			await settle();
		} catch (error) {
			if (!(error instanceof Stop)) throw error;
		} finally {
			interceptChanges(null);
		}
		claims.destroy();
		const names = listed(folder);
		assert.ok(names.join() === "a,b" || names.join() === "a", names.join());
		({ claims } = startClaims(folder, { bootId: "boot 3" }));
		const again = await new TestClient(claims, "a").come();
		await reclaim(again, "a");
		const b = await new TestClient(claims, "b").come();
		if (names.length === 2) await reclaim(b, "b");
		else refuses("reclaim_bad", () => b.open("b", 3, 0, "owner", true));
	}
});

test("another principal under the name of a client neither reclaims what that had, nor gives it up", async (t) => {
	const folder = claimFolder(t);
	let { claims } = await startWith(folder, ["a"]);
	claims.destroy();
	({ claims } = startClaims(folder, { bootId: "boot 2" }));
	const thief = await new TestClient(claims, "a", 7, "user").come();
	refuses("reclaim_bad", () => thief.open("a", 3, 0, "owner", true));
	thief.reclaimComplete();
	claims.destroySession(thief.session.id, "user");
	claims.destroyClient(thief.id, "user");
	await settle();
	assert.equal(claims.inGrace, true);
	await reclaim(await new TestClient(claims, "a").come(), "a");
});

test("a client that comes early in grace and reclaims late stands in the list all the time", async (t) => {
	const folder = claimFolder(t);
	let { claims } = await startWith(folder, ["a"]);
	claims.destroy();
	const started = startClaims(folder, { bootId: "boot 2" });
	({ claims } = started);
	const a = await new TestClient(claims, "a").come();
	started.told.time += SILENT_MS;
	claims.tick();
	await settle();
	assert.deepEqual(listed(folder), ["a"]);
	await reclaim(a, "a");
});
