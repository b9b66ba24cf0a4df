// Locks of a mount, byte by byte, beside what clients lock.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { HostLocks } from "../claims/host-locks.ts";
import { ALL_BYTES, hooksOf, newClaims, TestClient, Told } from "../claims/new-claims.test-support.ts";
import { ERRNO } from "../linux/errno.ts";
import { close } from "../linux/open.ts";
import { MemoryOverlay } from "../vfs/memory-overlay.test-support.ts";
import { FakeKernel, name, words } from "./fake-kernel.test-support.ts";
import { InitFlag, Opcode } from "./protocol.ts";
import { FuseSession } from "./session.ts";

const ROOT = 1;
const FILE = 2;
const [READ, WRITE, UNLOCK] = [0, 1, 2];
const FLOCK = 1;
const END = [-1, 0x7fffffff] as const;
const DONE = { error: 0, body: Buffer.alloc(0) };
const HELD = { error: ERRNO.EAGAIN, body: Buffer.alloc(0) };

async function begin(t: TestContext) {
	const kernel = new FakeKernel();
	const overlay = new MemoryOverlay();
	const locks = new HostLocks();
	const told = new Told();
	const { claims } = newClaims({ hooks: locks.hooks(hooksOf(told)) });
	locks.attach(claims);
	const session = new FuseSession({
		device: { descriptor: kernel.device, kept: null },
		overlay,
		actsAs: null,
		isShared: true,
		locks: (mountId) => locks.mount(mountId),
	});
	session.start();
	t.after(async () => {
		kernel.close();
		await session.ended;
		close(kernel.device);
	});
	const { error, body } = await kernel.init();
	assert.equal(error, 0);
	assert.equal(body.readUInt32LE(12) & (InitFlag.posixLocks | InitFlag.flockLocks), InitFlag.posixLocks | InitFlag.flockLocks);
	const made = await kernel.take(Opcode.create, ROOT, Buffer.concat([words(0o302, 0o100600, 0, 0), name("file")]));
	const client = new TestClient(claims, "a").connect();
	const { handle } = overlay.root.names.get("file") ?? overlay.root;
	return { kernel, locks, claims, told, client, handle: Buffer.from(handle).toString("latin1"), created: made.subarray(128, 136) };
}

/** struct fuse_lk_in. */
function lock(file: number, owner: number, range: readonly number[], type: number, flags = 0, pid = 4321): Buffer {
	const [start, ...end] = range;
	return words(file, 0, owner, 9, start, 0, end[0], end[1] ?? 0, type, pid, flags, 0);
}

test("each file that is opened has a number of its own, and locks by it go when it is closed, of either kind", async (t) => {
	const { kernel, locks, claims, created } = await begin(t);
	locks.start();
	const opened = await kernel.take(Opcode.open, FILE, words(2, 0));
	const number = opened.readUInt32LE(0);
	assert.deepEqual(opened, words(number, 0, 2, 0));
	assert.notDeepEqual(opened.subarray(0, 8), created);
	const first = created.readUInt32LE(0);
	assert.deepEqual(await kernel.ask(Opcode.setlk, FILE, lock(first, 100, [0, ...END], WRITE, FLOCK)), DONE);
	assert.deepEqual(await kernel.ask(Opcode.setlk, FILE, lock(number, 101, [0, ...END], READ, FLOCK)), HELD);
	assert.deepEqual(
		await kernel.ask(Opcode.flush, FILE, words(first, 0, 0, 0, 100, 9)),
		DONE,
		"a process closes it, and another has it open",
	);
	assert.deepEqual(await kernel.ask(Opcode.setlk, FILE, lock(number, 101, [0, ...END], READ, FLOCK)), HELD);
	assert.deepEqual(await kernel.ask(Opcode.release, FILE, words(first, 0, 2, 2, 100, 9)), DONE);
	assert.deepEqual(await kernel.ask(Opcode.setlk, FILE, lock(number, 101, [0, ...END], READ, FLOCK)), DONE);
	assert.deepEqual(await kernel.ask(Opcode.release, FILE, words(number, 0, 2, 2, 101, 9)), DONE);
	assert.equal(claims.tables.opens, 0);
});

test("a range is locked by its owner, told to others, and goes with FLUSH", async (t) => {
	const { kernel, locks } = await begin(t);
	locks.start();
	assert.deepEqual(await kernel.ask(Opcode.setlk, FILE, lock(5, 1, [10, 19], WRITE)), DONE);
	assert.deepEqual(await kernel.take(Opcode.getlk, FILE, lock(6, 2, [0, ...END], READ)), words(10, 0, 19, 0, WRITE, 4321));
	assert.deepEqual(await kernel.take(Opcode.getlk, FILE, lock(6, 2, [20, 29], READ)), words(20, 0, 29, 0, UNLOCK, 0));
	assert.deepEqual(await kernel.take(Opcode.getlk, FILE, lock(5, 1, [0, ...END], READ)), words(0, 0, ...END, UNLOCK, 0));
	assert.deepEqual(await kernel.ask(Opcode.setlk, FILE, lock(5, 1, [12, 13], UNLOCK)), DONE);
	assert.deepEqual(await kernel.ask(Opcode.setlk, FILE, lock(6, 2, [12, 13], WRITE)), DONE);
	assert.deepEqual(await kernel.ask(Opcode.setlk, FILE, lock(6, 2, [14, ...END], READ)), HELD);
	assert.deepEqual(await kernel.ask(Opcode.flush, FILE, words(5, 0, 0, 0, 1, 9)), DONE);
	assert.deepEqual(await kernel.ask(Opcode.setlk, FILE, lock(6, 2, [14, ...END], READ)), DONE);
	assert.deepEqual(await kernel.take(Opcode.getlk, FILE, lock(7, 3, [100, 200], WRITE)), words(14, 0, ...END, READ, 4321));
	for (const bad of [lock(5, 1, [3, 2], READ), lock(5, 1, [0, -1, -1], READ), lock(5, 1, [0, 1], 7)])
		assert.equal((await kernel.ask(Opcode.setlk, FILE, bad)).error, ERRNO.EINVAL);
	// across a multiple of 2^32
	const far = (owner: number, type: number) => words(5, 0, owner, 9, 0xfffffff0, 1, 0x0f, 2, type, 0, 0, 0);
	assert.deepEqual(await kernel.ask(Opcode.flush, FILE, words(6, 0, 0, 0, 2, 9)), DONE);
	assert.deepEqual(await kernel.ask(Opcode.setlk, FILE, far(1, WRITE)), DONE);
	assert.deepEqual(await kernel.take(Opcode.getlk, FILE, lock(6, 2, [0, ...END], READ)), words(0xfffffff0, 1, 0x0f, 2, WRITE, 0));
});

test("SETLKW waits for a client while others are served, and is granted when that one unlocks", async (t) => {
	const { kernel, locks, client, handle } = await begin(t);
	const early = kernel.send(Opcode.setlk, FILE, lock(5, 1, [0, 9], READ));
	assert.equal((await kernel.ask(Opcode.getattr, ROOT, words(0, 0, 0, 0))).error, 0);
	assert.ok(!kernel.isAnswered(early), "nothing is locked before all that is held is known");
	locks.start();
	assert.deepEqual(await kernel.answer(early), DONE);
	assert.deepEqual(await kernel.ask(Opcode.flush, FILE, words(5, 0, 0, 0, 1, 9)), DONE);
	const stateid = client.open(handle);
	const held = client.lock(stateid, handle, "write", ALL_BYTES);
	assert.ok("granted" in held);
	assert.deepEqual(await kernel.ask(Opcode.setlk, FILE, lock(5, 1, [0, 9], READ)), HELD);
	assert.deepEqual(await kernel.take(Opcode.getlk, FILE, lock(5, 1, [0, 9], READ)), words(0, 0, ...END, WRITE, 0));
	const waiting = kernel.send(Opcode.setlkw, FILE, lock(5, 1, [0, 9], READ));
	const interrupted = kernel.send(Opcode.setlkw, FILE, lock(6, 2, [0, 9], READ));
	assert.equal((await kernel.ask(Opcode.getattr, ROOT, words(0, 0, 0, 0))).error, 0);
	assert.ok(!kernel.isAnswered(waiting));
	kernel.send(Opcode.interrupt, 0, words(interrupted, 0));
	assert.deepEqual(await kernel.answer(interrupted), { error: ERRNO.EINTR, body: Buffer.alloc(0) });
	client.unlock(held.granted, handle, ALL_BYTES);
	assert.deepEqual(await kernel.answer(waiting), DONE);
	const refused = client.lock(stateid, handle, "write", ALL_BYTES);
	assert.ok("denied" in refused);
});

test("what a mount has locked goes when the mount ends", async (t) => {
	const { kernel, locks, claims, told, client, handle } = await begin(t);
	locks.start();
	assert.deepEqual(await kernel.ask(Opcode.setlk, FILE, lock(5, 1, [0, ...END], WRITE)), DONE);
	const stateid = client.open(handle);
	assert.ok("denied" in client.lock(stateid, handle, "read", ALL_BYTES));
	kernel.close();
	while (!("granted" in client.lock(stateid, handle, "read", ALL_BYTES))) await new Promise((resolve) => setImmediate(resolve));
	told.runDeferred();
	assert.equal(claims.tables.locks, 1);
});

test("without others the kernel locks by itself", async (t) => {
	const kernel = new FakeKernel();
	const device = { descriptor: kernel.device, kept: null };
	const session = new FuseSession({ device, overlay: new MemoryOverlay(), actsAs: null, isShared: true });
	session.start();
	t.after(async () => {
		kernel.close();
		await session.ended;
		close(kernel.device);
	});
	assert.equal((await kernel.init()).body.readUInt32LE(12) & (InitFlag.posixLocks | InitFlag.flockLocks), 0);
	for (const opcode of [Opcode.getlk, Opcode.setlk, Opcode.setlkw])
		assert.equal((await kernel.ask(opcode, ROOT, lock(0, 1, [0, 9], READ))).error, ERRNO.ENOSYS);
});
