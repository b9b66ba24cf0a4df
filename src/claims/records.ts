// What is kept of clients, sessions, open files and locks in memory: the shapes, without rules.

import type { ClaimErrorCode } from "./errors.ts";
import type { ClaimAnswer, Client, Session, Slot, SlotOutcome } from "./operations.ts";

/** What has a stateid. */
export interface StateRecord {
	/** Its place in the table of stateids. */
	index: number;
	/** Given once: tells it from others that had its place before. */
	generation: number;
	seqid: number;
}

export interface ClientRecord extends Client {
	readonly ownerId: Buffer;
	/** The same as a string of bytes (latin1), as a key. */
	readonly ownerKey: string;
	readonly verifier: Buffer;
	readonly principal: string;
	/** By what it is known over boots of the host: its owner, with the principal, so that nobody else reclaims or gives up what it had. */
	readonly listKey: string;
	address: string;
	isConfirmed: boolean;
	/** What it has is in nobody's way any more, and is taken away some at a time. */
	isGone: boolean;
	/**
	 * Of one that has lost all when its lease had expired: what the client is from then on, for whom the stateids of what was lost still stand. Null: for
	 * nobody.
	 */
	successor: ClientRecord | null;
	hasReclaimed: boolean;
	/** When it came, or the server started. */
	readonly since: number;
	/** When it was heard last, or made its id: milliseconds of the clock. */
	renewed: number;
	/** Since when it has had nothing open; of no meaning while it has. */
	idleSince: number;
	/** The last sequence of CREATE_SESSION that was answered, and its answer. */
	sequence: number;
	created: CreatedSession | null;
	/** Who sent it: after a restart, the principal of the client. */
	creator: string;
	readonly sessions: Set<SessionRecord>;
	readonly openOwners: Map<string, Owner<OpenState>>;
	readonly lockOwners: Map<string, Owner<LockState>>;
	opens: number;
	/** Ranges. */
	locks: number;
	lockStates: number;
	waiters: number;
	/** What it lost when its lease had expired, until it frees the stateids. */
	readonly revoked: Set<RevokedState>;
	/** It is to be told that it has lost something. */
	hasLost: boolean;
	/** When it was first told; 0: not yet. */
	toldLostAt: number;
}

/** What a repeated CREATE_SESSION gets. */
export type CreatedSession =
	| { readonly session: SessionRecord; readonly error: null }
	| { readonly session: null; readonly error: ClaimErrorCode };

export interface SessionRecord extends Session {
	readonly id: Buffer;
	readonly index: number;
	client: ClientRecord;
	callbackProgram: number;
	callbackSecurity: Buffer;
	isDead: boolean;
	/** It was made before a restart: slots that are not known may have been used. */
	isRestored: boolean;
	/** By number; null until it is used. */
	readonly slots: (SlotRecord | null)[];
	/** Its part of the room for replies. */
	readonly reservedBytes: number;
	/** When a dead one is forgotten. */
	forgetAt: number;
}

/** What a change was answered, until the slot gets another request. */
export interface SlotAnswer {
	readonly operation: number;
	readonly kind: ClaimAnswer["kind"];
	readonly seqid: number;
	readonly index: number;
	readonly generation: number;
	/** Key of the object; "" but for opens. */
	file: string;
}

export interface SlotRecord extends Slot {
	readonly session: SessionRecord;
	sequence: number;
	outcome: SlotOutcome;
	reply: Buffer | null;
	isRunning: boolean;
	keepsReply: boolean;
	digestHi: number;
	digestLo: number;
	/** It has had no request since a restart: its sequence is that of the last one that changed something, or unknown. */
	isRestored: boolean;
	isSequenceKnown: boolean;
	/** Whether the log has the sequence. */
	isLogged: boolean;
	answers: SlotAnswer[] | null;
	progress: Uint8Array | null;
	/** What its retry gets after a restart is its reply, or that this was not kept. */
	isReplyLogged: boolean;
}

/** An owner of opens, or of locks, of one client. */
export interface Owner<S> {
	readonly client: ClientRecord;
	/** Its bytes (latin1). */
	readonly key: string;
	/** A list through `nextOfOwner`. */
	first: S | null;
	count: number;
	/** Of locks, where there are many. */
	byFile: Map<FileRecord, S> | null;
}

/** The opens of an object that are too many to be looked through. */
export interface Crowd {
	readonly byOwner: Map<Owner<OpenState>, OpenState>;
	/** How many opens have each. */
	readers: number;
	writers: number;
	denyReaders: number;
	denyWriters: number;
}

/** An object that is open. */
export interface FileRecord {
	/** Bytes of its handle (latin1). */
	readonly key: string;
	firstOpen: OpenState | null;
	opens: number;
	/** Where there are many. */
	crowd: Crowd | null;
	/** Null until it is locked. */
	locks: FileLocks | null;
}

export interface OpenState extends StateRecord {
	readonly kind: "open";
	readonly owner: Owner<OpenState>;
	readonly file: FileRecord;
	/** Modes that were opened, a bit for each (see `modeBit`), and what they add up to; `setModes` changes all three. */
	readonly modes: number;
	readonly access: number;
	readonly deny: number;
	/** The same in one number. */
	share: number;
	firstLock: LockState | null;
	nextInFile: OpenState | null;
	previousInFile: OpenState | null;
	nextOfOwner: OpenState | null;
	previousOfOwner: OpenState | null;
}

/** The locks of one owner on one file. */
export interface LockState extends StateRecord {
	readonly kind: "lock";
	readonly owner: Owner<LockState>;
	readonly file: FileRecord;
	readonly open: OpenState;
	/** In order, apart from one another; equal neighbours do not touch. */
	readonly ranges: LockedRange[];
	nextOfOpen: LockState | null;
	previousOfOpen: LockState | null;
	nextOfOwner: LockState | null;
	previousOfOwner: LockState | null;
}

export interface RevokedState extends StateRecord {
	readonly kind: "revoked";
	readonly client: ClientRecord;
}

export type AnyState = OpenState | LockState | RevokedState;

/** Bytes from start up to, and without, end; the end of everything is 2^64: hi 2^32, lo 0. */
export interface Span {
	readonly startHi: number;
	readonly startLo: number;
	readonly endHi: number;
	readonly endLo: number;
}

export interface LockedRange extends Span {
	readonly state: LockState;
	readonly isWrite: boolean;
	/** In the tree of its file (range-tree.ts). */
	left: LockedRange | null;
	right: LockedRange | null;
	readonly priority: number;
	/** The greatest end below and including this one. */
	maxHi: number;
	maxLo: number;
}

export interface FileLocks {
	readers: LockedRange | null;
	writers: LockedRange | null;
	readonly waiters: LockWaiter[];
}

/** A lock that was denied and waits. */
export interface LockWaiter extends Span {
	/** It goes with this open. */
	readonly open: OpenState;
	/** Key of the lock owner, of the same client. */
	readonly owner: string;
	readonly isWrite: boolean;
	readonly until: number;
}
