// The duplicate request cache.

import { createHash, timingSafeEqual } from "node:crypto";
import { RecentMap } from "../collections/recent-map.ts";
import type { RequestOrigin, RequestSource } from "../vfs/operations.ts";
import { XdrReader } from "../xdr/xdr-reader.ts";
import { XdrWriter } from "../xdr/xdr-writer.ts";

/** What makes two calls of one client the same call, sent twice. */
export interface RequestIdentity {
	xid: number;
	program: number;
	version: number;
	procedure: number;
	/** Bytes of the record, and a checksum of it in two halves. */
	length: number;
	checksumHi: number;
	checksumLo: number;
}

/** Bounds of the cache. Clients are addresses without port. */
export interface DuplicateRequestLimits {
	/** That have replies. Beyond it who has been without a connection for the longest is forgotten; nobody who has one ever is. */
	readonly clients: number;
	/** Replies of each client, so that none can push out another's. At least as many as one connection may have in flight. */
	readonly entriesPerClient: number;
	readonly replyBytesPerClient: number;
}

export const DEFAULT_DUPLICATE_REQUEST_LIMITS: DuplicateRequestLimits = {
	clients: 512,
	entriesPerClient: 2048,
	replyBytesPerClient: 1024 * 1024,
};

/** A reply is worth nothing longer than any client goes on repeating one call. */
const KEPT_ACROSS_RESTART_MS = 15 * 60 * 1000;

/** Sources of equal requests that one look-up asks whether their peers are still there: each is a system call. The rest count as open. */
const SOURCES_ASKED_MAX = 8;

const FILE_MAGIC = 0x48464452; // "HFDR"
const FILE_VERSION = 2;
/** Without ports. */
const FILE_VERSION_BEFORE = 1;
const FILE_DIGEST_BYTES = 32;
const CLIENT_NAME_BYTES_MAX = 255;

const HAS_LEFT = (): boolean => true;

/** A connection that brings requests. */
export class ConnectionSource<Connection> implements RequestSource {
	readonly client: RequestClient<Connection>;
	readonly port: number;
	/** Asks the kernel whether the peer has gone already. */
	hasPeerLeft: () => boolean = () => false;
	#isClosed = false;

	constructor(client: RequestClient<Connection>, port: number) {
		this.client = client;
		this.port = port;
	}

	/**
	 * A peer that has ended its side repeats nothing here. That may be known to the kernel long before the connection is closed: bytes before
	 * it were not read yet, or replies are still to be sent. So a client that comes again is never taken for another one.
	 */
	get isOpen(): boolean {
		return !this.#isClosed && !this.hasPeerLeft();
	}

	get isClosed(): boolean {
		return this.#isClosed;
	}

	get isOwnerConnected(): boolean {
		return this.client.connections > 0;
	}

	/** Keeps nothing of the connection: what it has brought is remembered for long. */
	close(): void {
		this.#isClosed = true;
		this.hasPeerLeft = HAS_LEFT;
	}
}

/** Where a request has come from last. */
interface Origin<Connection> extends RequestOrigin {
	/** Null: a connection to an earlier server. */
	source: ConnectionSource<Connection> | null;
	/** Of the peer; 0 where there is none. */
	port: number;
}

/** A request that was taken. */
export interface RememberedRequest<Connection> extends Readonly<RequestIdentity> {
	readonly key: number;
	readonly time: number;
	readonly origin: Origin<Connection>;
	readonly firstSource: ConnectionSource<Connection> | null;
	/** Its whole record, once it is known. */
	reply: Buffer | null;
	/** While it runs: the connections by which it came once more, after the ones before had been left. They get the reply too. */
	repeatedBy: Connection[] | null;
	/** An equal request of another source. */
	next: RememberedRequest<Connection> | null;
	/** Among the replies of its client. */
	newer: RememberedRequest<Connection> | null;
	older: RememberedRequest<Connection> | null;
}

/** The requests of one client. */
export interface RequestClient<Connection> {
	readonly name: string;
	/** By key: the first of a list of equal requests, each from another source. */
	readonly entries: Map<number, RememberedRequest<Connection>>;
	/** The replies, in the order in which they were given. */
	oldest: RememberedRequest<Connection> | null;
	newest: RememberedRequest<Connection> | null;
	replies: number;
	replyBytes: number;
	running: number;
	/** How many connections it has. */
	connections: number;
}

/**
 * The duplicate request cache: requests that change something, with their replies, so that a call which is sent again
 * (its connection broke before the reply came) is answered and not run again.
 *
 * Several processes may have one address, and equal xids. So an equal call is a repetition only if it comes by the connection that brought
 * the first, or after the peer has left that one. From then on it belongs to the connection that repeated it. A peer that comes back from
 * the address and port of an open connection has left that: the kernel has no two of them.
 *
 * Retention: a client repeats only calls whose reply it has not had, so it is enough to keep as many as it can have
 * outstanding. The bound per client is several times that of a connection's requests in flight; within it nothing is
 * dropped before newer replies of the same client need the room. A request that still runs is never dropped. Every step is O(1), but for
 * the walk over equal requests, which are no more than connections.
 */
export class DuplicateRequests<Connection> {
	readonly #clock: () => number;
	readonly #limits: DuplicateRequestLimits;
	readonly #clients = new Map<string, RequestClient<Connection>>();
	/** Who has replies, no connection and nothing that runs. */
	readonly #away = new RecentMap<string, RequestClient<Connection>>();
	#withReplies = 0;

	/** `clock`: milliseconds since the epoch. */
	constructor(clock: () => number, limits: DuplicateRequestLimits = DEFAULT_DUPLICATE_REQUEST_LIMITS) {
		this.#clock = clock;
		this.#limits = limits;
	}

	/** The client of this name (an address without port, or "unix") has a connection more, from this port. */
	connected(name: string, port = 0): ConnectionSource<Connection> {
		const client = this.#client(name);
		client.connections++;
		this.#away.delete(name);
		return new ConnectionSource(client, port);
	}

	/** It has one less. */
	disconnected(source: ConnectionSource<Connection>): void {
		source.close();
		source.client.connections--;
		this.#noteLeft(source.client);
	}

	#client(name: string): RequestClient<Connection> {
		const known = this.#clients.get(name);
		if (known !== undefined) return known;
		const client = { name, entries: new Map(), oldest: null, newest: null, replies: 0, replyBytes: 0, running: 0, connections: 0 };
		this.#clients.set(name, client);
		return client;
	}

	/** Who has gone without a change leaves nothing, and takes nobody's place. */
	#noteLeft(client: RequestClient<Connection>): void {
		if (client.connections > 0 || client.running > 0 || this.#clients.get(client.name) !== client) return;
		if (client.replies === 0) {
			this.#clients.delete(client.name);
			this.#away.delete(client.name);
			return;
		}
		this.#away.set(client.name, client);
	}

	#dropLongestAway(): void {
		const name = this.#away.oldest;
		if (name === undefined) return;
		this.#away.delete(name);
		this.#clients.delete(name);
		this.#withReplies--;
	}

	/** The request that this one repeats; it belongs to `source` from now on. */
	find(source: ConnectionSource<Connection>, identity: RequestIdentity): RememberedRequest<Connection> | undefined {
		const first = source.client.entries.get(keyOf(identity));
		if (first === undefined || !isSame(first, identity)) return undefined;
		let left: RememberedRequest<Connection> | undefined;
		for (let entry: RememberedRequest<Connection> | null = first; entry !== null; entry = entry.next) {
			if (entry.origin.source === source) return entry;
		}
		let asked = 0;
		for (let entry: RememberedRequest<Connection> | null = first; entry !== null; entry = entry.next) {
			const by = entry.origin.source;
			if (by !== null && !by.isClosed && (++asked > SOURCES_ASKED_MAX || by.isOpen)) continue;
			// a client that can comes back from the same port; of several others the oldest stands last
			if (left === undefined || left.origin.port !== source.port || entry.origin.port === source.port) left = entry;
		}
		if (left === undefined) return undefined;
		left.origin.source = source;
		left.origin.port = source.port;
		return left;
	}

	/** Notes a request that is about to run and that `find` did not know. */
	begin(source: ConnectionSource<Connection>, identity: RequestIdentity): RememberedRequest<Connection> {
		const { client } = source;
		const key = keyOf(identity);
		let next = client.entries.get(key) ?? null;
		// two requests that only share a key push each other out
		while (next !== null && !isSame(next, identity)) {
			this.forget(source, next);
			next = client.entries.get(key) ?? null;
		}
		// field by field: this is on the path of every change, and a copy by spreading costs more than the rest of it
		const { xid, program, version, procedure, length, checksumHi, checksumLo } = identity;
		const entry: RememberedRequest<Connection> = {
			xid,
			program,
			version,
			procedure,
			length,
			checksumHi,
			checksumLo,
			key,
			time: this.#clock(),
			origin: { source, port: source.port },
			firstSource: source,
			reply: null,
			repeatedBy: null,
			next,
			newer: null,
			older: null,
		};
		client.entries.set(key, entry);
		client.running++;
		return entry;
	}

	/** The request is done; `reply` (kept, not copied) is what every repetition of it gets. */
	finish({ client }: ConnectionSource<Connection>, entry: RememberedRequest<Connection>, reply: Buffer): void {
		if (!isListed(client, entry)) {
			entry.reply = reply;
			return;
		}
		client.running--;
		this.#keep(client, entry, reply);
		this.#noteLeft(client);
	}

	/** The request has changed nothing: a repetition of it is to be run. */
	forget({ client }: ConnectionSource<Connection>, entry: RememberedRequest<Connection>): void {
		if (!unlist(client, entry)) return;
		if (entry.reply === null) client.running--;
		else this.#unkeep(client, entry);
		this.#noteLeft(client);
	}

	#keep(client: RequestClient<Connection>, entry: RememberedRequest<Connection>, reply: Buffer): void {
		const { entriesPerClient, replyBytesPerClient } = this.#limits;
		entry.reply = reply;
		entry.older = client.newest;
		if (client.newest === null) client.oldest = entry;
		else client.newest.newer = entry;
		client.newest = entry;
		if (client.replies++ === 0 && ++this.#withReplies > this.#limits.clients) this.#dropLongestAway();
		client.replyBytes += reply.length;
		while (client.oldest !== null && (client.replies > entriesPerClient || client.replyBytes > replyBytesPerClient)) {
			const { oldest } = client;
			unlist(client, oldest);
			this.#unkeep(client, oldest);
		}
	}

	/** Takes it from the replies of its client. */
	#unkeep(client: RequestClient<Connection>, entry: RememberedRequest<Connection>): void {
		if (entry.newer === null) client.newest = entry.older;
		else entry.newer.older = entry.older;
		if (entry.older === null) client.oldest = entry.newer;
		else entry.older.newer = entry.newer;
		entry.newer = null;
		entry.older = null;
		client.replies--;
		client.replyBytes -= entry.reply?.length ?? 0;
		if (client.replies === 0) this.#withReplies--;
	}

	/** Whether there is any reply that a client may ask for again. */
	get hasReplies(): boolean {
		for (const client of this.#clients.values()) if (client.replies > 0) return true;
		return false;
	}

	/** All replies as bytes for `restore`, to be kept where only the server reads them. */
	save(): Buffer {
		const now = this.#clock();
		const file = XdrWriter.growing();
		file.u32(FILE_MAGIC);
		file.u32(FILE_VERSION);
		file.u64FromNumber(now);
		for (const client of this.#clients.values()) {
			for (let entry = client.oldest; entry !== null; entry = entry.newer) {
				if (entry.reply === null) continue;
				file.bool(true);
				file.opaque(Buffer.from(client.name));
				file.u32(entry.origin.port);
				file.u64FromNumber(entry.time);
				for (const field of IDENTITY_FIELDS) file.u32(entry[field]);
				file.opaque(entry.reply);
			}
		}
		file.bool(false);
		const content = file.copyFrom(0);
		return Buffer.concat([content, digest(content)]);
	}

	/** Takes up what `save` gave an earlier server. Throws an Error that says why when the bytes are not that; nothing is taken then. */
	restore(bytes: Uint8Array): void {
		const now = this.#clock();
		for (const { name, entry } of decodeFile(bytes)) {
			const age = now - entry.time;
			if (age < 0 || age > KEPT_ACROSS_RESTART_MS) continue;
			const client = this.#client(name);
			const next = client.entries.get(entry.key) ?? null;
			if (next !== null && (!isSame(next, entry) || hasPort(next, entry.port))) continue;
			const { port, reply, ...identity } = entry;
			const origin = { source: null, port };
			const restored = { ...identity, origin, firstSource: null, reply: null, repeatedBy: null, next, newer: null, older: null };
			client.entries.set(entry.key, restored);
			this.#keep(client, restored, reply);
			this.#noteLeft(client);
		}
	}
}

function isListed<Connection>(client: RequestClient<Connection>, entry: RememberedRequest<Connection>): boolean {
	for (let one = client.entries.get(entry.key) ?? null; one !== null; one = one.next) if (one === entry) return true;
	return false;
}

function hasPort<Connection>(first: RememberedRequest<Connection>, port: number): boolean {
	for (let one: RememberedRequest<Connection> | null = first; one !== null; one = one.next) if (one.origin.port === port) return true;
	return false;
}

/** Takes it from the list of its key; false if it is not there. */
function unlist<Connection>(client: RequestClient<Connection>, entry: RememberedRequest<Connection>): boolean {
	let before = client.entries.get(entry.key);
	if (before === entry) {
		if (entry.next === null) client.entries.delete(entry.key);
		else client.entries.set(entry.key, entry.next);
		return true;
	}
	while (before !== undefined && before.next !== entry) before = before.next ?? undefined;
	if (before === undefined) return false;
	before.next = entry.next;
	return true;
}

const IDENTITY_FIELDS = ["xid", "program", "version", "procedure", "length", "checksumHi", "checksumLo"] as const;

/** 53 bits; requests that agree in them by accident push each other out, and `isSame` keeps them apart. */
function keyOf(identity: RequestIdentity): number {
	const mixed = identity.checksumLo ^ Math.imul(identity.procedure + 1, 0x9e3779b1);
	return identity.xid * 0x200000 + (mixed >>> 11);
}

function isSame(a: RequestIdentity, b: RequestIdentity): boolean {
	return (
		a.xid === b.xid &&
		a.checksumLo === b.checksumLo &&
		a.checksumHi === b.checksumHi &&
		a.length === b.length &&
		a.procedure === b.procedure &&
		a.program === b.program &&
		a.version === b.version
	);
}

function digest(content: Uint8Array): Buffer {
	return createHash("sha256").update(content).digest();
}

interface SavedRequest {
	readonly name: string;
	readonly entry: RequestIdentity & { readonly key: number; readonly port: number; readonly time: number; readonly reply: Buffer };
}

function decodeFile(bytes: Uint8Array): SavedRequest[] {
	const contentLength = bytes.length - FILE_DIGEST_BYTES;
	if (contentLength < 16) throw new Error("The saved replies are cut short");
	const content = bytes.subarray(0, contentLength);
	if (!timingSafeEqual(digest(content), bytes.subarray(contentLength))) throw new Error("The saved replies fail their checksum");
	const reader = XdrReader.over(content);
	if (reader.u32() !== FILE_MAGIC) throw new Error("The file holds no saved replies");
	const version = reader.u32();
	if (version !== FILE_VERSION && version !== FILE_VERSION_BEFORE)
		throw new Error(`The saved replies have format ${version}; this server reads ${FILE_VERSION}`);
	reader.fixed(8);
	const saved: SavedRequest[] = [];
	while (reader.bool()) {
		const name = Buffer.from(reader.opaque(CLIENT_NAME_BYTES_MAX)).toString();
		const port = version === FILE_VERSION ? reader.u32() : 0;
		const time = reader.u32() * 4294967296 + reader.u32();
		const identity: RequestIdentity = { xid: 0, program: 0, version: 0, procedure: 0, length: 0, checksumHi: 0, checksumLo: 0 };
		for (const field of IDENTITY_FIELDS) identity[field] = reader.u32();
		const reply = Buffer.from(reader.opaque(contentLength));
		saved.push({ name, entry: { ...identity, key: keyOf(identity), port, time, reply } });
	}
	return saved;
}

/**
 * Checksums `bytes` from `start` to `end` into `into`: two independent multiplicative hashes over 32-bit words. It need not
 * resist design: whoever makes two of their own calls collide gets an answer to the wrong one of them.
 */
export function checksum(view: DataView, start: number, end: number, into: { checksumHi: number; checksumLo: number }): void {
	let hi = into.checksumHi ^ 0x811c9dc5;
	let lo = into.checksumLo ^ 0x2545f491;
	let at = start;
	for (; at + 4 <= end; at += 4) {
		const word = view.getUint32(at);
		hi = Math.imul(hi ^ word, 0x01000193);
		hi ^= hi >>> 15;
		lo = Math.imul(((lo << 5) | (lo >>> 27)) ^ word, 0x9e3779b1);
	}
	for (; at < end; at++) {
		hi = Math.imul(hi ^ view.getUint8(at), 0x01000193);
		lo = Math.imul(((lo << 5) | (lo >>> 27)) ^ view.getUint8(at), 0x9e3779b1);
	}
	into.checksumHi = (hi ^ (hi >>> 13)) >>> 0;
	into.checksumLo = (lo ^ (lo >>> 16)) >>> 0;
}
