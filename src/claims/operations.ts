// The contract between claims and the front ends: who has what open and locked.

import type { ClaimErrorCode } from "./errors.ts";

/** An id of a client, 64 bits in two halves: the boot counter of the server, and a number that is given once. */
export interface ClientId {
	readonly hi: number;
	readonly lo: number;
}

/** A stateid (RFC 8881 section 3.3.12): `other` is the three numbers of 32 bits behind the seqid, big-endian. */
export interface Stateid {
	readonly seqid: number;
	readonly boot: number;
	readonly index: number;
	readonly generation: number;
}

/** Bytes from `offset` on; a length of 2^64-1 is up to the end, however long the file gets. Zero, or a range beyond 2^64: "inval". */
export interface ByteRange {
	readonly offsetHi: number;
	readonly offsetLo: number;
	readonly lengthHi: number;
	readonly lengthLo: number;
}

/** What RFC 8881 section 3.3.10.1 calls client_owner4, and who sent it. */
export interface ClientOwner {
	readonly id: Uint8Array;
	/** Eight bytes. */
	readonly verifier: Uint8Array;
	/** Whoever may use this client id: flavor, uid and the like, as the front end writes them. */
	readonly principal: string;
	/** For people who look for two clients of one name. */
	readonly address: string;
}

export interface ExchangedId extends ClientId {
	/** For the first CREATE_SESSION; of no meaning once the id is confirmed. */
	readonly sequence: number;
	readonly isConfirmed: boolean;
}

/** One direction of a session (channel_attrs4). The front end has brought it within its own limits; claims lower two of the numbers. */
export interface ChannelAttributes {
	readonly headerPadBytes: number;
	readonly requestBytes: number;
	readonly responseBytes: number;
	/** Lowered to what a slot keeps. */
	readonly keptResponseBytes: number;
	readonly operations: number;
	/** Slots. Lowered to what is granted, never to none. */
	readonly requests: number;
}

export interface SessionRequest {
	readonly client: ClientId;
	/** csa_sequence. */
	readonly sequence: number;
	readonly principal: string;
	/** Flags that the front end grants, which come back in the result. */
	readonly flags: number;
	readonly fore: ChannelAttributes;
	readonly back: ChannelAttributes;
	readonly callbackProgram: number;
	/** csa_sec_parms, in any form: kept for the front end. */
	readonly callbackSecurity: Uint8Array;
}

export interface Client extends ClientId {
	readonly ownerId: Uint8Array;
	/** Who has made it. */
	readonly principal: string;
	readonly address: string;
	readonly isConfirmed: boolean;
	/** RECLAIM_COMPLETE was answered. */
	readonly hasReclaimed: boolean;
}

export interface Session {
	/** 16 bytes. Never written to. */
	readonly id: Uint8Array;
	readonly client: Client;
	readonly flags: number;
	readonly fore: ChannelAttributes;
	readonly back: ChannelAttributes;
	callbackProgram: number;
	callbackSecurity: Uint8Array;
	/** It is of before a failure of the host: nothing new runs in it. */
	readonly isDead: boolean;
	/** Bits of SEQ4_STATUS that the front end sets, as CB_PATH_DOWN: see `ClaimOperations.statusFlags`. Zero after a restart. */
	channelFlags: number;
}

/**
 * What is to be done with a request whose SEQUENCE was taken:
 * - "new": run it, then `finish`.
 * - "replay": send `reply` again.
 * - "rerun": it was taken before a restart, and its reply is not there any more. Run it again: changes that were made then are told by `answerOf`,
 *   and by the journal of the overlay; everything else is read anew. Then `finish`.
 * - "dead": as "rerun", in a session of before a failure of the host: a change without a remembered answer is not made. A request without any such answer
 *   does not come that far: "dead_session".
 */
export type SlotOutcome = "new" | "replay" | "rerun" | "dead";

/** A slot of a session while a request has it. */
export interface Slot {
	readonly session: Session;
	readonly number: number;
	/** Of the request that has it. */
	readonly sequence: number;
	readonly outcome: SlotOutcome;
	/** The kept reply, for "replay". */
	readonly reply: Uint8Array | null;
	/** For "rerun" and "dead": where it goes on, see `keepProgress`. */
	readonly progress: Uint8Array | null;
}

export interface SequenceArguments {
	readonly slot: number;
	readonly sequence: number;
	readonly highestSlot: number;
	readonly keepsReply: boolean;
	/**
	 * 64 bits made of the operations behind SEQUENCE: they tell a retry from another request under the same numbers, over a restart too. SEQUENCE itself does not
	 * count, since a client that has to ask again may name another highest slot.
	 */
	readonly digestHi: number;
	readonly digestLo: number;
	/** In a dead session: something other than claims knows what a change of this request was answered. */
	readonly isAnswered?: boolean;
}

/** Which operation of a request changes claims. */
export interface ClaimChange {
	readonly slot: Slot;
	/** Its place in the compound, 0 .. 255. */
	readonly operation: number;
}

/** OPEN4_SHARE_ACCESS_* and OPEN4_SHARE_DENY_*, as numbers of the protocol: 1 read, 2 write, 3 both; deny may be 0. */
export interface ShareMode {
	readonly access: number;
	readonly deny: number;
}

export interface OpenRequest extends ShareMode {
	/** Bytes of the open owner, of the session's client: the client id that arguments name does not count. */
	readonly owner: Uint8Array;
	readonly handle: Uint8Array;
	/** CLAIM_PREVIOUS. */
	readonly isReclaim: boolean;
}

export type LockType = "read" | "write";

export interface LockRequest extends ByteRange {
	readonly type: LockType;
	readonly handle: Uint8Array;
	readonly isReclaim: boolean;
	/** READW, WRITEW: it is remembered, and told by `ClaimHooks.mayBeGranted`. */
	readonly waits: boolean;
	/** By a new lock owner of an open, or by the stateid of one that has locks on this file already. */
	readonly by: { readonly open: Stateid; readonly owner: Uint8Array } | { readonly lock: Stateid };
}

/** The lock that is in the way. */
export interface LockConflict extends ByteRange {
	readonly type: LockType;
	readonly owner: Uint8Array;
	readonly client: ClientId;
}

export type LockResult = { readonly granted: Stateid } | { readonly denied: LockConflict };

/** The principal of clients that are the mounts of this host: they end with the host, keep no lease, and have nothing to reclaim. No front end has it for others. */
export const OF_HOST = "of this host";

/** Who asks for a lock on this host. */
export interface HostLocker {
	readonly handle: Uint8Array;
	/** The open file that is locked by it: its number. */
	readonly openFile: Uint8Array;
	/** Whose the lock is to be: a process, or an open file. */
	readonly owner: Uint8Array;
	readonly pid: number;
}

export interface HostLockConflict extends LockConflict {
	/** The process that has the lock; 0 where it is not one of this host, or not known. */
	readonly pid: number;
}

/** Locks as a mount on this host asks for them. Clients and mounts exclude each other. All calls throw `ClaimError`, or `Pending`: wait, then call again. */
export interface HostLockOperations {
	/** Whether it is granted. With `waits` it is in the end. */
	lock(by: HostLocker, type: LockType, range: ByteRange, waits: boolean): boolean;
	/** What is in the way; null: nothing. */
	test(by: HostLocker, type: LockType, range: ByteRange): HostLockConflict | null;
	/** Of an owner, a range or all. */
	unlock(handle: Uint8Array, owner: Uint8Array, range?: ByteRange): void;
	/** The open file is closed: all that was locked by it goes. */
	close(handle: Uint8Array, openFile: Uint8Array): void;
	/** The mount has ended, and all its locks go. */
	end(): void;
}

/** What a change of claims was answered before a restart. */
export interface ClaimAnswer {
	readonly kind: "open" | "downgrade" | "close" | "lock" | "unlock" | "free" | "reclaim_complete";
	/** The stateid of the answer; null for the last two. */
	readonly stateid: Stateid | null;
	/** The object, of "open": the name may lead elsewhere now. */
	readonly handle: Uint8Array | null;
}

/** What claims need of others. All are called within a call of `ClaimOperations`, or from `tick` or `defer`. */
export interface ClaimHooks {
	/** Milliseconds that only grow. */
	now(): number;
	/** Runs work in a later turn: setImmediate. */
	defer(work: () => void): void;
	/** The object stays though its last name goes; throws what the overlay's `hold` throws. Once for each object that is open. */
	hold(handle: Uint8Array): void;
	letGo(handle: Uint8Array): void;
	/** What was held before the start and is not claimed anew may go: grace is over. */
	endOfRestore(): void;
	/** A lock that was denied and waits may be granted now; the client has to ask again (CB_NOTIFY_LOCK). */
	mayBeGranted(client: Client, owner: Uint8Array, handle: Uint8Array): void;
	/** It was destroyed, or its client removed. */
	sessionRemoved(session: Session): void;
	/** A client with a living lease was replaced by one of the same owner id and another verifier: a restart, or two machines of one name. */
	clientReplaced(ownerId: Uint8Array, from: string, to: string): void;
	/** A sentence for who runs the server. */
	warn(sentence: string): void;
}

/**
 * Claims as front ends see them. Each call is complete, or changes nothing and throws: `ClaimError`, or `Pending` (vfs/errors.ts), where something must
 * reach the disk first: wait, then call again.
 *
 * Calls that take a `ClaimChange` are in the log before `finish` of their slot returns. For a "rerun" they give what was answered then, without a second change.
 * Objects are known by the bytes of their handles. Bytes given to a call are copied where they are kept.
 */
export interface ClaimOperations {
	/** 16 random bytes of this server, the same for ever: server owner and scope (RFC 8881 section 2.10.4). */
	readonly serverId: Uint8Array;
	readonly leaseSeconds: number;
	/** Whether claims outlive the process: CREATE_SESSION4_FLAG_PERSIST may be granted. */
	readonly isPersistent: boolean;
	/** OPEN and LOCK are for clients that reclaim. */
	readonly inGrace: boolean;
	/** In grace, and somebody who may reclaim had denied others a mode: READ and WRITE without an open are told "grace". */
	readonly isContentInGrace: boolean;

	/** EXCHANGE_ID, all cases of RFC 8881 section 18.35.4. `isUpdate`: EXCHGID4_FLAG_UPD_CONFIRMED_REC_A. "clid_inuse", "noent", "not_same", "perm", "delay". */
	exchangeId(owner: ClientOwner, isUpdate: boolean): ExchangedId;
	/**
	 * CREATE_SESSION with its one-deep replay: a repeated one gives the same session, or throws the same error. "stale_clientid", "seq_misordered",
	 * "clid_inuse", "nospc". `Pending` until the client is on disk.
	 */
	createSession(request: SessionRequest): { readonly session: Session; readonly sequence: number };
	/** "bad_session", also for a session of another principal. */
	destroySession(id: Uint8Array, principal: string): void;
	/** "stale_clientid", "clientid_busy" where it has sessions or state. */
	destroyClient(client: ClientId, principal: string): void;
	/** "bad_session". The bytes are not kept. */
	session(id: Uint8Array): Session;
	/** After BACKCHANNEL_CTL changed `callbackProgram` and `callbackSecurity`. */
	noteCallback(session: Session): void;
	sessionsOf(client: Client): Iterable<Session>;

	/**
	 * SEQUENCE, by RFC 8881 section 2.10.6.1. What can be refused beforehand (sizes, number of operations) is refused before this call: it takes the slot
	 * and renews the lease, or throws and does neither. "bad_slot", "bad_high_slot", "seq_misordered", "seq_false_retry", "retry_uncached_rep", "delay".
	 */
	sequence(session: Session, request: SequenceArguments): Slot;
	/** The request is done; its whole reply is copied if it is to be kept and fits. Frees the slot, whether anybody still waits for the reply or not. */
	finish(slot: Slot, reply: Uint8Array): void;
	/** Of a reply that the slot can keep; 0 where it is not to be kept. */
	keptBytes(slot: Slot): number;
	/** sr_status_flags: `channelFlags`, and what has happened to the state of the client. */
	statusFlags(session: Session): number;
	/** To be called before the first change that a request makes to anything but claims. After a restart its retry is a "rerun". */
	willChange(slot: Slot): void;
	/**
	 * To be called before a change that comes after the request has looked at anything: after a restart its retry gets these bytes, and then need not look
	 * again at what the change may have made otherwise. Null: they are too many, and its retry is told "retry_uncached_rep".
	 */
	keepProgress(slot: Slot, bytes: Uint8Array | null): void;
	/** Resolves when all that was told so far of clients, sessions and progress is on disk; null: it is. */
	flush(): Promise<void> | null;
	/** What this change was answered before a restart; null: it was not made, or the outcome is "new". */
	answerOf(change: ClaimChange): ClaimAnswer | null;
	/**
	 * Whether an operation behind this one was answered before a restart, with that stateid if one is given: then this one was done, whatever it finds now.
	 */
	isAnsweredBehind(change: ClaimChange, stateid?: Stateid): boolean;

	/**
	 * Before an OPEN changes anything: "grace", "no_grace", "reclaim_bad", "nospc", "dquot", `Pending` until the client stands in the list on disk of who
	 * may reclaim. An `open` after it in the same pass is not refused for these.
	 */
	prepareOpen(slot: Slot, isReclaim: boolean, deny: number): void;
	/** Of an object that exists: "share_denied", or `Pending` where an expired client has to lose its state first. */
	checkShare(handle: Uint8Array, mode: ShareMode): void;
	/** Opens, or upgrades the owner's open. Checks by itself what the two calls above check. */
	open(change: ClaimChange, request: OpenRequest): Stateid;
	/** OPEN_DOWNGRADE. "inval" unless opens of this owner add up to that mode. */
	downgrade(change: ClaimChange, stateid: Stateid, handle: Uint8Array, mode: ShareMode): Stateid;
	/** CLOSE: the locks of the open go too. The stateid of the answer is of no use. */
	close(change: ClaimChange, stateid: Stateid, handle: Uint8Array): Stateid;
	/** READ, WRITE, SETATTR of a size by a stateid of an open or a lock: "openmode", "bad_stateid", "old_stateid", "expired". */
	checkContent(client: Client, stateid: Stateid, handle: Uint8Array, access: number): void;
	/** By a special stateid: "locked" where an open denies it, "grace". */
	checkAnonymous(handle: Uint8Array, access: number): void;

	lock(change: ClaimChange, request: LockRequest): LockResult;
	/** LOCKT: null where it would be granted. */
	lockTest(client: Client, owner: Uint8Array, handle: Uint8Array, type: LockType, range: ByteRange): LockConflict | null;
	/** LOCKU. */
	unlock(change: ClaimChange, stateid: Stateid, handle: Uint8Array, range: ByteRange): Stateid;
	/** TEST_STATEID: null where it is good. */
	testStateid(client: Client, stateid: Stateid): ClaimErrorCode | null;
	/** FREE_STATEID. "locks_held" for an open, and for locks that are held. */
	freeStateid(change: ClaimChange, stateid: Stateid): void;
	/** RECLAIM_COMPLETE; with `oneFileSystem` it ends nothing. "complete_already". */
	reclaimComplete(change: ClaimChange, oneFileSystem: boolean): void;

	/** Handles that were open before the start, for `restoreHolds` of the overlays: before any request is taken. Some may be gone by now. */
	heldHandles(): Iterable<Uint8Array>;
	/** To be called each second: leases, grace, and what waits. */
	tick(): void;
	/** All is on disk, with the replies of slots: the next start goes on from there, after a boot too. Nothing may be called afterwards. */
	shutDown(): void;
	/** The end at once: what is on disk is as if the process had been killed. */
	destroy(): void;
}
