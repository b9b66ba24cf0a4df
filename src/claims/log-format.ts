// What stands in the log: the types of its records, and how each is written.

import type { AnsweredChange } from "./claim-log.ts";
import { CLAIM_ERROR_CODES } from "./errors.ts";
import type { ChannelAttributes } from "./operations.ts";
import type { RecordReader, RecordWriter } from "./record-codec.ts";
import type { ClientRecord, LockState, OpenState, RevokedState, SessionRecord, SlotAnswer, SlotRecord, Span } from "./records.ts";

export const LOG_MAGIC = "HFNL";
export const LOG_VERSION = 1;
/** Magic, version, id of the server, boot counter, checksum. */
export const LOG_HEAD_BYTES = 4 + 4 + 16 + 4 + 4;

/** Never given anew to another meaning. */
export const Type = {
	/** The log goes on in this boot of the host. */
	boot: 1,
	/** The last of a log that was closed: it is on disk. */
	closed: 2,
	/** Grace of this boot counter is over. */
	graceEnded: 3,
	/** Numbers that were given: of clients, of sessions, generations. */
	numbers: 4,
	client: 5,
	clientGone: 6,
	created: 7,
	session: 8,
	sessionGone: 9,
	deadSession: 10,
	slot: 11,
	answer: 12,
	/** Without bytes: it was not kept. */
	reply: 13,
	/** An open as it is from now on. */
	open: 14,
	close: 15,
	/** Owner of locks, with its place. */
	locker: 16,
	/** Locks or unlocks a span. */
	lock: 17,
	/** Many ranges of one owner that are locked. */
	ranges: 18,
	freed: 19,
	reclaimed: 20,
	revoked: 21,
	/** A stateid that stands for what was revoked. */
	stub: 22,
	/** All of a client. */
	revokedForgotten: 23,
	/** How far a request had come before a change. */
	progress: 24,
} as const;

const NOTHING = new Uint8Array(0);
/** So many of one owner in a record. */
export const RANGES_MAX = 1000;

const KINDS: readonly SlotAnswer["kind"][] = ["open", "downgrade", "close", "lock", "unlock", "free", "reclaim_complete"];

/** The request, its operation and what that was answered, but for the object; null, where it is of no request, is written as session 0, which is none. */
export function writeChange(to: RecordWriter, change: AnsweredChange | null): RecordWriter {
	if (change === null) return to.u32(0);
	const { slot, answer } = change;
	writeRequest(to, slot).u8(answer.operation);
	return to.u8(KINDS.indexOf(answer.kind)).u32(answer.seqid).u32(answer.index).u32(answer.generation);
}

/** A request by its slot and sequence, and what tells it from another under these numbers. */
export interface ReadRequest {
	readonly session: number;
	readonly slot: number;
	readonly sequence: number;
	readonly digestHi: number;
	readonly digestLo: number;
}

export function writeRequest(to: RecordWriter, { session, number, sequence, digestHi, digestLo }: SlotRecord): RecordWriter {
	return to.u32(session.index).u8(number).u32(sequence).u32(digestHi).u32(digestLo);
}

export function readRequest(from: RecordReader, session: number = from.u32()): ReadRequest {
	return { session, slot: from.u8(), sequence: from.u32(), digestHi: from.u32(), digestLo: from.u32() };
}

export interface ReadChange {
	readonly request: ReadRequest;
	readonly answer: SlotAnswer;
}

export function readChange(from: RecordReader): ReadChange | null {
	const session = from.u32();
	if (session === 0) return null;
	const request = readRequest(from, session);
	const answer = { operation: from.u8(), kind: KINDS[from.u8()], seqid: from.u32(), index: from.u32(), generation: from.u32(), file: "" };
	return { request, answer };
}

export function writeClient(to: RecordWriter, client: ClientRecord): RecordWriter {
	to.u32(client.lo)
		.u8(client.hasReclaimed ? 1 : 0)
		.u32(client.sequence);
	return to.bytes(client.verifier).key(client.ownerKey).text(client.principal).text(client.address);
}

export function writeCreated(to: RecordWriter, { lo, sequence, created }: ClientRecord): RecordWriter {
	to.begin(Type.created)
		.u32(lo)
		.u32(sequence)
		.u32(created?.session?.index ?? 0);
	return to.u8(created?.error ? CLAIM_ERROR_CODES.indexOf(created.error) + 1 : 0);
}

export function writeSession(to: RecordWriter, session: SessionRecord): RecordWriter {
	const { index, client, flags, callbackProgram } = session;
	to.u32(index).u32(client.lo).bytes(session.id).u32(flags).u32(callbackProgram);
	for (const channel of [session.fore, session.back]) for (const field of CHANNEL_FIELDS) to.u32(channel[field]);
	return to.bytes(session.callbackSecurity);
}

/** With its client, which is gone. */
export function writeDead(to: RecordWriter, session: SessionRecord): RecordWriter {
	return writeSession(writeClient(to.begin(Type.deadSession), session.client), session);
}

export function readSession(from: RecordReader) {
	const [index, client, id, flags, callbackProgram] = [from.u32(), from.u32(), from.bytes(), from.u32(), from.u32()];
	const [fore, back] = [readChannel(from), readChannel(from)];
	return { index, client, id, flags, callbackProgram, fore, back, callbackSecurity: from.bytes() };
}

const CHANNEL_FIELDS = ["headerPadBytes", "requestBytes", "responseBytes", "keptResponseBytes", "operations", "requests"] as const;

function readChannel(from: RecordReader): ChannelAttributes {
	const fields = CHANNEL_FIELDS.map((field) => [field, from.u32()] as const);
	return Object.fromEntries(fields) as unknown as ChannelAttributes;
}

export function writeSlot(to: RecordWriter, slot: SlotRecord): RecordWriter {
	return writeRequest(to.begin(Type.slot), slot);
}

export function writeProgress(to: RecordWriter, slot: SlotRecord, bytes: Uint8Array): RecordWriter {
	return writeRequest(to.begin(Type.progress), slot).bytes(bytes);
}

export function writeReply(to: RecordWriter, slot: SlotRecord): RecordWriter {
	return writeRequest(to.begin(Type.reply), slot).bytes(slot.reply ?? NOTHING);
}

export function writeOpen(to: RecordWriter, change: AnsweredChange | null, open: OpenState): RecordWriter {
	writeChange(to.begin(Type.open), change);
	return writePlace(to, open).u32(open.owner.client.lo).u16(open.modes).key(open.owner.key).key(open.file.key);
}

export function writeLocker(to: RecordWriter, state: LockState): RecordWriter {
	return writePlace(to.begin(Type.locker), state).u32(state.open.index).u32(state.open.generation).key(state.owner.key);
}

export function writeLock(to: RecordWriter, change: AnsweredChange, state: LockState, span: Span, isWrite: boolean | null): RecordWriter {
	writeChange(to.begin(Type.lock), change);
	return writeSpan(writePlace(to, state).u8(isWrite === null ? 2 : isWrite ? 1 : 0), span);
}

export function writeStub(to: RecordWriter, state: RevokedState): RecordWriter {
	return writePlace(to.begin(Type.stub), state).u32(state.client.lo);
}

export function writePlace(to: RecordWriter, { index, generation, seqid }: OpenState | LockState | RevokedState): RecordWriter {
	return to.u32(index).u32(generation).u32(seqid);
}

export function readPlace(from: RecordReader) {
	return { index: from.u32(), generation: from.u32(), seqid: from.u32() };
}

/** The last byte stands there, not the end: that may be 2^64. */
export function writeSpan(to: RecordWriter, { startHi, startLo, endHi, endLo }: Span): RecordWriter {
	to.u32(startHi).u32(startLo);
	return endLo === 0 ? to.u32(endHi - 1).u32(0xffffffff) : to.u32(endHi).u32(endLo - 1);
}

export function readSpan(from: RecordReader): Span {
	const [startHi, startLo, lastHi, lastLo] = [from.u32(), from.u32(), from.u32(), from.u32()];
	return lastLo === 0xffffffff ? { startHi, startLo, endHi: lastHi + 1, endLo: 0 } : { startHi, startLo, endHi: lastHi, endLo: lastLo + 1 };
}
