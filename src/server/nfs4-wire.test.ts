// NFS version 4.1, operation by operation, byte by byte.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Op } from "../nfs4/protocol.ts";
import { Status } from "../nfs4/status.ts";
import { authSys, type XdrItem, xdr } from "../rpc/rpc-client.test-support.ts";
import { OverlayError } from "../vfs/errors.ts";
import { type MemoryObject, MemoryOverlay } from "../vfs/memory-overlay.test-support.ts";
import { FileType } from "../vfs/operations.ts";
import {
	ANONYMOUS,
	bitmap,
	bytesOf,
	fattr,
	Nfs4Client,
	NO_ATTRIBUTES,
	next,
	OK,
	pass,
	ROOT_STEP,
	readBits,
	type Step,
	startNfs4,
} from "./nfs4-client.test-support.ts";
import { ROOT, type TestServer } from "./test-server.test-support.ts";

const at = (name: string): Step[] => [ROOT_STEP, [Op.lookup, name]];
const BYPASS = { raw: Buffer.alloc(16, 0xff) };

interface Tree {
	readonly server: TestServer;
	readonly overlay: MemoryOverlay;
	readonly client: Nfs4Client;
	readonly dir: MemoryObject;
	readonly file: MemoryObject;
	readonly link: MemoryObject;
	readonly fifo: MemoryObject;
}

/** A tree with one object of each kind that matters. */
async function tree(t: Parameters<typeof startNfs4>[0]): Promise<Tree> {
	const server = await startNfs4(t);
	const { overlay } = server;
	const dir = overlay.mkdir(overlay.root, Buffer.from("dir"), ROOT, { mode: 0o755 });
	const file = server.file("file", "content") as MemoryObject;
	const link = overlay.symlink(overlay.root, Buffer.from("link"), ROOT, Buffer.from("target"), {});
	const fifo = overlay.mknod(overlay.root, Buffer.from("fifo"), ROOT, FileType.fifo, 0, 0, {});
	return { server, overlay, client: await Nfs4Client.connect(server), dir, file, link, fifo };
}

/** The bytes behind SEQUENCE. */
async function rest(client: Nfs4Client, ...steps: readonly Step[]): Promise<string> {
	const { reader } = await client.run(...steps);
	return bytesOf(reader, reader.remaining).toString("hex");
}

function hex(...items: readonly XdrItem[]): string {
	return xdr(...items).toString("hex");
}

/** A change attribute of the overlay in memory. */
function change(object: MemoryObject): number[] {
	return [object.ctime.sec, object.ctime.nsec];
}

test("PUTFH, PUTROOTFH, PUTPUBFH, GETFH, SAVEFH, RESTOREFH answer these bytes", async (t) => {
	const { client, overlay, file } = await tree(t);
	const root = overlay.root.handle;
	assert.equal(await rest(client, [Op.putfh, file.handle], [Op.getfh]), hex(Op.putfh, OK, Op.getfh, OK, file.handle));
	assert.equal(await rest(client, [Op.putpubfh], [Op.getfh]), hex(Op.putpubfh, OK, Op.getfh, OK, root));
	assert.equal(
		await rest(client, ROOT_STEP, [Op.savefh], [Op.lookup, "file"], [Op.getfh], [Op.restorefh], [Op.getfh]),
		hex(Op.putrootfh, OK, Op.savefh, OK, Op.lookup, OK, Op.getfh, OK, file.handle, Op.restorefh, OK, Op.getfh, OK, root),
	);
});

test("handles that are none, that are stale, and that are missing have their errors", async (t) => {
	const { client, overlay, file } = await tree(t);
	const handle = Buffer.from(file.handle);
	assert.equal(await client.status([Op.putfh, Buffer.alloc(0)]), Status.badhandle);
	assert.equal(await client.status([Op.putfh, Buffer.alloc(128, 1)]), Status.badhandle);
	assert.equal(await client.status([Op.putfh, Buffer.alloc(129, 1)]), Status.badxdr);
	overlay.remove(overlay.root, Buffer.from("file"), ROOT);
	assert.equal(await client.status([Op.putfh, handle]), Status.stale);
	const stateid = ANONYMOUS;
	const needing: Step[] = [
		[Op.getfh],
		[Op.savefh],
		[Op.restorefh],
		[Op.lookup, "x"],
		[Op.lookupp],
		[Op.getattr, bitmap(1)],
		[Op.access, 1],
		[Op.readlink],
		[Op.read, stateid, 0, 0, 1],
		[Op.write, stateid, 0, 0, 0, "x"],
		[Op.commit, 0, 0, 0],
		[Op.readdir, 0, 0, 0, 0, 0, 1000, bitmap(1)],
		[Op.create, 2, "x", NO_ATTRIBUTES],
		[Op.remove, "x"],
		[Op.rename, "x", "y"],
		[Op.link, "x"],
		[Op.setattr, stateid, NO_ATTRIBUTES],
		[Op.verify, NO_ATTRIBUTES],
		[Op.secinfo, "x"],
		[Op.secinfoNoName, 0],
		[Op.open, 0, 1, 0, 0, 0, "o", 0, 0, "x"],
		[Op.lockt, 1, 0, 0, 0, 1, 0, 0, "o"],
	];
	for (const step of needing) assert.equal(await client.status(step), Status.nofilehandle, `operation ${step[0]}`);
	for (const step of [[Op.rename, "x", "y"] as const, [Op.link, "x"] as const]) {
		assert.equal(await client.status(ROOT_STEP, step), Status.nofilehandle, "there is no saved one");
	}
});

test("LOOKUP and LOOKUPP answer these bytes, and have the errors of version 4", async (t) => {
	const { client, overlay, dir } = await tree(t);
	assert.equal(
		await rest(client, ...at("dir"), [Op.lookupp], [Op.getfh]),
		hex(Op.putrootfh, OK, Op.lookup, OK, Op.lookupp, OK, Op.getfh, OK, overlay.root.handle),
	);
	const cases: [Step[], number][] = [
		[at("missing"), Status.noent],
		[[...at("file"), [Op.lookup, "x"]], Status.notdir],
		[[...at("link"), [Op.lookup, "x"]], Status.symlink],
		[[...at("fifo"), [Op.lookup, "x"]], Status.notdir],
		[at(""), Status.inval],
		[at("."), Status.badname],
		[at(".."), Status.badname],
		[at("a/b"), Status.badchar],
		[at("a\0b"), Status.badchar],
		[at("n".repeat(256)), Status.nametoolong],
		[[ROOT_STEP, [Op.lookupp]], OK],
		[[...at("file"), [Op.lookupp]], Status.notdir],
		[[...at("link"), [Op.lookupp]], Status.symlink],
	];
	for (const [steps, expected] of cases) {
		// the root of the one export has no parent
		const wanted = steps.length === 2 && steps[1][0] === Op.lookupp ? Status.noent : expected;
		assert.equal(await client.status(...steps), wanted, JSON.stringify(steps));
	}
	dir.mode = 0o700;
	client.options = { credential: authSys(1000, 1000) };
	assert.equal(await client.status(...at("dir"), [Op.lookup, "x"]), Status.access);
});

test("ACCESS answers these bytes: the bits that make sense of the object, and the granted ones", async (t) => {
	const { client, file, dir } = await tree(t);
	assert.equal(await rest(client, [Op.putfh, file.handle], [Op.access, 0xff]), hex(Op.putfh, OK, Op.access, OK, 0x2d, 0x2d));
	assert.equal(await rest(client, [Op.putfh, dir.handle], [Op.access, 0x3f]), hex(Op.putfh, OK, Op.access, OK, 0x1f, 0x1f));
	client.options = { credential: authSys(1000, 1000) };
	assert.equal(await rest(client, [Op.putfh, file.handle], [Op.access, 0x3f]), hex(Op.putfh, OK, Op.access, OK, 0x2d, 0x1));
});

test("GETATTR answers these bytes", async (t) => {
	const { client, file, overlay } = await tree(t);
	file.atime = { sec: -5, nsec: 7 };
	file.mtime = { sec: 2 ** 33 + 1, nsec: 8 };
	overlay.root.mode = 0o1777;
	const asked = [1, 3, 4, 20, 33, 35, 36, 37, 45, 47, 52, 53, 55];
	const values = xdr(
		...[1, ...change(file), 0, 7, 0, file.id, 0o644, 1, "0", "0", 0, 512],
		...[0xffffffff, 0xfffffffb, 7, 0, ...change(file), 2, 1, 8, 0, file.id],
	);
	const reader = (await client.run([Op.putfh, file.handle], [Op.getattr, bitmap(...asked)])).reader;
	pass(reader, Op.putfh, Op.getattr);
	assert.deepEqual(readBits(reader), asked);
	assert.equal(bytesOf(reader).toString("hex"), values.toString("hex"));
	assert.equal(reader.remaining, 0);
});

test("GETATTR tells every attribute that is supported, and leaves out what is not known", async (t) => {
	const { client } = await tree(t);
	const { reader } = await client.run(ROOT_STEP, [Op.getattr, bitmap(0, 75)]);
	pass(reader, Op.putrootfh, Op.getattr);
	assert.deepEqual(readBits(reader), [0, 75]);
	reader.u32();
	const supported = readBits(reader);
	const known = [
		...[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 16, 17, 18, 19, 20, 21, 22, 23, 26, 27, 28, 29, 30, 31, 33, 34, 35, 36, 37, 41],
		...[42, 43, 44, 45, 47, 48, 51, 52, 53, 54, 55, 74, 75, 76],
	];
	assert.deepEqual(supported, known);
	assert.deepEqual(readBits(reader), [4, 33, 36, 37, 74]);
	const readable = known.filter((number) => ![48, 54, 74].includes(number));
	for (const number of readable) {
		const one = (await client.run(ROOT_STEP, [Op.getattr, bitmap(number)])).reader;
		pass(one, Op.putrootfh, Op.getattr);
		assert.deepEqual(readBits(one), [number]);
		assert.equal(bytesOf(one).length % 4, 0);
		assert.equal(one.remaining, 0);
	}
	const all = (await client.run(ROOT_STEP, [Op.getattr, { raw: xdr(8, 0xffffffff, 0xffbfffff & ~(1 << 16), 0xfffffbff, 1, 2, 3, 4, 5) }]))
		.reader;
	assert.deepEqual(next(all), [Op.putrootfh, OK]);
	assert.deepEqual(next(all), [Op.getattr, OK]);
	assert.deepEqual(readBits(all), readable);
	assert.equal(await client.status(ROOT_STEP, [Op.getattr, { raw: xdr(9, 0, 0, 0, 0, 0, 0, 0, 0, 0) }]), Status.badxdr);
	for (const number of [48, 54, 74]) assert.equal(await client.status(ROOT_STEP, [Op.getattr, bitmap(number)]), Status.inval);
	const none = await rest(client, ROOT_STEP, [Op.getattr, bitmap()]);
	assert.equal(none, hex(Op.putrootfh, OK, Op.getattr, OK, 0, 0));
});

test("the attributes of the server and its file system are these", async (t) => {
	const { client } = await tree(t);
	const asked = [2, 5, 6, 7, 9, 10, 11, 13, 15, 16, 17, 18, 26, 27, 28, 29, 30, 31, 34, 51, 76];
	const { reader } = await client.run(ROOT_STEP, [Op.getattr, bitmap(...asked)]);
	pass(reader, Op.putrootfh, Op.getattr);
	assert.deepEqual(readBits(reader), asked);
	const expected = [0, 1, 1, 0, 1, 90, 0, 0, 1, 0, 1, 1, 1, 0x1fffff, 0xffffffff, 65000, 255, 0, 1048576, 0, 1048576, 1, 0, 0, 1, 1];
	assert.equal(bytesOf(reader).toString("hex"), hex(...expected));
});

test("VERIFY and NVERIFY compare attributes", async (t) => {
	const { client, file } = await tree(t);
	const put: Step = [Op.putfh, file.handle];
	const size = (bytes: number): { raw: Buffer } => fattr([4, { raw: xdr(0, bytes) }]);
	assert.equal(await client.status(put, [Op.verify, size(7)]), OK);
	assert.equal(await client.status(put, [Op.verify, size(8)]), Status.notSame);
	assert.equal(await client.status(put, [Op.nverify, size(7)]), Status.same);
	assert.equal(await client.status(put, [Op.nverify, size(8)]), OK);
	assert.equal(await client.status(put, [Op.verify, fattr([1, 1], [4, { raw: xdr(0, 7) }], [36, "0"])]), OK);
	assert.equal(await client.status(put, [Op.verify, fattr([36, "1"])]), Status.notSame);
	assert.equal(await client.status(put, [Op.verify, fattr([12, 0])]), Status.attrnotsupp);
	assert.equal(await client.status(put, [Op.verify, { raw: xdr(4, 0, 0, 0, 1, 0) }]), Status.attrnotsupp);
	assert.equal(await client.status(put, [Op.verify, fattr([48, 0])]), Status.inval);
	assert.equal(await client.status(put, [Op.verify, fattr([11, 0])]), Status.inval);
	assert.equal(await client.status(put, [Op.verify, { raw: xdr(1, 2, 999) }]), Status.badxdr);
});

test("READLINK answers these bytes, and is WRONG_TYPE for anything else", async (t) => {
	const { client, link } = await tree(t);
	assert.equal(await rest(client, [Op.putfh, link.handle], [Op.readlink]), hex(Op.putfh, OK, Op.readlink, OK, "target"));
	for (const name of ["file", "dir", "fifo"]) assert.equal(await client.status(...at(name), [Op.readlink]), Status.wrongType);
});

test("READ and WRITE by special stateids answer these bytes", async (t) => {
	const { client, file, overlay } = await tree(t);
	const put: Step = [Op.putfh, file.handle];
	const head = [Op.putfh, OK, Op.read, OK];
	assert.equal(await rest(client, put, [Op.read, ANONYMOUS, 0, 0, 100]), hex(...head, 1, "content"));
	assert.equal(await rest(client, put, [Op.read, BYPASS, 0, 3, 2]), hex(...head, 0, "te"));
	assert.equal(await rest(client, put, [Op.read, ANONYMOUS, 0x00200000, 0, 5]), hex(...head, 1, ""));
	for (const [stable, told] of [
		[0, 0],
		[1, 2],
		[2, 2],
	]) {
		assert.equal(
			await rest(client, put, [Op.write, ANONYMOUS, 0, 3, stable, "TENT"]),
			hex(Op.putfh, OK, Op.write, OK, 4, told, { raw: overlay.writeVerifier }),
		);
	}
	assert.equal(file.data.subarray(0, 7).toString(), "conTENT");
	assert.equal(await rest(client, put, [Op.commit, 0, 0, 0]), hex(Op.putfh, OK, Op.commit, OK, { raw: overlay.writeVerifier }));
	assert.equal(await client.status(put, [Op.write, ANONYMOUS, 0x00200000, 0, 0, "x"]), Status.fbig);
	assert.equal(await client.status(put, [Op.write, ANONYMOUS, 0, 0, 3, "x"]), Status.badxdr);
	client.options = { credential: authSys(1000, 1000) };
	assert.equal(await client.status(put, [Op.write, ANONYMOUS, 0, 0, 0, "x"]), Status.access);
	file.mode = 0;
	assert.equal(await client.status(put, [Op.read, ANONYMOUS, 0, 0, 1]), Status.access);
});

test("READ, WRITE and COMMIT have the errors of what is no regular file", async (t) => {
	const { client } = await tree(t);
	for (const [name, expected] of [
		["dir", Status.isdir],
		["link", Status.symlink],
		["fifo", Status.wrongType],
	] as const) {
		for (const step of [
			[Op.read, ANONYMOUS, 0, 0, 1],
			[Op.write, ANONYMOUS, 0, 0, 0, "x"],
			[Op.commit, 0, 0, 0],
		] as const)
			assert.equal(await client.status(...at(name), step), expected, `${name} ${step[0]}`);
	}
});

test("stateids that stand for nothing are BAD_STATEID", async (t) => {
	const { client, file } = await tree(t);
	const put: Step = [Op.putfh, file.handle];
	for (const words of [
		[1, 0, 0, 0],
		[0xffffffff, 0, 0, 0],
		[5, 0, 0, 0],
		[0, 0xffffffff, 0xffffffff, 0xffffffff],
		[1, 1, 2, 3],
		[0, 9, 9, 9],
	]) {
		const stateid = { raw: xdr(...words) };
		assert.equal(await client.status(put, [Op.read, stateid, 0, 0, 1]), Status.badStateid, `${words}`);
		assert.equal(await client.status(put, [Op.write, stateid, 0, 0, 0, "x"]), Status.badStateid, `${words}`);
	}
});

test("SETATTR sets what it is told to, and tells what it has set", async (t) => {
	const { client, file } = await tree(t);
	const put: Step = [Op.putfh, file.handle];
	const time = (how: number, ...words: number[]): { raw: Buffer } => ({ raw: xdr(how, ...words) });
	const set = fattr(
		[4, { raw: xdr(0, 3) }],
		[33, 0o640],
		[36, "1000"],
		[37, "1001"],
		[48, time(1, 0xffffffff, 0xfffffffe, 5)],
		[54, time(0)],
	);
	assert.equal(
		await rest(client, put, [Op.setattr, ANONYMOUS, set]),
		hex(Op.putfh, OK, Op.setattr, OK, 2, 0x10, (1 << 1) | (1 << 4) | (1 << 5) | (1 << 16) | (1 << 22)),
	);
	assert.deepEqual([file.size, file.mode, file.uid, file.gid, file.atime], [3, 0o640, 1000, 1001, { sec: -2, nsec: 5 }]);
	assert.equal(await client.status(put, [Op.setattr, ANONYMOUS, fattr([74, { raw: xdr(0o4001, 0o4007) }])]), OK);
	assert.equal(file.mode, 0o4641);
});

test("SETATTR refuses what cannot be set, with an empty bitmap", async (t) => {
	const { client, file, overlay } = await tree(t);
	const put: Step = [Op.putfh, file.handle];
	overlay.calls.length = 0;
	const cases: [{ raw: Buffer }, number][] = [
		[fattr([1, 1]), Status.inval],
		[fattr([20, { raw: xdr(0, 1) }]), Status.inval],
		[fattr([12, 0]), Status.attrnotsupp],
		[fattr([46, 0]), Status.attrnotsupp],
		[{ raw: xdr(4, 0, 0, 0, 1, 0) }, Status.attrnotsupp],
		[fattr([33, 0o10000]), Status.inval],
		[fattr([33, 0o600], [74, { raw: xdr(1, 1) }]), Status.inval],
		[fattr([74, { raw: xdr(3, 1) }]), Status.inval],
		[fattr([4, { raw: xdr(0x200000, 0) }]), Status.fbig],
		[fattr([48, { raw: xdr(1, 0, 0, 1_000_000_000) }]), Status.inval],
		[fattr([48, { raw: xdr(2) }]), Status.badxdr],
		[{ raw: xdr(2, 0, 2, xdr(1, 2)) }, Status.badxdr],
		[{ raw: xdr(2, 0, 2, "") }, Status.badxdr],
		...["", "root", "-1", "+1", " 1", "01", "1 ", "0x1", "4294967295", "4294967296", "12345678901", "root@example.org"].map(
			(name): [{ raw: Buffer }, number] => [fattr([36, name]), Status.badowner],
		),
	];
	for (const [attributes, expected] of cases) {
		const { reader, status } = await client.run(put, [Op.setattr, ANONYMOUS, attributes]);
		pass(reader, Op.putfh);
		assert.deepEqual(
			[status, ...next(reader), reader.u32(), reader.remaining],
			[expected, Op.setattr, expected, 0, 0],
			attributes.raw.toString("hex"),
		);
	}
	assert.equal(overlay.calls.includes("setattr"), false);
	assert.equal(await client.status(...at("dir"), [Op.setattr, ANONYMOUS, fattr([4, { raw: xdr(0, 1) }])]), Status.wrongType);
	assert.equal(await client.status(...at("fifo"), [Op.setattr, ANONYMOUS, fattr([4, { raw: xdr(0, 1) }])]), Status.wrongType);
	client.options = { credential: authSys(1000, 1000) };
	assert.equal(await client.status(put, [Op.setattr, ANONYMOUS, fattr([33, 0o777])]), Status.perm);
});

test("CREATE makes every kind but regular files, tells the change, and the new object is the current one", async (t) => {
	const { client, overlay } = await tree(t);
	const kinds: [string, XdrItem[], FileType][] = [
		["directory", [2], FileType.dir],
		["block", [3, 8, 1], FileType.blk],
		["character", [4, 1, 3], FileType.chr],
		["symlink", [5, "to"], FileType.lnk],
		["socket", [6], FileType.sock],
		["pipe", [7], FileType.fifo],
	];
	for (const [name, type, expected] of kinds) {
		const before = change(overlay.root);
		const { reader, status } = await client.run(ROOT_STEP, [Op.create, ...type, name, fattr([33, 0o600])], [Op.getfh]);
		assert.equal(status, OK);
		const made = overlay.root.names.get(name) as MemoryObject;
		assert.deepEqual([made.type, made.mode], [expected, 0o600]);
		pass(reader, Op.putrootfh);
		assert.equal(
			bytesOf(reader, reader.remaining).toString("hex"),
			hex(Op.create, OK, 1, ...before, ...change(overlay.root), 2, 0, 2, Op.getfh, OK, made.handle),
		);
	}
	assert.deepEqual([overlay.root.names.get("block")?.major, overlay.root.names.get("block")?.minor], [8, 1]);
	assert.equal(overlay.root.names.get("symlink")?.target.toString(), "to");
	const refused: [Step, number][] = [
		[[Op.create, 1, "x", NO_ATTRIBUTES], Status.badtype],
		[[Op.create, 8, "x", NO_ATTRIBUTES], Status.badtype],
		[[Op.create, 9, "x", NO_ATTRIBUTES], Status.badtype],
		[[Op.create, 77, "x", NO_ATTRIBUTES], Status.badtype],
		[[Op.create, 2, "dir", NO_ATTRIBUTES], Status.exist],
		[[Op.create, 2, "..", NO_ATTRIBUTES], Status.badname],
		[[Op.create, 2, "a/b", NO_ATTRIBUTES], Status.badchar],
		[[Op.create, 2, "", NO_ATTRIBUTES], Status.inval],
		[[Op.create, 2, "x", fattr([12, 0])], Status.attrnotsupp],
		[[Op.create, 2, "x", fattr([4, { raw: xdr(0, 0) }])], Status.inval],
	];
	for (const [step, expected] of refused) assert.equal(await client.status(ROOT_STEP, step), expected, JSON.stringify(step));
	for (const name of ["file", "link"]) assert.equal(await client.status(...at(name), [Op.create, 2, "x", NO_ATTRIBUTES]), Status.notdir);
});

test("REMOVE removes files and empty directories, and tells the change", async (t) => {
	const { client, overlay, dir } = await tree(t);
	overlay.mkdir(dir, Buffer.from("in"), ROOT, {});
	assert.equal(await client.status(ROOT_STEP, [Op.remove, "dir"]), Status.notempty);
	const before = change(overlay.root);
	const answer = await rest(client, ROOT_STEP, [Op.remove, "file"]);
	assert.equal(answer, hex(Op.putrootfh, OK, Op.remove, OK, 1, ...before, ...change(overlay.root)));
	assert.equal(await client.status([Op.putfh, dir.handle], [Op.remove, "in"]), OK);
	assert.equal(await client.status(ROOT_STEP, [Op.remove, "dir"]), OK);
	for (const [name, expected] of [
		["missing", Status.noent],
		[".", Status.badname],
		["", Status.inval],
		["a/b", Status.badchar],
	] as const)
		assert.equal(await client.status(ROOT_STEP, [Op.remove, name]), expected);
	assert.equal(await client.status(...at("link"), [Op.remove, "x"]), Status.notdir);
});

test("RENAME moves a name from the saved directory to the current one, and tells both changes", async (t) => {
	const { client, overlay, dir, file } = await tree(t);
	const before = [change(overlay.root), change(dir)];
	const answer = await rest(client, ROOT_STEP, [Op.savefh], [Op.lookup, "dir"], [Op.rename, "file", "moved"]);
	const after = [change(overlay.root), change(dir)];
	assert.equal(
		answer,
		hex(Op.putrootfh, OK, Op.savefh, OK, Op.lookup, OK, Op.rename, OK, 1, ...before[0], ...after[0], 1, ...before[1], ...after[1]),
	);
	assert.equal(dir.names.get("moved"), file);
	const move = (from: string, to: string): Promise<number> => client.status(ROOT_STEP, [Op.savefh], [Op.rename, from, to]);
	assert.equal(await move("missing", "x"), Status.noent);
	assert.equal(await move("link", ".."), Status.badname);
	assert.equal(await move("", "x"), Status.inval);
	assert.equal(await move("link", "x/y"), Status.badchar);
	assert.equal(await move("link", "dir"), Status.notempty);
	assert.equal(await client.status(...at("link"), [Op.savefh], ROOT_STEP, [Op.rename, "x", "y"]), Status.notdir);
});

test("LINK gives the saved object another name, and tells the change", async (t) => {
	const { client, overlay, file } = await tree(t);
	const before = change(overlay.root);
	const answer = await rest(client, [Op.putfh, file.handle], [Op.savefh], ROOT_STEP, [Op.link, "again"]);
	assert.equal(answer, hex(Op.putfh, OK, Op.savefh, OK, Op.putrootfh, OK, Op.link, OK, 1, ...before, ...change(overlay.root)));
	assert.equal(overlay.root.names.get("again"), file);
	const link = (name: string, to: string): Promise<number> => client.status(...at(name), [Op.savefh], ROOT_STEP, [Op.link, to]);
	assert.equal(await link("file", "dir"), Status.exist);
	assert.equal(await link("dir", "x"), Status.isdir);
	assert.equal(await link("file", "."), Status.badname);
	assert.equal(await client.status(ROOT_STEP, [Op.lookup, "file"], [Op.savefh], [Op.link, "x"]), Status.notdir);
});

test("SECINFO and SECINFO_NO_NAME tell the flavors, and use up the current handle", async (t) => {
	const { client } = await tree(t);
	assert.equal(await rest(client, ROOT_STEP, [Op.secinfo, "file"]), hex(Op.putrootfh, OK, Op.secinfo, OK, 2, 1, 0));
	assert.equal(await rest(client, ROOT_STEP, [Op.secinfoNoName, 0]), hex(Op.putrootfh, OK, Op.secinfoNoName, OK, 2, 1, 0));
	assert.equal(
		await rest(client, ...at("dir"), [Op.secinfoNoName, 1]),
		hex(Op.putrootfh, OK, Op.lookup, OK, Op.secinfoNoName, OK, 2, 1, 0),
	);
	for (const step of [[Op.secinfo, "file"] as const, [Op.secinfoNoName, 0] as const]) {
		assert.equal(await client.status(ROOT_STEP, step, [Op.getfh]), Status.nofilehandle);
	}
	assert.equal(await client.status(ROOT_STEP, [Op.secinfo, "missing"]), Status.noent);
	assert.equal(await client.status(ROOT_STEP, [Op.secinfo, ".."]), Status.badname);
	assert.equal(await client.status(...at("file"), [Op.secinfo, "x"]), Status.notdir);
	assert.equal(await client.status(ROOT_STEP, [Op.secinfoNoName, 1]), Status.noent);
	assert.equal(await client.status(ROOT_STEP, [Op.secinfoNoName, 2]), Status.badxdr);
});

interface Page {
	readonly names: string[];
	readonly cookies: Buffer[];
	readonly isEnd: boolean;
	readonly bytes: number;
}

/** One READDIR of the root, or its status. */
async function page(client: Nfs4Client, cookie: Buffer, maxcount: number, dircount = 0, asked = bitmap(20)): Promise<Page | number> {
	const { reader, status } = await client.run(ROOT_STEP, [Op.readdir, { raw: cookie }, 0, 0, dircount, maxcount, asked]);
	if (status !== OK) return status;
	pass(reader, Op.putrootfh, Op.readdir);
	const bytes = reader.remaining;
	assert.deepEqual([reader.u32(), reader.u32()], [0, 0], "the verifier");
	const [names, cookies]: [string[], Buffer[]] = [[], []];
	while (reader.bool()) {
		cookies.push(bytesOf(reader, 8));
		names.push(bytesOf(reader).toString());
		readBits(reader);
		bytesOf(reader);
	}
	return { names, cookies, isEnd: reader.bool(), bytes };
}

const START: Buffer = Buffer.alloc(8);

test("READDIR lists every name but . and .. once, in pages of any size that one entry fits", async (t) => {
	const { client, overlay } = await tree(t);
	for (let index = 0; index < 20; index++) overlay.mkdir(overlay.root, Buffer.from(`directory ${"x".repeat(index)}`), ROOT, {});
	const expected = [...overlay.root.names.keys()].sort();
	const whole = (await page(client, START, 65536)) as Page;
	assert.deepEqual([...whole.names].sort(), expected);
	assert.equal(whole.isEnd, true);
	for (const maxcount of [100, 120, 200, 333, 500]) {
		const names: string[] = [];
		let cookie: Buffer = START;
		for (;;) {
			const one = (await page(client, cookie, maxcount)) as Page;
			assert.ok(one.bytes <= maxcount, `${one.bytes} bytes where ${maxcount} were asked for`);
			names.push(...one.names);
			if (one.isEnd) break;
			assert.ok(one.names.length > 0);
			cookie = one.cookies.at(-1) as Buffer;
		}
		assert.deepEqual(names.sort(), expected, `${maxcount}`);
	}
});

test("READDIR tells TOOSMALL where not one entry fits, for every maxcount, and BAD_COOKIE for 1 and 2", async (t) => {
	const { client } = await tree(t);
	let fitted = false;
	for (let maxcount = 0; maxcount <= 200; maxcount += 4) {
		const one = await page(client, START, maxcount);
		if (typeof one === "number") {
			assert.equal(one, Status.toosmall);
			assert.equal(fitted, false, `${maxcount} is enough, and ${maxcount - 4} was too`);
		} else {
			fitted = true;
			assert.ok(one.bytes <= maxcount);
		}
	}
	assert.ok(fitted);
	assert.equal(await page(client, xdr(0, 1), 1000), Status.badCookie);
	assert.equal(await page(client, xdr(0, 2), 1000), Status.badCookie);
	for (const name of ["file", "link"]) {
		assert.equal(await client.status(...at(name), [Op.readdir, 0, 0, 0, 0, 0, 1000, bitmap(1)]), Status.notdir);
	}
	assert.ok(((await page(client, START, 65536, 40)) as Page).names.length < 4, "dircount is a bound of names");
});

test("READDIR answers these bytes, with the attributes that are asked for", async (t) => {
	const server = await startNfs4(t);
	const file = server.file("name", "12345") as MemoryObject;
	const client = await Nfs4Client.connect(server);
	const answer = await rest(client, ROOT_STEP, [Op.readdir, 0, 0, 0, 0, 0, 1000, bitmap(1, 4, 11, 20)]);
	const cookie = server.overlay.list(server.overlay.root, ROOT, 0, 2);
	cookie.next();
	const values = xdr(1, 0, 5, 0, 0, file.id);
	assert.equal(answer, hex(Op.putrootfh, OK, Op.readdir, OK, 0, 0, 1, cookie.cookieHi, cookie.cookieLo, "name", 1, 0x100812, values, 0, 1));
	const plain = await rest(client, ROOT_STEP, [Op.readdir, 0, 0, 0, 0, 0, 1000, bitmap(11, 20, 55)]);
	const ids = xdr(0, 0, file.id, 0, file.id);
	assert.equal(
		plain,
		hex(Op.putrootfh, OK, Op.readdir, OK, 0, 0, 1, cookie.cookieHi, cookie.cookieLo, "name", 2, 0x100800, 1 << 23, ids, 0, 1),
	);
});

test("an entry whose object cannot be looked at is told with rdattr_error, or fails the listing where that is not asked for", async (t) => {
	const { client, overlay, file } = await tree(t);
	const getattr = overlay.getattr.bind(overlay);
	overlay.getattr = (object) => {
		if (object === file) throw new OverlayError("acces", "nobody may look");
		return getattr(object);
	};
	const { reader, status } = await client.run(ROOT_STEP, [Op.readdir, 0, 0, 0, 0, 0, 4000, bitmap(1, 11)]);
	assert.equal(status, OK);
	pass(reader, Op.putrootfh, Op.readdir);
	reader.fixed(8);
	const told = new Map<string, [number[], string]>();
	while (reader.bool()) {
		reader.fixed(8);
		told.set(bytesOf(reader).toString(), [readBits(reader), bytesOf(reader).toString("hex")]);
	}
	assert.deepEqual(told.get("file"), [[11], hex(Status.access)]);
	assert.deepEqual(told.get("dir"), [[1, 11], hex(2, 0)]);
	assert.equal(told.size, 4);
	assert.equal(await client.status(ROOT_STEP, [Op.readdir, 0, 0, 0, 0, 0, 4000, bitmap(1)]), Status.access);
});

test("what changes a read-only export is ROFS, and what reads it is served", async (t) => {
	const server = await startNfs4(t, {}, new MemoryOverlay());
	server.file("file", "content");
	server.overlay.readOnly = true;
	const client = await Nfs4Client.connect(server);
	const refused: Step[] = [
		[Op.create, 2, "x", NO_ATTRIBUTES],
		[Op.remove, "file"],
		[Op.setattr, ANONYMOUS, fattr([33, 0o700])],
		[Op.open, 0, 2, 0, 0, 0, "o", 0, 0, "file"],
		[Op.open, 0, 1, 0, 0, 0, "o", 1, 1, NO_ATTRIBUTES, 0, "new"],
	];
	for (const step of refused) assert.equal(await client.status(ROOT_STEP, step), Status.rofs, `${step[0]}`);
	assert.equal(await client.status(...at("file"), [Op.read, ANONYMOUS, 0, 0, 10]), OK);
	assert.equal(await client.status(ROOT_STEP, [Op.open, 0, 1, 0, 0, 0, "o", 0, 0, "file"]), OK);
});

test("a page of a listing is remembered until something changes, for those alone who may list", async (t) => {
	const { client, overlay } = await tree(t);
	let changes = 1;
	Object.defineProperty(overlay, "changes", { get: () => changes });
	const list: Step[] = [ROOT_STEP, [Op.readdir, 0, 0, 0, 0, 0, 4000, bitmap(1, 20)]];
	const first = await rest(client, ...list);
	overlay.calls.length = 0;
	assert.equal(await rest(client, ...list), first);
	assert.equal(overlay.calls.includes("next"), false);
	assert.notEqual(await rest(client, ROOT_STEP, [Op.readdir, 0, 0, 0, 0, 0, 4000, bitmap(1)]), first, "other attributes");
	overlay.root.mode = 0o700;
	client.options = { credential: authSys(1000, 1000) };
	assert.equal(await client.status(...list), Status.access);
	client.options = {};
	overlay.mkdir(overlay.root, Buffer.from("one more"), ROOT, {});
	changes++;
	assert.ok((await rest(client, ...list)).includes(Buffer.from("one more").toString("hex")));
});
