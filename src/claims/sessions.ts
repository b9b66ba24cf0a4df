// Sessions and the rules of their slots (RFC 8881 section 2.10.6).

import { randomBytes } from "node:crypto";
import type { ClaimLog } from "./claim-log.ts";
import { ClaimError } from "./errors.ts";
import type { ClaimLimits } from "./limits.ts";
import type { SequenceArguments, SessionRequest } from "./operations.ts";
import type { ClientRecord, SessionRecord, SlotRecord } from "./records.ts";
import type { ClaimTables } from "./tables.ts";

const SESSION_ID_BYTES = 16;
/** Of the room for replies that nobody has, so much is given to one session at most: whoever comes later finds some too. */
const SHARE = 1 / 8;
/** Of what the changes of a request were answered, so much is kept with its slot: of a request with more of them the log is given the reply. */
const ANSWERS_MAX = 8;
/** Progress up to this stays with its slot; of a request with more of it the log is given the reply too. */
const PROGRESS_KEPT_BYTES = 512;
/** What a slot takes besides its reply. */
const SLOT_BYTES = 1024;

/** Makes, finds and removes sessions, and keeps within the room for their replies. */
export class Sessions {
	readonly #tables: ClaimTables;
	readonly #limits: ClaimLimits;
	readonly #log: ClaimLog;
	/** Sessions of before a failure of the host, by their ids (hex). */
	readonly dead = new Map<string, SessionRecord>();
	nextIndex = 1;
	/** Kept for the one slot that a session has at least: see `#room`. */
	#reservedBytes = 0;

	constructor(tables: ClaimTables, limits: ClaimLimits, log: ClaimLog) {
		this.#tables = tables;
		this.#limits = limits;
		this.#log = log;
	}

	get reservedBytes(): number {
		return this.#reservedBytes;
	}

	make(client: ClientRecord, request: SessionRequest): SessionRecord {
		const index = this.nextIndex;
		const id = Buffer.allocUnsafeSlow(SESSION_ID_BYTES);
		id.writeUInt32BE(this.#tables.states.boot, 0);
		id.writeUInt32BE(index, 4);
		randomBytes(8).copy(id, 8);
		const { slots, replyBytes } = this.#room(request.fore.requests, request.fore.keptResponseBytes);
		const session = newSession(id, index, client, {
			...request,
			fore: { ...request.fore, requests: slots, keptResponseBytes: replyBytes },
		});
		this.add(session);
		this.#log.session(session);
		return session;
	}

	/** One that was made, or stood in the log. */
	add(session: SessionRecord): void {
		this.#tables.addSession(session);
		this.#reservedBytes += session.reservedBytes;
		this.nextIndex = Math.max(this.nextIndex, session.index + 1);
	}

	/** One of before a failure of the host. Of its slots is known what had come to the disk. */
	addDead(session: SessionRecord): void {
		session.isDead = true;
		session.forgetAt = this.#tables.hooks.now() + this.#limits.deadSessionSeconds * 1000;
		this.dead.set(session.id.toString("hex"), session);
	}

	remove(session: SessionRecord): void {
		if (session.isDead) {
			this.dead.delete(session.id.toString("hex"));
			this.#tables.hooks.sessionRemoved(session);
			return;
		}
		this.#tables.removeSession(session);
		this.#log.sessionGone(session);
	}

	/** It is in no table any more: its room is free. */
	noteRemoved(session: SessionRecord): void {
		if (!session.isDead) this.#reservedBytes -= session.reservedBytes;
	}

	/** "bad_session". */
	find(id: Uint8Array): SessionRecord {
		if (id.length === SESSION_ID_BYTES) {
			const index = id[4] * 0x1000000 + ((id[5] << 16) | (id[6] << 8) | id[7]);
			const session = this.#tables.sessions.get(index);
			if (session !== undefined && isEqual(session.id, id)) return session;
			const dead = this.dead.size > 0 ? this.dead.get(Buffer.from(id).toString("hex")) : undefined;
			if (dead !== undefined) return dead;
		}
		throw new ClaimError("bad_session", "There is no such session");
	}

	/**
	 * Slots for a session. As long as there is plenty of room it gets what it asks for; then fewer, and at the end one with a small reply. Room for these
	 * last ones is left from the beginning: as many as there may be sessions.
	 */
	#room(wantedSlots: number, wantedBytes: number): { readonly slots: number; readonly replyBytes: number } {
		const { keptReplyBytesTotal, scarceReplyBytes, keptReplyBytes, clients, sessionsPerClient } = this.#limits;
		const replyBytes = Math.min(wantedBytes, keptReplyBytes);
		const slots = Math.max(1, Math.min(wantedSlots, this.#limits.slots));
		const lastResort = Math.min(keptReplyBytesTotal / 2, clients * sessionsPerClient * (scarceReplyBytes + SLOT_BYTES));
		const free = keptReplyBytesTotal - lastResort - this.#reservedBytes;
		const most = Math.floor((free * SHARE) / (replyBytes + SLOT_BYTES));
		if (most >= 1) return { slots: Math.min(slots, most), replyBytes };
		return { slots: 1, replyBytes: Math.min(replyBytes, scarceReplyBytes) };
	}

	/** SEQUENCE. Throws and changes nothing, or the slot is the request's. */
	take(session: SessionRecord, request: SequenceArguments): SlotRecord {
		const { requests } = session.fore;
		if (request.slot >= requests) throw new ClaimError("bad_slot", "The session has no such slot");
		if (request.highestSlot >= requests) throw new ClaimError("bad_high_slot", "The session has fewer slots");
		const slot = session.slots[request.slot] ?? newSlot(session, request.slot);
		const outcome = session.isDead
			? outcomeOfDead(slot, request)
			: slot.isRestored
				? outcomeOfRestored(slot, request)
				: outcomeOf(slot, request);
		session.slots[request.slot] = slot;
		slot.outcome = outcome;
		if (outcome === "replay") return slot;
		const isAnother = !slot.isSequenceKnown || slot.sequence !== request.sequence;
		if (outcome === "new" || isAnother) {
			slot.answers = null;
			slot.progress = null;
			slot.isLogged = false;
			slot.isReplyLogged = false;
		}
		slot.reply = null;
		slot.sequence = request.sequence;
		slot.isRunning = true;
		slot.isRestored = false;
		slot.isSequenceKnown = true;
		slot.keepsReply = request.keepsReply;
		slot.digestHi = request.digestHi;
		slot.digestLo = request.digestLo;
		return slot;
	}

	/** The request that has the slot is done. */
	finish(slot: SlotRecord, reply: Uint8Array): void {
		if (!slot.isRunning) return;
		slot.isRunning = false;
		if (slot.keepsReply && reply.length <= slot.session.fore.keptResponseBytes) slot.reply = Buffer.from(reply);
		const isShort = (slot.progress?.length ?? 0) <= PROGRESS_KEPT_BYTES && (slot.answers?.length ?? 0) <= ANSWERS_MAX;
		if (slot.session.isDead || isShort) return;
		slot.progress = null;
		slot.answers = null;
		slot.isReplyLogged = true;
		this.#log.reply(slot);
	}
}

export function newSession(
	id: Buffer,
	index: number,
	client: ClientRecord,
	request: Pick<SessionRequest, "flags" | "fore" | "back" | "callbackProgram" | "callbackSecurity">,
): SessionRecord {
	const { flags, fore, back, callbackProgram } = request;
	return {
		id,
		index,
		client,
		flags,
		fore,
		back,
		callbackProgram,
		callbackSecurity: Buffer.from(request.callbackSecurity),
		isDead: false,
		isRestored: false,
		channelFlags: 0,
		slots: [],
		reservedBytes: fore.requests * (fore.keptResponseBytes + SLOT_BYTES),
		forgetAt: 0,
	};
}

export function newSlot(session: SessionRecord, number: number): SlotRecord {
	return {
		session,
		number,
		sequence: 0,
		outcome: "new",
		reply: null,
		isRunning: false,
		keepsReply: false,
		digestHi: 0,
		digestLo: 0,
		isRestored: session.isRestored,
		isSequenceKnown: false,
		isLogged: false,
		answers: null,
		progress: null,
		isReplyLogged: false,
	};
}

function outcomeOf(slot: SlotRecord, request: SequenceArguments): "new" | "replay" {
	if (request.sequence === (slot.sequence + 1) >>> 0 && !slot.isRunning) return "new";
	if (request.sequence !== slot.sequence || !slot.isSequenceKnown) {
		throw new ClaimError("seq_misordered", "The sequence is neither the last of its slot nor the next");
	}
	checkDigest(slot, request);
	if (slot.isRunning) throw new ClaimError("delay", "The request is under way");
	if (slot.reply === null) throw notKept();
	return "replay";
}

/** A request that has looked at much before it changed something is not run again: it would find the change. */
function checkKept({ isReplyLogged }: SlotRecord): void {
	if (isReplyLogged) throw notKept();
}

function notKept(): ClaimError {
	return new ClaimError("retry_uncached_rep", "The reply was not kept");
}

function checkDigest(slot: SlotRecord, { digestHi, digestLo }: SequenceArguments): void {
	if (digestHi !== slot.digestHi || digestLo !== slot.digestLo) {
		throw new ClaimError("seq_false_retry", "Another request had this sequence");
	}
}

/** Numbers ahead are new: what changed nothing was not written down. */
function outcomeOfRestored(slot: SlotRecord, request: SequenceArguments): "new" | "rerun" | "replay" {
	if (!slot.isSequenceKnown) return "new";
	const ahead = (request.sequence - slot.sequence) >>> 0;
	if (ahead >= 0x80000000) throw new ClaimError("seq_misordered", "The sequence is before the last of its slot");
	if (ahead > 0) return "new";
	checkDigest(slot, request);
	if (slot.reply !== null) return "replay";
	checkKept(slot);
	return "rerun";
}

/** Only what was answered before is answered again. */
function outcomeOfDead(slot: SlotRecord, request: SequenceArguments): "dead" | "replay" {
	if (slot.isRunning) throw new ClaimError("delay", "The request is under way");
	const isSame =
		slot.isSequenceKnown && slot.sequence === request.sequence && slot.digestHi === request.digestHi && slot.digestLo === request.digestLo;
	if (!isSame && !request.isAnswered) throw new ClaimError("dead_session", "The session is of before the server failed");
	if (!isSame) return "dead";
	if (slot.reply !== null) return "replay";
	checkKept(slot);
	return "dead";
}

export function isEqual(a: Uint8Array, b: Uint8Array): boolean {
	if (a.length !== b.length) return false;
	for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
	return true;
}
