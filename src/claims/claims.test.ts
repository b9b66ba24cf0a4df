// Locks as clients ask for them: who is denied and told what, who waits, what goes with CLOSE and with an expired client, and the limits.

import assert from "node:assert/strict";
import { test } from "node:test";
import { fc } from "../../test/support/fast-check.ts";
import { checkTables } from "./check-tables.test-support.ts";
import { ClaimError } from "./errors.ts";
import { ALL_BYTES, bytes, LEASE_SECONDS, newClaims, refuses, TestClient } from "./new-claims.test-support.ts";
import type { LockResult, Stateid } from "./operations.ts";

function granted(result: LockResult): Stateid {
	assert.ok("granted" in result, "the lock is granted");
	return result.granted;
}

const SILENT_MS = (LEASE_SECONDS + 1) * 1000;
const X = Buffer.from("x");

function start(limits = {}) {
	const { claims, told } = newClaims({ limits });
	const [a, b] = [new TestClient(claims, "a").connect(), new TestClient(claims, "b").connect()];
	return { claims, told, a, b, openA: a.open("x"), openB: b.open("x") };
}

test("a denied lock names owner, range and type of the one in the way", () => {
	const { claims, a, b, openA, openB } = start();
	granted(a.lock(openA, "x", "read", bytes(10, 20), "first"));
	granted(b.lock(openB, "x", "read", bytes(0, 100)));
	const denied = b.lock(openB, "x", "write", bytes(15, 16));
	const inTheWay = { ...bytes(10, 20), type: "read", owner: Buffer.from("first"), client: { hi: a.id.hi, lo: a.id.lo } };
	assert.deepEqual(denied, { denied: inTheWay });
	assert.deepEqual(claims.lockTest(b.session.client, Buffer.from("locker"), X, "write", ALL_BYTES), inTheWay);
	assert.equal(claims.lockTest(b.session.client, Buffer.from("locker"), X, "read", ALL_BYTES), null);
	assert.equal(claims.lockTest(b.session.client, Buffer.from("locker"), X, "write", bytes(20, 30)), null);
	assert.equal(claims.lockTest(b.session.client, Buffer.from("locker"), Buffer.from("not open"), "write", ALL_BYTES), null);
	checkTables(claims);
});

test("one client's owners are in each other's way, and an owner's locks are its own by whatever stateid", () => {
	const { claims, a, openA } = start();
	const first = granted(a.lock(openA, "x", "write", bytes(0, 10), "one"));
	assert.ok("denied" in a.lock(openA, "x", "read", bytes(5, 6), "two"));
	const second = granted(a.lock(openA, "x", "read", bytes(20, 30), "two"));
	// two threads of one process may both come as a new owner
	const again = granted(a.lock(openA, "x", "read", bytes(5, 10), "one"));
	assert.deepEqual([again.index, again.seqid], [first.index, first.seqid + 1]);
	assert.ok("denied" in a.lockBy(second, "x", "write", bytes(4, 5)));
	granted(a.lockBy(second, "x", "read", bytes(5, 6)));
	assert.equal(claims.tables.locks, 4);
	checkTables(claims);
});

test("locks need an open for what they lock", () => {
	const { a, claims } = start();
	const [reading, writing] = [a.open("r", 1), a.open("w", 2)];
	refuses("openmode", () => a.lock(reading, "r", "write", ALL_BYTES));
	refuses("openmode", () => a.lock(writing, "w", "read", ALL_BYTES));
	granted(a.lock(reading, "r", "read", ALL_BYTES));
	granted(a.lock(writing, "w", "write", ALL_BYTES));
	refuses("inval", () => a.lock(reading, "r", "read", bytes(5, 5)));
	refuses("inval", () => a.lock(reading, "r", "read", ALL_BYTES, "x".repeat(1025)));
	checkTables(claims);
});

test("the stateid of locks is for content too, and is freed when none are held", () => {
	const { claims, a, openA } = start();
	const lock = granted(a.lock(openA, "x", "write", bytes(0, 10)));
	claims.checkContent(a.session.client, lock, X, 2);
	refuses("locks_held", () => a.run((change) => claims.freeStateid(change, lock)));
	refuses("locks_held", () => a.run((change) => claims.freeStateid(change, openA)));
	const unlocked = a.unlock(lock, "x", ALL_BYTES);
	refuses("old_stateid", () => a.unlock(lock, "x", ALL_BYTES));
	assert.equal(claims.testStateid(a.session.client, lock), "old_stateid");
	assert.equal(claims.testStateid(a.session.client, unlocked), null);
	a.run((change) => claims.freeStateid(change, unlocked));
	refuses("bad_stateid", () => a.unlock(unlocked, "x", ALL_BYTES));
	checkTables(claims);
});

test("locks go with CLOSE of their open, and only those", () => {
	const { claims, told, a, b, openA, openB } = start();
	const other = a.open("x", 3, 0, "another owner");
	granted(a.lock(openA, "x", "write", bytes(0, 10), "one"));
	granted(a.lock(other, "x", "write", bytes(20, 30), "two"));
	assert.ok("denied" in b.lock(openB, "x", "write", bytes(5, 6), "waiter", true));
	a.close(openA, "x");
	assert.deepEqual(told.granted, ["waiter on x"]);
	granted(b.lock(openB, "x", "write", bytes(5, 6), "waiter"));
	assert.ok("denied" in b.lock(openB, "x", "write", bytes(20, 21)));
	checkTables(claims);
});

test("who waits is told at UNLOCK, at a downgrade, when the other leaves or is removed, and not after 60 seconds or its own CLOSE", () => {
	const cases: readonly (readonly [boolean, (game: ReturnType<typeof start>, lock: Stateid) => void])[] = [
		[true, ({ a }, lock) => a.unlock(lock, "x", ALL_BYTES)],
		[false, ({ a }, lock) => a.unlock(lock, "x", bytes(50, 60))],
		[true, ({ a }, lock) => a.lockBy(lock, "x", "read", ALL_BYTES)],
		[true, ({ a, openA }) => a.close(openA, "x")],
		[
			true,
			({ claims }) => {
				const restarted = new TestClient(claims, "a", 2);
				restarted.exchange();
				restarted.create();
			},
		],
		[
			false,
			({ a, told }, lock) => {
				told.time += 60_000;
				a.unlock(lock, "x", ALL_BYTES);
			},
		],
		[
			false,
			({ a, b, openB }, lock) => {
				b.close(openB, "x");
				a.unlock(lock, "x", ALL_BYTES);
			},
		],
		[
			false,
			({ a, b, openB }, lock) => {
				// it asked again, and did not want to wait: what it waits for is what it asked for last
				granted(b.lock(openB, "x", "read", bytes(90, 91), "waiter"));
				a.unlock(lock, "x", ALL_BYTES);
			},
		],
	];
	for (const [isTold, act] of cases) {
		const game = start();
		const lock = granted(game.a.lock(game.openA, "x", "write", bytes(0, 80)));
		assert.ok("denied" in game.b.lock(game.openB, "x", "read", bytes(0, 10), "waiter", true));
		act(game, lock);
		assert.deepEqual(game.told.granted, isTold ? ["waiter on x"] : []);
		checkTables(game.claims);
	}
});

test("an expired client keeps its locks until another wants them, then loses all; a LOCKT counts", () => {
	for (const isTest of [true, false]) {
		const { claims, told, a, b, openA, openB } = start();
		const lock = granted(a.lock(openA, "x", "write", ALL_BYTES));
		told.time += SILENT_MS;
		b.run(() => {});
		assert.equal(claims.testStateid(a.session.client, lock), null);
		if (isTest) assert.equal(claims.lockTest(b.session.client, Buffer.from("locker"), X, "write", ALL_BYTES), null);
		else granted(b.lock(openB, "x", "write", ALL_BYTES));
		assert.equal(claims.testStateid(a.session.client, lock), "expired");
		refuses("expired", () => a.unlock(lock, "x", ALL_BYTES));
		refuses("expired", () => a.lock(openA, "x", "read", ALL_BYTES));
		assert.equal(claims.statusFlags(a.session), 8);
		checkTables(claims);
	}
});

test("a client that comes back before anybody wanted its locks has them still", () => {
	const { claims, told, a, b, openA, openB } = start();
	const lock = granted(a.lock(openA, "x", "write", ALL_BYTES));
	told.time += SILENT_MS;
	a.run(() => {});
	b.run(() => {});
	assert.ok("denied" in b.lock(openB, "x", "write", ALL_BYTES));
	a.unlock(lock, "x", ALL_BYTES);
	checkTables(claims);
});

test("at the limits of locks the client is told to wait, unlocking works, and an expired client goes first", () => {
	const { claims, told, a, b, openA, openB } = start({ locksPerClient: 8, locks: 12 });
	let lock = granted(a.lock(openA, "x", "write", bytes(0, 2)));
	for (let i = 1; i < 8; i++) lock = granted(a.lockBy(lock, "x", "write", bytes(i * 10, i * 10 + 6)));
	refuses("delay", () => a.lockBy(lock, "x", "write", bytes(100, 101)));
	// what merges takes no place
	lock = granted(a.lockBy(lock, "x", "write", bytes(6, 70)));
	assert.equal(claims.tables.locks, 2);
	for (let i = 0; i < 7; i++) lock = a.unlock(lock, "x", bytes(10 + i * 4, 11 + i * 4));
	assert.equal(claims.tables.locks, 9);
	refuses("delay", () => a.unlock(lock, "x", bytes(50, 51)));
	const other = granted(b.lock(openB, "x", "read", bytes(1000, 1001)));
	for (let i = 1; i < 3; i++) granted(b.lockBy({ ...other, seqid: 0 }, "x", "read", bytes(1000 + i * 5, 1001 + i * 5)));
	refuses("delay", () => b.lockBy({ ...other, seqid: 0 }, "x", "read", bytes(2000, 2001)));
	told.time += SILENT_MS;
	b.run(() => {});
	granted(b.lockBy({ ...other, seqid: 0 }, "x", "read", bytes(2000, 2001)));
	assert.equal(claims.statusFlags(a.session), 8);
	checkTables(claims);
});

test("owners of locks without any range count too", () => {
	const { claims, a, openA } = start({ locksPerClient: 5 });
	for (let i = 0; i < 5; i++) a.unlock(granted(a.lock(openA, "x", "write", bytes(0, 1), `owner ${i}`)), "x", ALL_BYTES);
	refuses("delay", () => a.lock(openA, "x", "write", bytes(0, 1), "owner 5"));
	assert.equal(claims.tables.locks, 0);
	checkTables(claims);
});

test("an owner with locks on many objects, and an object with many owners, are both found", () => {
	const { claims, a } = start();
	const opens = Array.from({ length: 20 }, (_, i) => a.open(`file ${i}`));
	const locks = opens.map((open, i) => granted(a.lock(open, `file ${i}`, "write", bytes(0, 1))));
	checkTables(claims);
	assert.equal(granted(a.lock(opens[4], "file 4", "write", bytes(5, 6))).index, locks[4].index);
	for (let i = 0; i < 20; i++) granted(a.lock(opens[0], "file 0", "read", bytes(100, 110), `reader ${i}`));
	checkTables(claims);
	for (const [i, open] of opens.entries()) a.close(open, `file ${i}`);
	assert.deepEqual([claims.tables.locks, claims.tables.lockStates], [0, 0]);
	checkTables(claims);
});

test("whatever two clients open, lock and close while leases run out, no lock is held twice and all counts are right", () => {
	const step = fc.record({
		kind: fc.constantFrom("open", "open", "lock", "lock", "lock", "unlock", "close", "silence", "restart", "free", "tick"),
		who: fc.integer({ min: 0, max: 2 }),
		file: fc.constantFrom("x", "y"),
		owner: fc.constantFrom("p", "q"),
		at: fc.integer({ min: 0, max: 6 }),
		access: fc.integer({ min: 1, max: 3 }),
	});
	fc.assert(
		fc.property(fc.array(step, { maxLength: 60, size: "max" }), (steps) => {
			const { claims, told } = newClaims({ limits: { opens: 8, locks: 10 } });
			const players = ["a", "b", "c"].map((name) => new TestClient(claims, name).connect());
			const stateids = new Map<string, Stateid>();
			for (const { kind, who, file, owner, at, access } of steps) {
				const player = players[who];
				const key = (kindOf: string) => `${kindOf} ${who} ${owner} ${file}`;
				const open = stateids.get(key("open"));
				const lock = stateids.get(key("lock"));
				const type = access > 1 ? "write" : "read";
				try {
					if (kind === "open") stateids.set(key("open"), player.open(file, access, at === 0 ? 1 : 0, owner));
					else if (kind === "silence") told.time += SILENT_MS;
					else if (kind === "tick") claims.tick();
					else if (kind === "restart") {
						player.verifier = Buffer.alloc(8, player.verifier[0] + 1);
						player.exchange();
						player.create();
					} else if (open === undefined) continue;
					else if (kind === "lock") {
						const result = player.lock(open, file, type, bytes(at, at + 3), owner, true);
						if ("granted" in result) stateids.set(key("lock"), result.granted);
					} else if (kind === "close") player.close(open, file);
					else if (lock === undefined) continue;
					else if (kind === "unlock") stateids.set(key("lock"), player.unlock(lock, file, bytes(at, at + 2)));
					else player.run((change) => claims.freeStateid(change, lock));
				} catch (error) {
					if (!(error instanceof ClaimError)) throw error;
				}
				checkTables(claims);
			}
			told.runDeferred();
			assert.deepEqual([...told.held.keys()].sort(), [...claims.tables.files.keys()].sort());
		}),
		{ numRuns: 200 },
	);
});
