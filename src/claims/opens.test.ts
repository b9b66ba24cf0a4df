// Opens against a model: share reservations, upgrades, downgrades, and stateids that were and are not any more.

import assert from "node:assert/strict";
import { test } from "node:test";
import { fc } from "../../test/support/fast-check.ts";
import { checkTables } from "./check-tables.test-support.ts";
import { Type } from "./log-format.ts";
import { ALL_BYTES, bytes, LEASE_SECONDS, newClaims, refuses, TestClient } from "./new-claims.test-support.ts";
import type { Stateid } from "./operations.ts";
import { RecordWriter } from "./record-codec.ts";
import { snapshot } from "./snapshot.ts";

const SILENT_MS = (LEASE_SECONDS + 1) * 1000;

interface ModelOpen {
	readonly file: string;
	readonly client: number;
	readonly owner: string;
	modes: { readonly access: number; readonly deny: number }[];
	stateid: Stateid;
	/** Stateids it had before. */
	readonly old: Stateid[];
}

function union(modes: ModelOpen["modes"]) {
	return { access: modes.reduce((all, { access }) => all | access, 0), deny: modes.reduce((all, { deny }) => all | deny, 0) };
}

test("whatever is opened, upgraded, downgraded and closed, what is refused is what a list of opens says", () => {
	const step = fc.record({
		kind: fc.constantFrom("open", "open", "open", "downgrade", "close", "use"),
		client: fc.integer({ min: 0, max: 1 }),
		owner: fc.constantFrom("p", "q"),
		file: fc.constantFrom("x", "y"),
		access: fc.integer({ min: 1, max: 3 }),
		// mostly none, as clients do
		deny: fc.constantFrom(0, 0, 0, 0, 1, 2, 3),
	});
	fc.assert(
		fc.property(fc.array(step, { maxLength: 60, size: "max" }), (steps) => {
			const { claims, told } = newClaims();
			const clients = [new TestClient(claims, "a").connect(), new TestClient(claims, "b").connect()];
			let opens: ModelOpen[] = [];
			for (const { kind, client, owner, file, access, deny } of steps) {
				const player = clients[client];
				const handle = Buffer.from(file);
				const own = opens.find((each) => each.client === client && each.owner === owner && each.file === file);
				if (kind === "open") {
					const others = opens.filter((each) => each.file === file).map(({ modes }) => union(modes));
					const isDenied = others.some((each) => (each.deny & access) !== 0 || (each.access & deny) !== 0);
					if (isDenied) {
						refuses("share_denied", () => player.open(file, access, deny, owner));
						continue;
					}
					const stateid = player.open(file, access, deny, owner);
					if (own === undefined) opens.push({ file, client, owner, modes: [{ access, deny }], stateid, old: [] });
					else {
						assert.equal(stateid.seqid, own.stateid.seqid + 1);
						own.old.push(own.stateid);
						Object.assign(own, { stateid, modes: [...own.modes, { access, deny }] });
					}
				} else if (own === undefined) continue;
				else if (kind === "downgrade") {
					const change = () => player.run((given) => claims.downgrade(given, own.stateid, handle, { access, deny }));
					// some subset of the opens adds up to it: the greatest subset within it does, or none
					const left = own.modes.filter((mode) => (mode.access & ~access) === 0 && (mode.deny & ~deny) === 0);
					const { access: most, deny: denied } = union(left);
					if (most !== access || denied !== deny) {
						refuses("inval", change);
						continue;
					}
					own.old.push(own.stateid);
					Object.assign(own, { modes: left, stateid: change() });
				} else if (kind === "close") {
					player.close(own.stateid, file);
					opens = opens.filter((each) => each !== own);
					refuses("bad_stateid", () => player.close(own.stateid, file));
				} else {
					for (const old of own.old) refuses("old_stateid", () => claims.checkContent(player.session.client, old, handle, 1));
					const { access: has } = union(own.modes);
					for (const wanted of [1, 2]) {
						const use = (seqid: number) => claims.checkContent(player.session.client, { ...own.stateid, seqid }, handle, wanted);
						if ((has & wanted) === 0) refuses("openmode", () => use(0));
						else for (const seqid of [0, own.stateid.seqid]) use(seqid);
						refuses("bad_stateid", () => use(own.stateid.seqid + 1));
					}
				}
				checkTables(claims);
				const held = new Map([...new Set(opens.map((each) => each.file))].map((each) => [each, 1]));
				assert.deepEqual(told.held, held, "an object is held once, while it is open");
			}
		}),
		{ numRuns: 200 },
	);
});

test("a stateid of another client, another object, another boot or never given is a bad one, in every operation", () => {
	const { claims } = newClaims({ boot: 5 });
	const a = new TestClient(claims, "a").connect();
	const b = new TestClient(claims, "b").connect();
	const good = a.open("x");
	const locked = a.lock(good, "x", "read", ALL_BYTES);
	assert.ok("granted" in locked);
	const lock = locked.granted;
	const cases: readonly (readonly [TestClient, Stateid, string])[] = [
		[b, good, "x"],
		[a, good, "y"],
		[a, { ...good, boot: 4 }, "x"],
		[a, { ...good, index: 99 }, "x"],
		[a, { ...good, generation: 99 }, "x"],
		[a, { ...lock, boot: 4 }, "x"],
		[a, { seqid: 0xffffffff, boot: 0xffffffff, index: 0xffffffff, generation: 0xffffffff }, "x"],
	];
	for (const [client, stateid, file] of cases) {
		const handle = Buffer.from(file);
		refuses("bad_stateid", () => claims.checkContent(client.session.client, stateid, handle, 1));
		refuses("bad_stateid", () => client.close(stateid, file));
		refuses("bad_stateid", () => client.run((change) => claims.downgrade(change, stateid, handle, { access: 1, deny: 0 })));
		refuses("bad_stateid", () => client.lock(stateid, file, "read", ALL_BYTES));
		refuses("bad_stateid", () => client.lockBy(stateid, file, "read", ALL_BYTES));
		refuses("bad_stateid", () => client.unlock(stateid, file, ALL_BYTES));
		if (file === "x") {
			refuses("bad_stateid", () => client.run((change) => claims.freeStateid(change, stateid)));
			assert.equal(claims.testStateid(client.session.client, stateid), "bad_stateid");
		}
	}
	assert.equal(claims.testStateid(a.session.client, good), null);
	// one of the right kind is needed too
	refuses("bad_stateid", () => a.close(lock, "x"));
	refuses("bad_stateid", () => a.unlock(good, "x", ALL_BYTES));
	refuses("bad_stateid", () => a.lockBy(good, "x", "read", ALL_BYTES));
	checkTables(claims);
});

test("a place that is used again has another stateid", () => {
	const { claims } = newClaims();
	const client = new TestClient(claims, "a").connect();
	const first = client.open("x");
	client.close(first, "x");
	const second = client.open("y");
	assert.equal(second.index, first.index);
	assert.notEqual(second.generation, first.generation);
	assert.equal(claims.testStateid(client.session.client, first), "bad_stateid");
});

test("there are no other modes than the protocol's", () => {
	const { claims } = newClaims();
	const client = new TestClient(claims, "a").connect();
	for (const [access, deny] of [
		[0, 0],
		[4, 0],
		[1, 4],
		[-1, 0],
	])
		refuses("inval", () => client.open("x", access, deny));
	refuses("inval", () => client.open("x", 1, 0, "o".repeat(1025)));
	client.open("x", 1, 0, "o".repeat(1024));
	checkTables(claims);
});

test("READ and WRITE without an open are refused where an open denies them", () => {
	const { claims } = newClaims();
	const client = new TestClient(claims, "a").connect();
	const handle = Buffer.from("x");
	claims.checkAnonymous(handle, 3);
	const stateid = client.open("x", 1, 2);
	claims.checkAnonymous(handle, 1);
	refuses("locked", () => claims.checkAnonymous(handle, 2));
	client.close(stateid, "x");
	claims.checkAnonymous(handle, 2);
});

test("an expired client keeps its opens until another is in their way, and then loses all of them and learns it", () => {
	const { claims, told } = newClaims();
	const away = new TestClient(claims, "a").connect();
	const denied = away.open("x", 3, 3);
	const other = away.open("y");
	const locked = away.lock(other, "y", "write", ALL_BYTES);
	assert.ok("granted" in locked);
	const came = new TestClient(claims, "b").connect();
	refuses("share_denied", () => came.open("x"));
	told.time += SILENT_MS;
	came.run(() => {});
	claims.tick();
	// nobody is in its way: it comes back to what it had
	const back = new TestClient(claims, "a");
	back.exchange();
	assert.equal(claims.testStateid(away.session.client, denied), null);
	claims.checkShare(Buffer.from("z"), { access: 3, deny: 3 });
	assert.equal(claims.statusFlags(away.session), 0);
	claims.checkShare(Buffer.from("x"), { access: 1, deny: 0 });
	assert.equal(claims.tables.opens, 0);
	told.runDeferred();
	assert.equal(told.held.size, 0);
	checkTables(claims);

	assert.equal(claims.statusFlags(away.session), 8);
	for (const stateid of [denied, other, locked.granted]) {
		assert.equal(claims.testStateid(away.session.client, stateid), "expired");
		refuses("expired", () => claims.checkContent(away.session.client, stateid, Buffer.from("x"), 1));
	}
	refuses("expired", () => away.close(denied, "x"));
	for (const stateid of [denied, other]) away.run((change) => claims.freeStateid(change, stateid));
	assert.equal(claims.statusFlags(away.session), 8);
	away.run((change) => claims.freeStateid(change, locked.granted));
	assert.equal(claims.statusFlags(away.session), 0);
	assert.equal(claims.testStateid(away.session.client, denied), "bad_stateid");
	away.open("x");
	checkTables(claims);
});

test("an expired client loses very many opens at once, though they are taken away some at a time, and opens anew meanwhile", () => {
	const { claims, told } = newClaims();
	const away = new TestClient(claims, "a").connect();
	const stateids = Array.from({ length: 3500 }, (_, i) => away.open(`file ${i}`, 3, i === 3499 ? 3 : 0));
	const locks = [0, 3499].map((i) => away.lock(stateids[i] as Stateid, `file ${i}`, "write", ALL_BYTES));
	const came = new TestClient(claims, "b").connect();
	refuses("share_denied", () => came.open("file 3499"));
	told.time += SILENT_MS;
	came.run(() => {});
	const theirs = came.open("file 3499", 3, 3);
	came.lock(theirs, "file 3499", "write", ALL_BYTES);
	assert.ok(claims.tables.opens > 2000, "most of it is left to later turns");
	checkTables(claims);

	const lost = [...stateids, ...locks.map((lock) => ("granted" in lock ? lock.granted : theirs))];
	for (const stateid of lost) assert.equal(claims.testStateid(away.session.client, stateid), "expired");
	assert.equal(claims.statusFlags(away.session), 8);
	refuses("expired", () => away.close(stateids[100] as Stateid, "file 100"));
	refuses("delay", () => away.run((change) => claims.freeStateid(change, stateids[100] as Stateid)));
	refuses("share_denied", () => away.open("file 3499"));
	// its own that is lost is not in its way
	const again = away.open("file 3000", 3, 3);
	const lockedAgain = away.lock(again, "file 3000", "write", ALL_BYTES);
	assert.ok("granted" in lockedAgain);
	checkTables(claims);

	told.runDeferred();
	assert.equal(claims.tables.opens, 2);
	assert.equal(claims.tables.revoked, lost.length);
	assert.deepEqual([...told.held.keys()].sort(), ["file 3000", "file 3499"]);
	for (const stateid of lost) away.run((change) => claims.freeStateid(change, stateid));
	assert.equal(claims.statusFlags(away.session), 0);
	assert.equal(claims.testStateid(away.session.client, again), null);
	away.close(again, "file 3000");
	checkTables(claims);
});

test("what is lost and not taken away goes with a client that starts anew, or that loses more", () => {
	const { claims, told } = newClaims();
	const came = new TestClient(claims, "b").connect();
	const expire = () => {
		told.time += SILENT_MS;
		came.run(() => {});
		claims.checkShare(Buffer.from("file 0"), { access: 1, deny: 0 });
	};
	const away = new TestClient(claims, "a").connect();
	const first = Array.from({ length: 2500 }, (_, i) => away.open(`file ${i}`, 3, 3));
	expire();
	away.run(() => {});
	const second = Array.from({ length: 1500 }, (_, i) => away.open(`file ${i}`, 3, 3));
	expire();
	for (const stateid of first) assert.equal(claims.testStateid(away.session.client, stateid), "bad_stateid");
	for (const stateid of second) assert.equal(claims.testStateid(away.session.client, stateid), "expired");
	checkTables(claims);
	new TestClient(claims, "a", 2).connect();
	checkTables(claims);
	told.runDeferred();
	assert.deepEqual([claims.tables.opens, claims.tables.revoked, told.held.size], [0, 0, 0]);
	checkTables(claims);
});

test("a client that was told and frees nothing is not told for ever", () => {
	const { claims, told } = newClaims();
	const away = new TestClient(claims, "a").connect();
	away.open("x", 3, 3);
	told.time += SILENT_MS;
	claims.checkShare(Buffer.from("x"), { access: 1, deny: 0 });
	claims.tick();
	told.time += SILENT_MS;
	claims.tick();
	assert.equal(claims.statusFlags(away.session), 8);
	told.time += SILENT_MS;
	claims.tick();
	assert.equal(claims.statusFlags(away.session), 0);
	checkTables(claims);
});

test("stateids of what was lost are bounded: beyond it they are bad ones, and the client is told all the same", () => {
	const { claims, told } = newClaims({ limits: { opens: 4 } });
	const came = new TestClient(claims, "came").connect();
	const lost: { readonly client: TestClient; readonly stateids: readonly Stateid[] }[] = [];
	for (let i = 0; i < 3; i++) {
		const client = new TestClient(claims, `client ${i}`).connect();
		const stateids = [client.open("x", 3, 3), client.open("y")];
		told.time += SILENT_MS;
		came.run(() => {});
		claims.checkShare(Buffer.from("x"), { access: 1, deny: 0 });
		lost.push({ client, stateids });
		checkTables(claims);
	}
	assert.equal(claims.tables.revoked, 4);
	const codes = lost.map(({ client, stateids }) => stateids.map((stateid) => claims.testStateid(client.session.client, stateid)));
	assert.deepEqual(codes, [
		["expired", "expired"],
		["expired", "expired"],
		["bad_stateid", "bad_stateid"],
	]);
	for (const { client } of lost) assert.equal(claims.statusFlags(client.session), 8);
	// what is lost a second time takes the place of the first
	const { client, stateids } = lost[0];
	client.run(() => {});
	client.open("x", 3, 3);
	told.time += SILENT_MS;
	came.run(() => {});
	claims.checkShare(Buffer.from("x"), { access: 1, deny: 0 });
	assert.equal(claims.testStateid(client.session.client, stateids[0]), "bad_stateid");
	assert.equal(claims.tables.revoked, 3);
	told.time += SILENT_MS;
	claims.tick();
	assert.equal(claims.statusFlags(lost[2].client.session), 0);
	checkTables(claims);
});

test("after a day beyond its lease a client loses what it has, and after another one its id", () => {
	const { claims, told } = newClaims();
	const away = new TestClient(claims, "a").connect();
	away.open("x");
	told.time += SILENT_MS + 24 * 3600 * 1000 - 2000;
	claims.tick();
	assert.equal(claims.tables.opens, 1);
	told.time += 2000;
	claims.tick();
	assert.equal(claims.tables.opens, 0);
	assert.equal(claims.statusFlags(away.session), 8);
	told.time += 24 * 3600 * 1000;
	claims.tick();
	assert.equal(claims.tables.clients.size, 0);
	checkTables(claims);
});

test("at the limits of opens an expired client goes first, then OPEN has no room; CLOSE makes some", () => {
	const { claims, told } = newClaims({ limits: { opensPerClient: 3, opens: 5 } });
	const a = new TestClient(claims, "a").connect();
	const first = a.open("1");
	a.open("2");
	a.open("3");
	refuses("nospc", () => a.open("4"));
	const b = new TestClient(claims, "b").connect();
	b.open("5");
	b.open("6");
	refuses("nospc", () => b.open("7"));
	a.close(first, "1");
	b.open("7");
	const c = new TestClient(claims, "c").connect();
	refuses("nospc", () => c.open("8"));
	told.time += SILENT_MS;
	b.run(() => {});
	c.run(() => {});
	c.open("8");
	assert.equal(claims.statusFlags(a.session), 8);
	assert.equal(claims.statusFlags(b.session), 0);
	checkTables(claims);
});

test("a client opens nothing before it has said that it reclaims nothing, but does not wait for ever", () => {
	const { claims, told } = newClaims({ limits: { reclaimFirstSeconds: 100 } });
	const [one, other] = ["a", "b"].map((name) => new TestClient(claims, name).connect());
	refuses("grace", () => one.open("x"));
	one.reclaimComplete();
	one.open("x");
	told.time += 99_000;
	other.run(() => {});
	refuses("grace", () => other.open("x"));
	told.time += 1000;
	other.open("x");
	checkTables(claims);
});

test("an OPEN whose object cannot be held leaves nothing", () => {
	const { claims, told } = newClaims();
	const client = new TestClient(claims, "a").connect();
	told.hold = () => {
		throw new Error("no room");
	};
	assert.throws(() => client.open("x"), /no room/);
	assert.equal(claims.tables.files.size, 0);
	checkTables(claims);
});

test("an owner with many objects open finds each of them, and an object has many owners", () => {
	const { claims } = newClaims();
	const client = new TestClient(claims, "a").connect();
	const stateids = Array.from({ length: 30 }, (_, i) => client.open(`file ${i}`));
	checkTables(claims);
	assert.equal(client.open("file 3").index, stateids[3].index);
	for (const [i, stateid] of stateids.entries()) client.close({ ...stateid, seqid: 0 }, `file ${i}`);
	for (let i = 0; i < 30; i++) client.open("one", 1, 0, `owner ${i}`);
	checkTables(claims);
	assert.equal(claims.tables.opens, 30);
});

test("a client that leaves with many opens lets them go a few at a time, and what is opened again meanwhile stays held", () => {
	const { claims, told } = newClaims();
	const client = new TestClient(claims, "a").connect();
	for (let i = 0; i < 1000; i++) client.open(`file ${i}`);
	const other = new TestClient(claims, "b").connect();
	const again = new TestClient(claims, "a", 2);
	again.exchange();
	again.create();
	assert.equal(claims.tables.opens, 0);
	assert.ok(told.held.size > 800);
	other.open("file 1");
	told.deferred.shift()?.();
	assert.ok(told.held.size > 700);
	told.runDeferred();
	assert.deepEqual(told.held, new Map([["file 1", 1]]));
});

test("what a client had that has gone is taken away a part in each turn, and is in nobody's way until then", () => {
	const { claims, told } = newClaims({ limits: { opens: 4000 } });
	const client = new TestClient(claims, "a").connect();
	// the newest are taken away first
	const locked = client.open("locked", 3, 0);
	client.lock(locked, "locked", "write", ALL_BYTES);
	const parts = client.open("locked in parts");
	for (let i = 0; i < 1500; i++) client.lock(parts, "locked in parts", "write", bytes(2 * i, 2 * i + 1));
	for (let i = 0; i < 3500; i++) client.open(`file ${i}`, 3, 3);
	const again = new TestClient(claims, "a", 2);
	again.exchange();
	again.create();
	const writer = new RecordWriter();
	const types = () => {
		const found: (number | undefined)[] = [];
		// each record is in the memory of the one before
		for (const record of snapshot(claims, writer)) found.push(record?.[2]);
		return found;
	};
	const wasHeld = (): number => claims.tables.opens + claims.tables.locks;
	assert.ok(wasHeld() >= 4000, `${wasHeld()} are left after the first turn`);
	checkTables(claims);
	assert.ok(!types().some((type) => type === Type.open || type === Type.locker || type === Type.ranges));

	const other = new TestClient(claims, "b").connect();
	const opened = other.open("file 0", 3, 3);
	refuses("share_denied", () => again.open("file 0"));
	const mine = other.open("locked");
	assert.ok("granted" in other.lock(mine, "locked", "write", bytes(0, 1)));
	assert.equal(types().filter((type) => type === Type.open).length, 2);
	checkTables(claims);
	const left = [wasHeld()];
	while (told.deferred.length > 0) {
		told.deferred.shift()?.();
		left.push(wasHeld());
		checkTables(claims);
	}
	for (let i = 1; i < left.length; i++) assert.ok(left[i - 1] - left[i] <= 1001, `${left[i - 1] - left[i]} in one turn`);
	assert.deepEqual([claims.tables.opens, claims.tables.locks, claims.tables.files.size], [2, 1, 2]);
	assert.deepEqual(
		told.held,
		new Map([
			["file 0", 1],
			["locked", 1],
		]),
	);
	other.close(opened, "file 0");
	// at a limit it does not count
	for (let i = 0; i < 3900; i++) other.open(`file ${i}`);
	const third = new TestClient(claims, "b", 2);
	third.exchange();
	third.create();
	for (let i = 0; i < 3900; i++) third.open(`more ${i}`);
	checkTables(claims);
});

test("a request that still runs when its client goes opens nothing more", () => {
	const { claims, told } = newClaims();
	const client = new TestClient(claims, "a").connect();
	const slot = client.take();
	const again = new TestClient(claims, "a", 2);
	again.exchange();
	again.create();
	const request = { access: 3, deny: 0, handle: Buffer.from("x"), owner: Buffer.from("owner"), isReclaim: false };
	refuses("dead_session", () => claims.open({ slot, operation: 1 }, request));
	claims.finish(slot, Buffer.from("reply"));
	assert.deepEqual([claims.tables.opens, told.held.size], [0, 0]);
	checkTables(claims);
});
