// Whole sessions with a kernel that the test plays.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { ERRNO } from "../linux/errno.ts";
import { close } from "../linux/open.ts";
import { OverlayError } from "../vfs/errors.ts";
import { type MemoryObject, MemoryOverlay } from "../vfs/memory-overlay.test-support.ts";
import { FileType } from "../vfs/operations.ts";
import { ALL_FLAGS, FakeKernel, name, words } from "./fake-kernel.test-support.ts";
import { InitFlag, Opcode } from "./protocol.ts";
import { FuseSession } from "./session.ts";

const ROOT = 1;
const HERE = { uid: 1000, gid: 1001 };
const DAY = 86400;

async function begin(t: TestContext, { isShared = false, minor = 45, isInitialised = true } = {}) {
	const kernel = new FakeKernel();
	const overlay = new MemoryOverlay();
	const session = new FuseSession({ device: { descriptor: kernel.device, kept: null }, overlay, actsAs: null, isShared });
	session.start();
	t.after(async () => {
		await session.close();
		kernel.close();
		close(kernel.device);
	});
	if (isInitialised) assert.equal((await kernel.init(minor)).error, 0);
	return { kernel, overlay, session };
}

/** struct fuse_attr as the kernel is to see it. */
function attributes(object: MemoryObject): Buffer {
	const size = object.type === FileType.lnk ? object.target.length : object.size;
	const times = [object.atime, object.mtime, object.ctime];
	return words(
		...[object.id, 0, size, 0, Math.ceil(size / 512), 0],
		...times.flatMap(({ sec }) => [sec, 0]),
		...times.map(({ nsec }) => nsec),
		(object.type << 12) | object.mode,
		...[object.nlink, object.uid, object.gid, (object.minor & 0xff) | (object.major << 8), 4096, 0],
	);
}

/** struct fuse_entry_out. */
function entry(id: number, object: MemoryObject, valid: readonly number[] = [DAY, 0, DAY, 0, 0, 0]): Buffer {
	return Buffer.concat([words(id, 0, 0, 0, ...valid), attributes(object)]);
}

/** struct fuse_attr_out. */
function attributesOut(object: MemoryObject, valid: readonly number[] = [DAY, 0, 0]): Buffer {
	return Buffer.concat([words(...valid, 0), attributes(object)]);
}

const only = (overlay: MemoryOverlay, key: string): MemoryObject => {
	const found = overlay.root.names.get(key);
	assert.ok(found, `${key} is there`);
	return found;
};

test("INIT takes what is wanted of the offered, at the newest version that both speak", async (t) => {
	const { kernel } = await begin(t, { isInitialised: false });
	const { error, body } = await kernel.init(46, -1 & ~(1 << 31), -1);
	assert.equal(error, 0);
	assert.equal(body.length, 64);
	for (const other of [1 << 1, 1 << 4, 1 << 10, InitFlag.autoInvalData, 1 << 16, 1 << 31])
		assert.equal(body.readUInt32LE(12) & other, 0, `flag ${other} is not wanted`);
	for (const wanted of [InitFlag.dontMask, InitFlag.noOpenSupport, InitFlag.posixAcl, InitFlag.handleKillprivV2, InitFlag.initExt])
		assert.ok(body.readUInt32LE(12) & wanted, `flag ${wanted}`);
	assert.deepEqual(body.subarray(0, 12), words(7, 45, 131072));
	assert.deepEqual(body.subarray(16), words(64 | (48 << 16), 1 << 20, 1, 256, (1 << 6) | (1 << 7), 0, 0, 0, 0, 0, 0, 0));
});

test("INIT of Linux 5.4 gets nothing that it has not offered, and that of an older kernel an error", async (t) => {
	const { kernel } = await begin(t, { isInitialised: false });
	const offered = 0x01ffffff & ~(1 << 16);
	const { error, body } = await kernel.init(31, offered);
	assert.equal(error, 0);
	assert.equal(body.readUInt32LE(4), 31);
	assert.equal(body.readUInt32LE(12) & ~offered, 0);
	assert.equal(body.readUInt32LE(32), 0, "flags2");
	const older = await begin(t, { isInitialised: false });
	assert.deepEqual(await older.kernel.init(30), { error: ERRNO.EPROTO, body: Buffer.alloc(0) });
	assert.equal((await older.kernel.ask(Opcode.init, 0, words(8, 0, 0, 0))).body.readUInt32LE(0), 7, "a kernel of version 8 hears of 7");
});

test("LOOKUP of a name gives one node id for as long as the kernel knows it, and of none says so for as long", async (t) => {
	const { kernel, overlay } = await begin(t);
	const { object } = overlay.create(overlay.root, Buffer.from("file"), { uid: 0, gid: 8, gids: [] }, { mode: "guarded", attributes: {} });
	const found = await kernel.take(Opcode.lookup, ROOT, name("file"));
	assert.deepEqual(found, entry(2, object));
	assert.deepEqual(await kernel.take(Opcode.lookup, ROOT, name("file")), found);
	assert.deepEqual(
		await kernel.take(Opcode.lookup, ROOT, name("none")),
		Buffer.concat([words(0, 0, 0, 0, DAY, 0, DAY, 0, 0, 0), Buffer.alloc(88)]),
	);
	kernel.send(Opcode.forget, 2, words(1, 0));
	assert.deepEqual(await kernel.take(Opcode.getattr, 2, words(0, 0, 0, 0)), attributesOut(object));
	kernel.send(Opcode.batchForget, 0, words(1, 0, 2, 0, 1, 0));
	assert.equal((await kernel.ask(Opcode.getattr, 2, words(0, 0, 0, 0))).error, ERRNO.ESTALE);
	assert.equal((await kernel.ask(Opcode.getattr, 77, words(0, 0, 0, 0))).error, ERRNO.ESTALE);
});

test("what others change too is believed for 50 ms, and names for a second by a kernel that can be told of changes", async (t) => {
	const brief = 50_000_000;
	for (const [minor, valid] of [
		[44, [1, 0, 0, 0, 0, brief]],
		[43, [0, 0, 0, 0, brief, brief]],
	] as const) {
		const { kernel, overlay } = await begin(t, { isShared: true, minor });
		assert.deepEqual(await kernel.take(Opcode.getattr, ROOT, words(0, 0, 0, 0)), attributesOut(overlay.root, [0, 0, brief]));
		await kernel.take(Opcode.mkdir, ROOT, Buffer.concat([words(0o755, 0), name("d")]));
		assert.deepEqual(await kernel.take(Opcode.lookup, ROOT, name("d")), entry(2, only(overlay, "d"), valid));
	}
});

test("what others have changed is told once for many changes, to a kernel that knows what it means", async (t) => {
	const { kernel, overlay } = await begin(t, { isShared: true });
	const older = await begin(t, { isShared: true, minor: 43 });
	const alone = await begin(t);
	for (let i = 0; i < 3; i++)
		for (const { told } of [overlay, older.overlay, alone.overlay]) for (const tell of told) tell(overlay.root, false);
	while (kernel.strays.length === 0) {
		await new Promise((resolve) => setImmediate(resolve));
		kernel.receive();
	}
	for (const one of [kernel, older.kernel, alone.kernel]) await one.take(Opcode.getattr, ROOT, words(0, 0, 0, 0));
	assert.deepEqual(kernel.strays, [words(16, 8, 0, 0)]);
	assert.deepEqual([...older.kernel.strays, ...alone.kernel.strays], []);
});

test("what a command has changed gets another node id when it is looked up next, and who has it open goes on with the one before", async (t) => {
	const { kernel, overlay } = await begin(t);
	const { object } = overlay.create(overlay.root, Buffer.from("file"), { uid: 0, gid: 8, gids: [] }, { mode: "guarded", attributes: {} });
	assert.deepEqual(await kernel.take(Opcode.lookup, ROOT, name("file")), entry(2, object));
	for (const told of [object, overlay.root, object]) for (const tell of overlay.told) tell(told, true);
	while (kernel.strays.length < 2) {
		await new Promise((resolve) => setImmediate(resolve));
		kernel.receive();
	}
	assert.deepEqual(await kernel.take(Opcode.lookup, ROOT, name("file")), entry(3, object));
	assert.deepEqual(await kernel.take(Opcode.lookup, ROOT, name("file")), entry(3, object));
	assert.deepEqual(await kernel.take(Opcode.getattr, 2, words(0, 0, 0, 0)), attributesOut(object));
	kernel.send(Opcode.forget, 2, words(1, 0));
	assert.equal((await kernel.ask(Opcode.getattr, 2, words(0, 0, 0, 0))).error, ERRNO.ESTALE);
	assert.deepEqual(await kernel.take(Opcode.getattr, 3, words(0, 0, 0, 0)), attributesOut(object));
	// all names anew, and the listing of the directory
	assert.deepEqual(kernel.strays, [words(16, 8, 0, 0), words(40, 2, 0, 0, ROOT, 0, 0, 0, 0, 0)]);
});

test("each operation that makes something answers with its entry, which belongs to who asked", async (t) => {
	const { kernel, overlay } = await begin(t);
	const S_IFREG = FileType.reg << 12;
	const made = [
		[Opcode.mkdir, Buffer.concat([words(0o40750, 0o22), name("dir")])],
		[Opcode.mknod, Buffer.concat([words((FileType.chr << 12) | 0o640, 0x0305, 0, 0), name("device")])],
		[Opcode.mknod, Buffer.concat([words(S_IFREG | 0o604, 0, 0, 0), name("plain")])],
		[Opcode.symlink, Buffer.concat([name("symlink"), name("target")])],
		[Opcode.create, Buffer.concat([words(0o302, S_IFREG | 0o600, 0o22, 0), name("file")])],
	] as const;
	for (const [i, [opcode, args]] of made.entries()) {
		const body = await kernel.take(opcode, ROOT, args, HERE);
		const object = only(overlay, ["dir", "device", "plain", "symlink", "file"][i]);
		assert.deepEqual([object.uid, object.gid], [1000, 1001]);
		assert.deepEqual(body.subarray(0, 128), entry(i + 2, object));
		if (opcode === Opcode.create) assert.deepEqual(body.subarray(128), words(0, 0, 2, 0));
		else assert.equal(body.length, 128);
	}
	assert.deepEqual([only(overlay, "device").major, only(overlay, "device").minor], [3, 5]);
	assert.equal((await kernel.take(Opcode.readlink, 5)).toString(), "target");
	const linked = await kernel.take(Opcode.link, 2, Buffer.concat([words(6, 0), name("second")]));
	assert.deepEqual(linked, entry(6, only(overlay, "file")));
	assert.equal(only(overlay, "file").nlink, 2);
	const again = Buffer.concat([words(0o302, S_IFREG | 0o600, 0, 0), name("file")]);
	assert.equal((await kernel.ask(Opcode.create, ROOT, again)).error, ERRNO.EEXIST);
	again.writeUInt32LE(0o102, 0);
	assert.equal((await kernel.ask(Opcode.create, ROOT, again)).error, ERRNO.ESTALE, "without O_EXCL the kernel is to look again");
});

test("names go, move and change places", async (t) => {
	const { kernel, overlay } = await begin(t);
	for (const one of ["a", "b", "c"]) await kernel.take(Opcode.mkdir, ROOT, Buffer.concat([words(0o755, 0), name(one)]));
	await kernel.take(Opcode.mknod, ROOT, Buffer.concat([words(FileType.reg << 12, 0, 0, 0), name("f")]));
	const empty = { error: 0, body: Buffer.alloc(0) };
	assert.deepEqual(await kernel.ask(Opcode.rename, ROOT, Buffer.concat([words(2, 0), name("f"), name("g")])), empty);
	const swapped = Buffer.concat([words(2, 0, 2, 0), name("b"), name("g")]);
	assert.deepEqual(await kernel.ask(Opcode.rename2, ROOT, swapped), empty);
	assert.deepEqual([...overlay.root.names.keys()].sort(), ["a", "b", "c"]);
	assert.equal(only(overlay, "b").type, FileType.reg);
	assert.equal((await kernel.ask(Opcode.rename2, ROOT, Buffer.concat([words(1, 0, 4, 0), name("b"), name("x")]))).error, ERRNO.EINVAL);
	assert.deepEqual(await kernel.ask(Opcode.unlink, ROOT, name("b")), empty);
	assert.equal((await kernel.ask(Opcode.rmdir, ROOT, name("a"))).error, ERRNO.ENOTEMPTY);
	assert.deepEqual(await kernel.ask(Opcode.rmdir, ROOT, name("c")), empty);
	assert.deepEqual([...overlay.root.names.keys()], ["a"]);
});

test("content is written, read, cut and measured", async (t) => {
	const { kernel, overlay } = await begin(t);
	await kernel.take(Opcode.mknod, ROOT, Buffer.concat([words((FileType.reg << 12) | 0o4755, 0, 0, 0), name("f")]));
	const at = (offset: number, size: number) => words(0, 0, offset, 0, size, 0, 0, 0, 0, 0);
	assert.deepEqual(await kernel.take(Opcode.write, 2, Buffer.concat([at(2, 5), Buffer.from("hello")])), words(5, 0));
	assert.equal((await kernel.take(Opcode.read, 2, at(1, 100))).toString("latin1"), "\0hello");
	assert.equal((await kernel.take(Opcode.read, 2, at(100, 100))).length, 0);
	const cut = words(8 | 1024, 0, 0, 0, 4, 0, ...new Array(16).fill(0));
	assert.deepEqual(await kernel.take(Opcode.setattr, 2, cut), attributesOut(only(overlay, "f")));
	assert.equal(only(overlay, "f").mode, 0o4755);
	cut.writeUInt32LE(8 | 2048, 0);
	await kernel.take(Opcode.setattr, 2, cut);
	assert.equal(only(overlay, "f").mode, 0o755, "who has no privilege takes that of the file");
	const times = words(0x33, 0, 0, 0, 0, 0, 0, 0, -1, -1, 5, 0, 0, 0, 7, 8, 0, 0o100600, 0, 42, 43, 0);
	await kernel.take(Opcode.setattr, 2, times);
	const { atime, mtime, mode, uid } = only(overlay, "f");
	assert.deepEqual([atime, mtime, mode, uid], [{ sec: -1, nsec: 7 }, { sec: 5, nsec: 8 }, 0o600, 42]);
	assert.equal((await kernel.take(Opcode.getattr, 2, words(0, 0, 0, 0))).readBigInt64LE(16 + 24), -1n, "before 1970");
	assert.deepEqual(await kernel.take(Opcode.fallocate, 2, words(0, 0, 0, 0, 10, 0, 0, 0)), Buffer.alloc(0));
	for (const mode of [1, 0x11]) {
		assert.deepEqual(await kernel.take(Opcode.fallocate, 2, words(0, 0, 8, 0, 100, 0, mode, 0)), Buffer.alloc(0));
		assert.equal(only(overlay, "f").size, 10);
	}
	for (const mode of [8, 0x20, 2, 0x13])
		assert.equal((await kernel.ask(Opcode.fallocate, 2, words(0, 0, 0, 0, 1, 0, mode, 0))).error, ERRNO.EOPNOTSUPP);
	assert.deepEqual(await kernel.take(Opcode.lseek, 2, words(0, 0, 3, 0, 4, 0)), words(10, 0));
	assert.equal((await kernel.ask(Opcode.lseek, 2, words(0, 0, 10, 0, 3, 0))).error, ERRNO.ENXIO);
	assert.deepEqual(await kernel.take(Opcode.copyFileRange, 2, words(0, 0, 2, 0, 2, 0, 0, 0, 6, 0, 2, 0, 0, 0)), words(2, 0));
	assert.equal(only(overlay, "f").data.toString("latin1", 0, 10), "\0\0he\0\0he\0\0");
	for (const [mode, size] of [
		[3, 10],
		[0x10, 12],
	] as const) {
		overlay.calls.length = 0;
		assert.deepEqual(await kernel.take(Opcode.fallocate, 2, words(0, 0, 2, 0, 10, 0, mode, 0)), Buffer.alloc(0));
		assert.deepEqual(
			overlay.calls.filter((call) => call.endsWith("allocate")),
			mode === 3 ? ["deallocate"] : ["deallocate", "allocate"],
		);
		assert.equal(only(overlay, "f").data.toString("latin1", 0, only(overlay, "f").size), "\0".repeat(size));
	}
	for (const opcode of [Opcode.fsync, Opcode.syncfs])
		assert.deepEqual(await kernel.ask(opcode, 2, words(0, 0, 0, 0)), { error: 0, body: Buffer.alloc(0) });
	assert.equal((await kernel.take(Opcode.statfs, ROOT)).length, 80);
});

test("TMPFILE makes a file without a name, which the mount holds until it is forgotten, and LINK gives it one", async (t) => {
	const { kernel, overlay } = await begin(t);
	const asked = Buffer.concat([words(0o20200002, (FileType.reg << 12) | 0o640, 0o22, 0), name("/")]);
	for (const id of [2, 3]) {
		const body = await kernel.take(Opcode.tmpfile, ROOT, asked, HERE);
		assert.deepEqual(body.subarray(128), words(0, 0, 2, 0));
		assert.equal(body.readUInt32LE(0), id);
		assert.deepEqual([body.readUInt32LE(40 + 60), body.readUInt32LE(40 + 64)], [(FileType.reg << 12) | 0o640, 0], "mode and links");
		assert.deepEqual([body.readUInt32LE(40 + 68), body.readUInt32LE(40 + 72)], [1000, 1001]);
	}
	assert.equal(overlay.held.size, 2);
	assert.equal(overlay.root.names.size, 0);
	const linked = await kernel.take(Opcode.link, ROOT, Buffer.concat([words(2, 0), name("named")]));
	assert.deepEqual(linked, entry(2, only(overlay, "named")));
	kernel.send(Opcode.forget, 2, words(2, 0));
	kernel.send(Opcode.forget, 3, words(1, 0));
	assert.equal((await kernel.ask(Opcode.getattr, 3, words(0, 0, 0, 0))).error, ERRNO.ESTALE);
	assert.equal(overlay.held.size, 0);
});

test("STATX tells when an object was made, and says where that is not known", async (t) => {
	const { kernel, overlay } = await begin(t);
	const { object } = overlay.create(overlay.root, Buffer.from("file"), { uid: 0, gid: 8, gids: [] }, { mode: "guarded", attributes: {} });
	await kernel.take(Opcode.lookup, ROOT, name("file"));
	const { atime, mtime, ctime } = object;
	const time = ({ sec, nsec }: { sec: number; nsec: number }) => [sec, 0, nsec, 0];
	const whole = (mask: number, birth: number[]) =>
		words(
			...[DAY, 0, 0, 0, 0, 0, 0, 0, mask, 4096, 0, 0, 1, object.uid, object.gid, (8 << 12) | object.mode],
			...[object.id, 0, 0, 0, 0, 0, 0, 0, ...time(atime), ...birth, ...time(ctime), ...time(mtime)],
			...new Array(4 + 28).fill(0),
		);
	const asked = words(0, 0, 0, 0, 0, 0xfff);
	assert.deepEqual(await kernel.take(Opcode.statx, 2, asked), whole(0xfff, time({ sec: 12, nsec: 34 })));
	overlay.birth = null;
	assert.deepEqual(await kernel.take(Opcode.statx, 2, asked), whole(0x7ff, time({ sec: 0, nsec: 0 })));
	assert.equal((await kernel.ask(Opcode.statx, 3, asked)).error, ERRNO.ESTALE);
});

test("what the kernel writes back is written whole or not at all, since nobody looks how much it was", async (t) => {
	const { kernel, overlay } = await begin(t);
	await kernel.take(Opcode.mknod, ROOT, Buffer.concat([words((FileType.reg << 12) | 0o644, 0, 0, 0), name("f")]));
	overlay.write = () => 3;
	const write = (flags: number) => Buffer.concat([words(0, 0, 0, 0, 5, flags, 0, 0, 0, 0), Buffer.from("hello")]);
	assert.deepEqual(await kernel.take(Opcode.write, 2, write(0)), words(3, 0));
	assert.equal((await kernel.ask(Opcode.write, 2, write(1))).error, ERRNO.ENOSPC);
});

test("writes are left to the page cache where that was asked for and nobody else changes the same files", async () => {
	for (const [isShared, taken] of [
		[false, InitFlag.writebackCache],
		[true, 0],
	] as const) {
		const kernel = new FakeKernel();
		const device = { descriptor: kernel.device, kept: null };
		const session = new FuseSession({ device, overlay: new MemoryOverlay(), actsAs: null, isShared, writesBack: true });
		session.start();
		const { body } = await kernel.init(45, ALL_FLAGS[0] | InitFlag.writebackCache);
		assert.equal(body.readUInt32LE(12) & InitFlag.writebackCache, taken);
		await session.close();
		kernel.close();
		close(kernel.device);
	}
});

test("the kernel is told where a write takes the privileges of a file", async (t) => {
	const { kernel } = await begin(t);
	await kernel.take(Opcode.mknod, ROOT, Buffer.concat([words((FileType.reg << 12) | 0o4755, 0, 0, 0), name("f")]));
	const write = (flags: number) => Buffer.concat([words(0, 0, 0, 0, 1, flags, 0, 0, 0, 0), Buffer.from("x")]);
	await kernel.take(Opcode.write, 2, write(0));
	assert.deepEqual(kernel.strays, []);
	await kernel.take(Opcode.write, 2, write(4));
	assert.deepEqual(kernel.strays, [words(40, 2, 0, 0, 2, 0, -1, -1, 0, 0)]);
});

test("offsets that no file reaches are refused", async (t) => {
	const { kernel } = await begin(t);
	await kernel.take(Opcode.mknod, ROOT, Buffer.concat([words(FileType.reg << 12, 0, 0, 0), name("f")]));
	const far = words(0, 0, 0, 0x80000000, 1, 0, 0, 0, 0, 0);
	assert.equal((await kernel.ask(Opcode.read, 2, far)).error, ERRNO.EINVAL);
	assert.equal((await kernel.ask(Opcode.write, 2, Buffer.concat([far, Buffer.from("x")]))).error, ERRNO.EFBIG);
	const short = words(0, 0, 0, 0, 1, 0, 0, 0, 0, 0);
	assert.equal((await kernel.ask(Opcode.write, 2, short)).error, ERRNO.EINVAL, "less data than it says");
	assert.equal((await kernel.ask(Opcode.fallocate, 2, words(0, 0, -1, 0x1fffff, 1, 0, 0, 0))).error, ERRNO.EFBIG);
	assert.equal((await kernel.ask(Opcode.lseek, 2, words(0, 0, 0, 0x80000000, 3, 0))).error, ERRNO.EINVAL);
	const cut = words(8, 0, 0, 0, 0, 0x80000000, ...new Array(16).fill(0));
	assert.equal((await kernel.ask(Opcode.setattr, 2, cut)).error, ERRNO.EFBIG);
});

test("extended attributes are set, told with the room that they take, and removed", async (t) => {
	const { kernel } = await begin(t);
	const set = (flags: number) => Buffer.concat([words(5, flags, 0, 0), name("user.x"), Buffer.from("value")]);
	assert.equal((await kernel.ask(Opcode.setxattr, ROOT, set(2))).error, 61);
	await kernel.take(Opcode.setxattr, ROOT, set(1));
	assert.equal((await kernel.ask(Opcode.setxattr, ROOT, set(1))).error, ERRNO.EEXIST);
	const get = (room: number) => Buffer.concat([words(room, 0), name("user.x")]);
	assert.deepEqual(await kernel.take(Opcode.getxattr, ROOT, get(0)), words(5, 0));
	assert.equal((await kernel.ask(Opcode.getxattr, ROOT, get(4))).error, ERRNO.ERANGE);
	assert.equal((await kernel.take(Opcode.getxattr, ROOT, get(5))).toString(), "value");
	assert.deepEqual(await kernel.take(Opcode.listxattr, ROOT, words(0, 0)), words(7, 0));
	assert.deepEqual(await kernel.take(Opcode.listxattr, ROOT, words(100, 0)), name("user.x"));
	await kernel.take(Opcode.removexattr, ROOT, name("user.x"));
	assert.equal((await kernel.ask(Opcode.removexattr, ROOT, name("user.x"))).error, 61);
});

test("listings give all entries once, by cookies, and READDIRPLUS counts a look-up of each", async (t) => {
	const { kernel, overlay } = await begin(t);
	const names = Array.from({ length: 20 }, (_, i) => `name-${i}`);
	for (const one of names) await kernel.take(Opcode.mkdir, ROOT, Buffer.concat([words(0o755, 0), name(one)]));
	for (const [opcode, head] of [
		[Opcode.readdir, 0],
		[Opcode.readdirplus, 128],
	] as const) {
		const seen: string[] = [];
		for (let cookie = words(0, 0); ; ) {
			const body = await kernel.take(opcode, ROOT, Buffer.concat([words(0, 0), cookie, words(600, 0, 0, 0, 0, 0)]));
			if (body.length === 0) break;
			assert.ok(body.length <= 600 && body.length % 8 === 0);
			for (let at = 0; at < body.length; ) {
				const length = body.readUInt32LE(at + head + 16);
				const text = body.toString("latin1", at + head + 24, at + head + 24 + length);
				const object = overlay.root.names.get(text) ?? overlay.root;
				assert.equal(body.readUInt32LE(at + head), object.id, text);
				if (head > 0 && text.startsWith("name")) assert.deepEqual(body.subarray(at + 40, at + 128), attributes(object));
				if (head > 0) assert.equal(body.readUInt32LE(at) === 0, !text.startsWith("name"));
				cookie = body.subarray(at + head + 8, at + head + 16);
				seen.push(text);
				at += head + ((24 + length + 7) & ~7);
			}
		}
		assert.deepEqual(seen.sort(), [".", "..", ...names].sort());
	}
	// MKDIR and READDIRPLUS have counted each
	kernel.send(Opcode.forget, 2, words(1, 0));
	assert.equal((await kernel.ask(Opcode.getattr, 2, words(0, 0, 0, 0))).error, 0);
	kernel.send(Opcode.forget, 2, words(1, 0));
	assert.equal((await kernel.ask(Opcode.getattr, 2, words(0, 0, 0, 0))).error, ERRNO.ESTALE);
});

test("OPEN and OPENDIR are left to a kernel that can do without, and answered to another", async (t) => {
	const { kernel } = await begin(t);
	for (const opcode of [Opcode.open, Opcode.opendir]) assert.equal((await kernel.ask(opcode, ROOT, words(0, 0))).error, ERRNO.ENOSYS);
	for (const opcode of [Opcode.flush, Opcode.access, 37, 4095, 53])
		assert.equal((await kernel.ask(opcode, ROOT, words(0, 0, 0, 0, 0, 0))).error, ERRNO.ENOSYS);
	const other = await begin(t, { isInitialised: false });
	await other.kernel.init(45, ALL_FLAGS[0] & ~(InitFlag.noOpenSupport | InitFlag.noOpendirSupport));
	assert.deepEqual(await other.kernel.take(Opcode.open, ROOT, words(0, 0)), words(0, 0, 2, 0));
	assert.deepEqual(await other.kernel.take(Opcode.opendir, ROOT, words(0, 0)), words(0, 0, 10, 0));
	for (const opcode of [Opcode.release, Opcode.releasedir]) await other.kernel.take(opcode, ROOT, words(0, 0, 0, 0, 0, 0));
});

test("a request that waits is run again when it can be, and others are answered meanwhile", async (t) => {
	const { kernel, overlay, session } = await begin(t);
	let go = (): void => {};
	overlay.wait = () => new Promise((resolve) => (go = resolve));
	overlay.waits.set("mkdir", 1);
	const waiting = kernel.send(Opcode.mkdir, ROOT, Buffer.concat([words(0o755, 0), name("late")]), HERE);
	assert.equal((await kernel.ask(Opcode.getattr, ROOT, words(0, 0, 0, 0))).error, 0);
	assert.ok(!kernel.isAnswered(waiting));
	go();
	const { error, body } = await kernel.answer(waiting);
	assert.equal(error, 0);
	assert.deepEqual(body, entry(2, only(overlay, "late")));
	await session.close();
});

test("a change is made once, also where its reply has to wait behind it", async (t) => {
	const { kernel, overlay } = await begin(t);
	overlay.waits.set("getattr", 2);
	await kernel.take(Opcode.mkdir, ROOT, Buffer.concat([words(0o755, 0), name("once")]));
	assert.equal(overlay.calls.filter((call) => call === "mkdir").length, 1);
});

test("more requests than there are slots wait in the kernel, and all are answered", async (t) => {
	const { kernel, overlay } = await begin(t);
	const waiting: (() => void)[] = [];
	overlay.wait = () => new Promise((resolve) => waiting.push(resolve));
	const goOn = (count: number) => {
		for (const go of waiting.splice(0, count)) go();
	};
	t.after(() => goOn(2000));
	const [slots, count] = [1040, 1100];
	overlay.waits.set("getattr", slots);
	const sent: number[] = [];
	while (sent.length < count) {
		for (let i = 0; i < 20; i++) sent.push(kernel.send(Opcode.getattr, ROOT, words(0, 0, 0, 0)));
		while (overlay.calls.length < 2 * Math.min(slots, sent.length)) await new Promise((resolve) => setImmediate(resolve));
	}
	assert.equal(overlay.calls.length, 2 * slots, "decode and getattr of each that has a slot");
	for (const [i, unique] of sent.entries()) {
		// a socket does not take as many replies at a time
		if (i % 100 === 0) goOn(100);
		assert.equal((await kernel.answer(unique)).error, 0);
	}
});

test("what passes is waited for, and a fault of ours is an error of the request alone", async (t) => {
	const { kernel, overlay } = await begin(t);
	overlay.bugs.set("getattr", new OverlayError("tryagain", "later"));
	assert.equal((await kernel.ask(Opcode.getattr, ROOT, words(0, 0, 0, 0))).error, 0);
	overlay.bugs.set("getattr", new TypeError("a fault"));
	assert.equal((await kernel.ask(Opcode.getattr, ROOT, words(0, 0, 0, 0))).error, ERRNO.EIO);
	overlay.bugs.set("decode", new OverlayError("dquot", "full"));
	assert.equal((await kernel.ask(Opcode.getattr, ROOT, words(0, 0, 0, 0))).error, ERRNO.EDQUOT);
});

test("what waits for too long when a session closes is left as it is, for the next server", async (t) => {
	const { kernel, overlay } = await begin(t);
	const other = new FakeKernel();
	const session = new FuseSession({
		device: { descriptor: other.device, kept: null },
		overlay,
		actsAs: null,
		isShared: false,
		drainSeconds: 0.01,
	});
	session.start();
	await other.init();
	let go = (): void => {};
	overlay.wait = () => new Promise((resolve) => (go = resolve));
	overlay.waits.set("mkdir", 1);
	const unique = other.send(Opcode.mkdir, ROOT, Buffer.concat([words(0o755, 0), name("never")]));
	while (!overlay.calls.includes("mkdir")) await new Promise((resolve) => setImmediate(resolve));
	await session.close();
	go();
	await kernel.take(Opcode.getattr, ROOT, words(0, 0, 0, 0));
	assert.equal(other.isAnswered(unique), false);
	assert.equal(overlay.root.names.size, 0);
	other.close();
	close(other.device);
});

test("an end of the mount ends the session, and what waits is given up", async (t) => {
	const { kernel, session } = await begin(t);
	kernel.send(Opcode.destroy, 0);
	kernel.close();
	await session.ended;
	await session.close();
});
