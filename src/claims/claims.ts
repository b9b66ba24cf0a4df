// Who has what open and locked: the face of this room, which puts tables, rules, log and grace together.

import { Pending } from "../vfs/errors.ts";
import type { AnsweredChange, ClaimLog } from "./claim-log.ts";
import { Clients, keyOf } from "./clients.ts";
import { ClaimError, type ClaimErrorCode } from "./errors.ts";
import { Grace } from "./grace.ts";
import type { ClaimLimits } from "./limits.ts";
import { addWaiter, conflictOf, planLock, rangeOf, removeWaiter, spanOf, takeReadyWaiters } from "./locks.ts";
import { checkMode, conflictsWith, downgraded, hasConflict, modeBit, setModes } from "./opens.ts";
import type {
	ByteRange,
	ClaimAnswer,
	ClaimChange,
	ClaimHooks,
	ClaimOperations,
	Client,
	ClientId,
	ClientOwner,
	ExchangedId,
	LockConflict,
	LockRequest,
	LockResult,
	LockType,
	OpenRequest,
	SequenceArguments,
	Session,
	SessionRequest,
	ShareMode,
	Slot,
	Stateid,
} from "./operations.ts";
import { OF_HOST } from "./operations.ts";
import { locksOf, openOf } from "./owners.ts";
import type {
	AnyState,
	ClientRecord,
	FileRecord,
	LockedRange,
	LockState,
	OpenState,
	SessionRecord,
	SlotAnswer,
	SlotRecord,
	Span,
	StateRecord,
} from "./records.ts";
import type { RecoveryList } from "./recovery-list.ts";
import { Sessions } from "./sessions.ts";
import { nextSeqid } from "./stateids.ts";
import { ClaimTables } from "./tables.ts";

/** SEQ4_STATUS_EXPIRED_ALL_STATE_REVOKED (RFC 8881 section 18.46.1). */
const ALL_STATE_REVOKED = 0x8;
/** Room in the log for what opens or locks something and for what takes it back. */
const RECORD_BYTES = 2048;
/** Splitting a range must not fail where unlocking does it: beyond the limit by so many. */
const SPLIT_SLACK = 1 / 8;
/** Objects that are let go in one turn. */
const LET_GO_MAX = 100;
/** Opens, locks and stateids of a client that has gone that are taken away in one turn: less than a millisecond. */
const DROPPED_MAX = 1000;
/** No good stateid: what CLOSE answers (RFC 8881 section 18.2.4). */
const NO_STATEID: Stateid = { seqid: 0xffffffff, boot: 0, index: 0, generation: 0 };

export interface ClaimParts {
	readonly serverId: Uint8Array;
	readonly boot: number;
	readonly leaseSeconds: number;
	readonly limits: ClaimLimits;
	readonly hooks: ClaimHooks;
	readonly log: ClaimLog;
	readonly list: RecoveryList;
	readonly isPersistent: boolean;
	/** Clients of the last boot that had state, and whether they denied others a mode. */
	readonly listed: ReadonlyMap<string, boolean>;
}

export class Claims implements ClaimOperations {
	readonly serverId: Uint8Array;
	readonly leaseSeconds: number;
	readonly isPersistent: boolean;
	readonly tables: ClaimTables;
	readonly sessions: Sessions;
	readonly clients: Clients;
	readonly grace: Grace;
	readonly #limits: ClaimLimits;
	readonly #hooks: ClaimHooks;
	readonly #log: ClaimLog;
	readonly #list: RecoveryList;
	/** While the tables are made of the log, nothing is held: the front end is told at once. */
	#isRestoring = false;
	#hasEndedRestore = false;
	/** While a client goes with all it has; and the objects that nobody has open since. */
	#isLeaving = false;
	readonly #leaving: FileRecord[] = [];
	/** Clients that have gone, while they still have something. */
	readonly #gone = new Set<ClientRecord>();
	#isEnded = false;

	constructor(parts: ClaimParts) {
		const { hooks, limits, log, list, leaseSeconds } = parts;
		this.serverId = parts.serverId;
		this.leaseSeconds = leaseSeconds;
		this.isPersistent = parts.isPersistent;
		this.#limits = limits;
		this.#hooks = hooks;
		this.#log = log;
		this.#list = list;
		this.tables = new ClaimTables(parts.boot, {
			now: () => hooks.now(),
			hold: (file) => {
				if (!this.#isRestoring) hooks.hold(handleOf(file));
			},
			letGo: (file) => {
				if (!this.#isRestoring) this.#letGo(file);
			},
			unlocked: (file) => this.#tellWaiters(file),
			sessionRemoved: (session) => {
				this.sessions.noteRemoved(session);
				if (!this.#isRestoring) hooks.sessionRemoved(session);
			},
		});
		this.sessions = new Sessions(this.tables, limits, log);
		this.clients = new Clients(this.tables, this.sessions, limits, leaseSeconds, log, {
			now: () => hooks.now(),
			clientReplaced: (ownerId, from, to) => hooks.clientReplaced(ownerId, from, to),
			remove: (client) => this.#remove(client),
		});
		this.grace = new Grace(list, parts.listed, leaseSeconds + limits.graceExtraSeconds, {
			now: () => hooks.now(),
			listed: () => this.#listed(),
			ended: () => this.#endRestore(),
			warn: (sentence) => hooks.warn(sentence),
		});
	}

	/** Makes the tables of what the log says: `act` calls them. */
	restore(act: () => void): void {
		this.#isRestoring = true;
		try {
			act();
			this.tables.states.restored();
		} finally {
			this.#isRestoring = false;
		}
	}

	/** Who has reclaimed before a restart within grace has nothing to reclaim any more. `attach`: from then on the log is written. */
	begin(attach: () => void): void {
		attach();
		for (const client of this.tables.confirmed.values()) if (client.hasReclaimed) this.grace.complete(client);
	}

	now(): number {
		return this.#hooks.now();
	}

	get inGrace(): boolean {
		return !this.grace.isOver;
	}

	get isContentInGrace(): boolean {
		return this.grace.isContentHeld;
	}

	exchangeId(owner: ClientOwner, isUpdate: boolean): ExchangedId {
		return this.clients.exchangeId(owner, isUpdate);
	}

	createSession(request: SessionRequest): { readonly session: Session; readonly sequence: number } {
		if (request.callbackSecurity.length > this.#limits.callbackSecurityBytes)
			throw new ClaimError("inval", "The callback security is too long");
		// made at once, so that the call after the wait is a repetition of this one
		const session = this.clients.createSession(request);
		waitFor(this.#log.flush());
		return { session, sequence: request.sequence };
	}

	destroySession(id: Uint8Array, principal: string): void {
		const session = this.sessions.find(id);
		if (session.client.principal !== principal) throw new ClaimError("bad_session", "The session is another principal's");
		this.sessions.remove(session);
	}

	destroyClient(client: ClientId, principal: string): void {
		const found = this.clients.find(client);
		this.clients.destroy(client, principal);
		if (found !== null) this.grace.complete(found);
	}

	/** The client has ended, and will not come back: all it has goes. */
	endClient(client: ClientRecord): void {
		if (!client.isGone) this.#remove(client);
	}

	session(id: Uint8Array): SessionRecord {
		return this.sessions.find(id);
	}

	noteCallback(session: Session): void {
		this.#log.session(session as SessionRecord);
	}

	sessionsOf(client: Client): Iterable<Session> {
		return (client as ClientRecord).sessions;
	}

	sequence(session: Session, request: SequenceArguments): Slot {
		const record = session as SessionRecord;
		const slot = this.sessions.take(record, request);
		if (!record.isDead) this.clients.renew(record.client);
		return slot;
	}

	finish(slot: Slot, reply: Uint8Array): void {
		this.sessions.finish(slot as SlotRecord, reply);
		this.#log.settle();
	}

	keptBytes(slot: Slot): number {
		return (slot as SlotRecord).keepsReply ? slot.session.fore.keptResponseBytes : 0;
	}

	statusFlags(session: Session): number {
		const { client, channelFlags } = session as SessionRecord;
		if (!client.hasLost) return channelFlags;
		if (client.toldLostAt === 0) client.toldLostAt = this.#hooks.now();
		return (channelFlags | ALL_STATE_REVOKED) >>> 0;
	}

	willChange(slot: Slot): void {
		const record = slot as SlotRecord;
		if (record.session.isDead) return;
		if (!record.isLogged) {
			record.isLogged = true;
			this.#log.slot(record);
		}
		// a kill may come between the change and the end of the request
		if (record.progress !== null || record.isReplyLogged) this.#log.settle();
	}

	keepProgress(slot: Slot, bytes: Uint8Array | null): void {
		const record = slot as SlotRecord;
		if (record.session.isDead) return;
		record.progress = bytes;
		record.isLogged = true;
		if (bytes !== null) this.#log.progress(record, bytes);
		else {
			record.isReplyLogged = true;
			this.#log.reply(record);
		}
	}

	flush(): Promise<void> | null {
		return this.#log.flush();
	}

	answerOf({ slot, operation }: ClaimChange): ClaimAnswer | null {
		const answer = answersBefore(slot).find((each) => each.operation === operation);
		if (answer === undefined) return null;
		const { kind, file } = answer;
		const hasStateid = kind !== "free" && kind !== "reclaim_complete";
		// of another boot where the session is
		const boot = slot.session.client.hi;
		const stateid = kind === "close" ? NO_STATEID : hasStateid ? { ...this.tables.states.of(answer), boot } : null;
		return { kind, stateid, handle: kind === "open" ? Buffer.from(file, "latin1") : null };
	}

	isAnsweredBehind({ slot, operation }: ClaimChange, stateid: Stateid | null = null): boolean {
		return answersBefore(slot).some(
			(each) =>
				each.operation > operation && (stateid === null || (each.index === stateid.index && each.generation === stateid.generation)),
		);
	}

	prepareOpen(slot: Slot, isReclaim: boolean, deny: number): void {
		const client = clientOf(slot);
		this.#demandGrace(client, isReclaim);
		if (!isReclaim) this.#demandReclaimed(client);
		if (client.opens >= this.#limits.opensPerClient) throw new ClaimError("nospc", "The client has too many opens");
		const isFull = () => this.tables.opens >= this.#limits.opens;
		this.#makePlace(isFull, client, "nospc", (each) => each.opens > 0);
		this.#log.makeRoom(RECORD_BYTES);
		waitFor(this.#list.struck());
		if (!isReclaim && client.principal !== OF_HOST) waitFor(this.#list.demand(client.listKey, deny !== 0));
	}

	checkShare(handle: Uint8Array, mode: ShareMode): void {
		checkMode(mode);
		const file = this.tables.files.get(keyOf(handle));
		if (file === undefined) return;
		this.#makeWay(file, mode, "share_denied");
		waitFor(this.#list.struck());
	}

	open(change: ClaimChange, request: OpenRequest): Stateid {
		const known = this.answerOf(change);
		if (known?.stateid) return known.stateid;
		checkMode(request);
		this.#checkOwner(request.owner);
		const client = clientOf(change.slot);
		this.prepareOpen(change.slot, request.isReclaim, request.deny);
		const key = keyOf(request.handle);
		const found = this.tables.files.get(key);
		if (found !== undefined) this.#makeWay(found, request, request.isReclaim ? "reclaim_conflict" : "share_denied");
		waitFor(this.#list.struck());
		const ownerKey = keyOf(request.owner);
		// it may have gone with a client that made way
		const file = this.tables.file(key);
		const old = openOf(client.openOwners.get(ownerKey), file);
		const open = old ?? this.tables.addOpen(client, ownerKey, file, modeBit(request));
		if (old !== null) {
			setModes(old, old.modes | modeBit(request));
			old.seqid = nextSeqid(old.seqid);
		}
		this.#log.open(answered(change, "open", open, key), open);
		return this.tables.states.of(open);
	}

	downgrade(change: ClaimChange, stateid: Stateid, handle: Uint8Array, mode: ShareMode): Stateid {
		const known = this.answerOf(change);
		if (known?.stateid) return known.stateid;
		const open = this.#findOpen(clientOf(change.slot), stateid, handle);
		setModes(open, downgraded(open.modes, mode));
		open.seqid = nextSeqid(open.seqid);
		this.#log.open(answered(change, "downgrade", open), open);
		return this.tables.states.of(open);
	}

	close(change: ClaimChange, stateid: Stateid, handle: Uint8Array): Stateid {
		if (this.answerOf(change) !== null) return NO_STATEID;
		const open = this.#findOpen(clientOf(change.slot), stateid, handle);
		this.#log.close(answered(change, "close", open), open);
		this.tables.removeOpen(open);
		return NO_STATEID;
	}

	checkContent(client: Client, stateid: Stateid, handle: Uint8Array, access: number): void {
		const state = this.#findHeld(client as ClientRecord, stateid, handle);
		const open = state.kind === "lock" ? state.open : state;
		if ((open.access & access) !== access) throw new ClaimError("openmode", "It was not opened for that");
	}

	checkAnonymous(handle: Uint8Array, access: number): void {
		if (this.grace.isContentHeld) throw new ClaimError("grace", "Clients reclaim what they had before the server failed");
		const file = this.tables.files.get(keyOf(handle));
		if (file === undefined) return;
		this.#makeWay(file, { access, deny: 0 }, "locked");
		waitFor(this.#list.struck());
	}

	lock(change: ClaimChange, request: LockRequest): LockResult {
		const known = this.answerOf(change);
		if (known?.stateid) return { granted: known.stateid };
		const span = spanOf(request);
		const isWrite = request.type === "write";
		const client = clientOf(change.slot);
		const { open, ownerKey } = this.#lockOwner(client, request);
		this.#demandGrace(client, request.isReclaim);
		if ((open.access & (isWrite ? 2 : 1)) === 0) throw new ClaimError("openmode", "It was not opened for that");
		const { file } = open;
		const owner = client.lockOwners.get(ownerKey);
		const conflict = this.#conflict(client, file, span, isWrite, owner ?? null);
		if (conflict !== null) return this.#denied(request, open, ownerKey, span, conflict);
		const old = locksOf(owner, file);
		this.#demandLockRoom(client, old, span, isWrite);
		this.#makeLockRoom();
		waitFor(this.#list.struck());
		const state = old ?? this.tables.addLockState(open, ownerKey);
		this.tables.setLock(state, span, isWrite);
		state.seqid = nextSeqid(state.seqid);
		removeWaiter(file, client, ownerKey);
		this.#log.lock(answered(change, "lock", state), state, span, isWrite, old === null);
		if (!isWrite) this.#tellWaiters(file);
		return { granted: this.tables.states.of(state) };
	}

	lockTest(client: Client, owner: Uint8Array, handle: Uint8Array, type: LockType, range: ByteRange): LockConflict | null {
		const span = spanOf(range);
		this.#checkOwner(owner);
		this.grace.demandOver();
		const record = client as ClientRecord;
		const file = this.tables.files.get(keyOf(handle));
		if (file === undefined) return null;
		const conflict = this.#conflict(record, file, span, type === "write", record.lockOwners.get(keyOf(owner)) ?? null);
		return conflict === null ? null : told(conflict);
	}

	unlock(change: ClaimChange, stateid: Stateid, handle: Uint8Array, range: ByteRange): Stateid {
		const known = this.answerOf(change);
		if (known?.stateid) return known.stateid;
		const span = spanOf(range);
		const client = clientOf(change.slot);
		const state = this.#findHeld(client, stateid, handle);
		if (state.kind !== "lock") throw new ClaimError("bad_stateid", "The stateid is none of locks");
		const grows = planLock(state, span, null);
		const most = this.#limits.locksPerClient * (1 + SPLIT_SLACK);
		if (grows.added.length > grows.removed && client.locks >= most) throw new ClaimError("delay", "The client has too many locks");
		this.tables.setLock(state, span, null);
		state.seqid = nextSeqid(state.seqid);
		this.#log.lock(answered(change, "unlock", state), state, span, null, false);
		this.#tellWaiters(state.file);
		return this.tables.states.of(state);
	}

	testStateid(client: Client, stateid: Stateid): ClaimErrorCode | null {
		try {
			this.#find(client as ClientRecord, stateid);
			return null;
		} catch (error) {
			if (error instanceof ClaimError) return error.code;
			throw error;
		}
	}

	freeStateid(change: ClaimChange, stateid: Stateid): void {
		if (this.answerOf(change) !== null) return;
		const client = clientOf(change.slot);
		const state = this.tables.states.find(stateid);
		if (isLost(state, client)) throw new ClaimError("delay", "What was lost is still being taken away");
		if (ownerClient(state) !== client) throw new ClaimError("bad_stateid", "The stateid is another client's");
		if (state.kind === "open" || (state.kind === "lock" && state.ranges.length > 0)) {
			throw new ClaimError("locks_held", "The stateid stands for what is open or locked");
		}
		if (state.kind === "lock") this.tables.removeLockState(state);
		else this.tables.removeRevoked(state);
		this.#log.freed(answered(change, "free", state), state);
	}

	reclaimComplete(change: ClaimChange, oneFileSystem: boolean): void {
		if (oneFileSystem || this.answerOf(change) !== null) return;
		const client = clientOf(change.slot);
		if (client.hasReclaimed) throw new ClaimError("complete_already", "The client has said so before");
		client.hasReclaimed = true;
		this.#log.reclaimed(answered(change, "reclaim_complete", null), client);
		this.grace.complete(client);
	}

	*heldHandles(): Iterable<Uint8Array> {
		for (const file of this.tables.files.values()) yield handleOf(file);
	}

	tick(): void {
		const now = this.#hooks.now();
		this.clients.dropUnconfirmed();
		for (const client of this.tables.confirmed.values()) this.#age(client, now);
		for (const session of this.sessions.dead.values()) if (session.forgetAt <= now) this.sessions.remove(session);
		this.grace.tick();
		if (this.grace.isOver) this.#endRestore();
		this.#log.tick();
	}

	shutDown(): void {
		this.#isEnded = true;
		this.#log.shutDown();
	}

	destroy(): void {
		this.#isEnded = true;
		this.#log.destroy();
	}

	#age(aged: ClientRecord, now: number): void {
		if (aged.principal === OF_HOST) return;
		let client = aged;
		const silent = now - client.renewed;
		const courtesy = this.#limits.courtesySeconds * 1000;
		const lease = this.leaseSeconds * 1000;
		if (silent > lease + courtesy && client.opens > 0) client = this.#revoke(client);
		if (silent > lease + 2 * courtesy) this.#remove(client);
		else if (client.opens === 0 && now - client.idleSince > lease && this.grace.isOver) this.#list.drop(client.listKey);
		// a client that does not free what it has lost is not told for ever
		if (client.hasLost && client.toldLostAt !== 0 && now - client.toldLostAt > lease) {
			this.#forgetRevoked(client);
			client.hasLost = false;
		}
	}

	#forgetRevoked(client: ClientRecord): void {
		this.#noteForgotten(client);
		this.tables.forgetRevoked(client);
	}

	/** From now on stateids of what the client has lost so far stand for nothing, also of what is not taken away yet. */
	#noteForgotten(client: ClientRecord): void {
		let hasAny = client.revoked.size > 0;
		for (const gone of this.#gone) {
			if (gone.successor !== client) continue;
			gone.successor = null;
			hasAny = true;
		}
		if (hasAny) this.#log.revokedForgotten(client);
	}

	/** In grace all that was held before stays. */
	#endRestore(): void {
		if (this.#hasEndedRestore) return;
		this.#hasEndedRestore = true;
		this.#log.graceEnded();
		this.#hooks.endOfRestore();
	}

	/** Letting an object go may take the disk a while: where a client leaves with many, they go a few at a time. */
	#letGo(file: FileRecord): void {
		if (!this.#isLeaving) {
			// an object that is gone must not stand in the log as open
			this.#log.settle();
			this.#hooks.letGo(handleOf(file));
			return;
		}
		this.#leaving.push(file);
		if (this.#leaving.length === 1) this.#hooks.defer(() => this.#letSomeGo());
	}

	#letSomeGo(): void {
		if (this.#isEnded) return;
		for (const file of this.#leaving.splice(-LET_GO_MAX)) this.#hooks.letGo(handleOf(file));
		if (this.#leaving.length > 0) this.#hooks.defer(() => this.#letSomeGo());
	}

	#leave(act: () => void): void {
		this.#isLeaving = true;
		try {
			act();
		} finally {
			this.#isLeaving = false;
		}
	}

	#listed(): ReadonlyMap<string, boolean> {
		const listed = new Map<string, boolean>();
		for (const client of this.tables.confirmed.values()) {
			if (client.opens > 0 && client.principal !== OF_HOST) listed.set(client.listKey, deniesAnything(client));
		}
		return listed;
	}

	#remove(client: ClientRecord): void {
		this.#noteForgotten(client);
		this.#log.clientGone(client);
		this.tables.retire(client);
		if (client.isConfirmed && this.grace.isOver) this.#list.drop(client.listKey);
		this.#takeAway(client);
	}

	/** What it has, some at a time. */
	#takeAway(client: ClientRecord): void {
		this.#gone.add(client);
		if (this.#gone.size === 1) this.#dropSome();
	}

	#dropSome(): void {
		if (this.#isEnded) return;
		this.#dropSomeGone();
		if (this.#gone.size > 0) this.#hooks.defer(() => this.#dropSome());
	}

	#dropSomeGone(): void {
		for (const client of this.#gone) {
			this.#leave(() => {
				if (this.tables.dropSome(client, DROPPED_MAX)) this.#gone.delete(client);
			});
			// where there are too many of such stateids they are bad ones from now on
			if (client.successor === null || this.tables.revoked <= this.#limits.opens) return;
			this.#forgetRevoked(client.successor);
			client.successor.hasLost = true;
			return;
		}
	}

	#dropGoneWhile(isFull: () => boolean): void {
		while (this.#gone.size > 0 && isFull()) this.#dropSomeGone();
	}

	/**
	 * The client loses its opens and locks, and its place in the list before anybody is given them: see `RecoveryList.struck`. From now on what it had is in nobody's
	 * way, and is taken away as what a client had that has gone. The client as it is now.
	 */
	#revoke(client: ClientRecord): ClientRecord {
		this.#noteForgotten(client);
		this.#log.revoked(client);
		const successor = this.tables.succeed(client);
		successor.hasLost = true;
		successor.toldLostAt = 0;
		this.#list.strike(client.listKey);
		this.#takeAway(client);
		return successor;
	}

	/** At a limit: what nobody has any more goes, then somebody whose lease is over makes room, or the request is refused. */
	#makePlace(isFull: () => boolean, besides: ClientRecord, code: ClaimErrorCode, suits: (client: ClientRecord) => boolean): void {
		this.#dropGoneWhile(isFull);
		if (!isFull()) return;
		const expired = this.clients.longestExpired(besides, suits);
		if (expired === null) throw new ClaimError(code, "The server has too much to remember");
		this.#revoke(expired);
		this.#dropGoneWhile(isFull);
	}

	#demandGrace(client: ClientRecord, isReclaim: boolean): void {
		if (isReclaim) this.grace.demandReclaim(client);
		else this.grace.demandOver();
	}

	/** Not for ever: a client that never says so is told nothing else in its way. */
	#demandReclaimed(client: ClientRecord): void {
		if (client.hasReclaimed || client.principal === OF_HOST || this.#hooks.now() - client.since >= this.#limits.reclaimFirstSeconds * 1000)
			return;
		throw new ClaimError("grace", "The client has not said that it reclaims nothing");
	}

	#checkOwner(owner: Uint8Array): void {
		if (owner.length > this.#limits.ownerBytes) throw new ClaimError("inval", "The owner is too long");
	}

	/** Opens of expired clients that are in the way of a mode go. The error where others are. */
	#makeWay(file: FileRecord, mode: ShareMode, code: ClaimErrorCode): void {
		if (!hasConflict(file, mode)) return;
		const expired = new Set<ClientRecord>();
		for (let open = file.firstOpen; open !== null; open = open.nextInFile) {
			const { client } = open.owner;
			if (client.isGone || !conflictsWith(open, mode)) continue;
			if (!this.clients.isExpired(client)) throw new ClaimError(code, "Somebody has it open in a mode that is in the way");
			expired.add(client);
		}
		for (const client of expired) this.#revoke(client);
		const left: OpenState[] = [];
		for (let open = file.firstOpen; open !== null; open = open.nextInFile) {
			if (open.owner.client.isGone && conflictsWith(open, mode)) left.push(open);
		}
		for (const open of left) this.tables.takeAway(open);
	}

	#conflict(client: ClientRecord, file: FileRecord, span: Span, isWrite: boolean, owner: LockState["owner"] | null): LockedRange | null {
		for (;;) {
			const conflict = conflictOf(file, span, isWrite, owner);
			if (conflict === null) return null;
			const holder = conflict.state.owner.client;
			if (holder.isGone) {
				this.tables.takeLocksAway(conflict.state);
				continue;
			}
			if (holder === client || !this.clients.isExpired(holder)) return conflict;
			this.#revoke(holder);
		}
	}

	#denied(request: LockRequest, open: OpenState, ownerKey: string, span: Span, conflict: LockedRange): LockResult {
		if (request.isReclaim) throw new ClaimError("reclaim_conflict", "Somebody else has that lock");
		if (request.waits) {
			const until = this.#hooks.now() + this.#limits.waitSeconds * 1000;
			const waiter = { ...span, open, owner: ownerKey, isWrite: request.type === "write", until };
			addWaiter(open.file, waiter, this.#limits.waitersPerFile, this.#limits.waitersPerClient);
		}
		return { denied: told(conflict) };
	}

	#lockOwner(client: ClientRecord, { by, handle }: LockRequest): { readonly open: OpenState; readonly ownerKey: string } {
		if ("open" in by) {
			this.#checkOwner(by.owner);
			return { open: this.#findOpen(client, by.open, handle), ownerKey: keyOf(by.owner) };
		}
		const state = this.#findHeld(client, by.lock, handle);
		if (state.kind !== "lock") throw new ClaimError("bad_stateid", "The stateid is none of locks");
		return { open: state.open, ownerKey: state.owner.key };
	}

	/** No error of NFSv4.1 says that there are too many locks: "delay". */
	#demandLockRoom(client: ClientRecord, old: LockState | null, span: Span, isWrite: boolean): void {
		const { locks, locksPerClient } = this.#limits;
		const grown = old === null ? 1 : growthOf(old, span, isWrite);
		if (grown <= 0) return;
		if (client.locks + grown > locksPerClient || client.lockStates + (old === null ? 1 : 0) > locksPerClient) {
			throw new ClaimError("delay", "The client has too many locks");
		}
		const isFull = () => this.tables.locks + grown > locks || this.tables.lockStates >= locks;
		this.#makePlace(isFull, client, "delay", (each) => each.lockStates > 0);
	}

	/** Neither may a LOCK be told that there is no room on the disk. */
	#makeLockRoom(): void {
		try {
			this.#log.makeRoom(RECORD_BYTES);
		} catch (error) {
			if (!(error instanceof ClaimError)) throw error;
			throw new ClaimError("delay", error.message);
		}
	}

	#tellWaiters(file: FileRecord): void {
		if (file.locks === null || file.locks.waiters.length === 0 || this.#isRestoring) return;
		takeReadyWaiters(file, this.#hooks.now(), ({ open, owner }) => {
			if (!open.owner.client.isGone) this.#hooks.mayBeGranted(open.owner.client, Buffer.from(owner, "latin1"), handleOf(file));
		});
	}

	/** What the client's stateid stands for: "bad_stateid", "old_stateid", "expired". */
	#find(client: ClientRecord, stateid: Stateid): OpenState | LockState {
		const state = this.tables.states.find(stateid);
		const lost = isLost(state, client);
		if (!lost && ownerClient(state) !== client) throw new ClaimError("bad_stateid", "The stateid is another client's");
		if (lost || state.kind === "revoked") throw new ClaimError("expired", "It was lost when the lease had expired");
		return state;
	}

	/** Of this object. */
	#findHeld(client: ClientRecord, stateid: Stateid, handle: Uint8Array): OpenState | LockState {
		const state = this.#find(client, stateid);
		if (!isKeyOf(state.file.key, handle)) throw new ClaimError("bad_stateid", "The stateid is of another object");
		return state;
	}

	#findOpen(client: ClientRecord, stateid: Stateid, handle: Uint8Array): OpenState {
		const state = this.#findHeld(client, stateid, handle);
		if (state.kind !== "open") throw new ClaimError("bad_stateid", "The stateid is none of an open");
		return state;
	}
}

function waitFor(ready: Promise<void> | null): void {
	if (ready !== null) throw new Pending(ready);
}

/** "dead_session" in one of before a failure of the host, and in a request that was still running when its client went: nothing new is claimed by it. */
function clientOf(slot: Slot): ClientRecord {
	const { session } = slot as SlotRecord;
	if (session.isDead) throw new ClaimError("dead_session", "The session is of before the server failed");
	if (session.client.isGone) throw new ClaimError("dead_session", "The client has gone");
	return session.client;
}

/** What the changes of a request were answered before a restart. */
function answersBefore(slot: Slot): readonly SlotAnswer[] {
	const isRepeated = slot.outcome === "rerun" || slot.outcome === "dead";
	return (isRepeated ? (slot as SlotRecord).answers : null) ?? NO_ANSWERS;
}

const NO_ANSWERS: readonly SlotAnswer[] = [];

function ownerClient(state: AnyState): ClientRecord {
	return state.kind === "revoked" ? state.client : state.owner.client;
}

/** Whether the client has lost it, though it is not taken away yet. */
function isLost(state: AnyState, client: ClientRecord): boolean {
	return state.kind !== "revoked" && state.owner.client.successor === client;
}

/** Notes with the slot what the change is answered. */
function answered({ slot, operation }: ClaimChange, kind: SlotAnswer["kind"], state: StateRecord | null, file = ""): AnsweredChange {
	const record = slot as SlotRecord;
	const answer: SlotAnswer = {
		operation,
		kind,
		seqid: state?.seqid ?? 0,
		index: state?.index ?? 0,
		generation: state?.generation ?? 0,
		file,
	};
	record.answers ??= [];
	record.answers.push(answer);
	record.isLogged = true;
	return { slot: record, answer };
}

function told({ state, isWrite, ...span }: LockedRange): LockConflict {
	const { key, client } = state.owner;
	return {
		...rangeOf(span),
		type: isWrite ? "write" : "read",
		owner: Buffer.from(key, "latin1"),
		client: { hi: client.hi, lo: client.lo },
	};
}

function growthOf(state: LockState, span: Span, isWrite: boolean): number {
	const { added, removed } = planLock(state, span, isWrite);
	return added.length - removed;
}

function deniesAnything(client: ClientRecord): boolean {
	for (const owner of client.openOwners.values()) {
		for (let open = owner.first; open !== null; open = open.nextOfOwner) if (open.deny !== 0) return true;
	}
	return false;
}

function handleOf({ key }: FileRecord): Buffer {
	return Buffer.from(key, "latin1");
}

function isKeyOf(key: string, bytes: Uint8Array): boolean {
	if (key.length !== bytes.length) return false;
	for (let i = 0; i < bytes.length; i++) if (key.charCodeAt(i) !== bytes[i]) return false;
	return true;
}
