// A mount whose server dies, and whose next one goes on from the memory that is kept of it.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { ERRNO } from "../linux/errno.ts";
import { close } from "../linux/open.ts";
import { makeSharedMemory, mapShared } from "../linux/shared-memory.ts";
import { MemoryOverlay } from "../vfs/memory-overlay.test-support.ts";
import { ALL_FLAGS, FakeKernel, name, words } from "./fake-kernel.test-support.ts";
import { HEADER, KEPT_BYTES, LARGE_SLOTS_AT } from "./kept-layout.ts";
import { NodeTable } from "./node-table.ts";
import { Opcode } from "./protocol.ts";
import { FuseSession } from "./session.ts";

const ROOT = 1;
const GETATTR_ARGS = words(0, 0, 0, 0);

function keptMemory() {
	const fd = makeSharedMemory("test", KEPT_BYTES);
	assert.ok(fd >= 0);
	const memory = mapShared(fd, KEPT_BYTES);
	close(fd);
	assert.ok(typeof memory !== "number");
	return memory;
}

function stand(t: TestContext) {
	const kernel = new FakeKernel();
	const overlay = new MemoryOverlay();
	const kept = keptMemory();
	const serve = () => {
		const device = { descriptor: kernel.device, kept };
		// who ends gives up at once, as by SIGKILL
		const session = new FuseSession({ device, overlay, actsAs: null, isShared: false, drainSeconds: 0 });
		session.start();
		return session;
	};
	t.after(() => {
		kernel.close();
		close(kernel.device);
	});
	return { kernel, overlay, kept, serve };
}

const turns = async (count: number) => {
	for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
};

test("the next server needs no INIT, and knows every node id and how often it was looked up", async (t) => {
	const { kernel, overlay, serve } = stand(t);
	const first = serve();
	await kernel.init();
	await kernel.take(Opcode.mkdir, ROOT, Buffer.concat([words(0o755, 0), name("a")]));
	await kernel.take(Opcode.mkdir, 2, Buffer.concat([words(0o700, 0), name("b")]));
	await kernel.take(Opcode.lookup, 2, name("b"));
	await first.close();
	const second = serve();
	assert.equal((await kernel.take(Opcode.getattr, 3, GETATTR_ARGS)).readUInt32LE(16), overlay.root.names.get("a")?.names.get("b")?.id);
	assert.equal((await kernel.take(Opcode.lookup, ROOT, name("a"))).readUInt32LE(0), 2);
	assert.equal((await kernel.take(Opcode.mkdir, ROOT, Buffer.concat([words(0o755, 0), name("c")]))).readUInt32LE(0), 4);
	assert.equal((await kernel.ask(Opcode.open, ROOT, words(0, 0))).error, ERRNO.ENOSYS, "what INIT agreed on holds");
	kernel.send(Opcode.forget, 3, words(2, 0));
	assert.equal((await kernel.ask(Opcode.getattr, 3, GETATTR_ARGS)).error, ERRNO.ESTALE);
	await second.close();
});

test("requests that waited when the server died are answered by the next one, each once, in their order", async (t) => {
	const { kernel, overlay, kept, serve } = stand(t);
	const first = serve();
	await kernel.init();
	await kernel.take(Opcode.mknod, ROOT, Buffer.concat([words(0o100644, 0, 0, 0), name("file")]));
	overlay.wait = () => new Promise(() => {});
	overlay.waits.set("mkdir", 1);
	overlay.waits.set("write", 1);
	const asked = overlay.calls.length;
	const made = kernel.send(Opcode.mkdir, ROOT, Buffer.concat([words(0o755, 0), name("d")]), { uid: 5, gid: 6 });
	const data = Buffer.alloc(20_000, "x");
	const written = kernel.send(Opcode.write, 2, Buffer.concat([words(0, 0, 0, 0, data.length, 0, 0, 0, 0, 0), data]));
	while (!overlay.calls.slice(asked).includes("write")) await turns(1);
	await first.close();
	const second = serve();
	assert.equal((await kernel.answer(made)).error, 0);
	assert.deepEqual((await kernel.answer(written)).body, words(data.length, 0));
	assert.deepEqual(
		overlay.calls.filter((call) => call === "mkdir" || call === "write"),
		["mkdir", "write", "mkdir", "write"],
	);
	const directory = overlay.root.names.get("d");
	assert.deepEqual([directory?.uid, directory?.gid, directory?.mode], [5, 6, 0o755]);
	assert.equal(overlay.root.names.get("file")?.size, data.length);
	await second.close();
	const session = new FuseSession({ device: { descriptor: kernel.device, kept }, overlay, actsAs: null, isShared: false });
	const calls = overlay.calls.length;
	session.start();
	await turns(5);
	assert.equal(overlay.calls.length, calls, "nothing is left to be answered");
	await session.close();
});

test("INIT that a server has read and not answered is answered by the next one", async (t) => {
	const { kernel, kept, serve } = stand(t);
	const args = words(7, 45, 131072, ALL_FLAGS[0], ALL_FLAGS[1], ...new Array(11).fill(0));
	const request = Buffer.concat([words(40 + args.length, Opcode.init, 8, 0, 0, 0, 0, 0, 0, 0), args]);
	kept.bytes.set(request, LARGE_SLOTS_AT);
	const session = serve();
	const { error, body } = await kernel.answer(8);
	assert.deepEqual([error, body.readUInt32LE(4)], [0, 45]);
	assert.equal((await kernel.ask(Opcode.open, ROOT, words(0, 0))).error, ERRNO.ENOSYS);
	await session.close();
});

test("memory of another version is refused", (t) => {
	const { overlay, kept, kernel } = stand(t);
	const make = () => new FuseSession({ device: { descriptor: kernel.device, kept }, overlay, actsAs: null, isShared: false });
	make();
	kept.bytes.writeUInt32LE(99, HEADER.version * 4);
	assert.throws(make, RangeError);
});

test("a table of node ids finds each object by its handle, in one process after the other, and uses ids again that were forgotten", () => {
	const memory = keptMemory();
	const objects = Array.from({ length: 5000 }, (_, i) => {
		const handle = Buffer.alloc(40 + (i % 24));
		handle.writeUInt32LE(i, 8);
		// many of one hash
		handle.writeUInt32LE(i % 1500, handle.length - 4);
		return { handle, type: 8 as const };
	});
	const root = { handle: Buffer.alloc(32, 1), type: 4 as const };
	const table = new NodeTable(memory, root.handle);
	assert.equal(table.lookUp(root), ROOT);
	const ids = objects.map((object) => table.lookUp(object));
	assert.equal(new Set(ids).size, objects.length);
	assert.deepEqual(
		objects.map((object) => table.lookUp(object)),
		ids,
	);
	assert.ok(table.holds(objects[7].handle));
	assert.ok(!table.holds(objects[7].handle), "held once");
	assert.ok(!table.holds(root.handle));
	for (const id of ids.slice(0, 100)) table.forget(id, 1);
	const next = new NodeTable(memory, root.handle);
	assert.equal(next.size, table.size);
	assert.deepEqual(
		[...next.held()].map((handle) => Buffer.from(handle)),
		[objects[7].handle],
	);
	for (const [i, object] of objects.entries()) {
		assert.equal(next.find(object.handle), ids[i]);
		assert.deepEqual(next.handle(ids[i]), object.handle);
	}
	assert.deepEqual(next.forget(ids[7], 1), objects[7].handle, "to be let go");
	assert.throws(() => next.handle(ids[7]), { code: "stale" });
	for (const id of ids.slice(100, 4000)) assert.equal(next.forget(id, 2), null);
	assert.equal(next.size, 1 + 100 - 1 + 1000);
	const again = new Set(objects.slice(100, 4000).map((object) => next.lookUp(object)));
	assert.ok([...again].every((id) => id <= ids.length + 1));
	assert.equal(next.forget(0, 1), null);
	assert.equal(next.forget(ROOT, 1_000), null);
	assert.equal(next.forget(4_000_000_000, 1), null);
	assert.ok(next.handle(ROOT).equals(root.handle));
});
