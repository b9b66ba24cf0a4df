// An overlay in memory for tests of front ends, with knobs for what is hard to bring about in a real one.

import type { AddressedBytes } from "../linux/memory.ts";
import { OverlayError, type OverlayErrorCode, Pending } from "./errors.ts";
import {
	Access,
	type Attributes,
	type ContentRight,
	type CreateHow,
	type Credentials,
	type FileSystemStatus,
	FileType,
	type ListCursor,
	type OverlayObject,
	type OverlayOperations,
	type ReadResult,
	type SeekResult,
	type SeekTarget,
	type SetAttributes,
	type SetXattrMode,
	type Timespec,
} from "./operations.ts";

/** An object of the overlay in memory. */
export interface MemoryObject extends OverlayObject {
	readonly id: number;
	mode: number;
	uid: number;
	gid: number;
	nlink: number;
	data: Buffer;
	size: number;
	target: Buffer;
	major: number;
	minor: number;
	verifier: string;
	atime: Timespec;
	mtime: Timespec;
	ctime: Timespec;
	parent: MemoryObject | null;
	/** By name in latin1, which keeps every byte. */
	readonly names: Map<string, MemoryObject>;
	/** The same way. */
	readonly xattrs: Map<string, Buffer>;
}

const HANDLE_MAGIC = 0x4d454d4f;
const NAME_BYTES_MAX = 255;

/** A stand-in for the engine: a whole overlay in memory, with knobs for what is hard to bring about in a real one. */
export class MemoryOverlay implements OverlayOperations {
	readonly root: MemoryObject;
	readOnly = false;
	writeVerifier = Buffer.from("verifier");
	#asked = 0;
	/** How often `beginPass` was called. */
	passes = 0;
	/** Operations run, in order. */
	readonly calls: string[] = [];
	/** How many more times an operation says that it must wait. */
	readonly waits = new Map<string, number>();
	/** What Pending waits for. */
	wait: () => Promise<void> = () => new Promise((resolve) => setImmediate(resolve));
	stable: () => Promise<void> | null = () => null;
	flush: () => Promise<void> = () => Promise.resolve();
	/** An error that the next operation of this name throws: a bug of the engine's. */
	readonly bugs = new Map<string, unknown>();
	readonly #tag: number;
	readonly #objects = new Map<number, MemoryObject>();
	#nextId = 1;
	#ticks = 0;

	constructor(tag = 1) {
		this.#tag = tag;
		this.root = this.#make(FileType.dir, { uid: 0, gid: 0, gids: [] }, { mode: 0o755 });
		this.root.nlink = 2;
	}

	#enter(operation: string): void {
		this.calls.push(operation);
		const waits = this.waits.get(operation) ?? 0;
		if (waits > 0) {
			this.waits.set(operation, waits - 1);
			throw new Pending(this.wait());
		}
		if (this.bugs.has(operation)) {
			const bug = this.bugs.get(operation);
			this.bugs.delete(operation);
			throw bug;
		}
	}

	#now(): Timespec {
		this.#ticks++;
		return { sec: 1_700_000_000 + Math.floor(this.#ticks / 1000), nsec: (this.#ticks % 1000) * 1000 };
	}

	#make(type: FileType, who: Credentials, change: SetAttributes): MemoryObject {
		const id = this.#nextId++;
		const handle = Buffer.alloc(16);
		handle.writeUInt32BE(HANDLE_MAGIC, 0);
		handle.writeUInt32BE(this.#tag, 4);
		handle.writeUInt32BE(id, 12);
		const now = this.#now();
		const object: MemoryObject = {
			type,
			handle,
			id,
			mode: type === FileType.dir ? 0o755 : 0o644,
			uid: who.uid,
			gid: who.gid,
			nlink: type === FileType.dir ? 2 : 1,
			data: Buffer.alloc(0),
			size: 0,
			target: Buffer.alloc(0),
			major: 0,
			minor: 0,
			verifier: "",
			atime: now,
			mtime: now,
			ctime: now,
			parent: null,
			names: new Map(),
			xattrs: new Map(),
		};
		this.#objects.set(id, object);
		this.#apply(object, change);
		return object;
	}

	#apply(object: MemoryObject, change: SetAttributes): void {
		const time = (value: Timespec | "now"): Timespec => (value === "now" ? this.#now() : value);
		if (change.mode !== undefined) object.mode = change.mode;
		if (change.uid !== undefined) object.uid = change.uid;
		if (change.gid !== undefined) object.gid = change.gid;
		if (change.size !== undefined) this.#resize(object, change.size);
		if (change.atime !== undefined) object.atime = time(change.atime);
		if (change.mtime !== undefined) object.mtime = time(change.mtime);
		object.ctime = this.#now();
	}

	#resize(object: MemoryObject, size: number): void {
		if (size > 256 * 1024 * 1024) fail("fbig");
		if (size > object.data.length) {
			const larger = Buffer.alloc(Math.max(size, object.data.length * 2));
			object.data.copy(larger, 0, 0, object.size);
			object.data = larger;
		}
		if (size < object.size) object.data.fill(0, size, object.size);
		object.size = size;
	}

	#allowed(object: MemoryObject, who: Credentials, bits: number): boolean {
		if (who.uid === 0) return true;
		let shift = 0;
		if (who.uid === object.uid) shift = 6;
		else if (who.gid === object.gid || who.gids.includes(object.gid)) shift = 3;
		return ((object.mode >> shift) & bits) === bits;
	}

	#mayUse(object: MemoryObject, who: Credentials, bits: number, right: ContentRight): boolean {
		return right === "open" || (right === "owner" && who.uid === object.uid) || this.#allowed(object, who, bits);
	}

	#directory(directory: OverlayObject, who: Credentials, bits: number): MemoryObject {
		const object = directory as MemoryObject;
		if (object.type !== FileType.dir) fail("notdir");
		if (!this.#allowed(object, who, bits)) fail("acces");
		return object;
	}

	#forChange(directory: OverlayObject, name: Uint8Array, who: Credentials, dots: OverlayErrorCode): { from: MemoryObject; key: string } {
		if (this.readOnly) fail("rofs");
		const key = keyOf(name);
		if (key === "." || key === "..") fail(dots);
		return { from: this.#directory(directory, who, 3), key };
	}

	#add(directory: MemoryObject, key: string, object: MemoryObject): MemoryObject {
		directory.names.set(key, object);
		object.parent = directory;
		directory.mtime = this.#now();
		directory.ctime = directory.mtime;
		return object;
	}

	#drop(directory: MemoryObject, key: string): void {
		const object = directory.names.get(key) as MemoryObject;
		directory.names.delete(key);
		directory.mtime = this.#now();
		directory.ctime = directory.mtime;
		object.ctime = directory.mtime;
		object.nlink -= object.type === FileType.dir ? 2 : 1;
		if (object.nlink === 0) this.#objects.delete(object.id);
	}

	beginPass(): void {
		this.passes++;
	}

	/** Nothing is counted here, so nobody may remember anything. */
	get changes(): number {
		return this.#asked++;
	}

	decode(bytes: Uint8Array): MemoryObject {
		this.#enter("decode");
		const handle = Buffer.from(bytes);
		if (handle.length !== 16 || handle.readUInt32BE(0) !== HANDLE_MAGIC || handle.readUInt32BE(4) !== this.#tag) fail("badhandle");
		return this.#objects.get(handle.readUInt32BE(12)) ?? fail("stale");
	}

	/** All are of the same moment. */
	birth: Timespec | null = { sec: 12, nsec: 34 };

	birthTime(): Timespec | null {
		this.#enter("birthTime");
		return this.birth;
	}

	getattr(object: OverlayObject): Attributes {
		this.#enter("getattr");
		const from = object as MemoryObject;
		const { type, mode, nlink, uid, gid, atime, mtime, ctime } = from;
		const size = type === FileType.lnk ? from.target.length : from.size;
		return {
			type,
			mode,
			nlink,
			uid,
			gid,
			atime,
			mtime,
			ctime,
			sizeHi: Math.floor(size / 2 ** 32),
			sizeLo: size >>> 0,
			blocks: Math.ceil(size / 512),
			rdevMajor: from.major,
			rdevMinor: from.minor,
			fileidHi: 0,
			fileidLo: from.id,
			changeHi: ctime.sec,
			changeLo: ctime.nsec,
		};
	}

	setattr(object: OverlayObject, who: Credentials, change: SetAttributes, guard?: Timespec): void {
		this.#enter("setattr");
		const target = object as MemoryObject;
		if (this.readOnly) fail("rofs");
		if (who.uid !== 0 && who.uid !== target.uid) fail("perm");
		if (guard !== undefined && (guard.sec !== target.ctime.sec || guard.nsec !== target.ctime.nsec)) fail("notsync");
		this.#apply(target, change);
	}

	lookup(directory: OverlayObject, name: Uint8Array, who: Credentials): MemoryObject | null {
		this.#enter("lookup");
		const from = this.#directory(directory, who, 1);
		const key = keyOf(name);
		if (key === ".") return from;
		if (key === "..") return from.parent ?? from;
		return from.names.get(key) ?? null;
	}

	access(object: OverlayObject, who: Credentials, wanted: number): number {
		this.#enter("access");
		const target = object as MemoryObject;
		let granted = 0;
		if (this.#allowed(target, who, 4)) granted |= Access.read;
		if (this.#allowed(target, who, 2)) granted |= Access.modify | Access.extend | Access.delete;
		if (this.#allowed(target, who, 1)) granted |= target.type === FileType.dir ? Access.lookup : Access.execute;
		return granted & wanted;
	}

	readlink(object: OverlayObject): Buffer {
		this.#enter("readlink");
		return object.type === FileType.lnk ? (object as MemoryObject).target : fail("inval");
	}

	read(
		object: OverlayObject,
		who: Credentials,
		offset: number,
		length: number,
		into: AddressedBytes,
		at: number,
		right: ContentRight = "mode",
	): ReadResult {
		this.#enter("read");
		const from = object as MemoryObject;
		if (from.type !== FileType.reg) fail(from.type === FileType.dir ? "isdir" : "inval");
		if (!this.#mayUse(from, who, 4, right)) fail("acces");
		const end = Math.min(from.size, offset + length);
		const count = Math.max(0, end - offset);
		if (count > 0) from.data.copy(into.bytes, at, offset, end);
		return { count, eof: offset + count >= from.size };
	}

	write(object: OverlayObject, who: Credentials, offset: number, data: Uint8Array, right: ContentRight = "mode"): number {
		this.#enter("write");
		const to = object as MemoryObject;
		if (this.readOnly) fail("rofs");
		if (to.type !== FileType.reg) fail(to.type === FileType.dir ? "isdir" : "inval");
		if (!this.#mayUse(to, who, 2, right)) fail("acces");
		if (offset + data.length > to.size) this.#resize(to, offset + data.length);
		to.data.set(data, offset);
		to.mtime = this.#now();
		to.ctime = to.mtime;
		return data.length;
	}

	seek(object: OverlayObject, _who: Credentials, offset: number, what: SeekTarget): SeekResult {
		this.#enter("seek");
		const { size } = object as MemoryObject;
		if (offset >= size) fail("nxio");
		return what === "data" ? { offset, isEnd: false } : { offset: size, isEnd: true };
	}

	allocate(object: OverlayObject, _who: Credentials, offset: number, length: number, _right: ContentRight, keepsSize = false): number {
		this.#enter("allocate");
		const to = object as MemoryObject;
		if (!keepsSize && offset + length > to.size) this.#resize(to, offset + length);
		return length;
	}

	deallocate(object: OverlayObject, _who: Credentials, offset: number, length: number): number {
		this.#enter("deallocate");
		const to = object as MemoryObject;
		to.data.fill(0, offset, Math.max(offset, Math.min(offset + length, to.size)));
		return length;
	}

	copyRange(source: OverlayObject, sourceOffset: number, target: OverlayObject, offset: number, length: number, who: Credentials): number {
		this.#enter("copyRange");
		const from = source as MemoryObject;
		const bytes = Buffer.from(from.data.subarray(sourceOffset, Math.min(sourceOffset + length, from.size)));
		this.write(target, who, offset, bytes);
		return bytes.length;
	}

	cloneRange(): Promise<void> {
		this.#enter("cloneRange");
		return fail("notsupp");
	}

	create(directory: OverlayObject, name: Uint8Array, who: Credentials, how: CreateHow): { object: MemoryObject; made: boolean } {
		this.#enter("create");
		const { from, key } = this.#forChange(directory, name, who, "exist");
		const existing = from.names.get(key);
		const verifier = how.mode === "exclusive" ? Buffer.from(how.verifier).toString("hex") : "";
		if (existing !== undefined) {
			if (how.mode === "exclusive" && existing.verifier === verifier) return { object: existing, made: true };
			if (how.mode !== "unchecked") return fail("exist");
			const getsSize = how.takeExisting?.(existing) ?? true;
			if (existing.type !== FileType.reg) fail("exist");
			if (getsSize && how.attributes.size !== undefined) this.#resize(existing, how.attributes.size);
			return { object: existing, made: false };
		}
		const object = this.#make(FileType.reg, who, how.attributes ?? {});
		object.verifier = verifier;
		return { object: this.#add(from, key, object), made: true };
	}

	#createOther(
		operation: string,
		directory: OverlayObject,
		name: Uint8Array,
		who: Credentials,
		type: FileType,
		attributes: SetAttributes,
	): MemoryObject {
		this.#enter(operation);
		const { from, key } = this.#forChange(directory, name, who, "exist");
		if (from.names.has(key)) fail("exist");
		return this.#add(from, key, this.#make(type, who, attributes));
	}

	mkdir(directory: OverlayObject, name: Uint8Array, who: Credentials, attributes: SetAttributes): MemoryObject {
		return this.#createOther("mkdir", directory, name, who, FileType.dir, attributes);
	}

	symlink(directory: OverlayObject, name: Uint8Array, who: Credentials, target: Uint8Array, attributes: SetAttributes): MemoryObject {
		const object = this.#createOther("symlink", directory, name, who, FileType.lnk, attributes);
		object.target = Buffer.from(target);
		return object;
	}

	mknod(
		directory: OverlayObject,
		name: Uint8Array,
		who: Credentials,
		type: FileType,
		major: number,
		minor: number,
		attributes: SetAttributes,
	): MemoryObject {
		const object = this.#createOther("mknod", directory, name, who, type, attributes);
		object.major = major;
		object.minor = minor;
		return object;
	}

	remove(directory: OverlayObject, name: Uint8Array, who: Credentials): void {
		this.#enter("remove");
		const { from, key } = this.#forChange(directory, name, who, "inval");
		const object = from.names.get(key) ?? fail("noent");
		if (object.type === FileType.dir) fail("isdir");
		this.#drop(from, key);
	}

	rmdir(directory: OverlayObject, name: Uint8Array, who: Credentials): void {
		this.#enter("rmdir");
		const { from, key } = this.#forChange(directory, name, who, "inval");
		const object = from.names.get(key) ?? fail("noent");
		if (object.type !== FileType.dir) fail("notdir");
		if (object.names.size > 0) fail("notempty");
		this.#drop(from, key);
	}

	rename(from: OverlayObject, fromName: Uint8Array, to: OverlayObject, toName: Uint8Array, who: Credentials): void {
		this.#enter("rename");
		const source = this.#forChange(from, fromName, who, "inval");
		const target = this.#forChange(to, toName, who, "inval");
		const object = source.from.names.get(source.key) ?? fail("noent");
		const replaced = target.from.names.get(target.key);
		if (replaced === object) return;
		if (replaced !== undefined) {
			if (replaced.names.size > 0) fail("notempty");
			this.#drop(target.from, target.key);
		}
		source.from.names.delete(source.key);
		source.from.mtime = this.#now();
		this.#add(target.from, target.key, object);
	}

	/** Handles in hex, and how often each is held. */
	readonly held = new Map<string, number>();

	hold(handle: Uint8Array): void {
		const key = Buffer.from(handle).toString("hex");
		this.held.set(key, (this.held.get(key) ?? 0) + 1);
	}

	letGo(handle: Uint8Array): void {
		const key = Buffer.from(handle).toString("hex");
		const count = this.held.get(key) ?? 0;
		if (count > 1) this.held.set(key, count - 1);
		else this.held.delete(key);
	}

	/** Nobody is told by itself. */
	readonly told: ((object: OverlayObject, isByCommand: boolean) => void)[] = [];

	onChange(told: (object: OverlayObject, isByCommand: boolean) => void): void {
		this.told.push(told);
	}

	holdOnLoss(): void {}

	restoreHolds(): number {
		return 0;
	}

	endOfRestore(): void {}

	answerTo(): null {
		return null;
	}

	exchange(from: OverlayObject, fromName: Uint8Array, to: OverlayObject, toName: Uint8Array, who: Credentials): void {
		this.#enter("exchange");
		const one = this.#forChange(from, fromName, who, "inval");
		const other = this.#forChange(to, toName, who, "inval");
		const objects = [one, other].map(({ from, key }) => from.names.get(key) ?? fail("noent"));
		this.#add(one.from, one.key, objects[1]);
		this.#add(other.from, other.key, objects[0]);
	}

	getxattr(object: OverlayObject, _who: Credentials, name: Uint8Array): Buffer {
		this.#enter("getxattr");
		return (object as MemoryObject).xattrs.get(keyOf(name)) ?? fail("noattr");
	}

	listxattr(object: OverlayObject): Buffer[] {
		this.#enter("listxattr");
		return [...(object as MemoryObject).xattrs.keys()].map((key) => Buffer.from(key, "latin1"));
	}

	setxattr(object: OverlayObject, _who: Credentials, name: Uint8Array, value: Uint8Array, mode: SetXattrMode): void {
		this.#enter("setxattr");
		const { xattrs } = object as MemoryObject;
		if (mode !== "any" && xattrs.has(keyOf(name)) !== (mode === "replace")) fail(mode === "create" ? "exist" : "noattr");
		xattrs.set(keyOf(name), Buffer.from(value));
	}

	removexattr(object: OverlayObject, _who: Credentials, name: Uint8Array): void {
		this.#enter("removexattr");
		if (!(object as MemoryObject).xattrs.delete(keyOf(name))) fail("noattr");
	}

	createUnnamed(_directory: OverlayObject, who: Credentials, attributes: SetAttributes): MemoryObject {
		this.#enter("createUnnamed");
		const object = this.#make(FileType.reg, who, attributes);
		object.nlink = 0;
		return object;
	}

	link(
		object: OverlayObject,
		directory: OverlayObject,
		name: Uint8Array,
		who: Credentials,
		_key: unknown = null,
		mayBeUnnamed = false,
	): void {
		this.#enter("link");
		const { from, key } = this.#forChange(directory, name, who, "exist");
		const target = object as MemoryObject;
		if (target.nlink === 0 && !mayBeUnnamed) fail("noent");
		if (target.type === FileType.dir) fail("isdir");
		if (from.names.has(key)) fail("exist");
		target.nlink++;
		target.ctime = this.#now();
		this.#add(from, key, target);
	}

	list(directory: OverlayObject, who: Credentials, cookieHi: number, cookieLo: number): ListCursor {
		this.#enter("list");
		const from = this.#directory(directory, who, 4);
		const entries = [{ hi: 0, lo: 1, key: ".", object: from }];
		entries.push({ hi: 0, lo: 2, key: "..", object: from.parent ?? from });
		const named = [...from.names].map(([key, object]) => ({ ...cookieOf(key), key, object }));
		named.sort((a, b) => a.hi - b.hi || a.lo - b.lo);
		const after = [...entries, ...named].filter(({ hi, lo }) => hi > cookieHi || (hi === cookieHi && lo > cookieLo));
		let index = -1;
		return {
			next: () => {
				this.#enter("next");
				return ++index < after.length;
			},
			get name() {
				return Buffer.from(after[index].key, "latin1");
			},
			get cookieHi() {
				return after[index].hi;
			},
			get cookieLo() {
				return after[index].lo;
			},
			fileid: () => ({ hi: 0, lo: after[index].object.id }),
			object: () => {
				this.#enter("object");
				return after[index].object;
			},
		};
	}

	statfs(_object: OverlayObject): FileSystemStatus {
		this.#enter("statfs");
		return { totalBytes: 2 ** 40 + 7, freeBytes: 2 ** 39, availableBytes: 2 ** 38, totalFiles: 1_000_000, freeFiles: 999_000 };
	}

	commit(_object: OverlayObject): Promise<void> {
		this.#enter("commit");
		return this.flush();
	}
}

/** Memory as tests need it: with no address. */
export function allocateForTest(size: number): AddressedBytes {
	return { bytes: Buffer.alloc(size), address: 0 };
}

function fail(code: OverlayErrorCode): never {
	throw new OverlayError(code, `Memory overlay: ${code}`);
}

function keyOf(name: Uint8Array): string {
	if (name.length === 0 || name.includes(0) || name.includes(0x2f)) fail("inval");
	if (name.length > NAME_BYTES_MAX) fail("nametoolong");
	return Buffer.from(name).toString("latin1");
}

function cookieOf(key: string): { hi: number; lo: number } {
	let hi = 0x811c9dc5;
	let lo = 0x2545f491;
	for (let index = 0; index < key.length; index++) {
		hi = Math.imul(hi ^ key.charCodeAt(index), 0x01000193);
		lo = Math.imul(lo ^ key.charCodeAt(index), 0x9e3779b1);
	}
	return { hi: (hi >>> 1) | 1, lo: lo >>> 0 };
}
