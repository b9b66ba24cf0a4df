// NFS version 3, byte by byte.

import assert from "node:assert/strict";
import { test } from "node:test";
import { AUTH_NONE, authSys, xdr } from "../rpc/rpc-client.test-support.ts";
import { MemoryOverlay } from "../vfs/memory-overlay.test-support.ts";
import { attributes, bytes, Nfs, NO_CHANGE, nfs, nfsCall, postAttributes, startServer, wccData } from "./test-server.test-support.ts";

const OK = 0;
const NO_SATTR = { raw: NO_CHANGE };
const COOKIE_VERIFIER = { raw: Buffer.alloc(8) };

test("GETATTR answers these bytes", async (t) => {
	const { connect, overlay } = await startServer(t);
	const client = await connect();
	const reply = await client.call(nfsCall(Nfs.getattr, [overlay.root.handle], { xid: 0x11223344 }));
	const hex = reply.toString("hex");
	assert.equal(hex.slice(0, 56), "11223344000000010000000000000000000000000000000000000000");
	const fattr = hex.slice(56);
	assert.equal(fattr.length, 84 * 2);
	assert.equal(fattr.slice(0, 40), "00000002000001ed000000020000000000000000", "type, mode, nlink, uid, gid");
	assert.equal(fattr.slice(40, 88), "0".repeat(48), "size, used, rdev");
	assert.notEqual(fattr.slice(88, 104), "0".repeat(16), "fsid");
	assert.equal(fattr.slice(104, 120), "0000000000000001", "fileid");
	assert.equal(fattr.slice(120), `${"6553f100000003e8".repeat(2)}6553f100000007d0`, "atime, mtime, ctime");
});

test("times before 1970 and after 2106 are told as the nearest that the protocol has", async (t) => {
	const { connect, overlay } = await startServer(t);
	const client = await connect();
	overlay.root.atime = { sec: -5, nsec: 7 };
	overlay.root.mtime = { sec: 2 ** 33, nsec: 7 };
	const reply = (await client.call(nfsCall(Nfs.getattr, [overlay.root.handle]))).toString("hex");
	assert.equal(reply.slice(-48, -16), "0000000000000000ffffffff3b9ac9ff");
});

test("a file is created, written, read, cut, linked, renamed and removed", async (t) => {
	const { connect, overlay } = await startServer(t);
	const client = await connect();
	const root = overlay.root.handle;

	const created = await nfs(client, Nfs.create, [root, "file", 0, { raw: xdr(1, 0o100640, 0, 0, 0, 0, 0) }]);
	assert.equal(created.u32(), OK);
	assert.equal(created.u32(), 1);
	const file = bytes(created);
	assert.deepEqual(postAttributes(created), { type: 1, mode: 0o640, size: 0, fileid: 2 });
	assert.deepEqual(wccData(created), { before: 0, after: 0 });
	assert.equal(created.remaining, 0);

	const written = await nfs(client, Nfs.write, [file, 0, 6, 5, 0, "world"]);
	assert.equal(written.u32(), OK);
	assert.deepEqual(wccData(written), { before: 0, after: 11 });
	assert.deepEqual([written.u32(), written.u32()], [5, 0]);
	assert.equal(written.remaining, 8);
	assert.equal((await nfs(client, Nfs.write, [file, 0, 0, 6, 2, "Hello "])).u32(), OK);

	const whole = await nfs(client, Nfs.read, [file, 0, 0, 2 ** 31]);
	assert.equal(whole.u32(), OK);
	assert.equal(postAttributes(whole)?.size, 11);
	assert.deepEqual([whole.u32(), whole.bool(), bytes(whole).toString()], [11, true, "Hello world"]);
	assert.equal(whole.remaining, 0);
	const part = await nfs(client, Nfs.read, [file, 0, 6, 2]);
	part.u32();
	postAttributes(part);
	assert.deepEqual([part.u32(), part.bool(), bytes(part).toString()], [2, false, "wo"]);
	const beyond = await nfs(client, Nfs.read, [file, 0x00200000, 0, 100]);
	assert.equal(beyond.u32(), OK);
	postAttributes(beyond);
	assert.deepEqual([beyond.u32(), beyond.bool(), bytes(beyond).length], [0, true, 0]);

	const set = await nfs(client, Nfs.setattr, [file, { raw: xdr(0, 0, 0, 1, 0, 5, 0, 0) }, 0]);
	assert.equal(set.u32(), OK);
	assert.deepEqual(wccData(set), { before: 11, after: 5 });

	const linked = await nfs(client, Nfs.link, [file, root, "other"]);
	assert.equal(linked.u32(), OK);
	assert.equal(postAttributes(linked)?.size, 5);
	wccData(linked);
	assert.equal(linked.remaining, 0);
	const renamed = await nfs(client, Nfs.rename, [root, "file", root, "third"]);
	assert.equal(renamed.u32(), OK);
	wccData(renamed);
	wccData(renamed);
	assert.equal(renamed.remaining, 0);
	for (const name of ["other", "third"]) assert.equal((await nfs(client, Nfs.remove, [root, name])).u32(), OK);
	assert.equal((await nfs(client, Nfs.getattr, [file])).u32(), 70);
});

test("directories, links and special files are made and looked up", async (t) => {
	const { connect, overlay } = await startServer(t);
	const client = await connect();
	const root = overlay.root.handle;
	const expectCreated = async (procedure: number, args: Parameters<typeof nfs>[2], type: number): Promise<Buffer> => {
		const reply = await nfs(client, procedure, args);
		assert.equal(reply.u32(), OK);
		assert.equal(reply.bool(), true);
		const handle = bytes(reply);
		assert.equal(postAttributes(reply)?.type, type);
		wccData(reply);
		assert.equal(reply.remaining, 0);
		return handle;
	};
	const dir = await expectCreated(Nfs.mkdir, [root, "dir", NO_SATTR], 2);
	const symlink = await expectCreated(Nfs.symlink, [dir, "symlink", NO_SATTR, "../target"], 5);
	await expectCreated(Nfs.mknod, [dir, "block", 3, NO_SATTR, 8, 1], 3);
	await expectCreated(Nfs.mknod, [dir, "character", 4, NO_SATTR, 1, 3], 4);
	await expectCreated(Nfs.mknod, [dir, "socket", 6, NO_SATTR], 6);
	await expectCreated(Nfs.mknod, [dir, "fifo", 7, NO_SATTR], 7);
	for (const type of [1, 2, 5]) assert.equal((await nfs(client, Nfs.mknod, [dir, "other", type])).u32(), 10007);

	const target = await nfs(client, Nfs.readlink, [symlink]);
	assert.equal(target.u32(), OK);
	postAttributes(target);
	assert.equal(bytes(target).toString(), "../target");

	const found = await nfs(client, Nfs.lookup, [root, "dir"]);
	assert.equal(found.u32(), OK);
	assert.deepEqual(bytes(found), dir);
	const asked = await nfs(client, Nfs.access, [dir, 0]);
	assert.equal(asked.u32(), OK);
	assert.equal(postAttributes(found)?.fileid, postAttributes(asked)?.fileid);
	assert.equal(postAttributes(found)?.fileid, 1);
	assert.equal(found.remaining, 0);
	const missing = await nfs(client, Nfs.lookup, [dir, "missing"]);
	assert.equal(missing.u32(), 2);
	assert.equal(postAttributes(missing)?.type, 2);
	assert.equal(missing.remaining, 0);

	const full = await nfs(client, Nfs.rmdir, [root, "dir"]);
	assert.equal(full.u32(), 66);
	assert.deepEqual(wccData(full), { before: 0, after: 0 });
	for (const name of ["symlink", "block", "character", "socket", "fifo"]) await nfs(client, Nfs.remove, [dir, name]);
	assert.equal((await nfs(client, Nfs.rmdir, [root, "dir"])).u32(), OK);
});

test("names are passed on as they are, and refused ones get their status", async (t) => {
	const { connect, overlay } = await startServer(t);
	const client = await connect();
	const root = overlay.root.handle;
	const raw = Buffer.from([0xff, 0xfe, 0x20, 0x80]);
	assert.equal((await nfs(client, Nfs.mkdir, [root, raw, NO_SATTR])).u32(), OK);
	assert.equal((await nfs(client, Nfs.lookup, [root, raw])).u32(), OK);
	for (const name of ["", "a/b", "a\0b"]) assert.equal((await nfs(client, Nfs.lookup, [root, name])).u32(), 22, JSON.stringify(name));
	assert.equal((await nfs(client, Nfs.lookup, [root, "x".repeat(256)])).u32(), 63);
	assert.equal((await nfs(client, Nfs.lookup, [root, "x".repeat(100_000)])).u32(), 63);
	assert.equal((await nfs(client, Nfs.mkdir, [root, "..", NO_SATTR])).u32(), 17);
	assert.equal((await nfs(client, Nfs.remove, [root, "."])).u32(), 22);
});

test("exclusive CREATE with the same verifier finds its file, with another it exists", async (t) => {
	const { connect, overlay } = await startServer(t);
	const client = await connect();
	const create = (verifier: string): ReturnType<typeof nfs> =>
		nfs(client, Nfs.create, [overlay.root.handle, "file", 2, { raw: Buffer.from(verifier) }]);
	const first = await create("verifier");
	const again = await create("verifier");
	assert.equal(first.u32() + again.u32(), OK);
	assert.deepEqual([first.bool(), bytes(first)], [again.bool(), bytes(again)]);
	assert.equal((await create("another!")).u32(), 17);
	assert.equal((await nfs(client, Nfs.create, [overlay.root.handle, "file", 1, NO_SATTR])).u32(), 17);
	assert.equal((await nfs(client, Nfs.create, [overlay.root.handle, "file", 0, NO_SATTR])).u32(), OK);
});

test("SETATTR is guarded by ctime, and refuses impossible times and sizes", async (t) => {
	const { connect, overlay, file } = await startServer(t);
	const client = await connect();
	const object = file("file", "content");
	const { ctime } = overlay.getattr(object);
	const handle = object.handle;
	const wrong = await nfs(client, Nfs.setattr, [handle, NO_SATTR, 1, ctime.sec, ctime.nsec + 1]);
	assert.equal(wrong.u32(), 10002);
	assert.deepEqual(wccData(wrong), { before: 7, after: 7 });
	assert.equal((await nfs(client, Nfs.setattr, [handle, { raw: xdr(1, 0o7777, 0, 0, 0, 0, 0) }, 1, ctime.sec, ctime.nsec])).u32(), OK);
	const size = (hi: number, lo: number): Promise<number> =>
		nfs(client, Nfs.setattr, [handle, { raw: xdr(0, 0, 0, 1, hi, lo, 0, 0) }, 0]).then((reply) => reply.u32());
	assert.equal(await size(0x200000, 0), 27);
	assert.equal(await size(0xffffffff, 0xffffffff), 27);
	const time = (nsec: number): Promise<number> =>
		nfs(client, Nfs.setattr, [handle, { raw: xdr(0, 0, 0, 0, 2, 5, nsec, 1) }, 0]).then((reply) => reply.u32());
	assert.equal(await time(1_000_000_000), 22);
	assert.equal(await time(999_999_999), OK);
	assert.deepEqual(overlay.getattr(object).atime, { sec: 5, nsec: 999_999_999 });
	assert.equal(overlay.getattr(object).mode, 0o7777);
});

test("WRITE refuses a wrong count and an end beyond 2^53 - 1", async (t) => {
	const { connect, file } = await startServer(t);
	const client = await connect();
	const { handle } = file("file", "content");
	const status = async (...args: Parameters<typeof nfs>[2]): Promise<number> => (await nfs(client, Nfs.write, [handle, ...args])).u32();
	assert.equal(await status(0, 0, 4, 0, "12345"), 22);
	assert.equal(await status(0x1fffff, 0xffffffff, 1, 0, "1"), 27);
	assert.equal(await status(0xffffffff, 0xffffffff, 1, 0, "1"), 27);
	assert.equal(await status(0, 0, 0, 0, ""), OK);
});

test("a megabyte is written and read back in one call each", async (t) => {
	const { connect, file } = await startServer(t);
	const client = await connect();
	const { handle } = file("file", "");
	const data = Buffer.from(Array.from({ length: 1 << 20 }, (_, index) => (index * 31) >> 3));
	for (let round = 0; round < 3; round++) {
		const written = await nfs(client, Nfs.write, [handle, 0, round, data.length, 0, data]);
		assert.equal(written.u32(), OK);
		const read = await nfs(client, Nfs.read, [handle, 0, round, 4 << 20]);
		assert.equal(read.u32(), OK);
		postAttributes(read);
		assert.deepEqual([read.u32(), read.bool()], [data.length, true]);
		assert.ok(bytes(read).equals(data));
	}
});

test("COMMIT and FILE_SYNC writes wait for the flush and tell the verifier that holds then", async (t) => {
	const { connect, overlay, file } = await startServer(t);
	const client = await connect();
	const { handle } = file("file", "content");
	overlay.flush = async () => {
		await new Promise((resolve) => setTimeout(resolve, 5));
		overlay.writeVerifier = Buffer.from("changed!");
	};
	const committed = await nfs(client, Nfs.commit, [handle, 0, 0, 0]);
	assert.equal(committed.u32(), OK);
	assert.deepEqual(wccData(committed), { before: 7, after: 7 });
	assert.equal(Buffer.from(committed.bytes.subarray(committed.position)).toString(), "changed!");
	const written = await nfs(client, Nfs.write, [handle, 0, 0, 1, 1, "x"]);
	assert.equal(written.u32(), OK);
	wccData(written);
	assert.deepEqual([written.u32(), written.u32()], [1, 2]);
});

test("FSSTAT, FSINFO, PATHCONF and ACCESS tell what the server does", async (t) => {
	const { connect, overlay } = await startServer(t);
	const client = await connect();
	const root = overlay.root.handle;
	const after = async (procedure: number, ...args: Parameters<typeof nfs>[2]): Promise<number[]> => {
		const reply = await nfs(client, procedure, [root, ...args]);
		assert.equal(reply.u32(), OK);
		assert.equal(postAttributes(reply)?.type, 2);
		const words: number[] = [];
		while (reply.remaining > 0) words.push(reply.u32());
		return words;
	};
	assert.deepEqual(await after(Nfs.fsstat), [256, 7, 128, 0, 64, 0, 0, 1_000_000, 0, 999_000, 0, 999_000, 0]);
	const transfer = [1 << 20, 1 << 20, 4096];
	assert.deepEqual(await after(Nfs.fsinfo), [...transfer, ...transfer, 65536, 0x1fffff, 0xffffffff, 0, 1, 27]);
	assert.deepEqual(await after(Nfs.pathconf), [65000, 255, 1, 1, 0, 1]);
	assert.deepEqual(await after(Nfs.access, 0xffffffff), [1 | 2 | 4 | 8 | 16]);
});

test("callers are squashed as the options say", async (t) => {
	const overlay = new MemoryOverlay();
	const { connect } = await startServer(t, { exports: [{ name: "/", overlay, squash: { rootSquash: true, anonUid: 77 } }] }, overlay);
	const client = await connect();
	overlay.root.mode = 0o777;
	const owner = async (name: string, credential: readonly [number, Uint8Array]): Promise<number | undefined> => {
		await nfs(client, Nfs.mkdir, [overlay.root.handle, name, NO_SATTR], { credential });
		return overlay.root.names.get(name)?.uid;
	};
	assert.equal(await owner("root", authSys(0, 0)), 77);
	assert.equal(await owner("user", authSys(5, 5)), 5);
	assert.equal(await owner("nobody", AUTH_NONE), 77);
});

test("forged handles of every length up to 64 bytes are bad handles", async (t) => {
	const { connect, overlay } = await startServer(t);
	const client = await connect();
	for (let length = 0; length <= 64; length++) {
		assert.equal((await nfs(client, Nfs.getattr, [Buffer.alloc(length, 1)])).u32(), 10001);
	}
	const { handle } = overlay.root;
	for (const forged of [handle.subarray(0, 15), Buffer.concat([handle, Buffer.alloc(1)])]) {
		assert.equal((await nfs(client, Nfs.getattr, [forged])).u32(), 10001);
	}
});

interface Entry {
	readonly name: string;
	readonly fileid: number;
	readonly cookie: readonly [number, number];
}

function readEntries(reply: Awaited<ReturnType<typeof nfs>>, plus: boolean): { entries: Entry[]; eof: boolean } {
	reply.fixed(8);
	const entries: Entry[] = [];
	while (reply.bool()) {
		reply.u32();
		const fileid = reply.u32();
		entries.push({ fileid, name: bytes(reply).toString(), cookie: [reply.u32(), reply.u32()] });
		if (!plus) continue;
		assert.equal(postAttributes(reply)?.fileid, fileid);
		assert.equal(reply.bool(), true);
		assert.equal(bytes(reply).readUInt32BE(12), fileid);
	}
	const eof = reply.bool();
	assert.equal(reply.remaining, 0);
	return { entries, eof };
}

for (const plus of [false, true]) {
	test(`${plus ? "READDIRPLUS" : "READDIR"} shows every name once within its bounds, whatever the count`, async (t) => {
		const { connect, overlay, file } = await startServer(t);
		const client = await connect();
		const names = Array.from({ length: 60 }, (_, index) => `file${"-".repeat(index % 7)}${index}`);
		for (const name of names) file(name, "");
		for (const count of [plus ? 400 : 160, 512, 777, 4096, 1 << 20, 0xffffffff]) {
			const seen: string[] = [];
			let cookie: readonly [number, number] = [0, 0];
			for (let eof = false; !eof; ) {
				const counts = plus ? [count, count] : [count];
				const reply = await nfs(client, plus ? Nfs.readdirplus : Nfs.readdir, [overlay.root.handle, ...cookie, COOKIE_VERIFIER, ...counts]);
				assert.equal(reply.u32(), OK);
				assert.ok(reply.remaining <= count, `${reply.remaining} bytes for ${count}`);
				assert.equal(postAttributes(reply)?.type, 2);
				const page = readEntries(reply, plus);
				assert.ok(page.eof || page.entries.length > 0);
				seen.push(...page.entries.map(({ name }) => name));
				cookie = page.entries.at(-1)?.cookie ?? cookie;
				eof = page.eof;
			}
			assert.deepEqual(seen.slice(0, 2), [".", ".."]);
			assert.deepEqual(seen.slice(2).sort(), [...names].sort());
		}
		for (const count of [0, 1, 100, 103, 127]) {
			const counts = plus ? [count, count] : [count];
			const reply = await nfs(client, plus ? Nfs.readdirplus : Nfs.readdir, [overlay.root.handle, 0, 0, COOKIE_VERIFIER, ...counts]);
			assert.equal(reply.u32(), 10005);
			assert.equal(postAttributes(reply)?.type, 2);
		}
	});
}

test("READDIRPLUS takes dircount as a bound beyond the first entry", async (t) => {
	const { connect, overlay, file } = await startServer(t);
	const client = await connect();
	for (let index = 0; index < 10; index++) file(`file${index}`, "");
	const count = async (directoryCount: number): Promise<number> => {
		const reply = await nfs(client, Nfs.readdirplus, [overlay.root.handle, 0, 2, COOKIE_VERIFIER, directoryCount, 65536]);
		reply.u32();
		postAttributes(reply);
		return readEntries(reply, true).entries.length;
	};
	assert.equal(await count(0), 1);
	assert.equal(await count(3 * 28), 3);
	assert.equal(await count(3 * 28 + 27), 3);
	assert.equal(await count(65536), 10);
});

test("GETATTR of a bad handle carries nothing, other failures what RFC 1813 has", async (t) => {
	const { connect, file } = await startServer(t);
	const client = await connect();
	const { handle } = file("file", "content");
	const bad = await nfs(client, Nfs.getattr, [""]);
	assert.deepEqual([bad.u32(), bad.remaining], [10001, 0]);
	const notDirectory = await nfs(client, Nfs.rename, [handle, "a", handle, "b"]);
	assert.equal(notDirectory.u32(), 20);
	assert.deepEqual(
		[wccData(notDirectory), wccData(notDirectory)],
		[
			{ before: 7, after: 7 },
			{ before: 7, after: 7 },
		],
	);
	const stale = await nfs(client, Nfs.rename, [handle, "a", "", "b"]);
	assert.equal(stale.u32(), 10001);
	assert.deepEqual(
		[wccData(stale), wccData(stale)],
		[
			{ before: 7, after: 7 },
			{ before: null, after: null },
		],
	);
	const getattr = await nfs(client, Nfs.getattr, [handle]);
	assert.equal(getattr.u32(), OK);
	assert.equal(attributes(getattr).size, 7);
});
