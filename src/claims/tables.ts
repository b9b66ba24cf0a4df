// All that is kept of clients in memory, and the one way in and out of it: every change keeps its counts and lists true.

import { applyLock, dropLocks, planLock, removeWaitersOf } from "./locks.ts";
import { OpenRecord } from "./open-record.ts";
import { dropModes, setModes } from "./opens.ts";
import { addToFile, addToOwner, indexLocks, ownerOf, removeFromFile, removeFromOwner } from "./owners.ts";
import type { AnyState, ClientRecord, FileRecord, LockState, OpenState, RevokedState, SessionRecord, Span } from "./records.ts";
import { Stateids } from "./stateids.ts";

/** What others do when something comes or goes. */
export interface TableHooks {
	/** First open of an object; may throw, and then there is none. */
	hold(file: FileRecord): void;
	letGo(file: FileRecord): void;
	/** Locks of the object went, or its wait list may move on. */
	unlocked(file: FileRecord): void;
	sessionRemoved(session: SessionRecord): void;
	now(): number;
}

/**
 * No rule of the protocol is here: what is added was found to be allowed. A restart goes through the same calls, so what it makes of the log is what was
 * there before.
 */
export class ClaimTables {
	readonly hooks: TableHooks;
	readonly states: Stateids<AnyState>;
	/** By the low half of their ids; the high half is the boot counter. */
	readonly clients = new Map<number, ClientRecord>();
	readonly confirmed = new Map<string, ClientRecord>();
	/** At most one of an owner, the oldest first. */
	readonly unconfirmed = new Map<string, ClientRecord>();
	readonly sessions = new Map<number, SessionRecord>();
	readonly files = new Map<string, FileRecord>();
	opens = 0;
	/** Ranges. */
	locks = 0;
	lockStates = 0;
	/** Stateids of what was revoked. */
	revoked = 0;
	/** Bytes of owners and handles of all opens and locks: what the log writes of them. */
	stateBytes = 0;

	constructor(boot: number, hooks: TableHooks) {
		this.states = new Stateids(boot);
		this.hooks = hooks;
	}

	addClient(client: ClientRecord): void {
		this.clients.set(client.lo, client);
		(client.isConfirmed ? this.confirmed : this.unconfirmed).set(client.ownerKey, client);
	}

	/** Nobody else of its owner is confirmed. */
	confirm(client: ClientRecord): void {
		this.unconfirmed.delete(client.ownerKey);
		this.confirmed.set(client.ownerKey, client);
		client.isConfirmed = true;
	}

	/** The client with all that it has. */
	removeClient(client: ClientRecord): void {
		this.dropState(client);
		this.forgetRevoked(client);
		for (const session of client.sessions) this.removeSession(session);
		this.#forgetClient(client);
	}

	/** The client goes at once, and all that it has by `dropSome`. Until then what it has open and locked is in nobody's way. */
	retire(client: ClientRecord): void {
		client.isGone = true;
		for (const session of client.sessions) this.removeSession(session);
		this.#forgetClient(client);
	}

	/** All that a client has open and locked is lost, and taken away by `dropSome`: what the client is from now on. */
	succeed(client: ClientRecord): ClientRecord {
		const nothing = {
			openOwners: new Map(),
			lockOwners: new Map(),
			opens: 0,
			locks: 0,
			lockStates: 0,
			waiters: 0,
			revoked: new Set<RevokedState>(),
		};
		const successor: ClientRecord = { ...client, ...nothing, sessions: new Set(client.sessions), idleSince: this.hooks.now() };
		for (const session of client.sessions) session.client = successor;
		client.sessions.clear();
		client.isGone = true;
		client.successor = successor;
		this.clients.set(client.lo, successor);
		this.confirmed.set(client.ownerKey, successor);
		return successor;
	}

	#forgetClient(client: ClientRecord): void {
		this.clients.delete(client.lo);
		const others = client.isConfirmed ? this.confirmed : this.unconfirmed;
		if (others.get(client.ownerKey) === client) others.delete(client.ownerKey);
	}

	/** Takes away so many opens, locks and stateids of a client; whether that was all. */
	dropSome(client: ClientRecord, most: number): boolean {
		let left = most;
		for (const state of client.revoked) {
			if (left-- <= 0) return false;
			this.removeRevoked(state);
		}
		for (const owner of client.openOwners.values()) {
			while (owner.first !== null) {
				if (left <= 0) return false;
				left -= this.#dropPart(owner.first, left);
			}
		}
		return true;
	}

	/** An open, or some of its locks: how many. */
	#dropPart(open: OpenState, most: number): number {
		const state = open.firstLock;
		if (state === null) {
			this.takeAway(open);
			return 1;
		}
		const ranges = state.ranges.length;
		if (ranges <= most) {
			this.takeLocksAway(state);
			return ranges + 1;
		}
		dropLocks(state, most);
		this.locks -= most;
		return most;
	}

	addSession(session: SessionRecord): void {
		this.sessions.set(session.index, session);
		session.client.sessions.add(session);
	}

	removeSession(session: SessionRecord): void {
		if (!this.sessions.delete(session.index)) return;
		session.client.sessions.delete(session);
		this.hooks.sessionRemoved(session);
	}

	/** The object, which is known while it is open; throws what `hold` throws. */
	file(key: string): FileRecord {
		const known = this.files.get(key);
		if (known !== undefined) return known;
		const file = newFile(key);
		this.hooks.hold(file);
		this.files.set(key, file);
		return file;
	}

	/** `at`: its stateid before a restart. */
	addOpen(client: ClientRecord, ownerKey: string, file: FileRecord, modes: number, at: StatePlace | null = null): OpenState {
		const owner = ownerOf(client.openOwners, client, ownerKey);
		const open = new OpenRecord(owner, file, at?.index ?? 0, at?.generation ?? 0, at?.seqid ?? 1);
		this.#place(open, at);
		addToFile(open);
		addToOwner(client.openOwners, open);
		setModes(open, modes);
		client.opens++;
		this.opens++;
		this.stateBytes += ownerKey.length + file.key.length;
		return open;
	}

	/** With its locks; the object is let go with its last open. */
	removeOpen(open: OpenState): void {
		removeWaitersOf(open);
		while (open.firstLock !== null) this.removeLockState(open.firstLock);
		this.#forgetOpen(open);
		this.states.remove(open);
	}

	addLockState(open: OpenState, ownerKey: string, at: StatePlace | null = null): LockState {
		const { client } = open.owner;
		const owner = ownerOf(client.lockOwners, client, ownerKey);
		const state: LockState = {
			kind: "lock",
			index: at?.index ?? 0,
			generation: at?.generation ?? 0,
			seqid: at?.seqid ?? 0,
			owner,
			file: open.file,
			open,
			ranges: [],
			nextOfOpen: open.firstLock,
			previousOfOpen: null,
			nextOfOwner: null,
			previousOfOwner: null,
		};
		this.#place(state, at);
		if (open.firstLock !== null) open.firstLock.previousOfOpen = state;
		open.firstLock = state;
		addToOwner(client.lockOwners, state);
		indexLocks(state);
		client.lockStates++;
		this.lockStates++;
		this.stateBytes += ownerKey.length;
		return state;
	}

	/** Locks a span for its owner, or unlocks it (`isWrite` null). */
	setLock(state: LockState, span: Span, isWrite: boolean | null): void {
		const before = state.ranges.length;
		applyLock(state, planLock(state, span, isWrite));
		this.locks += state.ranges.length - before;
	}

	removeLockState(state: LockState): void {
		this.#forgetLocks(state);
		this.states.remove(state);
	}

	/** Its opens and locks go. */
	dropState(client: ClientRecord): void {
		this.#eachOpen(client, (open) => this.removeOpen(open));
	}

	/** As `dropState`, but their stateids stand for what was lost, until they are freed. */
	revoke(client: ClientRecord): void {
		this.#eachOpen(client, (open) => this.#loseOpen(open, client));
	}

	/** An open of a client that has gone, with its locks. */
	takeAway(open: OpenState): void {
		const { successor } = open.owner.client;
		if (successor === null) this.removeOpen(open);
		else this.#loseOpen(open, successor);
	}

	takeLocksAway(state: LockState): void {
		const { successor } = state.owner.client;
		if (successor === null) this.removeLockState(state);
		else this.#loseLocks(state, successor);
	}

	#loseOpen(open: OpenState, client: ClientRecord): void {
		removeWaitersOf(open);
		while (open.firstLock !== null) this.#loseLocks(open.firstLock, client);
		this.#forgetOpen(open);
		this.#leaveStub(open, client);
	}

	#loseLocks(state: LockState, client: ClientRecord): void {
		this.#forgetLocks(state);
		this.#leaveStub(state, client);
	}

	#leaveStub(state: OpenState | LockState, client: ClientRecord): void {
		const stub: RevokedState = { kind: "revoked", index: 0, generation: 0, seqid: 0, client };
		this.states.replace(state, stub);
		this.#noteRevoked(stub);
	}

	addRevoked(client: ClientRecord, at: StatePlace): void {
		const stub: RevokedState = { kind: "revoked", ...at, client };
		this.states.restore(stub);
		this.#noteRevoked(stub);
	}

	#noteRevoked(stub: RevokedState): void {
		stub.client.revoked.add(stub);
		stub.client.hasLost = true;
		this.revoked++;
	}

	/** The client has freed the stateid: with the last one it knows all. */
	removeRevoked(state: RevokedState): void {
		const { client } = state;
		client.revoked.delete(state);
		if (client.revoked.size === 0) client.hasLost = false;
		this.states.remove(state);
		this.revoked--;
	}

	forgetRevoked(client: ClientRecord): void {
		for (const state of client.revoked) this.removeRevoked(state);
	}

	#place(state: OpenState | LockState, at: StatePlace | null): void {
		if (at === null) this.states.add(state);
		else this.states.restore(state);
	}

	#forgetOpen(open: OpenState): void {
		const { owner, file } = open;
		dropModes(open);
		removeFromFile(open);
		removeFromOwner(owner.client.openOwners, open);
		if (--owner.client.opens === 0) owner.client.idleSince = this.hooks.now();
		this.opens--;
		this.stateBytes -= owner.key.length + file.key.length;
		if (file.firstOpen === null) this.#forgetFile(file);
	}

	#forgetFile(file: FileRecord): void {
		this.files.delete(file.key);
		this.hooks.letGo(file);
	}

	#forgetLocks(state: LockState): void {
		const { open, owner, file } = state;
		const hadAny = state.ranges.length > 0;
		this.locks -= state.ranges.length;
		dropLocks(state);
		if (state.previousOfOpen === null) open.firstLock = state.nextOfOpen;
		else state.previousOfOpen.nextOfOpen = state.nextOfOpen;
		if (state.nextOfOpen !== null) state.nextOfOpen.previousOfOpen = state.previousOfOpen;
		removeFromOwner(owner.client.lockOwners, state);
		owner.byFile?.delete(file);
		owner.client.lockStates--;
		this.lockStates--;
		this.stateBytes -= owner.key.length;
		if (hadAny) this.hooks.unlocked(file);
	}

	#eachOpen(client: ClientRecord, act: (open: OpenState) => void): void {
		for (const owner of client.openOwners.values()) {
			while (owner.first !== null) act(owner.first);
		}
	}
}

export function newFile(key: string): FileRecord {
	return { key, firstOpen: null, opens: 0, crowd: null, locks: null };
}

/** A stateid without the boot counter. */
export interface StatePlace {
	readonly index: number;
	readonly generation: number;
	readonly seqid: number;
}
