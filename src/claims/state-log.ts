// The log of claims: each change is put behind it before its request is answered, so that a server which was killed goes on where it was.

import { crc32 } from "node:zlib";
import { syncFile } from "../linux/data.ts";
import { whyNot } from "../linux/errno.ts";
import { type ClaimFolder, flushed } from "./claim-folder.ts";
import type { AnsweredChange, ClaimLog } from "./claim-log.ts";
import type { Claims } from "./claims.ts";
import { ClaimError, unwritten } from "./errors.ts";
import { LogFile } from "./log-file.ts";
import {
	LOG_HEAD_BYTES,
	LOG_MAGIC,
	LOG_VERSION,
	Type,
	writeChange,
	writeClient,
	writeCreated,
	writeDead,
	writeLock,
	writeLocker,
	writeOpen,
	writeProgress,
	writeReply,
	writeSession,
	writeSlot,
} from "./log-format.ts";
import { RECORD_BYTES_MAX, RecordWriter } from "./record-codec.ts";
import type { ClientRecord, LockState, OpenState, SessionRecord, SlotRecord, Span } from "./records.ts";
import type { ServerIdentity } from "./server-file.ts";
import { snapshot } from "./snapshot.ts";

export const LOG_NAME = "log";
export const NEW_LOG_NAME = "log.new";
/** Log bytes that closing or unlocking one thing takes. */
const TAKE_BACK_BYTES = 80;
/** A log up to this is not written anew, however little of it lives: its reading takes a start no time. */
const SMALL_BYTES = 4 * 1024 * 1024;
/** What one thing that lives takes in the log, at most, without owners and handles. */
const LIVE_BYTES = { client: 2304, session: 1536, state: 64, range: 17 } as const;
/** Records that wait to be written together; more of them do not. */
const GATHERED_BYTES = RECORD_BYTES_MAX;
/** Of the new log, written in one turn: a few milliseconds. */
const TURN_BYTES = 256 * 1024;

/** The log as it is written anew while the old one goes on. */
interface Rewriting {
	readonly file: LogFile;
	readonly records: Generator<Buffer | null>;
	/** Put together until there is enough to write. */
	chunk: Buffer;
	length: number;
}

export function logHead({ id, boot }: ServerIdentity): Buffer {
	const head = Buffer.alloc(LOG_HEAD_BYTES);
	head.write(LOG_MAGIC, "latin1");
	head.writeUInt32BE(LOG_VERSION, 4);
	id.copy(head, 8);
	head.writeUInt32BE(boot, 24);
	head.writeUInt32BE(crc32(head.subarray(0, 28)), 28);
	return head;
}

export interface StateLogHooks {
	defer(work: () => void): void;
	warn(sentence: string): void;
}

/**
 * What has been put behind the log is in the kernel's memory, which outlives the process; only what must outlive the host is flushed. The log is written
 * anew beside itself, in turns, when more than half of it is of the past. Where the disk is full, nothing new is opened or locked; what is closed or unlocked
 * has its room set aside. If even that fails, the log stays as it was until it can be written anew.
 */
export class StateLog implements ClaimLog {
	readonly #folder: ClaimFolder;
	readonly #server: ServerIdentity;
	readonly #bootId: string;
	readonly #hooks: StateLogHooks;
	readonly #smallBytes: number;
	readonly #writer = new RecordWriter();
	#claims: Claims | null = null;
	#file: LogFile;
	#rewriting: Rewriting | null = null;
	/** Records of requests that are not answered yet: they go behind the log together. */
	readonly #gathered = Buffer.allocUnsafeSlow(GATHERED_BYTES);
	#gatheredLength = 0;
	/** Something could not be written: the log says what was before it, until it is written anew. */
	#isBehind = false;
	/** What it is answered then. */
	#unwritten: "nospc" | "dquot" = "nospc";
	/** Size from which a new log is tried, where the last try failed. */
	#tryFrom = 0;
	/** Counts what must be flushed; and up to where it was. */
	#demanded = 0;
	#flushed = 0;
	#flushing: Promise<void> | null = null;
	/** The file has its name, but that may not be on disk. */
	#isNameNew = true;
	#isClosed = false;

	constructor(
		folder: ClaimFolder,
		file: LogFile,
		server: ServerIdentity,
		bootId: string,
		hooks: StateLogHooks,
		smallBytes: number = SMALL_BYTES,
	) {
		this.#folder = folder;
		this.#file = file;
		this.#server = server;
		this.#bootId = bootId;
		this.#hooks = hooks;
		this.#smallBytes = smallBytes;
	}

	/** The claims that are written down here. Before it nothing is. `isNew`: the log has nothing of them yet. */
	attach(claims: Claims, isNew: boolean): void {
		this.#claims = claims;
		// of an earlier process nobody knows what it has flushed
		this.#demanded++;
		this.#put(this.#writer.begin(Type.boot).text(this.#bootId).end());
		for (const session of isNew ? claims.sessions.dead.values() : []) this.#put(writeDead(this.#writer, session).end());
	}

	get size(): number {
		return this.#file.size;
	}

	makeRoom(bytes: number): void {
		if (this.#isBehind) throw new ClaimError(this.#unwritten, "The log cannot be written");
		const { opens = 0, lockStates = 0 } = this.#claims?.tables ?? {};
		const wanted = this.#gatheredLength + bytes + (opens + lockStates + 1) * TAKE_BACK_BYTES;
		const status = this.#file.reserve(wanted);
		if (status < 0) throw new ClaimError(unwritten(status), "There is no room for the log");
		// while it is written anew the old log goes on, if that has no room
		if (this.#rewriting !== null && this.#rewriting.file.reserve(wanted + TURN_BYTES) < 0) this.#abandon();
	}

	client(client: ClientRecord): void {
		this.#demand(writeClient(this.#writer.begin(Type.client), client).end());
	}

	created(client: ClientRecord): void {
		this.#demand(writeCreated(this.#writer, client).end());
	}

	clientGone(client: ClientRecord): void {
		this.#put(this.#writer.begin(Type.clientGone).u32(client.lo).end());
	}

	clientNumbers(upTo: number): void {
		this.#put(this.#writer.begin(Type.numbers).u32(upTo).u32(0).u32(0).end());
	}

	session(session: SessionRecord): void {
		this.#demand(writeSession(this.#writer.begin(Type.session), session).end());
	}

	sessionGone(session: SessionRecord): void {
		this.#put(this.#writer.begin(Type.sessionGone).u32(session.index).end());
	}

	slot(slot: SlotRecord): void {
		this.#gather(writeSlot(this.#writer, slot).end());
	}

	progress(slot: SlotRecord, bytes: Uint8Array): void {
		this.#gather(writeProgress(this.#writer, slot, bytes).end());
		this.#demanded++;
	}

	reply(slot: SlotRecord): void {
		this.#gather(writeReply(this.#writer, slot).end());
		this.#demanded++;
	}

	open(change: AnsweredChange, open: OpenState): void {
		this.#gather(writeOpen(this.#writer, change, open).end());
	}

	close(change: AnsweredChange, open: OpenState): void {
		this.#gather(writeChange(this.#writer.begin(Type.close), change).u32(open.index).u32(open.generation).end());
	}

	lock(change: AnsweredChange, state: LockState, span: Span, isWrite: boolean | null, isNew: boolean): void {
		if (isNew) this.#gather(writeLocker(this.#writer, state).end());
		this.#gather(writeLock(this.#writer, change, state, span, isWrite).end());
	}

	freed(change: AnsweredChange, state: { readonly index: number; readonly generation: number }): void {
		this.#gather(writeChange(this.#writer.begin(Type.freed), change).u32(state.index).u32(state.generation).end());
	}

	reclaimed(change: AnsweredChange, client: ClientRecord): void {
		this.#gather(writeChange(this.#writer.begin(Type.reclaimed), change).u32(client.lo).end());
	}

	revoked(client: ClientRecord): void {
		this.#put(this.#writer.begin(Type.revoked).u32(client.lo).end());
	}

	revokedForgotten(client: ClientRecord): void {
		this.#put(this.#writer.begin(Type.revokedForgotten).u32(client.lo).end());
	}

	graceEnded(): void {
		this.#put(this.#writer.begin(Type.graceEnded).end());
	}

	settle(): void {
		if (this.#gatheredLength === 0) return;
		const records = this.#gathered.subarray(0, this.#gatheredLength);
		this.#gatheredLength = 0;
		this.#append(records);
	}

	flush(): Promise<void> | null {
		this.settle();
		if (this.#flushed === this.#demanded) return null;
		this.#flushing ??= this.#runFlush();
		return this.#flushing;
	}

	tick(): void {
		this.settle();
		if (this.#isBehind) this.#beginRewriting();
	}

	/** On disk, with the replies that clients may still ask for, and the word that nothing is missing. */
	shutDown(): void {
		if (this.#isClosed) return;
		this.settle();
		this.#abandon();
		if (!this.#isBehind) {
			this.#putReplies();
			this.#put(this.#writer.begin(Type.closed).end());
		}
		this.#isClosed = true;
		const status = syncFile(this.#file.fd);
		if (status < 0) this.#hooks.warn(`The log of what clients have open cannot be flushed: ${whyNot(status)}.`);
		this.#leave();
	}

	destroy(): void {
		if (this.#isClosed) return;
		this.#isClosed = true;
		this.#leave();
	}

	#leave(): void {
		this.#folder.close();
		this.#close(this.#file);
		if (this.#rewriting !== null) this.#close(this.#rewriting.file);
		this.#rewriting = null;
	}

	/** A flush under way has the descriptor until it ends. */
	#close(file: LogFile): void {
		if (this.#flushing === null) file.close();
		else this.#flushing.then(() => file.close());
	}

	#putReplies(): void {
		for (const session of this.#claims?.tables.sessions.values() ?? []) {
			for (const slot of session.slots) {
				if (slot?.reply == null) continue;
				this.#put(writeReply(this.#writer, slot).end());
			}
		}
	}

	#demand(record: Buffer): void {
		this.#put(record);
		this.#demanded++;
	}

	/** What a request has changed. */
	#gather(record: Buffer): void {
		if (this.#claims === null || this.#isClosed) return;
		if (record.length > GATHERED_BYTES - this.#gatheredLength) this.settle();
		record.copy(this.#gathered, this.#gatheredLength);
		this.#gatheredLength += record.length;
	}

	/** Behind all that was gathered. */
	#put(record: Buffer): void {
		if (this.#claims === null || this.#isClosed) return;
		this.settle();
		this.#append(record);
	}

	#append(records: Buffer): void {
		const status = this.#isBehind ? 0 : this.#file.append(records);
		if (status < 0) {
			this.#isBehind = true;
			this.#unwritten = unwritten(status);
			this.#hooks.warn(
				`The log of what clients have open cannot be written, so nothing new is opened: see ${this.#folder.shown(LOG_NAME)}.`,
			);
		}
		if (this.#rewriting !== null) this.#addToNew(this.#rewriting, records);
		else if (this.#isTooLong()) this.#beginRewriting();
	}

	#isTooLong(): boolean {
		const { size } = this.#file;
		return size > this.#smallBytes && size > this.#tryFrom && size > 2 * this.#liveBytes();
	}

	#liveBytes(): number {
		const { tables } = this.#claims as Claims;
		return (
			tables.confirmed.size * LIVE_BYTES.client +
			tables.sessions.size * LIVE_BYTES.session +
			tables.states.size * LIVE_BYTES.state +
			tables.locks * LIVE_BYTES.range +
			tables.stateBytes
		);
	}

	#beginRewriting(): void {
		if (this.#rewriting !== null || this.#claims === null || this.#isClosed) return;
		let file: LogFile;
		try {
			file = new LogFile(this.#folder.make(NEW_LOG_NAME), 0);
		} catch {
			this.#tryFrom = this.#file.size + this.#smallBytes;
			return;
		}
		const chunk = Buffer.allocUnsafe(TURN_BYTES + RECORD_BYTES_MAX);
		const rewriting: Rewriting = { file, records: snapshot(this.#claims, this.#writer), chunk, length: 0 };
		this.#rewriting = rewriting;
		this.#addToNew(rewriting, logHead(this.#server));
		this.#addToNew(rewriting, this.#writer.begin(Type.boot).text(this.#bootId).end());
		this.#hooks.defer(() => this.#goOn(rewriting));
	}

	/** One turn. */
	#goOn(rewriting: Rewriting): void {
		if (this.#rewriting !== rewriting) return;
		// what the walk meets is in the log
		this.settle();
		for (let put = 0; put < TURN_BYTES; ) {
			const { value, done } = rewriting.records.next();
			if (done) {
				this.#finishRewriting(rewriting);
				return;
			}
			if (value === null) continue;
			put += value.length;
			this.#addToNew(rewriting, value);
			if (this.#rewriting !== rewriting) return;
		}
		this.#hooks.defer(() => this.#goOn(rewriting));
	}

	#addToNew(rewriting: Rewriting, record: Buffer): void {
		record.copy(rewriting.chunk, rewriting.length);
		rewriting.length += record.length;
		if (rewriting.length >= TURN_BYTES) this.#writeChunk(rewriting);
	}

	#writeChunk(rewriting: Rewriting): boolean {
		const { file, chunk, length } = rewriting;
		rewriting.length = 0;
		if (length === 0 || file.append(chunk.subarray(0, length)) >= 0) return true;
		this.#abandon();
		return false;
	}

	/** Flushed before it takes the name: a failure of the host finds one of the two. */
	#finishRewriting(rewriting: Rewriting): void {
		if (!this.#writeChunk(rewriting)) return;
		flushed(rewriting.file.fd)
			.then(() => this.#switchTo(rewriting))
			.catch(() => this.#abandon(rewriting));
	}

	#switchTo(rewriting: Rewriting): void {
		this.settle();
		if (this.#rewriting !== rewriting || !this.#writeChunk(rewriting)) return;
		this.#folder.rename(NEW_LOG_NAME, LOG_NAME);
		const old = this.#file;
		this.#file = rewriting.file;
		this.#rewriting = null;
		this.#isBehind = false;
		this.#isNameNew = true;
		this.#tryFrom = 0;
		this.#close(old);
	}

	/** The old log stays. */
	#abandon(only: Rewriting | null = this.#rewriting): void {
		const rewriting = this.#rewriting;
		if (rewriting === null || rewriting !== only) return;
		this.#rewriting = null;
		this.#tryFrom = this.#file.size + this.#smallBytes;
		this.#close(rewriting.file);
		this.#folder.remove(NEW_LOG_NAME);
	}

	/** Never rejects: what cannot be flushed is told, and not waited for. */
	async #runFlush(): Promise<void> {
		const upTo = this.#demanded;
		try {
			const rewriting = this.#rewriting;
			if (rewriting !== null) this.#writeChunk(rewriting);
			const both = [flushed(this.#file.fd)];
			if (rewriting !== null && this.#rewriting === rewriting) both.push(flushed(rewriting.file.fd));
			if (this.#isNameNew) both.push(flushed(this.#folder.fd));
			this.#isNameNew = false;
			await Promise.all(both);
		} catch (error) {
			this.#hooks.warn(`The log of what clients have open cannot be flushed: ${(error as Error).message}.`);
		}
		this.#flushed = upTo;
		this.#flushing = null;
	}
}
