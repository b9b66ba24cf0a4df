// The duplicate request cache.

import { createHash, timingSafeEqual } from "node:crypto";
import { RecentMap } from "../collections/recent-map.ts";
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
	readonly clients: number;
	/** Of each client, so that none can push out another's. At least as many as one connection may have in flight. */
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

/** Forgotten requests that may stand before the oldest. */
const ORDER_SLACK = 4096;

const FILE_MAGIC = 0x48464452; // "HFDR"
const FILE_VERSION = 1;
const FILE_DIGEST_BYTES = 32;
const CLIENT_NAME_BYTES_MAX = 255;

/** A request that was taken. */
export interface RememberedRequest<Connection> extends Readonly<RequestIdentity> {
	readonly key: number;
	readonly time: number;
	/** Its whole record, once it is known. */
	reply: Buffer | null;
	/** While it runs: the connection by which it came once more, and which its reply is to take. */
	redirect: Connection | null;
}

/** The requests of one client. */
export interface RequestClient<Connection> {
	readonly name: string;
	readonly entries: Map<number, RememberedRequest<Connection>>;
	/** All of them from the oldest on, beginning at `oldest`, among some that were forgotten. A Map gives its first entry only after all it has lost. */
	order: RememberedRequest<Connection>[];
	oldest: number;
	replyBytes: number;
	/** How many connections it has. */
	connections: number;
}

/**
 * The duplicate request cache: requests that change something, with their replies, so that a call which is sent again
 * (its connection broke before the reply came) is answered and not run again.
 *
 * Retention: a client repeats only calls whose reply it has not had, so it is enough to keep as many as it can have
 * outstanding. The bound per client is several times that of a connection's requests in flight; within it nothing is
 * dropped before newer requests of the same client need the room. A request that still runs is never dropped.
 */
export class DuplicateRequests<Connection> {
	readonly #clock: () => number;
	readonly #limits: DuplicateRequestLimits;
	readonly #clients = new RecentMap<string, RequestClient<Connection>>();

	/** `clock`: milliseconds since the epoch. */
	constructor(clock: () => number, limits: DuplicateRequestLimits = DEFAULT_DUPLICATE_REQUEST_LIMITS) {
		this.#clock = clock;
		this.#limits = limits;
	}

	/** The client of this name (an address without port, or "unix") has a connection more. */
	connected(name: string): RequestClient<Connection> {
		const client = this.#client(name);
		client.connections++;
		return client;
	}

	/** It has one less. */
	disconnected(client: RequestClient<Connection>): void {
		client.connections--;
	}

	/** The client of this name, now the most recent one. */
	#client(name: string): RequestClient<Connection> {
		const known = this.#clients.use(name);
		const client = known ?? { name, entries: new Map(), order: [], oldest: 0, replyBytes: 0, connections: 0 };
		if (known === undefined && this.#clients.size >= this.#limits.clients) this.#dropOldestClient();
		this.#clients.set(name, client);
		return client;
	}

	#dropOldestClient(): void {
		for (const [name, client] of this.#clients.entries()) {
			if (client.connections > 0 || isRunning(client)) continue;
			this.#clients.delete(name);
			return;
		}
	}

	find(client: RequestClient<Connection>, identity: RequestIdentity): RememberedRequest<Connection> | undefined {
		const entry = client.entries.get(keyOf(identity));
		return entry !== undefined && isSame(entry, identity) ? entry : undefined;
	}

	/** Notes a request that is about to run and that `find` did not know. */
	begin(client: RequestClient<Connection>, identity: RequestIdentity): RememberedRequest<Connection> {
		const key = keyOf(identity);
		const replaced = client.entries.get(key);
		if (replaced !== undefined) this.forget(client, replaced);
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
			reply: null,
			redirect: null,
		};
		client.entries.set(key, entry);
		client.order.push(entry);
		this.#trim(client);
		return entry;
	}

	/** The request is done; `reply` (kept, not copied) is what every repetition of it gets. */
	finish(client: RequestClient<Connection>, entry: RememberedRequest<Connection>, reply: Buffer): void {
		entry.reply = reply;
		if (client.entries.get(entry.key) !== entry) return;
		client.replyBytes += reply.length;
		this.#trim(client);
	}

	/** The request has changed nothing: a repetition of it is to be run. */
	forget(client: RequestClient<Connection>, entry: RememberedRequest<Connection>): void {
		if (client.entries.get(entry.key) !== entry) return;
		client.entries.delete(entry.key);
		client.replyBytes -= entry.reply?.length ?? 0;
	}

	#trim(client: RequestClient<Connection>): void {
		const { entriesPerClient, replyBytesPerClient } = this.#limits;
		if (client.entries.size <= entriesPerClient && client.replyBytes <= replyBytesPerClient) return;
		const { order, entries } = client;
		for (let i = client.oldest; i < order.length; i++) {
			if (entries.size <= entriesPerClient && client.replyBytes <= replyBytesPerClient) break;
			const entry = order[i];
			if (entry.reply !== null) this.forget(client, entry);
			if (i === client.oldest && entries.get(entry.key) !== entry) client.oldest++;
		}
		if (client.oldest < ORDER_SLACK) return;
		client.order = order.slice(client.oldest);
		client.oldest = 0;
	}

	/** Whether there is any reply that a client may ask for again. */
	get hasReplies(): boolean {
		for (const [, client] of this.#clients.entries()) {
			for (const entry of client.entries.values()) if (entry.reply !== null) return true;
		}
		return false;
	}

	/** All replies as bytes for `restore`, to be kept where only the server reads them. */
	save(): Buffer {
		const now = this.#clock();
		const file = XdrWriter.growing();
		file.u32(FILE_MAGIC);
		file.u32(FILE_VERSION);
		file.u64FromNumber(now);
		for (const [, client] of this.#clients.entries()) {
			for (const entry of client.entries.values()) {
				if (entry.reply === null) continue;
				file.bool(true);
				file.opaque(Buffer.from(client.name));
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
			if (client.entries.has(entry.key)) continue;
			const restored = { ...entry, redirect: null };
			client.entries.set(entry.key, restored);
			client.order.push(restored);
			client.replyBytes += entry.reply.length;
			this.#trim(client);
		}
	}
}

const IDENTITY_FIELDS = ["xid", "program", "version", "procedure", "length", "checksumHi", "checksumLo"] as const;

function isRunning<Connection>(client: RequestClient<Connection>): boolean {
	for (const entry of client.entries.values()) {
		if (entry.reply === null) return true;
	}
	return false;
}

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
	readonly entry: RequestIdentity & { readonly key: number; readonly time: number; readonly reply: Buffer };
}

function decodeFile(bytes: Uint8Array): SavedRequest[] {
	const contentLength = bytes.length - FILE_DIGEST_BYTES;
	if (contentLength < 16) throw new Error("The saved replies are cut short");
	const content = bytes.subarray(0, contentLength);
	if (!timingSafeEqual(digest(content), bytes.subarray(contentLength))) throw new Error("The saved replies fail their checksum");
	const reader = XdrReader.over(content);
	if (reader.u32() !== FILE_MAGIC) throw new Error("The file holds no saved replies");
	const version = reader.u32();
	if (version !== FILE_VERSION) throw new Error(`The saved replies have format ${version}; this server reads ${FILE_VERSION}`);
	reader.fixed(8);
	const saved: SavedRequest[] = [];
	while (reader.bool()) {
		const name = Buffer.from(reader.opaque(CLIENT_NAME_BYTES_MAX)).toString();
		const time = reader.u32() * 4294967296 + reader.u32();
		const identity: RequestIdentity = { xid: 0, program: 0, version: 0, procedure: 0, length: 0, checksumHi: 0, checksumLo: 0 };
		for (const field of IDENTITY_FIELDS) identity[field] = reader.u32();
		const reply = Buffer.from(reader.opaque(contentLength));
		saved.push({ name, entry: { ...identity, key: keyOf(identity), time, reply } });
	}
	return saved;
}

/**
 * Checksums `bytes` from `start` to `end` into `into`: two independent multiplicative hashes over 32-bit words. It need not
 * resist design: whoever makes two of their own calls collide gets an answer to the wrong one of them.
 */
export function checksum(view: DataView, start: number, end: number, into: RequestIdentity): void {
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
