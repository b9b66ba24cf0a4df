// Requests that no kernel sends: cut short, mutated, about node ids that were forgotten. Each gets one answer, and the session goes on.

import assert from "node:assert/strict";
import { channel } from "node:diagnostics_channel";
import { type TestContext, test } from "node:test";
import { generator } from "../../test/support/random.ts";
import { seed, volume } from "../../test/support/requirements.ts";
import { HostLocks } from "../claims/host-locks.ts";
import { hooksOf, newClaims, Told } from "../claims/new-claims.test-support.ts";
import { ERRNO } from "../linux/errno.ts";
import { close } from "../linux/open.ts";
import type { RpcFailure } from "../rpc/rpc-failure.ts";
import { MemoryOverlay } from "../vfs/memory-overlay.test-support.ts";
import { FakeKernel, name, words } from "./fake-kernel.test-support.ts";
import { OPERATIONS } from "./operation-table.ts";
import { Opcode } from "./protocol.ts";
import { FuseSession } from "./session.ts";

/** 100,000 in `npm run test:all`, or as many as HOLDFAST_FUZZ_REQUESTS says. */
const count = Number(process.env.HOLDFAST_FUZZ_REQUESTS ?? volume(3000, 100_000));
const ROOT = 1;
/** With what node:os does not name: ENODATA, ENOLCK. */
const ERRORS = new Set([...Object.values(ERRNO), 61, 37]);

async function begin(t: TestContext) {
	const kernel = new FakeKernel();
	const overlay = new MemoryOverlay();
	const hostLocks = new HostLocks();
	hostLocks.attach(newClaims({ hooks: hostLocks.hooks(hooksOf(new Told())) }).claims);
	const locks = (mountId: Uint8Array) => hostLocks.mount(mountId);
	const session = new FuseSession({ device: { descriptor: kernel.device, kept: null }, overlay, actsAs: null, isShared: true, locks });
	session.start();
	hostLocks.start();
	const failures: RpcFailure[] = [];
	const note = (failure: unknown) => failures.push(failure as RpcFailure);
	channel("holdfast:rpc:failure").subscribe(note);
	t.after(async () => {
		channel("holdfast:rpc:failure").unsubscribe(note);
		await session.close();
		kernel.close();
		close(kernel.device);
	});
	assert.equal((await kernel.init()).error, 0);
	const entry = await kernel.take(Opcode.mknod, ROOT, Buffer.concat([words(0o100644, 0, 0, 0), name("file")]));
	assert.equal(entry.readUInt32LE(0), 2);
	return { kernel, overlay, failures };
}

/** Arguments of each operation that are whole; the file is node 2. */
function wholeArguments(): Map<number, Buffer> {
	const io = words(0, 0, 0, 0, 4, 0, 0, 0, 0, 0);
	return new Map<number, Buffer>([
		[Opcode.lookup, name("file")],
		[Opcode.forget, words(1, 0)],
		[Opcode.getattr, words(0, 0, 0, 0)],
		[Opcode.setattr, words(0x1ff, 0, 0, 0, 5, 0, 0, 0, 1, 0, 2, 0, 0, 0, 3, 4, 0, 0o644, 0, 1, 1, 0)],
		[Opcode.readlink, Buffer.alloc(0)],
		[Opcode.symlink, Buffer.concat([name("link"), name("target")])],
		[Opcode.mknod, Buffer.concat([words(0o100644, 0, 0, 0), name("node")])],
		[Opcode.mkdir, Buffer.concat([words(0o755, 0), name("directory")])],
		[Opcode.unlink, name("file")],
		[Opcode.rmdir, name("directory")],
		[Opcode.rename, Buffer.concat([words(1, 0), name("file"), name("other")])],
		[Opcode.link, Buffer.concat([words(2, 0), name("hard")])],
		[Opcode.open, words(0, 0)],
		[Opcode.read, io],
		[Opcode.write, Buffer.concat([io, Buffer.from("data")])],
		[Opcode.statfs, Buffer.alloc(0)],
		[Opcode.release, words(0, 0, 0, 0, 0, 0)],
		[Opcode.fsync, words(0, 0, 0, 0)],
		[Opcode.setxattr, Buffer.concat([words(1, 0, 0, 0), name("user.a"), Buffer.from("v")])],
		[Opcode.getxattr, Buffer.concat([words(100, 0), name("user.a")])],
		[Opcode.listxattr, words(100, 0)],
		[Opcode.removexattr, name("user.a")],
		[Opcode.flush, words(0, 0, 0, 0, 0, 0)],
		[Opcode.opendir, words(0, 0)],
		[Opcode.readdir, words(0, 0, 0, 0, 512, 0, 0, 0, 0, 0)],
		[Opcode.releasedir, words(0, 0, 0, 0, 0, 0)],
		[Opcode.fsyncdir, words(0, 0, 0, 0)],
		[Opcode.getlk, words(1, 0, 5, 0, 0, 0, 9, 0, 0, 1, 0, 0)],
		[Opcode.setlk, words(1, 0, 6, 0, 0, 0, 9, 0, 1, 1, 0, 0)],
		[Opcode.setlkw, words(1, 0, 7, 0, 5, 0, -1, 0x7fffffff, 1, 1, 1, 0)],
		[Opcode.create, Buffer.concat([words(0o102, 0o100644, 0, 0), name("made")])],
		[Opcode.batchForget, words(1, 0, 2, 0, 1, 0)],
		[Opcode.fallocate, words(0, 0, 0, 0, 10, 0, 0, 0)],
		[Opcode.readdirplus, words(0, 0, 0, 0, 512, 0, 0, 0, 0, 0)],
		[Opcode.rename2, Buffer.concat([words(1, 0, 1, 0), name("file"), name("other")])],
		[Opcode.lseek, words(0, 0, 0, 0, 3, 0)],
		[Opcode.copyFileRange, words(0, 0, 0, 0, 2, 0, 0, 0, 4, 0, 2, 0, 0, 0)],
		[Opcode.syncfs, words(0, 0)],
		[Opcode.tmpfile, Buffer.concat([words(0o20200002, 0o100600, 0, 0), name("/")])],
		[Opcode.statx, words(0, 0, 0, 0, 0, 0xfff)],
	]);
}

test("every operation has whole arguments here", () => {
	const known = OPERATIONS.flatMap((operation, opcode) => (operation === undefined ? [] : [opcode]));
	assert.deepEqual(
		[...wholeArguments().keys()].sort((a, b) => a - b),
		known,
	);
});

test("a request that is cut short anywhere is answered, and what has less than its structure is not run", async (t) => {
	const { kernel, overlay, failures } = await begin(t);
	for (const [opcode, args] of wholeArguments()) {
		const { isSilent = false, argumentBytes } = OPERATIONS[opcode] as { isSilent?: boolean; argumentBytes: number };
		for (let length = 0; length < args.length; length++) {
			const calls = overlay.calls.length;
			const unique = kernel.send(opcode, ROOT, args.subarray(0, length));
			if (isSilent) continue;
			const { error } = await kernel.answer(unique);
			assert.ok(error === 0 || ERRORS.has(error), `error ${error}`);
			if (length >= argumentBytes) continue;
			assert.equal(error, ERRNO.EINVAL, `operation ${opcode} of ${length} bytes`);
			assert.equal(overlay.calls.length, calls);
		}
	}
	for (let length = 1; length < 40; length += 3) kernel.sendRaw(Buffer.alloc(length, 1));
	kernel.sendRaw(words(4000, Opcode.getattr, 99, 0, 1, 0, 0, 0, 0, 0));
	assert.equal((await kernel.ask(Opcode.getattr, ROOT, words(0, 0, 0, 0))).error, 0);
	assert.deepEqual(failures, []);
});

const ODD_WORDS = [0, 1, 2, 3, 0x7fffffff, 0x80000000, 0xffffffff, 0x1fffff, 0x200000, 4096, 1 << 20];
const ODD_NAMES = ["", ".", "..", "a/b", "/", "x".repeat(255), "x".repeat(256), "x".repeat(4096), "\xff\xfe", "file", "directory"];

function mutated(args: Buffer, random: (below: number) => number): Buffer {
	const copy = Buffer.from(args);
	switch (random(6)) {
		case 0:
			return copy;
		case 1:
			return copy.subarray(0, random(copy.length + 1));
		case 2:
			return Buffer.concat([copy, Buffer.alloc(random(64), random(256))]);
		case 3:
			for (let i = 0; i < 3 && copy.length > 0; i++) copy[random(copy.length)] = random(256);
			return copy;
		case 4: {
			if (copy.length >= 4) copy.writeUInt32LE(ODD_WORDS[random(ODD_WORDS.length)], 4 * random(copy.length >>> 2));
			return copy;
		}
		default: {
			const head = copy.indexOf(0x66) > 0 ? copy.subarray(0, copy.indexOf(0x66)) : copy;
			return Buffer.concat([head, name(ODD_NAMES[random(ODD_NAMES.length)]), name(ODD_NAMES[random(ODD_NAMES.length)])]);
		}
	}
}

test(`${count} requests of any kind get an answer each`, async (t) => {
	const { kernel, failures } = await begin(t);
	t.diagnostic(`HOLDFAST_TEST_SEED=${seed}`);
	const random = generator(seed);
	const all = [...wholeArguments()];
	let ids = 3;
	for (let i = 0; i < count; i++) {
		const [known, args] = all[random(all.length)];
		const opcode = random(50) === 0 ? random(6000) : known;
		// an INIT in between would agree on something else
		if (opcode === Opcode.init) continue;
		const nodeId = random(10) === 0 ? ODD_WORDS[random(ODD_WORDS.length)] : 1 + random(Math.min(ids, 40));
		const asker = { uid: random(3) * 1000, gid: random(3) * 1000, pid: random(3) };
		const unique = kernel.send(opcode, nodeId, mutated(args, random), asker);
		const operation = OPERATIONS[opcode];
		if (operation?.isSilent === true || opcode === Opcode.interrupt) continue;
		// nobody else would end its wait
		if (operation?.waitsForOthers === true) kernel.send(Opcode.interrupt, 0, words(unique, 0));
		const { error, body } = await kernel.answer(unique);
		assert.ok(error === 0 || ERRORS.has(error), `error ${error} of operation ${opcode}`);
		if (operation === undefined && opcode !== Opcode.destroy) assert.equal(error, ERRNO.ENOSYS, `operation ${opcode}`);
		if (error !== 0) assert.equal(body.length, 0);
		if (error === 0 && body.length >= 128 && (opcode === Opcode.lookup || opcode === Opcode.mkdir))
			ids = Math.max(ids, body.readUInt32LE(0));
	}
	assert.equal((await kernel.ask(Opcode.getattr, ROOT, words(0, 0, 0, 0))).error, 0);
	assert.deepEqual(failures, []);
});
