// Locks of mounts on this host: of the processes of this kernel, which have no sessions. To claims each mount is a client like any other.

import { Pending } from "../vfs/errors.ts";
import type { Claims } from "./claims.ts";
import { keyOf } from "./clients.ts";
import { ClaimError } from "./errors.ts";
import {
	type ByteRange,
	type ClaimChange,
	type ClaimHooks,
	type Client,
	type HostLockConflict,
	type HostLocker,
	type HostLockOperations,
	type LockConflict,
	type LockType,
	OF_HOST,
	type SessionRequest,
} from "./operations.ts";
import { locksOf, openOf } from "./owners.ts";
import type { ClientRecord, LockState, OpenState, Owner, SessionRecord } from "./records.ts";

/** Who waits for a lock asks again after so long, where nobody has told it before. */
const ASK_AGAIN_MS = 1000;
/** Requests that wait for a lock at a time, of all mounts: each of them has a place that other requests need too. */
const WAITING_MAX = 512;
const WHOLE: ByteRange = { offsetHi: 0, offsetLo: 0, lengthHi: 0xffffffff, lengthLo: 0xffffffff };
const NO_CHANNEL = { headerPadBytes: 0, requestBytes: 0, responseBytes: 0, keptResponseBytes: 0, operations: 1, requests: 1 };
const NOTHING = Buffer.alloc(0);

/** The mounts of a server, and the claims that they share with its clients once these are open. */
export class HostLocks {
	readonly #mounts = new Map<string, MountLocks>();
	readonly #waiting = new Map<string, Set<() => void>>();
	#waits = 0;
	#start: () => void = () => {};
	/** Until then nothing may be locked: what was open before a restart is not held yet. */
	readonly #started = new Promise<void>((resolve) => {
		this.#start = resolve;
	});
	#attached: Claims | null = null;
	#claims: Claims | null = null;
	/** Of lock owners, for who asks what is in the way. A restart forgets them. */
	readonly pids = new WeakMap<Owner<LockState>, number>();

	/** What claims are to be opened with: a mount that waits is told here, and all others as before. */
	hooks(hooks: ClaimHooks): ClaimHooks {
		return {
			...hooks,
			mayBeGranted: (client, owner, handle) => {
				if (isOfHost(client)) this.#wake(waitKey(client, owner, handle));
				else hooks.mayBeGranted(client, owner, handle);
			},
		};
	}

	/** A mount, by bytes that no other one has, and that are the same for each server of it. */
	mount(id: Uint8Array): MountLocks {
		const mount = new MountLocks(this, id);
		this.#mounts.set(keyOf(id), mount);
		return mount;
	}

	/** Claims that are open. */
	attach(claims: Claims): void {
		this.#attached = claims;
	}

	/** What they hold is held, and all mounts are known. A mount that ended while there was no server loses what it has. */
	start(): void {
		const claims = this.#attached;
		if (claims === null) return;
		for (const client of claims.tables.confirmed.values()) {
			if (client.principal === OF_HOST && !this.#mounts.has(client.ownerKey)) claims.endClient(client);
		}
		this.#claims = claims;
		this.#start();
	}

	/** Nothing is asked of claims any more. */
	stop(): void {
		this.#claims = null;
	}

	/** Null after `stop`; Pending before `start`. */
	get claims(): Claims | null {
		return this.#claims;
	}

	demandClaims(): Claims {
		if (this.#claims === null) throw new Pending(this.#started);
		return this.#claims;
	}

	/** Throws Pending until the lock may be had, or is to be asked for again. */
	wait(client: Client, { owner, handle }: HostLocker): never {
		if (this.#waits >= WAITING_MAX) throw new ClaimError("nospc", "Too many wait for locks");
		const key = waitKey(client, owner, handle);
		const waiters = this.#waiting.get(key) ?? new Set();
		this.#waiting.set(key, waiters);
		this.#waits++;
		throw new Pending(
			new Promise((resolve) => {
				const done = () => {
					clearTimeout(timer);
					waiters.delete(done);
					if (waiters.size === 0) this.#waiting.delete(key);
					this.#waits--;
					resolve();
				};
				const timer = setTimeout(done, ASK_AGAIN_MS);
				waiters.add(done);
			}),
		);
	}

	#wake(key: string): void {
		for (const done of this.#waiting.get(key) ?? []) done();
	}
}

function isOfHost(client: Client): boolean {
	return (client as ClientRecord).principal === OF_HOST;
}

function waitKey({ lo }: Client, owner: Uint8Array, handle: Uint8Array): string {
	return `${lo} ${keyOf(owner)} ${keyOf(handle)}`;
}

/**
 * An open file of the mount that has locks is an open of claims, and its number the open owner. So what is left of it goes when it is closed, whatever
 * kind of lock it was. Asked again over a restart, every call does what is left to be done.
 */
export class MountLocks implements HostLockOperations {
	readonly #locks: HostLocks;
	readonly #id: Uint8Array;
	#asked: SessionRequest | null = null;
	#session: SessionRecord | null = null;
	#sequence = 0;

	constructor(locks: HostLocks, id: Uint8Array) {
		this.#locks = locks;
		this.#id = Buffer.from(id);
	}

	lock(by: HostLocker, type: LockType, range: ByteRange, waits: boolean): boolean {
		const session = this.#demandSession();
		const { client } = session;
		try {
			const denied = this.#change(session, (claims, change) => {
				const open = this.#open(claims, change(), by, type);
				return (
					"denied" in claims.lock(change(), { ...range, type, waits, isReclaim: false, handle: by.handle, by: { open, owner: by.owner } })
				);
			});
			if (!denied) {
				const owner = client.lockOwners.get(keyOf(by.owner));
				if (owner !== undefined) this.#locks.pids.set(owner, by.pid);
				return true;
			}
		} catch (error) {
			const code = error instanceof ClaimError ? error.code : "";
			// what clients reclaim after a failure of the host, everybody waits for
			if (code !== "share_denied" && code !== "grace") throw error;
			if (code === "grace") this.#locks.wait(client, by);
		}
		return waits ? this.#locks.wait(client, by) : false;
	}

	test(by: HostLocker, type: LockType, range: ByteRange): HostLockConflict | null {
		const { client } = this.#demandSession();
		try {
			const conflict = this.#locks.demandClaims().lockTest(client, by.owner, by.handle, type, range);
			return conflict === null ? null : { ...conflict, pid: this.#pidOf(conflict) };
		} catch (error) {
			if (error instanceof ClaimError && error.code === "grace") this.#locks.wait(client, by);
			throw error;
		}
	}

	unlock(handle: Uint8Array, owner: Uint8Array, range: ByteRange = WHOLE): void {
		const client = this.#client;
		const file = this.#locks.demandClaims().tables.files.get(keyOf(handle));
		const state = file === undefined ? null : locksOf(client?.lockOwners.get(keyOf(owner)), file);
		if (state === null) return;
		this.#change(this.#demandSession(), (claims, change) => {
			const stateid = claims.unlock(change(), claims.tables.states.of(state), handle, range);
			if (state.ranges.length === 0) claims.freeStateid(change(), stateid);
		});
	}

	close(handle: Uint8Array, openFile: Uint8Array): void {
		const open = this.#openOf(handle, openFile);
		if (open === null) return;
		this.#change(this.#demandSession(), (claims, change) => claims.close(change(), claims.tables.states.of(open), handle));
	}

	end(): void {
		const client = this.#client;
		if (client !== null) this.#locks.claims?.endClient(client);
	}

	/** Null where the mount has not locked anything yet. */
	get #client(): ClientRecord | null {
		return this.#locks.claims?.tables.confirmed.get(keyOf(this.#id)) ?? null;
	}

	#openOf(handle: Uint8Array, openFile: Uint8Array): OpenState | null {
		const file = this.#locks.demandClaims().tables.files.get(keyOf(handle));
		return file === undefined ? null : openOf(this.#client?.openOwners.get(keyOf(openFile)), file);
	}

	/** It counts as opened for what it locks, in the way of clients that deny that to others. */
	#open(claims: Claims, change: ClaimChange, { handle, openFile }: HostLocker, type: LockType) {
		const access = type === "read" ? 1 : 2;
		const open = this.#openOf(handle, openFile);
		if (open !== null && (open.access & access) !== 0) return claims.tables.states.of(open);
		return claims.open(change, { owner: openFile, handle, access, deny: 0, isReclaim: false });
	}

	/** Runs what may change claims as a request of the mount's session. `change` numbers its changes. */
	#change<T>(session: SessionRecord, act: (claims: Claims, change: () => ClaimChange) => T): T {
		const claims = this.#locks.demandClaims();
		this.#sequence = (this.#sequence + 1) >>> 0;
		const request = { slot: 0, sequence: this.#sequence, highestSlot: 0, keepsReply: false, digestHi: 0, digestLo: 0 };
		const slot = claims.sequence(session, request);
		let operation = 0;
		try {
			return act(claims, () => ({ slot, operation: operation++ }));
		} finally {
			claims.finish(slot, NOTHING);
		}
	}

	/** Pending until it is on disk. Each server of a mount makes one, and what the one before had open and locked stays the client's. */
	#demandSession(): SessionRecord {
		const claims = this.#locks.demandClaims();
		if (this.#session !== null) return this.#session;
		this.#asked ??= this.#ask(claims);
		const { session } = claims.createSession(this.#asked);
		this.#session = claims.session(session.id);
		return this.#session;
	}

	#ask(claims: Claims): SessionRequest {
		const owner = { id: this.#id, verifier: this.#id, principal: OF_HOST, address: "" };
		const { hi, lo, sequence } = claims.exchangeId(owner, false);
		const old = this.#client;
		for (const session of old === null ? [] : [...old.sessions]) claims.destroySession(session.id, OF_HOST);
		return {
			client: { hi, lo },
			sequence,
			principal: OF_HOST,
			flags: 0,
			fore: NO_CHANNEL,
			back: NO_CHANNEL,
			callbackProgram: 0,
			callbackSecurity: NOTHING,
		};
	}

	#pidOf({ client, owner }: LockConflict): number {
		const holder = this.#locks.claims?.tables.clients.get(client.lo)?.lockOwners.get(keyOf(owner));
		return (holder === undefined ? undefined : this.#locks.pids.get(holder)) ?? 0;
	}
}
