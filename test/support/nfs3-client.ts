import assert from "node:assert/strict";
import { type AuthSys, RpcConnection } from "./rpc-connection.ts";
import { type XdrReader, XdrWriter } from "./xdr-codec.ts";

/** nfsstat3 (RFC 1813 section 2.6); mountstat3 shares the numbers that it has. */
export const Nfs3Status = {
	ok: 0,
	perm: 1,
	noent: 2,
	io: 5,
	nxio: 6,
	acces: 13,
	exist: 17,
	xdev: 18,
	nodev: 19,
	notdir: 20,
	isdir: 21,
	inval: 22,
	fbig: 27,
	nospc: 28,
	rofs: 30,
	mlink: 31,
	nametoolong: 63,
	notempty: 66,
	dquot: 69,
	stale: 70,
	remote: 71,
	badhandle: 10001,
	notSync: 10002,
	badCookie: 10003,
	notsupp: 10004,
	toosmall: 10005,
	serverfault: 10006,
	badtype: 10007,
	jukebox: 10008,
} as const;
export type Nfs3Status = (typeof Nfs3Status)[keyof typeof Nfs3Status];
type Failure = Exclude<Nfs3Status, 0>;

/** What every procedure answers: its fields on success, those that a failure has else. */
export type Reply<Ok, Fail = unknown> = ({ readonly status: 0 } & Ok) | ({ readonly status: Failure } & Fail);

export const FileType3 = { reg: 1, dir: 2, blk: 3, chr: 4, lnk: 5, sock: 6, fifo: 7 } as const;
export const Stable = { unstable: 0, dataSync: 1, fileSync: 2 } as const;
export const Access3 = { read: 1, lookup: 2, modify: 4, extend: 8, delete: 16, execute: 32 } as const;

export interface Time3 {
	readonly sec: number;
	readonly nsec: number;
}

export interface Attributes3 {
	readonly type: number;
	readonly mode: number;
	readonly nlink: number;
	readonly uid: number;
	readonly gid: number;
	readonly size: bigint;
	readonly used: bigint;
	readonly rdev: readonly [major: number, minor: number];
	readonly fsid: bigint;
	readonly fileid: bigint;
	readonly atime: Time3;
	readonly mtime: Time3;
	readonly ctime: Time3;
}

export interface Wcc {
	readonly before: { readonly size: bigint; readonly mtime: Time3; readonly ctime: Time3 } | null;
	readonly after: Attributes3 | null;
}

export interface SetAttributes3 {
	readonly mode?: number;
	readonly uid?: number;
	readonly gid?: number;
	readonly size?: bigint;
	readonly atime?: Time3 | "server";
	readonly mtime?: Time3 | "server";
}

export type CreateHow3 = { readonly unchecked: SetAttributes3 } | { readonly guarded: SetAttributes3 } | { readonly exclusive: Buffer };

export interface Entry3 {
	readonly fileid: bigint;
	/** latin1 would lose nothing, but the tests' names are UTF-8; `bytes` is exact. */
	readonly name: string;
	readonly bytes: Buffer;
	readonly cookie: bigint;
}

export interface EntryPlus3 extends Entry3 {
	readonly attributes: Attributes3 | null;
	readonly handle: Buffer | null;
}

type Name = string | Uint8Array;
type Post = { readonly attributes: Attributes3 | null };
type Changed = { readonly wcc: Wcc };
type Made = { readonly handle: Buffer | null; readonly attributes: Attributes3 | null; readonly wcc: Wcc };

/** The reply, which must be a success; `what` is for the message. */
export async function ok<T extends { readonly status: number }>(
	reply: T | Promise<T>,
	what = "request",
): Promise<Extract<T, { status: 0 }>> {
	const { status } = await reply;
	assert.equal(status, 0, `${what}: ${statusName(status)}`);
	return (await reply) as Extract<T, { status: 0 }>;
}

/** Asserts that a request is answered with just this status. */
export async function refused(reply: { status: number } | Promise<{ status: number }>, status: keyof typeof Nfs3Status, what = "request") {
	assert.equal(statusName((await reply).status), status, what);
}

export function statusName(status: number): string {
	return Object.entries(Nfs3Status).find(([, number]) => number === status)?.[0] ?? `unknown status ${status}`;
}

const JUKEBOX_MILLISECONDS = 50;

/** NFSv3 and MOUNT v3 over one connection. Every procedure is a method; nothing is cached, and only JUKEBOX is asked again. */
export class Nfs3Client {
	readonly rpc: RpcConnection;
	credentials: AuthSys | null;
	/** Whether a request that is answered JUKEBOX is sent again; without it that is the answer. */
	waitsOnJukebox = true;

	constructor(rpc: RpcConnection, credentials: AuthSys | null = { uid: 0, gid: 0 }) {
		this.rpc = rpc;
		this.credentials = credentials;
	}

	static async connect(to: number | string | { host: string; port: number }, credentials?: AuthSys | null): Promise<Nfs3Client> {
		return new Nfs3Client(await RpcConnection.connect(to), credentials);
	}

	/** The same connection with other credentials. */
	as(uid: number, gid: number, gids: readonly number[] = []): Nfs3Client {
		return new Nfs3Client(this.rpc, { uid, gid, gids });
	}

	close(): void {
		this.rpc.close();
	}

	// MOUNT v3 (RFC 1813 appendix I)

	async mountNull(): Promise<void> {
		(await this.#mount(0, new XdrWriter())).end();
	}

	async mnt(path: Name): Promise<Reply<{ handle: Buffer; flavors: number[] }>> {
		const reader = await this.#mount(1, new XdrWriter().string(path));
		const status = reader.u32() as Nfs3Status;
		if (status !== 0) return ended(reader, { status });
		const handle = reader.opaque(64);
		const flavors = Array.from({ length: reader.u32() }, () => reader.u32());
		return ended(reader, { status, handle, flavors });
	}

	async dump(): Promise<{ host: string; path: string }[]> {
		const reader = await this.#mount(2, new XdrWriter());
		return ended(
			reader,
			reader.list(() => ({ host: reader.string(255), path: reader.string(1024) })),
		);
	}

	async umnt(path: Name): Promise<void> {
		(await this.#mount(3, new XdrWriter().string(path))).end();
	}

	async umntall(): Promise<void> {
		(await this.#mount(4, new XdrWriter())).end();
	}

	async exports(): Promise<{ path: string; groups: string[] }[]> {
		const reader = await this.#mount(5, new XdrWriter());
		return ended(
			reader,
			reader.list(() => ({ path: reader.string(1024), groups: reader.list(() => reader.string(255)) })),
		);
	}

	// NFSv3 (RFC 1813 section 3.3)

	async null(): Promise<void> {
		(await this.#nfs(0, new XdrWriter())).end();
	}

	async getattr(object: Buffer): Promise<Reply<{ attributes: Attributes3 }>> {
		const reader = await this.#nfs(1, new XdrWriter().opaque(object));
		const status = reader.u32() as Nfs3Status;
		return ended(reader, status === 0 ? { status, attributes: attributes(reader) } : { status });
	}

	async setattr(object: Buffer, change: SetAttributes3, guard?: Time3): Promise<Reply<Changed, Changed>> {
		const args = setAttributes(new XdrWriter().opaque(object), change).bool(guard !== undefined);
		if (guard) args.u32(guard.sec).u32(guard.nsec);
		return this.#changed(await this.#nfs(2, args));
	}

	async lookup(
		directory: Buffer,
		name: Name,
	): Promise<Reply<{ handle: Buffer; attributes: Attributes3 | null; directory: Attributes3 | null }, { directory: Attributes3 | null }>> {
		const reader = await this.#nfs(3, new XdrWriter().opaque(directory).string(name));
		const status = reader.u32() as Nfs3Status;
		if (status !== 0) return ended(reader, { status, directory: post(reader) });
		return ended(reader, { status, handle: reader.opaque(64), attributes: post(reader), directory: post(reader) });
	}

	async access(object: Buffer, wanted: number): Promise<Reply<Post & { granted: number }, Post>> {
		const reader = await this.#nfs(4, new XdrWriter().opaque(object).u32(wanted));
		const status = reader.u32() as Nfs3Status;
		const found = post(reader);
		return ended(reader, status === 0 ? { status, attributes: found, granted: reader.u32() } : { status, attributes: found });
	}

	async readlink(object: Buffer): Promise<Reply<Post & { target: string }, Post>> {
		const reader = await this.#nfs(5, new XdrWriter().opaque(object));
		const status = reader.u32() as Nfs3Status;
		const found = post(reader);
		return ended(reader, status === 0 ? { status, attributes: found, target: reader.string() } : { status, attributes: found });
	}

	async read(object: Buffer, offset: bigint, count: number): Promise<Reply<Post & { eof: boolean; data: Buffer }, Post>> {
		const reader = await this.#nfs(6, new XdrWriter().opaque(object).u64(offset).u32(count));
		const status = reader.u32() as Nfs3Status;
		const found = post(reader);
		if (status !== 0) return ended(reader, { status, attributes: found });
		const said = reader.u32();
		const eof = reader.bool();
		const data = reader.opaque(count);
		assert.equal(said, data.length, "count of READ is not the length of its data");
		return ended(reader, { status, attributes: found, eof, data });
	}

	async write(
		object: Buffer,
		offset: bigint,
		data: Uint8Array,
		stable: number = Stable.fileSync,
		count = data.length,
	): Promise<Reply<Changed & { count: number; committed: number; verifier: Buffer }, Changed>> {
		const reader = await this.#nfs(7, new XdrWriter().opaque(object).u64(offset).u32(count).u32(stable).opaque(data));
		const status = reader.u32() as Nfs3Status;
		const change = wcc(reader);
		if (status !== 0) return ended(reader, { status, wcc: change });
		return ended(reader, { status, wcc: change, count: reader.u32(), committed: reader.u32(), verifier: reader.fixed(8) });
	}

	async create(
		directory: Buffer,
		name: Name,
		how: CreateHow3 = { unchecked: { mode: 0o644 } },
		xid?: number,
	): Promise<Reply<Made, Changed>> {
		const args = new XdrWriter().opaque(directory).string(name);
		if ("unchecked" in how) setAttributes(args.u32(0), how.unchecked);
		else if ("guarded" in how) setAttributes(args.u32(1), how.guarded);
		else args.u32(2).fixed(how.exclusive);
		return this.#made(await this.#nfs(8, args, xid));
	}

	async mkdir(directory: Buffer, name: Name, initial: SetAttributes3 = { mode: 0o755 }): Promise<Reply<Made, Changed>> {
		return this.#made(await this.#nfs(9, setAttributes(new XdrWriter().opaque(directory).string(name), initial)));
	}

	async symlink(directory: Buffer, name: Name, target: Name, initial: SetAttributes3 = {}): Promise<Reply<Made, Changed>> {
		return this.#made(await this.#nfs(10, setAttributes(new XdrWriter().opaque(directory).string(name), initial).string(target)));
	}

	async mknod(
		directory: Buffer,
		name: Name,
		type: number,
		initial: SetAttributes3 = { mode: 0o600 },
		device: readonly [major: number, minor: number] = [0, 0],
	): Promise<Reply<Made, Changed>> {
		const args = new XdrWriter().opaque(directory).string(name).u32(type);
		if (type === FileType3.chr || type === FileType3.blk) setAttributes(args, initial).u32(device[0]).u32(device[1]);
		else if (type === FileType3.sock || type === FileType3.fifo) setAttributes(args, initial);
		return this.#made(await this.#nfs(11, args));
	}

	async remove(directory: Buffer, name: Name, xid?: number): Promise<Reply<Changed, Changed>> {
		return this.#changed(await this.#nfs(12, new XdrWriter().opaque(directory).string(name), xid));
	}

	async rmdir(directory: Buffer, name: Name): Promise<Reply<Changed, Changed>> {
		return this.#changed(await this.#nfs(13, new XdrWriter().opaque(directory).string(name)));
	}

	async rename(
		from: Buffer,
		fromName: Name,
		to: Buffer,
		toName: Name,
	): Promise<Reply<{ fromWcc: Wcc; toWcc: Wcc }, { fromWcc: Wcc; toWcc: Wcc }>> {
		const reader = await this.#nfs(14, new XdrWriter().opaque(from).string(fromName).opaque(to).string(toName));
		const status = reader.u32() as Nfs3Status;
		return ended(reader, either(status, { fromWcc: wcc(reader), toWcc: wcc(reader) }));
	}

	async link(object: Buffer, directory: Buffer, name: Name): Promise<Reply<Post & Changed, Post & Changed>> {
		const reader = await this.#nfs(15, new XdrWriter().opaque(object).opaque(directory).string(name));
		const status = reader.u32() as Nfs3Status;
		return ended(reader, either(status, { attributes: post(reader), wcc: wcc(reader) }));
	}

	async readdir(
		directory: Buffer,
		cookie: bigint,
		verifier: Buffer,
		count: number,
	): Promise<Reply<Post & { verifier: Buffer; entries: Entry3[]; eof: boolean }, Post>> {
		const reader = await this.#nfs(16, new XdrWriter().opaque(directory).u64(cookie).fixed(verifier).u32(count));
		const status = reader.u32() as Nfs3Status;
		const found = post(reader);
		if (status !== 0) return ended(reader, { status, attributes: found });
		const newVerifier = reader.fixed(8);
		const entries = reader.list(() => entry(reader));
		return ended(reader, { status, attributes: found, verifier: newVerifier, entries, eof: reader.bool() });
	}

	async readdirplus(
		directory: Buffer,
		cookie: bigint,
		verifier: Buffer,
		dircount: number,
		maxcount: number,
	): Promise<Reply<Post & { verifier: Buffer; entries: EntryPlus3[]; eof: boolean }, Post>> {
		const args = new XdrWriter().opaque(directory).u64(cookie).fixed(verifier).u32(dircount).u32(maxcount);
		const reader = await this.#nfs(17, args);
		const status = reader.u32() as Nfs3Status;
		const found = post(reader);
		if (status !== 0) return ended(reader, { status, attributes: found });
		const newVerifier = reader.fixed(8);
		const entries = reader.list(() => ({
			...entry(reader),
			attributes: post(reader),
			handle: reader.optional(() => reader.opaque(64)),
		}));
		return ended(reader, { status, attributes: found, verifier: newVerifier, entries, eof: reader.bool() });
	}

	async fsstat(
		root: Buffer,
	): Promise<
		Reply<Post & { bytes: [total: bigint, free: bigint, available: bigint]; files: [bigint, bigint, bigint]; invarsec: number }, Post>
	> {
		const reader = await this.#nfs(18, new XdrWriter().opaque(root));
		const status = reader.u32() as Nfs3Status;
		const found = post(reader);
		if (status !== 0) return ended(reader, { status, attributes: found });
		const bytes: [bigint, bigint, bigint] = [reader.u64(), reader.u64(), reader.u64()];
		const files: [bigint, bigint, bigint] = [reader.u64(), reader.u64(), reader.u64()];
		return ended(reader, { status, attributes: found, bytes, files, invarsec: reader.u32() });
	}

	async fsinfo(root: Buffer): Promise<
		Reply<
			Post & {
				read: [max: number, preferred: number, multiple: number];
				write: [max: number, preferred: number, multiple: number];
				readdirPreferred: number;
				maxFileSize: bigint;
				timeDelta: Time3;
				properties: number;
			},
			Post
		>
	> {
		const reader = await this.#nfs(19, new XdrWriter().opaque(root));
		const status = reader.u32() as Nfs3Status;
		const found = post(reader);
		if (status !== 0) return ended(reader, { status, attributes: found });
		return ended(reader, {
			status,
			attributes: found,
			read: [reader.u32(), reader.u32(), reader.u32()],
			write: [reader.u32(), reader.u32(), reader.u32()],
			readdirPreferred: reader.u32(),
			maxFileSize: reader.u64(),
			timeDelta: time(reader),
			properties: reader.u32(),
		});
	}

	async pathconf(object: Buffer): Promise<
		Reply<
			Post & {
				linkMax: number;
				nameMax: number;
				noTrunc: boolean;
				chownRestricted: boolean;
				caseInsensitive: boolean;
				casePreserving: boolean;
			},
			Post
		>
	> {
		const reader = await this.#nfs(20, new XdrWriter().opaque(object));
		const status = reader.u32() as Nfs3Status;
		const found = post(reader);
		if (status !== 0) return ended(reader, { status, attributes: found });
		return ended(reader, {
			status,
			attributes: found,
			linkMax: reader.u32(),
			nameMax: reader.u32(),
			noTrunc: reader.bool(),
			chownRestricted: reader.bool(),
			caseInsensitive: reader.bool(),
			casePreserving: reader.bool(),
		});
	}

	async commit(object: Buffer, offset = 0n, count = 0): Promise<Reply<Changed & { verifier: Buffer }, Changed>> {
		const reader = await this.#nfs(21, new XdrWriter().opaque(object).u64(offset).u32(count));
		const status = reader.u32() as Nfs3Status;
		const change = wcc(reader);
		return ended(reader, status === 0 ? { status, wcc: change, verifier: reader.fixed(8) } : { status, wcc: change });
	}

	// What programs do with several requests

	async root(path = "/"): Promise<Buffer> {
		return (await ok(this.mnt(path), `MNT ${path}`)).handle;
	}

	/** From a directory down a path of plain names; "" is the directory itself. */
	async walk(from: Buffer, path: string): Promise<Buffer> {
		let handle = from;
		for (const name of path.split("/").filter((part) => part !== "")) {
			handle = (await ok(this.lookup(handle, name), `LOOKUP ${name} of ${path}`)).handle;
		}
		return handle;
	}

	async attributesOf(object: Buffer): Promise<Attributes3> {
		return (await ok(this.getattr(object), "GETATTR")).attributes;
	}

	async readFile(object: Buffer, chunk = 1 << 20): Promise<Buffer> {
		const parts: Buffer[] = [];
		for (let offset = 0n; ; ) {
			const { data, eof } = await ok(this.read(object, offset, chunk), `READ at ${offset}`);
			parts.push(data);
			offset += BigInt(data.length);
			if (eof) return Buffer.concat(parts);
			assert.ok(data.length > 0, "READ answered no bytes and no end of file");
		}
	}

	async writeFile(object: Buffer, data: Buffer | string, offset = 0n, chunk = 1 << 20): Promise<void> {
		const bytes = Buffer.from(data);
		for (let at = 0; at < bytes.length; ) {
			const { count } = await ok(this.write(object, offset + BigInt(at), bytes.subarray(at, at + chunk)), "WRITE");
			assert.ok(count > 0, "WRITE took no bytes");
			at += count;
		}
	}

	/** A new file with these contents; its handle. */
	async createFile(directory: Buffer, name: Name, contents: Buffer | string = "", mode = 0o644): Promise<Buffer> {
		const made = await ok(this.create(directory, name, { guarded: { mode } }), `CREATE ${name}`);
		const handle = made.handle ?? (await ok(this.lookup(directory, name))).handle;
		if (contents.length > 0) await this.writeFile(handle, contents);
		return handle;
	}

	async makeDirectory(directory: Buffer, name: Name, mode = 0o755): Promise<Buffer> {
		const made = await ok(this.mkdir(directory, name, { mode }), `MKDIR ${name}`);
		return made.handle ?? (await ok(this.lookup(directory, name))).handle;
	}

	/** All entries by READDIRPLUS, "." and ".." too unless told otherwise. */
	async listPlus(directory: Buffer, options: { maxcount?: number; dots?: boolean } = {}): Promise<EntryPlus3[]> {
		const all: EntryPlus3[] = [];
		let verifier: Buffer = Buffer.alloc(8);
		for (let cookie = 0n; ; ) {
			const page = await ok(
				this.readdirplus(directory, cookie, verifier, options.maxcount ?? 65536, options.maxcount ?? 65536),
				"READDIRPLUS",
			);
			all.push(...page.entries);
			verifier = page.verifier;
			cookie = page.entries.at(-1)?.cookie ?? cookie;
			if (page.eof) break;
			assert.ok(page.entries.length > 0, "READDIRPLUS answered nothing and no end");
		}
		return options.dots === false ? all.filter(({ name }) => name !== "." && name !== "..") : all;
	}

	/** All entries by READDIR. */
	async list(directory: Buffer, options: { count?: number; dots?: boolean } = {}): Promise<Entry3[]> {
		const all: Entry3[] = [];
		let verifier: Buffer = Buffer.alloc(8);
		for (let cookie = 0n; ; ) {
			const page = await ok(this.readdir(directory, cookie, verifier, options.count ?? 65536), "READDIR");
			all.push(...page.entries);
			verifier = page.verifier;
			cookie = page.entries.at(-1)?.cookie ?? cookie;
			if (page.eof) break;
			assert.ok(page.entries.length > 0, "READDIR answered nothing and no end");
		}
		return options.dots === false ? all.filter(({ name }) => name !== "." && name !== "..") : all;
	}

	/** Every object below a directory, by its path from there; directories are listed several at a time. */
	async tree(directory: Buffer): Promise<Map<string, { handle: Buffer; attributes: Attributes3; fileidInListing: bigint }>> {
		const found = new Map<string, { handle: Buffer; attributes: Attributes3; fileidInListing: bigint }>();
		let level: [path: string, handle: Buffer][] = [["", directory]];
		while (level.length > 0) {
			const next: [string, Buffer][] = [];
			const lists: EntryPlus3[][] = [];
			for (let at = 0; at < level.length; at += 32) {
				lists.push(...(await Promise.all(level.slice(at, at + 32).map(([, handle]) => this.listPlus(handle, { dots: false })))));
			}
			for (const [index, entries] of lists.entries()) {
				const path = (level[index] as [string, Buffer])[0];
				for (const { name, handle, attributes: found3, fileid } of entries) {
					assert.ok(handle && found3, `READDIRPLUS gave no handle or attributes for ${path}/${name}`);
					const here = path === "" ? name : `${path}/${name}`;
					found.set(here, { handle, attributes: found3, fileidInListing: fileid });
					if (found3.type === FileType3.dir) next.push([here, handle]);
				}
			}
			level = next;
		}
		return found;
	}

	/** As clients do, asks again by another xid while the server answers JUKEBOX; what has an xid of the test's own is sent once. */
	async #nfs(procedure: number, args: XdrWriter, xid?: number): Promise<XdrReader> {
		for (;;) {
			const reader = await this.rpc.call(100003, 3, procedure, args.bytes(), this.credentials, xid);
			if (xid !== undefined || !this.waitsOnJukebox || !isJukebox(reader)) return reader;
			await new Promise((resolve) => setTimeout(resolve, JUKEBOX_MILLISECONDS));
		}
	}

	#mount(procedure: number, args: XdrWriter): Promise<XdrReader> {
		return this.rpc.call(100005, 3, procedure, args.bytes(), this.credentials);
	}

	#changed(reader: XdrReader): Reply<Changed, Changed> {
		return ended(reader, either(reader.u32() as Nfs3Status, { wcc: wcc(reader) }));
	}

	#made(reader: XdrReader): Reply<Made, Changed> {
		const status = reader.u32() as Nfs3Status;
		if (status !== 0) return ended(reader, { status, wcc: wcc(reader) });
		return ended(reader, { status, handle: reader.optional(() => reader.opaque(64)), attributes: post(reader), wcc: wcc(reader) });
	}
}

function isJukebox({ buffer, at }: XdrReader): boolean {
	return buffer.length >= at + 4 && buffer.readUInt32BE(at) === Nfs3Status.jukebox;
}

/** Fails when the reply has bytes that no field of it accounts for. */
function ended<T>(reader: XdrReader, value: T): T {
	reader.end();
	return value;
}

/** For procedures whose replies have the same fields whatever the status. */
function either<T>(status: Nfs3Status, fields: T): Reply<T, T> {
	return { status, ...fields } as Reply<T, T>;
}

function time(reader: XdrReader): Time3 {
	const sec = reader.u32();
	const nsec = reader.u32();
	assert.ok(nsec < 1_000_000_000, `a time with ${nsec} nanoseconds`);
	return { sec, nsec };
}

function attributes(reader: XdrReader): Attributes3 {
	return {
		type: reader.u32(),
		mode: reader.u32(),
		nlink: reader.u32(),
		uid: reader.u32(),
		gid: reader.u32(),
		size: reader.u64(),
		used: reader.u64(),
		rdev: [reader.u32(), reader.u32()],
		fsid: reader.u64(),
		fileid: reader.u64(),
		atime: time(reader),
		mtime: time(reader),
		ctime: time(reader),
	};
}

function post(reader: XdrReader): Attributes3 | null {
	return reader.optional(() => attributes(reader));
}

function wcc(reader: XdrReader): Wcc {
	return {
		before: reader.optional(() => ({ size: reader.u64(), mtime: time(reader), ctime: time(reader) })),
		after: post(reader),
	};
}

function entry(reader: XdrReader): Entry3 {
	const fileid = reader.u64();
	const bytes = reader.opaque(255);
	return { fileid, bytes, name: bytes.toString(), cookie: reader.u64() };
}

function setAttributes(writer: XdrWriter, change: SetAttributes3): XdrWriter {
	for (const value of [change.mode, change.uid, change.gid]) {
		writer.bool(value !== undefined);
		if (value !== undefined) writer.u32(value);
	}
	writer.bool(change.size !== undefined);
	if (change.size !== undefined) writer.u64(change.size);
	for (const value of [change.atime, change.mtime]) {
		if (value === undefined) writer.u32(0);
		else if (value === "server") writer.u32(1);
		else writer.u32(2).u32(value.sec).u32(value.nsec);
	}
	return writer;
}
