// What the log says, made into tables again.

import { crc32 } from "node:zlib";
import type { ClaimFolder } from "./claim-folder.ts";
import type { Claims } from "./claims.ts";
import { newClient } from "./clients.ts";
import { CLAIM_ERROR_CODES } from "./errors.ts";
import {
	LOG_HEAD_BYTES,
	LOG_MAGIC,
	LOG_VERSION,
	type ReadRequest,
	readChange,
	readPlace,
	readRequest,
	readSession,
	readSpan,
	Type,
} from "./log-format.ts";
import type { LogReader } from "./log-reader.ts";
import { setModes } from "./opens.ts";
import { RecordReader, recordAt } from "./record-codec.ts";
import type { AnyState, ClientRecord, SlotAnswer, SlotRecord } from "./records.ts";
import type { ServerIdentity } from "./server-file.ts";
import { newSession, newSlot } from "./sessions.ts";

/** What a look at the log has found, before anything is made of it. */
export interface FoundLog {
	readonly log: LogReader;
	/** Boot counter under which it was written. */
	readonly boot: number;
	/** Where its good records end. */
	readonly end: number;
	/** Something stands behind them that is no torn tail. */
	readonly isDamaged: boolean;
	/** Boot of the host in which it was written last. */
	readonly bootId: string;
	/** It was closed, and is all on disk. */
	readonly isClosed: boolean;
	readonly hasGraceEnded: boolean;
}

/** A sentence without its end where the file is no log of this server. */
export function examineLog(log: LogReader, { id, boot }: ServerIdentity): FoundLog | string {
	log.seek(0);
	const head = log.piece.subarray(0, LOG_HEAD_BYTES);
	const isWhole = head.length === LOG_HEAD_BYTES && crc32(head.subarray(0, LOG_HEAD_BYTES - 4)) === head.readUInt32BE(LOG_HEAD_BYTES - 4);
	if (!isWhole || head.toString("latin1", 0, 4) !== LOG_MAGIC) return "it is damaged";
	const version = head.readUInt32BE(4);
	if (version !== LOG_VERSION) return `it is of version ${version}, and this holdfast knows version ${LOG_VERSION}`;
	if (!head.subarray(8, 24).equals(id)) return "it is of another server";
	const itsBoot = head.readUInt32BE(24);
	if (itsBoot > boot) return "it is newer than the file beside it that says who this server is";
	const reader = new RecordReader(log.memory);
	let [bootId, last, hasGraceEnded] = ["", 0, false];
	for (let at = LOG_HEAD_BYTES; ; ) {
		const start = log.seek(at);
		const length = at === log.size ? "torn" : recordAt(log.piece, start);
		if (typeof length !== "number") {
			const isClosed = last === Type.closed && at === log.size;
			return { log, boot: itsBoot, end: at, isDamaged: length === "damaged", bootId, isClosed, hasGraceEnded };
		}
		last = reader.enter(start);
		if (last === Type.boot) bootId = reader.text();
		else if (last === Type.graceEnded) hasGraceEnded = true;
		at += length;
	}
}

/** The file is kept under another name, for people. */
export function setAside(folder: ClaimFolder, name: string): void {
	folder.rename(name, `${name}.aside`);
}

/** Makes the tables of claims that are new. Records of what is not there are passed over: see `snapshot`. */
export function replay(found: FoundLog, claims: Claims): void {
	const { log, end } = found;
	const from = new RecordReader(log.memory);
	const tables = new Replay(claims, from);
	claims.restore(() => {
		for (let at = LOG_HEAD_BYTES; at < end; ) {
			const start = log.seek(at);
			at += log.piece.readUInt16BE(start);
			tables.take(from.enter(start));
		}
	});
}

class Replay {
	readonly #claims: Claims;
	readonly #from: RecordReader;
	/** By type. */
	readonly #readers: Readonly<Record<number, () => void>> = {
		[Type.numbers]: () => this.#numbers(),
		[Type.client]: () => this.#client(),
		[Type.clientGone]: () => this.#ofClient((client) => this.#claims.tables.removeClient(client)),
		[Type.created]: () => this.#created(),
		[Type.session]: () => this.#session(),
		[Type.sessionGone]: () => this.#sessionGone(),
		[Type.deadSession]: () => this.#deadSession(),
		[Type.slot]: () => this.#slot(readRequest(this.#from)),
		[Type.answer]: () => this.#answer(),
		[Type.reply]: () => this.#reply(),
		[Type.progress]: () => this.#progress(),
		[Type.open]: () => this.#open(),
		[Type.close]: () => this.#close(),
		[Type.locker]: () => this.#locker(),
		[Type.lock]: () => this.#lock(),
		[Type.ranges]: () => this.#ranges(),
		[Type.freed]: () => this.#freed(),
		[Type.reclaimed]: () => this.#reclaimed(),
		[Type.revoked]: () => this.#ofClient((client) => this.#claims.tables.revoke(client)),
		[Type.stub]: () => this.#stub(),
		[Type.revokedForgotten]: () => this.#ofClient((client) => this.#claims.tables.forgetRevoked(client)),
	};

	constructor(claims: Claims, from: RecordReader) {
		this.#claims = claims;
		this.#from = from;
	}

	take(type: number): void {
		this.#readers[type]?.();
	}

	#ofClient(act: (client: ClientRecord) => void): void {
		const client = this.#claims.tables.clients.get(this.#from.u32());
		if (client !== undefined) act(client);
	}

	#numbers(): void {
		const { clients, sessions, tables } = this.#claims;
		clients.skipNumbers(this.#from.u32());
		sessions.nextIndex = Math.max(sessions.nextIndex, this.#from.u32() + 1);
		tables.states.noteGeneration(this.#from.u32());
	}

	#readClient(): { readonly lo: number; readonly make: (boot: number) => ClientRecord } {
		const from = this.#from;
		const [lo, reclaimed, sequence, verifier, key] = [from.u32(), from.u8(), from.u32(), from.bytes(), from.key()];
		const [principal, address] = [from.text(), from.text()];
		const make = (hi: number) => {
			const now = this.#claims.now();
			const client = newClient({ hi, lo }, Buffer.from(key, "latin1"), key, verifier, principal, { address, sequence, now });
			client.isConfirmed = true;
			client.hasReclaimed = reclaimed === 1;
			return client;
		};
		return { lo, make };
	}

	#client(): void {
		const { tables, clients } = this.#claims;
		const { lo, make } = this.#readClient();
		clients.skipNumbers(lo);
		if (!tables.clients.has(lo)) tables.addClient(make(tables.states.boot));
	}

	#created(): void {
		const from = this.#from;
		const client = this.#claims.tables.clients.get(from.u32());
		const [sequence, session, error] = [from.u32(), from.u32(), from.u8()];
		if (client === undefined) return;
		client.sequence = sequence;
		const made = this.#claims.tables.sessions.get(session);
		if (error > 0) client.created = { session: null, error: CLAIM_ERROR_CODES[error - 1] };
		else client.created = made === undefined ? null : { session: made, error: null };
	}

	#session(): void {
		const { tables, sessions } = this.#claims;
		const read = readSession(this.#from);
		const known = tables.sessions.get(read.index);
		if (known !== undefined) {
			known.callbackProgram = read.callbackProgram;
			known.callbackSecurity = read.callbackSecurity;
			return;
		}
		sessions.nextIndex = Math.max(sessions.nextIndex, read.index + 1);
		const client = tables.clients.get(read.client);
		if (client === undefined) return;
		const session = newSession(read.id, read.index, client, read);
		session.isRestored = true;
		sessions.add(session);
	}

	#sessionGone(): void {
		const { tables } = this.#claims;
		const session = tables.sessions.get(this.#from.u32());
		if (session !== undefined) tables.removeSession(session);
	}

	#deadSession(): void {
		const client = this.#readClient().make(0);
		const read = readSession(this.#from);
		this.#claims.sessions.addDead(newSession(read.id, read.index, client, read));
	}

	/** The slot's last request was this one. */
	#slot({ session, slot: number, sequence, digestHi, digestLo }: ReadRequest): SlotRecord | null {
		const of = this.#claims.tables.sessions.get(session);
		if (of === undefined) return null;
		const slot = of.slots[number] ?? newSlot(of, number);
		of.slots[number] = slot;
		if (slot.isSequenceKnown && slot.sequence === sequence) return slot;
		slot.sequence = sequence;
		slot.digestHi = digestHi;
		slot.digestLo = digestLo;
		slot.isSequenceKnown = true;
		slot.answers = null;
		slot.reply = null;
		slot.progress = null;
		slot.isReplyLogged = false;
		return slot;
	}

	/** Notes what the request was answered, and gives that. */
	#change(): SlotAnswer | null {
		const change = readChange(this.#from);
		if (change === null) return null;
		const slot = this.#slot(change.request);
		if (slot === null) return null;
		slot.answers ??= [];
		slot.answers.push(change.answer);
		return change.answer;
	}

	#answer(): void {
		const answer = this.#change();
		if (answer !== null) answer.file = this.#from.key();
	}

	#reply(): void {
		const slot = this.#slot(readRequest(this.#from));
		if (slot === null) return;
		const reply = this.#from.bytes();
		slot.reply = reply.length === 0 ? null : reply;
		slot.progress = null;
		slot.answers = null;
		slot.isReplyLogged = true;
	}

	#progress(): void {
		const slot = this.#slot(readRequest(this.#from));
		if (slot !== null) slot.progress = this.#from.bytes();
	}

	#placed<Kind extends AnyState["kind"]>(kind: Kind): Extract<AnyState, { kind: Kind }> | undefined {
		const [index, generation] = [this.#from.u32(), this.#from.u32()];
		const state = this.#claims.tables.states.at(index);
		return state?.kind === kind && state.generation === generation ? (state as Extract<AnyState, { kind: Kind }>) : undefined;
	}

	#open(): void {
		const { tables } = this.#claims;
		const from = this.#from;
		const answer = this.#change();
		const place = readPlace(from);
		const client = tables.clients.get(from.u32());
		const modes = from.u16();
		const owner = from.key();
		const file = from.key();
		if (answer?.kind === "open") answer.file = file;
		tables.states.noteGeneration(place.generation);
		const known = tables.states.at(place.index);
		if (known?.kind === "open" && known.generation === place.generation) {
			setModes(known, modes);
			known.seqid = place.seqid;
		} else if (known === null && client !== undefined) tables.addOpen(client, owner, tables.file(file), modes, place);
	}

	#close(): void {
		this.#change();
		const open = this.#placed("open");
		if (open !== undefined) this.#claims.tables.removeOpen(open);
	}

	#locker(): void {
		const { tables } = this.#claims;
		const place = readPlace(this.#from);
		tables.states.noteGeneration(place.generation);
		const open = this.#placed("open");
		const owner = this.#from.key();
		if (open !== undefined && tables.states.at(place.index) === null) tables.addLockState(open, owner, place);
	}

	#lock(): void {
		const from = this.#from;
		this.#change();
		const state = this.#placed("lock");
		const [seqid, how] = [from.u32(), from.u8()];
		const span = readSpan(from);
		if (state === undefined) return;
		this.#claims.tables.setLock(state, span, how === 2 ? null : how === 1);
		state.seqid = seqid;
	}

	#ranges(): void {
		const from = this.#from;
		const state = this.#placed("lock");
		from.u32();
		const count = from.u16();
		for (let i = 0; i < count && state !== undefined; i++) {
			const isWrite = from.u8() === 1;
			this.#claims.tables.setLock(state, readSpan(from), isWrite);
		}
	}

	#reclaimed(): void {
		this.#change();
		this.#ofClient((client) => {
			client.hasReclaimed = true;
		});
	}

	#freed(): void {
		this.#change();
		const { tables } = this.#claims;
		const state = tables.states.at(this.#from.u32());
		if (state?.generation !== this.#from.u32()) return;
		if (state.kind === "lock") tables.removeLockState(state);
		else if (state.kind === "revoked") tables.removeRevoked(state);
	}

	#stub(): void {
		const { tables } = this.#claims;
		const place = readPlace(this.#from);
		const client = tables.clients.get(this.#from.u32());
		tables.states.noteGeneration(place.generation);
		if (client !== undefined && tables.states.at(place.index) === null) tables.addRevoked(client, place);
	}
}
