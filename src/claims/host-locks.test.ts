// Locks of mounts on this host beside what clients lock: they exclude each other, wait for each other, and outlive the server.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Pending } from "../vfs/errors.ts";
import { checkTables } from "./check-tables.test-support.ts";
import { HostLocks } from "./host-locks.ts";
import {
	ALL_BYTES,
	bytes,
	claimFolder,
	done,
	hooksOf,
	LEASE_SECONDS,
	refuses,
	startClaims,
	TestClient,
	Told,
} from "./new-claims.test-support.ts";
import type { HostLocker } from "./operations.ts";

const [MOUNT, OTHER] = [Buffer.from("mount 1"), Buffer.from("mount 2")];

function by(owner: string, openFile = `of ${owner}`, handle = "x"): HostLocker {
	return { handle: Buffer.from(handle), owner: Buffer.from(owner), openFile: Buffer.from(openFile), pid: 77 };
}

/** Claims as a server opens them that has mounts. */
function serve(folder: string, bootId = "boot 1") {
	const locks = new HostLocks();
	const told = new Told();
	const hooks = locks.hooks(hooksOf(told));
	const { claims } = startClaims(folder, { hooks, bootId });
	for (const handle of claims.heldHandles()) told.hold(handle);
	locks.attach(claims);
	return { locks, told, claims };
}

function begin(t: TestContext) {
	const folder = claimFolder(t);
	const served = serve(folder);
	const mount = served.locks.mount(MOUNT);
	served.locks.start();
	return { folder, mount, ...served };
}

/** What is thrown by who has to wait; it fails the test where that is nothing. */
function waits(act: () => unknown): Pending {
	try {
		act();
	} catch (error) {
		if (error instanceof Pending) return error;
		throw error;
	}
	assert.fail("it does not wait");
}

test("processes of a mount and clients keep each other out, and each is told who is in the way", async (t) => {
	const { mount, claims } = begin(t);
	const client = await new TestClient(claims, "a").come();
	assert.equal(await done(() => mount.lock(by("p"), "write", bytes(0, 10), false)), true);
	const open = await done(() => client.open("x"));
	const denied = await done(() => client.lock(open, "x", "read", bytes(5, 6)));
	assert.deepEqual("denied" in denied && denied.denied.owner, Buffer.from("p"));
	assert.ok("granted" in (await done(() => client.lock(open, "x", "write", bytes(10, 20)))));
	assert.equal(mount.lock(by("p"), "read", bytes(15, 16), false), false);
	assert.deepEqual(
		{ ...mount.test(by("q"), "read", bytes(0, 1)), client: 0 },
		{
			...{ ...bytes(0, 10), type: "write", owner: Buffer.from("p"), client: 0, pid: 77 },
		},
	);
	assert.equal(mount.test(by("p"), "read", bytes(12, 13))?.pid, 0);
	assert.equal(mount.test(by("p"), "write", bytes(0, 10)), null);
	checkTables(claims);
});

test("who waits is woken when the lock may be had, by a client as by a process of the mount", async (t) => {
	const { mount, claims, told } = begin(t);
	const client = await new TestClient(claims, "a").come();
	const open = await done(() => client.open("x"));
	const held = await done(() => client.lock(open, "x", "write", ALL_BYTES));
	assert.ok("granted" in held);
	assert.equal((await done(() => mount.test(by("p"), "write", bytes(0, 1))))?.type, "write");
	const waiting = waits(() => mount.lock(by("p"), "write", bytes(0, 1), true));
	client.unlock(held.granted, "x", ALL_BYTES);
	await waiting.ready;
	assert.equal(mount.lock(by("p"), "write", bytes(0, 1), true), true);
	const second = waits(() => mount.lock(by("q"), "read", bytes(0, 1), true));
	mount.unlock(Buffer.from("x"), Buffer.from("p"));
	await second.ready;
	assert.equal(mount.lock(by("q"), "read", bytes(0, 1), true), true);
	assert.deepEqual(told.granted, []);
	await done(() => client.lock(open, "x", "write", ALL_BYTES, "locker", true));
	mount.close(Buffer.from("x"), Buffer.from("of q"));
	assert.deepEqual(told.granted, ["locker on x"]);
	checkTables(claims);
});

test("too many that wait are refused, and the others go on", async (t) => {
	const { mount } = begin(t);
	await done(() => mount.lock(by("p"), "write", ALL_BYTES, false));
	const waiting = Array.from({ length: 512 }, (_, i) => waits(() => mount.lock(by(`q${i}`), "write", ALL_BYTES, true)));
	refuses("nospc", () => mount.lock(by("last"), "write", ALL_BYTES, true));
	mount.unlock(Buffer.from("x"), Buffer.from("p"));
	await waiting[0].ready;
	assert.equal(mount.lock(by("q0"), "write", ALL_BYTES, true), true);
});

test("an unlocked range splits a lock, a closed file takes what was locked by it, and nothing is left at the end", async (t) => {
	const { mount, claims, told } = begin(t);
	await done(() => mount.lock(by("p", "file 1"), "write", bytes(0, 30), false));
	mount.unlock(Buffer.from("x"), Buffer.from("p"), bytes(10, 20));
	assert.equal(mount.lock(by("q", "file 2"), "write", bytes(10, 20), false), true);
	assert.equal(mount.lock(by("q", "file 2"), "write", bytes(29, 30), false), false);
	mount.unlock(Buffer.from("x"), Buffer.from("nobody"));
	mount.close(Buffer.from("x"), Buffer.from("no file"));
	mount.close(Buffer.from("x"), Buffer.from("file 1"));
	assert.equal(mount.lock(by("q", "file 2"), "write", ALL_BYTES, false), true);
	mount.unlock(Buffer.from("x"), Buffer.from("q"));
	assert.equal(claims.tables.lockStates, 0);
	mount.close(Buffer.from("x"), Buffer.from("file 2"));
	assert.equal(claims.tables.opens, 0);
	assert.deepEqual([...told.held], []);
	checkTables(claims);
});

test("locks of a mount outlive the server without a lease, and go with the mount", async (t) => {
	const { mount, claims, told, folder } = begin(t);
	await done(() => mount.lock(by("p"), "write", ALL_BYTES, false));
	told.time += 1000 * 1000 * LEASE_SECONDS;
	claims.tick();
	claims.destroy();
	const next = serve(folder);
	const again = next.locks.mount(MOUNT);
	waits(() => again.lock(by("q"), "write", bytes(0, 1), false));
	next.locks.start();
	const client = await new TestClient(next.claims, "a").come();
	const open = await done(() => client.open("x"));
	assert.ok("denied" in (await done(() => client.lock(open, "x", "read", bytes(0, 1)))));
	// what the last server did and could not answer is asked for again
	assert.equal(await done(() => again.lock(by("p"), "write", ALL_BYTES, false)), true);
	assert.equal(again.lock(by("q"), "write", bytes(0, 1), false), false);
	again.unlock(Buffer.from("x"), Buffer.from("p"));
	again.unlock(Buffer.from("x"), Buffer.from("p"));
	assert.equal(await done(() => again.lock(by("q"), "write", bytes(0, 1), false)), true);
	checkTables(next.claims);
	again.end();
	next.told.runDeferred();
	assert.ok("granted" in (await done(() => client.lock(open, "x", "write", ALL_BYTES))));
	next.locks.stop();
	again.end();
	next.claims.destroy();
});

test("what a mount has left that ended while there was no server goes at the next start, and is nothing to wait for after a failure of the host", async (t) => {
	const { mount, claims, folder } = begin(t);
	await done(() => mount.lock(by("p"), "write", ALL_BYTES, false));
	claims.destroy();
	const next = serve(folder);
	const other = next.locks.mount(OTHER);
	next.locks.start();
	next.told.runDeferred();
	assert.equal(await done(() => other.lock(by("q"), "write", ALL_BYTES, false)), true);
	next.claims.destroy();
	const later = serve(folder, "boot 2");
	assert.equal(later.claims.inGrace, false);
	later.claims.destroy();
});

test("in grace a lock waits until clients have reclaimed what they had", async (t) => {
	const { claims, folder } = begin(t);
	const client = await new TestClient(claims, "a").come();
	await done(() => client.open("x"));
	claims.destroy();
	const later = serve(folder, "boot 2");
	const mount = later.locks.mount(OTHER);
	later.locks.start();
	await waits(() => mount.lock(by("p"), "write", ALL_BYTES, false)).ready;
	waits(() => mount.lock(by("p"), "write", ALL_BYTES, false));
	waits(() => mount.test(by("p"), "write", ALL_BYTES));
	later.told.time += 1000 * (LEASE_SECONDS + 60);
	later.claims.tick();
	while (later.claims.inGrace) await new Promise((resolve) => setImmediate(resolve));
	assert.equal(await done(() => mount.lock(by("p"), "write", ALL_BYTES, false)), true);
	later.claims.destroy();
});
