// Clients: how they get an id (EXCHANGE_ID), confirm it (CREATE_SESSION), keep it and lose it (RFC 8881 sections 2.4, 18.35, 18.36).

import { randomBytes } from "node:crypto";
import type { ClaimLog } from "./claim-log.ts";
import { ClaimError } from "./errors.ts";
import type { ClaimLimits } from "./limits.ts";
import { type ClientId, type ClientOwner, type ExchangedId, OF_HOST, type SessionRequest } from "./operations.ts";
import type { ClientRecord, SessionRecord } from "./records.ts";
import { isEqual, type Sessions } from "./sessions.ts";
import type { ClaimTables } from "./tables.ts";

/** Numbers of clients that the log is told of at a time. */
const NUMBERS = 256;
const U32_MAX = 0xffffffff;

export interface ClientHooks {
	now(): number;
	clientReplaced(ownerId: Uint8Array, from: string, to: string): void;
	/** The client and all it has go; also from the log and the list of who may reclaim. */
	remove(client: ClientRecord): void;
}

export class Clients {
	readonly #tables: ClaimTables;
	readonly #sessions: Sessions;
	readonly #limits: ClaimLimits;
	readonly #log: ClaimLog;
	readonly #hooks: ClientHooks;
	readonly #leaseMs: number;
	#nextIndex = 1;
	#notedIndex = 0;

	constructor(tables: ClaimTables, sessions: Sessions, limits: ClaimLimits, leaseSeconds: number, log: ClaimLog, hooks: ClientHooks) {
		this.#tables = tables;
		this.#sessions = sessions;
		this.#limits = limits;
		this.#leaseMs = leaseSeconds * 1000;
		this.#log = log;
		this.#hooks = hooks;
	}

	/** The last number that the log knows to be given. */
	get notedIndex(): number {
		return this.#notedIndex;
	}

	/** Numbers up to this one were given before a restart. */
	skipNumbers(upTo: number): void {
		this.#notedIndex = Math.max(this.#notedIndex, upTo);
		this.#nextIndex = Math.max(this.#nextIndex, upTo + 1);
	}

	isExpired(client: ClientRecord): boolean {
		return client.principal !== OF_HOST && this.#hooks.now() - client.renewed > this.#leaseMs;
	}

	renew(client: ClientRecord): void {
		client.renewed = this.#hooks.now();
	}

	find({ hi, lo }: ClientId): ClientRecord | null {
		return hi === this.#tables.states.boot ? (this.#tables.clients.get(lo) ?? null) : null;
	}

	/** The cases are numbered as in RFC 8881 section 18.35.4. */
	exchangeId(owner: ClientOwner, isUpdate: boolean): ExchangedId {
		if (owner.id.length > this.#limits.ownerBytes) throw new ClaimError("inval", "The client owner is too long");
		const key = keyOf(owner.id);
		const old = this.#tables.confirmed.get(key);
		if (isUpdate) return exchanged(this.#updated(old, owner));
		if (old !== undefined && old.principal === owner.principal && isEqual(old.verifier, owner.verifier)) {
			// case 2
			old.address = owner.address;
			return exchanged(old);
		}
		// case 3; case 5, where it is the client itself that comes again: the old id stands until the new one is confirmed
		if (old !== undefined && old.principal !== owner.principal) this.#demandIdle(old);
		// cases 1 and 4
		const unconfirmed = this.#tables.unconfirmed.get(key);
		if (unconfirmed !== undefined) this.#tables.removeClient(unconfirmed);
		else if (this.#tables.unconfirmed.size >= this.#limits.unconfirmedClients) this.#removeOldestUnconfirmed();
		const client = this.#make(key, owner);
		this.#tables.addClient(client);
		return exchanged(client);
	}

	/** Cases 6 to 9. */
	#updated(old: ClientRecord | undefined, owner: ClientOwner): ClientRecord {
		if (old === undefined) throw new ClaimError("noent", "The client owner has no confirmed id");
		if (!isEqual(old.verifier, owner.verifier)) throw new ClaimError("not_same", "The client owner has another verifier");
		if (old.principal !== owner.principal) throw new ClaimError("perm", "The client id is another principal's");
		old.address = owner.address;
		return old;
	}

	#make(ownerKey: string, { id, verifier, principal, address }: ClientOwner): ClientRecord {
		const lo = this.#nextIndex++;
		if (lo > this.#notedIndex) {
			this.#notedIndex = lo + NUMBERS - 1;
			this.#log.clientNumbers(this.#notedIndex);
		}
		return newClient({ hi: this.#tables.states.boot, lo }, Buffer.from(id), ownerKey, Buffer.from(verifier), principal, {
			address,
			// not to be guessed: ids that were not confirmed before a restart stand in no log
			sequence: randomBytes(4).readUInt32BE(0),
			now: this.#hooks.now(),
		});
	}

	#removeOldestUnconfirmed(): void {
		for (const client of this.#tables.unconfirmed.values()) {
			this.#tables.removeClient(client);
			return;
		}
	}

	/** "clid_inuse" while somebody else has sessions or state under this owner, and keeps the lease. */
	#demandIdle(old: ClientRecord): void {
		if (hasAnything(old) && !this.isExpired(old)) throw new ClaimError("clid_inuse", "Another principal uses this client owner");
	}

	/** CREATE_SESSION but for its last step: that the client is on disk. */
	createSession(request: SessionRequest): SessionRecord {
		const client = this.find(request.client);
		if (client === null) throw new ClaimError("stale_clientid", "There is no such client id");
		// who knows the next sequence may open a session for a client that has others; nobody else gets one that is there
		const isAgain = request.sequence === client.sequence;
		const isTheirs = isAgain ? client.creator !== request.principal : !client.isConfirmed && client.principal !== request.principal;
		if (isTheirs) throw new ClaimError("clid_inuse", "The client id is another principal's");
		if (isAgain && client.created !== null) {
			if (client.created.error !== null) throw new ClaimError(client.created.error, "It was answered so before");
			return client.created.session;
		}
		if (request.sequence !== (client.sequence + 1) >>> 0)
			throw new ClaimError("seq_misordered", "The sequence is not that of the client id");
		if (!client.isConfirmed) this.#demandPlace(client);
		try {
			if (client.sessions.size >= this.#limits.sessionsPerClient) throw new ClaimError("nospc", "The client has too many sessions");
			if (!client.isConfirmed) this.#confirm(client);
		} catch (error) {
			if (error instanceof ClaimError) {
				client.sequence = request.sequence;
				client.created = { session: null, error: error.code };
				client.creator = request.principal;
				if (client.isConfirmed) this.#log.created(client);
			}
			throw error;
		}
		const session = this.#sessions.make(client, request);
		client.sequence = request.sequence;
		client.created = { session, error: null };
		client.creator = request.principal;
		this.renew(client);
		this.#log.created(client);
		return session;
	}

	/** "delay" where there are as many clients as may be and all keep their leases: the request is not answered for good by that. */
	#demandPlace(client: ClientRecord): void {
		const { confirmed } = this.#tables;
		if (confirmed.has(client.ownerKey) || confirmed.size < this.#limits.clients) return;
		const expired = this.longestExpired();
		if (expired === null) throw new ClaimError("delay", "There are too many clients");
		this.#hooks.remove(expired);
	}

	/** The client that has been silent the longest, if its lease is over. Looks at all of them: for when a limit is reached. */
	longestExpired(besides: ClientRecord | null = null, suits: (client: ClientRecord) => boolean = () => true): ClientRecord | null {
		let longest: ClientRecord | null = null;
		for (const client of this.#tables.confirmed.values()) {
			if (client === besides || !this.isExpired(client) || !suits(client)) continue;
			if (longest === null || client.renewed < longest.renewed) longest = client;
		}
		return longest;
	}

	/** What an earlier id of this owner has is gone from now on. */
	#confirm(client: ClientRecord): void {
		const old = this.#tables.confirmed.get(client.ownerKey);
		if (old !== undefined) {
			if (old.principal !== client.principal) this.#demandIdle(old);
			if (hasAnything(old) && !this.isExpired(old)) this.#hooks.clientReplaced(client.ownerId, old.address, client.address);
			this.#hooks.remove(old);
		}
		this.#tables.confirm(client);
		this.#log.client(client);
	}

	destroy(id: ClientId, principal: string): void {
		const client = this.find(id);
		if (client === null || client.principal !== principal) throw new ClaimError("stale_clientid", "There is no such client id");
		if (hasAnything(client)) throw new ClaimError("clientid_busy", "The client has sessions or state");
		this.#hooks.remove(client);
	}

	/** Ids that nobody confirmed in time. */
	dropUnconfirmed(): void {
		const before = this.#hooks.now() - this.#limits.unconfirmedSeconds * 1000;
		for (const client of this.#tables.unconfirmed.values()) if (client.renewed <= before) this.#tables.removeClient(client);
	}
}

function hasAnything(client: ClientRecord): boolean {
	return client.opens > 0 || client.sessions.size > 0;
}

export function keyOf(bytes: Uint8Array): string {
	return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
}

export function newClient(
	{ hi, lo }: ClientId,
	ownerId: Buffer,
	ownerKey: string,
	verifier: Buffer,
	principal: string,
	{ address, sequence, now }: { readonly address: string; readonly sequence: number; readonly now: number },
): ClientRecord {
	return {
		hi,
		lo,
		ownerId,
		ownerKey,
		verifier,
		principal,
		listKey: `${Buffer.from(principal).toString("latin1")}\0${ownerKey}`,
		address,
		isConfirmed: false,
		isGone: false,
		successor: null,
		hasReclaimed: false,
		since: now,
		renewed: now,
		idleSince: now,
		sequence,
		created: null,
		creator: principal,
		sessions: new Set(),
		openOwners: new Map(),
		lockOwners: new Map(),
		opens: 0,
		locks: 0,
		lockStates: 0,
		waiters: 0,
		revoked: new Set(),
		hasLost: false,
		toldLostAt: 0,
	};
}

/**
 * The first of all. Its numbers are as large as they can be: V8 gives objects another form when a field first holds more than 31 bits, and then throws away
 * what it has compiled for the form before.
 */
newClient({ hi: U32_MAX, lo: U32_MAX }, Buffer.alloc(0), "", Buffer.alloc(0), "", { address: "", sequence: U32_MAX, now: 0.5 });

function exchanged({ hi, lo, sequence, isConfirmed }: ClientRecord): ExchangedId {
	return { hi, lo, sequence: (sequence + 1) >>> 0, isConfirmed };
}
