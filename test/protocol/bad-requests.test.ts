/** Whatever a peer sends is answered with the right status, and the server goes on. One server takes all of it. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { noise, plant } from "../support/lower-tree.ts";
import { FileType3, type Nfs3Client, Nfs3Status, ok, refused, statusName } from "../support/nfs3-client.ts";
import { needs, seed } from "../support/requirements.ts";
import { AcceptStatus, decodeReply, encodeCall, RpcConnection, RpcRefusal } from "../support/rpc-connection.ts";
import { Scratch } from "../support/scratch.ts";
import { type ServerProcess, startServer } from "../support/server-process.ts";
import { XdrWriter } from "../support/xdr-codec.ts";

const NFS = 100003;
const skip = needs("root");
let made: Scratch;
let server: ServerProcess;
let client: Nfs3Client;
let root: Buffer;
let pid = 0;

before(async () => {
	if (skip) return;
	made = new Scratch();
	const lower = plant(made.folder("lower"), { file: "contents", "dir/inside": "x", link: { link: "file" } });
	server = await startServer(made, {
		lowers: [lower],
		upper: made.folder("upper"),
		args: ["--async", "--state-dir", made.folder("state")],
	});
	pid = server.pid;
	client = await server.client();
	root = await client.root();
});

after(async () => {
	if (skip) return;
	client.close();
	await server.terminate();
	await made.close();
});

/** After each attack: the same process answers on a new connection and on the old one, and the tree is as it was. */
async function assertUnharmed(): Promise<void> {
	assert.equal(server.pid, pid);
	process.kill(pid, 0);
	const fresh = await server.client();
	assert.deepEqual(await fresh.root(), root);
	const names = (await fresh.list(root, { dots: false })).map(({ name }) => name).sort();
	assert.deepEqual(names, ["dir", "file", "link"]);
	assert.equal((await fresh.readFile(await fresh.walk(root, "file"))).toString(), "contents");
	fresh.close();
	await client.null();
}

async function refusal(call: Promise<unknown>): Promise<RpcRefusal> {
	try {
		await call;
	} catch (error) {
		if (error instanceof RpcRefusal) return error;
		throw error;
	}
	throw new Error("the call was answered as if nothing was wrong with it");
}

test("programs, versions and procedures that do not exist", { skip }, async () => {
	const none = Buffer.alloc(0);
	const call = (program: number, version: number, procedure: number) => refusal(client.rpc.call(program, version, procedure, none, null));
	assert.equal((await call(99, 1, 0)).status, AcceptStatus.progUnavail);
	const nfs2 = await call(NFS, 2, 0);
	assert.equal(nfs2.status, AcceptStatus.progMismatch);
	assert.ok((nfs2.detail[0] as number) <= 3 && (nfs2.detail[1] as number) >= 3, `versions ${nfs2.detail}`);
	assert.equal((await call(100005, 99, 0)).status, AcceptStatus.progMismatch);
	assert.equal((await call(NFS, 3, 22)).status, AcceptStatus.procUnavail);
	assert.equal((await call(NFS, 3, 0xffff_ffff)).status, AcceptStatus.procUnavail);
	assert.equal((await call(100005, 3, 6)).status, AcceptStatus.procUnavail);
	await assertUnharmed();
});

test("another version of RPC, and credentials of unknown or broken kind", { skip }, async () => {
	const answer = async (record: Buffer) => {
		const reply = client.rpc.reply(record.readUInt32BE(0));
		client.rpc.sendRecord(record);
		return refusal(reply.then(decodeReply));
	};
	const xid = () => client.rpc.nextXid();
	const mismatch = await answer(encodeCall(xid(), NFS, 3, 0, Buffer.alloc(0), null, 3));
	assert.deepEqual([mismatch.kind, mismatch.status, mismatch.detail], ["denied", 0, [2, 2]]);
	const header = (id: number) => new XdrWriter().u32(id).u32(0).u32(2).u32(NFS).u32(3).u32(1);
	const arguments1 = new XdrWriter().opaque(root).bytes();
	const broken: [string, XdrWriter][] = [
		["flavor 77", header(xid()).u32(77).opaque(Buffer.from("secret")).u32(0).u32(0)],
		["AUTH_SYS without a body", header(xid()).u32(1).opaque(Buffer.alloc(0)).u32(0).u32(0)],
		["AUTH_SYS with 17 groups", header(xid()).u32(1).opaque(authSys(17)).u32(0).u32(0)],
		["AUTH_SYS with more groups than bytes", header(xid()).u32(1).opaque(authSys(2).subarray(0, 24)).u32(0).u32(0)],
	];
	for (const [what, record] of broken) {
		const denied = await answer(record.raw(arguments1).bytes());
		assert.deepEqual([denied.kind, denied.status], ["denied", 1], what);
	}
	await assertUnharmed();

	function authSys(groups: number): Buffer {
		const body = new XdrWriter().u32(0).string("host").u32(0).u32(0).u32(groups);
		for (let index = 0; index < groups; index += 1) body.u32(index);
		return body.bytes();
	}
});

test("arguments that end too early, or say lengths that cannot be", { skip }, async () => {
	const cases: [string, number, Buffer][] = [
		["GETATTR without arguments", 1, Buffer.alloc(0)],
		["a handle of 65 bytes", 1, new XdrWriter().opaque(Buffer.alloc(65)).bytes()],
		["a handle of 4 GiB", 1, new XdrWriter().u32(0xffff_ffff).bytes()],
		["LOOKUP without a name", 3, new XdrWriter().opaque(root).bytes()],
		["a name longer than the record", 3, new XdrWriter().opaque(root).u32(5000).bytes()],
		["WRITE whose data are cut off", 7, new XdrWriter().opaque(root).u64(0n).u32(100).u32(2).u32(100).raw(Buffer.alloc(8)).bytes()],
		["CREATE of an unknown mode", 8, new XdrWriter().opaque(root).string("x").u32(3).bytes()],
		["SETATTR with a boolean of 2", 2, new XdrWriter().opaque(root).u32(2).bytes()],
		["READDIR with half a cookie", 16, new XdrWriter().opaque(root).u32(0).bytes()],
	];
	for (const [what, procedure, args] of cases) {
		const answer = await refusal(client.rpc.call(NFS, 3, procedure, args, client.credentials));
		assert.deepEqual([answer.kind, answer.status], ["accepted", AcceptStatus.garbageArgs], what);
	}
	await assertUnharmed();
});

test("records: byte by byte, in fragments, oversized, empty, cut off, and noise", { skip }, async () => {
	const slow = await RpcConnection.connect(server.port);
	const record = encodeCall(7, NFS, 3, 1, new XdrWriter().opaque(root).bytes(), null);
	const reply = slow.reply(7);
	slow.sendRecord(record, 3);
	assert.equal(decodeReply(await reply).u32(), 0, "GETATTR in fragments of three bytes");
	const again = slow.reply(8);
	const whole = Buffer.concat([Buffer.from([0x80, 0, 0, record.length]), record]);
	whole.writeUInt32BE(8, 4);
	for (const byte of whole) {
		slow.sendRaw(Buffer.from([byte]));
		await new Promise((resolve) => setImmediate(resolve));
	}
	assert.equal(decodeReply(await again).u32(), 0, "GETATTR one byte at a time");
	slow.close();

	for (const [what, bytes] of [
		["a record of 2 GiB", Buffer.concat([Buffer.from([0xff, 0xff, 0xff, 0xff]), Buffer.alloc(64)])],
		["a fragment of 2 GiB that is not the last", Buffer.concat([Buffer.from([0x7f, 0xff, 0xff, 0xff]), Buffer.alloc(64)])],
		["an HTTP request", Buffer.from("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")],
	] as const) {
		const connection = await RpcConnection.connect(server.port);
		connection.sendRaw(bytes);
		assert.ok(await connection.closes(), `the connection with ${what} is closed`);
	}
	const endless = await RpcConnection.connect(server.port);
	for (let sent = 0; sent < 64 && !endless.closed; sent += 1) {
		const part = Buffer.alloc(4 + 65536);
		part.writeUInt32BE(65536);
		endless.sendRaw(part);
	}
	assert.ok(await endless.closes(), "a connection whose record never ends is closed");

	for (let round = 0; round < 60; round += 1) {
		const connection = await RpcConnection.connect(server.port);
		const body = noise(4 * ((round * 37) % 100), seed + round);
		if (round % 3 === 0) connection.sendRaw(body);
		else if (round % 3 === 1) connection.sendRecord(body.length > 0 ? body : Buffer.alloc(4));
		else connection.sendRecord(Buffer.concat([encodeCall(round, NFS, 3, round % 22, Buffer.alloc(0), null), body]));
		if (round % 2 === 0) connection.socket.end();
		await new Promise((resolve) => setTimeout(resolve, 5));
		connection.close();
	}
	const cut = await RpcConnection.connect(server.port);
	cut.sendRaw(whole.subarray(0, 20));
	cut.socket.end();
	assert.ok(await cut.closes(), "a connection that ends within a record is closed");
	await assertUnharmed();
});

test("a reply to nobody: a peer that asks much and reads nothing", { skip }, async () => {
	const greedy = await RpcConnection.connect(server.port);
	greedy.socket.pause();
	const file = await client.walk(root, "file");
	for (let index = 0; index < 20_000; index += 1) {
		greedy.sendRecord(encodeCall(index, NFS, 3, index % 2 === 0 ? 1 : 17, greedyArguments(index, file), { uid: 0, gid: 0 }));
	}
	for (let index = 0; index < 20; index += 1) await client.null();
	greedy.close();
	await assertUnharmed();

	function greedyArguments(index: number, handle: Buffer): Buffer {
		if (index % 2 === 0) return new XdrWriter().opaque(handle).bytes();
		return new XdrWriter().opaque(root).u64(0n).u64(0n).u32(65536).u32(65536).bytes();
	}
});

const badNames: [what: string, name: string | Buffer, status: keyof typeof Nfs3Status][] = [
	["an empty name", "", "inval"],
	["a name with a slash", "a/b", "inval"],
	["a slash", "/", "inval"],
	["an absolute path", "/etc/passwd", "inval"],
	["a way out", "../../etc/passwd", "inval"],
	["a name with NUL", Buffer.from("a\0b"), "inval"],
	["a name of 256 bytes", "n".repeat(256), "nametoolong"],
	["a name of 4,000 bytes", "n".repeat(4000), "nametoolong"],
];

for (const [what, name, status] of badNames) {
	test(`${what} is refused by every procedure that takes one`, { skip }, async () => {
		const file = await client.walk(root, "file");
		await refused(client.lookup(root, name), status, "LOOKUP");
		await refused(client.create(root, name), status, "CREATE");
		await refused(client.mkdir(root, name), status, "MKDIR");
		await refused(client.symlink(root, name, "x"), status, "SYMLINK");
		await refused(client.mknod(root, name, FileType3.fifo), status, "MKNOD");
		await refused(client.remove(root, name), status, "REMOVE");
		await refused(client.rmdir(root, name), status, "RMDIR");
		await refused(client.rename(root, name, root, "ok"), status, "RENAME from");
		await refused(client.rename(root, "file", root, name), status, "RENAME to");
		await refused(client.link(file, root, name), status, "LINK");
		await assertUnharmed();
	});
}

for (const name of [".", ".."]) {
	test(`"${name}" is no name to make or remove`, { skip }, async () => {
		const dir = await client.walk(root, "dir");
		const file = await client.walk(root, "file");
		await refused(client.create(dir, name), "exist", "CREATE");
		await refused(client.mkdir(dir, name), "exist", "MKDIR");
		await refused(client.symlink(dir, name, "x"), "exist", "SYMLINK");
		await refused(client.mknod(dir, name, FileType3.fifo), "exist", "MKNOD");
		await refused(client.link(file, dir, name), "exist", "LINK");
		await refused(client.remove(dir, name), "inval", "REMOVE");
		await refused(client.rmdir(dir, name), "inval", "RMDIR");
		await refused(client.rename(dir, name, root, "ok"), "inval", "RENAME from");
		await refused(client.rename(root, "file", dir, name), "inval", "RENAME to");
		await assertUnharmed();
	});
}

test("forged handles: each byte flipped, cut, lengthened, random, empty", { skip }, async () => {
	for (const path of ["", "file", "dir/inside"]) {
		const good = await client.walk(root, path);
		const forged: [string, Buffer][] = [];
		for (let at = 0; at < good.length; at += 1) {
			for (const bit of [0, 7]) {
				const copy = Buffer.from(good);
				copy[at] = (copy[at] as number) ^ (1 << bit);
				forged.push([`bit ${bit} of byte ${at} flipped`, copy]);
			}
		}
		for (const length of [0, 1, 4, 8, good.length - 8, good.length - 1]) forged.push([`cut to ${length}`, good.subarray(0, length)]);
		for (const more of [1, 4, 8])
			if (good.length + more <= 64) forged.push([`${more} bytes longer`, Buffer.concat([good, Buffer.alloc(more)])]);
		for (let index = 0; index < 20; index += 1) forged.push(["random", noise(good.length, seed + index)]);
		forged.push(["random, 64 bytes", noise(64, seed)], ["zeros", Buffer.alloc(good.length)]);
		for (const [what, handle] of forged) {
			const { status } = await client.getattr(handle);
			assert.equal(statusName(status), "badhandle", `/${path}: ${what}`);
		}
	}
	const bad = noise(32, seed);
	const file = await client.walk(root, "file");
	for (const [what, reply] of Object.entries({
		setattr: client.setattr(bad, { mode: 0 }),
		lookup: client.lookup(bad, "x"),
		access: client.access(bad, 1),
		readlink: client.readlink(bad),
		read: client.read(bad, 0n, 10),
		write: client.write(bad, 0n, Buffer.from("x")),
		create: client.create(bad, "x"),
		mkdir: client.mkdir(bad, "x"),
		symlink: client.symlink(bad, "x", "y"),
		mknod: client.mknod(bad, "x", FileType3.fifo),
		remove: client.remove(bad, "x"),
		rmdir: client.rmdir(bad, "x"),
		renameFrom: client.rename(bad, "x", root, "y"),
		renameTo: client.rename(root, "file", bad, "y"),
		linkObject: client.link(bad, root, "y"),
		linkDirectory: client.link(file, bad, "y"),
		readdir: client.readdir(bad, 0n, Buffer.alloc(8), 4096),
		readdirplus: client.readdirplus(bad, 0n, Buffer.alloc(8), 4096, 4096),
		fsstat: client.fsstat(bad),
		fsinfo: client.fsinfo(bad),
		pathconf: client.pathconf(bad),
		commit: client.commit(bad),
	})) {
		await refused(reply, "badhandle", what);
	}
	await assertUnharmed();
});

test("a handle of another export is refused, over the same lower too", { skip }, async (t) => {
	const other = new Scratch();
	t.after(() => other.close());
	const lower = plant(other.folder("lower"), { file: "another's" });
	const second = await startServer(other, {
		lowers: [lower],
		upper: other.folder("upper"),
		args: ["--async", "--state-dir", other.folder("state")],
	});
	const foreign = await second.client();
	const foreignRoot = await foreign.root();
	for (const handle of [foreignRoot, await foreign.walk(foreignRoot, "file")]) {
		const { status } = await client.getattr(handle);
		assert.ok(status === Nfs3Status.badhandle || status === Nfs3Status.stale, statusName(status));
	}
	const { status } = await foreign.getattr(root);
	assert.ok(status === Nfs3Status.badhandle || status === Nfs3Status.stale, statusName(status));
	foreign.close();
	await assertUnharmed();
});

test("procedures on objects of the wrong type", { skip }, async () => {
	const file = await client.walk(root, "file");
	const dir = await client.walk(root, "dir");
	const link = await client.walk(root, "link");
	const none = Buffer.alloc(8);
	await refused(client.lookup(file, "x"), "notdir", "LOOKUP in a file");
	await refused(client.lookup(link, "x"), "notdir", "LOOKUP in a symlink");
	await refused(client.create(file, "x"), "notdir", "CREATE in a file");
	await refused(client.readdir(file, 0n, none, 4096), "notdir", "READDIR of a file");
	await refused(client.readdirplus(file, 0n, none, 4096, 4096), "notdir", "READDIRPLUS of a file");
	await refused(client.readlink(file), "inval", "READLINK of a file");
	await refused(client.read(dir, 0n, 10), "isdir", "READ of a directory");
	await refused(client.write(dir, 0n, Buffer.from("x")), "isdir", "WRITE to a directory");
	await refused(client.read(link, 0n, 10), "inval", "READ of a symlink");
	await refused(client.remove(root, "dir"), "isdir", "REMOVE of a directory");
	await refused(client.rmdir(root, "file"), "notdir", "RMDIR of a file");
	await refused(client.rmdir(root, "dir"), "notempty", "RMDIR of a directory that is not empty");
	await refused(client.rename(root, "file", root, "dir"), "isdir", "RENAME of a file over a directory");
	await refused(client.rename(root, "missing", root, "x"), "noent", "RENAME of nothing");
	await refused(client.remove(root, "missing"), "noent", "REMOVE of nothing");
	await refused(client.create(root, "file", { guarded: {} }), "exist", "CREATE guarded over a file");
	await refused(client.mkdir(root, "file"), "exist", "MKDIR over a file");
	await refused(client.mknod(root, "x", FileType3.reg), "badtype", "MKNOD of a regular file");
	await refused(client.mknod(root, "x", FileType3.lnk), "badtype", "MKNOD of a symlink");
	assert.equal((await refusal(client.mknod(root, "x", 99))).status, AcceptStatus.garbageArgs, "MKNOD of type 99");
	await assertUnharmed();
});

test("offsets, sizes and times at their ends", { skip }, async () => {
	const file = await client.walk(root, "file");
	const far = await ok(client.read(file, 1n << 40n, 10));
	assert.deepEqual([far.data.length, far.eof], [0, true]);
	const { status: farthest } = await client.read(file, (1n << 64n) - 1n, 10);
	assert.ok(farthest === 0 || farthest === Nfs3Status.inval || farthest === Nfs3Status.fbig, statusName(farthest));
	assert.deepEqual((await ok(client.read(file, 0n, 0))).data.length, 0);
	for (const offset of [(1n << 63n) - 1n, (1n << 64n) - 1n]) {
		const { status } = await client.write(file, offset, Buffer.from("xx"));
		assert.ok(status === Nfs3Status.fbig || status === Nfs3Status.inval, statusName(status));
	}
	for (const size of [1n << 63n, (1n << 64n) - 1n]) {
		const { status } = await client.setattr(file, { size });
		assert.ok(status === Nfs3Status.fbig || status === Nfs3Status.inval, statusName(status));
	}
	await refused(client.setattr(file, { mtime: { sec: 1, nsec: 1_000_000_000 } }), "inval", "a time with 10^9 nanoseconds");
	await refused(client.setattr(file, { mode: 0o600 }, { sec: 1, nsec: 1 }), "notSync", "a guard that does not hold");
	await assertUnharmed();
});

test("MNT of what is not exported", { skip }, async () => {
	for (const path of ["/no-such-export", "/../etc", ""]) {
		const { status } = await client.mnt(path);
		assert.ok(
			status === Nfs3Status.noent || status === Nfs3Status.acces || (path === "" && status === 0),
			`${path}: ${statusName(status)}`,
		);
	}
	const long = await client.mnt("/".padEnd(1024, "x"));
	assert.ok(long.status === Nfs3Status.nametoolong || long.status === Nfs3Status.noent, statusName(long.status));
	await assertUnharmed();
});
