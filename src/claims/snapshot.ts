// All that lives, as records of a new log.

import type { Claims } from "./claims.ts";
import {
	RANGES_MAX,
	Type,
	writeChange,
	writeClient,
	writeCreated,
	writeDead,
	writeLocker,
	writeOpen,
	writePlace,
	writeProgress,
	writeReply,
	writeSession,
	writeSlot,
	writeSpan,
	writeStub,
} from "./log-format.ts";
import type { RecordWriter } from "./record-codec.ts";
import type { LockState, SessionRecord, StateRecord } from "./records.ts";

/**
 * Records one by one, and null where the walk may rest while claims change, if these changes are written behind what it gave: each record says how something
 * is at that time. What comes to be behind the place where the walk is was written as such a change; a change of what is before it finds nothing there, when
 * the log is read, and is in what the walk gives later.
 */
export function* snapshot(claims: Claims, to: RecordWriter): Generator<Buffer | null> {
	const { tables, sessions, clients } = claims;
	yield to
		.begin(Type.numbers)
		.u32(clients.notedIndex)
		.u32(sessions.nextIndex - 1)
		.u32((tables.states.nextGeneration - 1) >>> 0)
		.end();
	if (claims.grace.isOver) yield to.begin(Type.graceEnded).end();
	for (const session of sessions.dead.values()) yield writeDead(to, session).end();
	for (const client of tables.confirmed.values()) {
		yield writeClient(to.begin(Type.client), client).end();
		for (const session of client.sessions) {
			yield writeSession(to.begin(Type.session), session).end();
			yield* slotsOf(session, to);
		}
		yield writeCreated(to, client).end();
		yield null;
	}
	const { states } = tables;
	for (let index = 0; index < states.places; index++) {
		const state = states.at(index);
		if (state?.kind !== "open" || state.owner.client.isGone) continue;
		yield writeOpen(to, null, state).end();
		yield null;
	}
	for (let index = 0; index < states.places; index++) {
		const state = states.at(index);
		if (state?.kind === "lock" && !state.owner.client.isGone) yield* locksOf(state, to);
		else if (state?.kind === "revoked" && !state.client.isGone) yield writeStub(to, state).end();
		else if (state !== null && state.kind !== "revoked") {
			// lost, and not taken away yet
			const { successor } = state.owner.client;
			if (successor !== null) yield writeStub(to, { ...placeOf(state), kind: "revoked", client: successor }).end();
		}
		yield null;
	}
}

function placeOf({ index, generation, seqid }: StateRecord): StateRecord {
	return { index, generation, seqid };
}

function* slotsOf(session: SessionRecord, to: RecordWriter): Generator<Buffer> {
	for (const slot of session.slots) {
		if (!slot?.isSequenceKnown) continue;
		yield writeSlot(to, slot).end();
		if (slot.progress !== null) yield writeProgress(to, slot, slot.progress).end();
		if (slot.isReplyLogged) yield writeReply(to, slot).end();
		for (const answer of slot.answers ?? []) yield writeChange(to.begin(Type.answer), { slot, answer }).key(answer.file).end();
	}
}

/** All ranges without a rest: they are of one moment. */
function* locksOf(state: LockState, to: RecordWriter): Generator<Buffer> {
	yield writeLocker(to, state).end();
	for (let at = 0; at < state.ranges.length; at += RANGES_MAX) {
		const some = state.ranges.slice(at, at + RANGES_MAX);
		writePlace(to.begin(Type.ranges), state).u16(some.length);
		for (const range of some) writeSpan(to.u8(range.isWrite ? 1 : 0), range);
		yield to.end();
	}
}
