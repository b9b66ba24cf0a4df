// Executes calls: decodes them, runs procedures, waits where they wait, and sees to one reply each.

import { Pending } from "../vfs/errors.ts";
import { XdrError } from "../xdr/xdr-error.ts";
import { XdrReader } from "../xdr/xdr-reader.ts";
import type { Caller, CallerCache } from "./caller.ts";
import {
	type ConnectionSource,
	checksum,
	type DuplicateRequests,
	type RememberedRequest,
	type RequestIdentity,
} from "./duplicate-requests.ts";
import { REQUEST_PASSES_MAX } from "./limits.ts";
import {
	type CallChannel,
	type EncodeResults,
	NULL_PROCEDURE,
	type Procedure,
	type Program,
	type SharedResults,
	type SuspendedCall,
} from "./program.ts";
import { CurrentRecord, type KeptRecord, type RecordRegion, RecordSlots } from "./record-slots.ts";
import type { ReplyWriter } from "./reply-writer.ts";
import { publishFailure } from "./rpc-failure.ts";
import { AcceptStatus, AUTH_BODY_BYTES_MAX, AuthFlavor, AuthStatus, MessageType, RPC_VERSION } from "./rpc-message.ts";
import { type Line, Slices } from "./slices.ts";

/** A connection as the dispatcher sees it. */
export interface ReplyChannel extends CallChannel {
	readonly reply: ReplyWriter;
	readonly callers: CallerCache;
	readonly source: ConnectionSource<ReplyChannel>;
	/** Its requests that go on, and replies that may go out. */
	readonly line: Line;
	/** Nothing is for this peer but procedure 0, by which it learns that the server is there. */
	readonly isRefused: boolean;
	/** A request that keeps this many bytes waits. */
	began(bytes: number): void;
	/** It does not any more. */
	ended(bytes: number): void;
	/** Sends what is in `reply` once the present turn of the event loop is through. */
	flushSoon(): void;
	/** Takes the peer's answer to a call of ours; its bytes may be used again when this returns. */
	answered(record: RecordRegion): void;
	destroy(): void;
}

/** A request that could not be answered in its first pass, with a copy of its record. */
interface WaitingRequest {
	readonly record: KeptRecord;
	readonly connection: ReplyChannel;
	readonly entry: RememberedRequest<ReplyChannel> | null;
	readonly bytesHeld: number;
	passes: number;
}

/** A request that is done, and whose reply has to wait. */
interface DeferredReply extends Pick<WaitingRequest, "connection" | "entry" | "bytesHeld"> {
	readonly xid: number;
}

/** A call that goes on where it was. */
interface SuspendedRun {
	readonly connection: ReplyChannel;
	readonly xid: number;
	readonly programName: string;
	readonly procedure: Procedure;
	passes: number;
}

/** The call being executed. One is enough: execution is synchronous. */
interface CurrentCall extends RequestIdentity {
	program: number;
	programName: string;
	caller: Caller;
	/** Where the stamp of an AUTH_SYS credential lies, or -1. */
	stamp: number;
}

/** For fields that may be any number of 32 bits: one that V8 does not keep as a small integer, see docs/decisions/029-warm-up.md. */
const ANY_WORD = 0xffffffff;
/** Requests that wait keep at least this much beside their record. */
const WAITING_OVERHEAD_BYTES = 256;

/** Decodes calls (RFC 5531 section 9), runs their procedures and sees to it that each gets its one reply. */
export class Dispatcher {
	readonly #programs: ReadonlyMap<number, Program>;
	readonly #duplicates: DuplicateRequests<ReplyChannel>;
	/** Writes replies that nobody waits for but the cache. */
	readonly #unsent: ReplyWriter;
	readonly #args = new XdrReader();
	readonly #call: CurrentCall;
	readonly #record = new CurrentRecord();
	readonly #records = new RecordSlots();
	/** Of requests that go on, of replies that were waited for, and of connections that have sent many requests at once. */
	readonly slices = new Slices();

	constructor(programs: readonly Program[], duplicates: DuplicateRequests<ReplyChannel>, unsent: ReplyWriter, nobody: Caller) {
		this.#programs = merged(programs);
		this.#duplicates = duplicates;
		this.#unsent = unsent;
		this.#call = {
			xid: ANY_WORD,
			program: 0,
			version: 0,
			procedure: 0,
			length: 0,
			checksumHi: ANY_WORD,
			checksumLo: ANY_WORD,
			programName: "",
			caller: nobody,
			stamp: -1,
		};
	}

	/** Calls taken so far. */
	calls = 0;

	/** Takes a record that arrived. Its bytes may be used again when this returns. */
	take(connection: ReplyChannel, record: RecordRegion): void {
		const { recordStart, recordEnd } = record;
		// Nothing can be answered to less than an xid and a message type, nor to a type that does not exist.
		if (recordEnd - recordStart < 8) {
			connection.destroy();
			return;
		}
		const type = record.recordView.getUint32(recordStart + 4);
		if (type === MessageType.reply) {
			connection.answered(record);
			return;
		}
		if (type !== MessageType.call) {
			connection.destroy();
			return;
		}
		this.calls++;
		this.#execute(connection, this.#record.of(record), null);
	}

	#execute(connection: ReplyChannel, record: CurrentRecord, waiting: WaitingRequest | null): void {
		const args = this.#args.reset(record.recordBytes, record.recordView, record.recordStart, record.recordEnd);
		const reply = connection.reply;
		const xid = args.u32();
		args.u32();
		reply.begin(xid);
		let procedure: Procedure | null;
		try {
			procedure = this.#header(connection, args, reply, xid);
		} catch (error) {
			if (!(error instanceof XdrError)) throw error;
			reply.abandon();
			reply.begin(xid);
			reply.accepted(AcceptStatus.garbageArguments);
			procedure = null;
		}
		if (procedure === null) {
			reply.finish();
			return;
		}
		let entry = waiting?.entry ?? null;
		if (procedure.remembered && waiting === null) {
			this.#identify(record);
			const known = this.#duplicates.find(connection.source, this.#call);
			if (known !== undefined) {
				reply.abandon();
				repeat(connection, known);
				return;
			}
			entry = this.#duplicates.begin(connection.source, this.#call);
		}
		this.#run(connection, record, procedure, entry, waiting);
	}

	/** Reads the header up to the arguments; null when the call is refused, with the refusal written. */
	#header(connection: ReplyChannel, args: XdrReader, reply: ReplyWriter, xid: number): Procedure | null {
		const call = this.#call;
		if (args.u32() !== RPC_VERSION) {
			reply.rpcMismatch();
			return null;
		}
		call.xid = xid;
		call.program = args.u32();
		call.version = args.u32();
		call.procedure = args.u32();
		const caller = this.#authenticate(connection, args);
		if (typeof caller === "number") {
			reply.authError(caller);
			return null;
		}
		call.caller = caller;
		const program = this.#programs.get(call.program);
		if (program === undefined) {
			reply.accepted(AcceptStatus.programUnavailable);
			return null;
		}
		call.programName = program.name;
		const version = program.versions.get(call.version);
		if (version === undefined) {
			const known = [...program.versions.keys()];
			reply.programMismatch(Math.min(...known), Math.max(...known));
			return null;
		}
		const procedure = version[call.procedure];
		if (procedure === undefined) {
			reply.accepted(AcceptStatus.procedureUnavailable);
			return null;
		}
		// As FreeBSD and Ganesha do; a client gives up a mount at once, which it would not where the connection is closed.
		if (connection.isRefused && procedure !== NULL_PROCEDURE) {
			reply.authError(AuthStatus.tooWeak);
			return null;
		}
		return procedure;
	}

	/** Credential and verifier (RFC 5531 section 8.2): who calls, or why they are refused. */
	#authenticate(connection: ReplyChannel, args: XdrReader): Caller | AuthStatus {
		const flavor = args.u32();
		const length = args.u32();
		if (length > AUTH_BODY_BYTES_MAX) return AuthStatus.badCredential;
		const body = args.fixed(length);
		const verifierFlavor = args.u32();
		const verifierLength = args.u32();
		if (verifierLength > AUTH_BODY_BYTES_MAX) return AuthStatus.badVerifier;
		args.fixed(verifierLength);
		this.#call.stamp = -1;
		if (flavor === AuthFlavor.none) return length === 0 ? connection.callers.anonymous() : AuthStatus.badCredential;
		// A short-hand that was never given, and flavors this server has no way to check (RFC 5531 section 9, auth_stat).
		if (flavor !== AuthFlavor.sys) return AuthStatus.rejectedCredential;
		if (verifierFlavor !== AuthFlavor.none) return AuthStatus.badVerifier;
		this.#call.stamp = body;
		return connection.callers.sys(args.bytes, args.view, body, length) ?? AuthStatus.badCredential;
	}

	/** Completes `#call` as an identity. The stamp is left out: some clients make a new one for each transmission. */
	#identify(record: CurrentRecord): void {
		const call = this.#call;
		call.length = record.recordEnd - record.recordStart;
		call.checksumHi = 0;
		call.checksumLo = 0;
		const afterXid = record.recordStart + 4;
		if (call.stamp < 0) {
			checksum(record.recordView, afterXid, record.recordEnd, call);
		} else {
			checksum(record.recordView, afterXid, call.stamp, call);
			checksum(record.recordView, call.stamp + 4, record.recordEnd, call);
		}
	}

	#run(
		connection: ReplyChannel,
		record: RecordRegion,
		procedure: Procedure,
		entry: RememberedRequest<ReplyChannel> | null,
		waiting: WaitingRequest | null,
	): void {
		const reply = connection.reply;
		const { xid, caller } = this.#call;
		reply.accepted(AcceptStatus.success);
		let outcome: undefined | Promise<EncodeResults> | SharedResults | SuspendedCall;
		try {
			outcome = procedure.run(caller, this.#args, reply, entry, connection);
		} catch (error) {
			reply.abandon();
			if (error instanceof Pending && (waiting?.passes ?? 0) < REQUEST_PASSES_MAX) {
				this.#wait(connection, record, entry, waiting, error);
				return;
			}
			// Nothing was changed, or nothing is known of what was: a repetition may try again.
			reply.begin(xid);
			reply.accepted(this.#failureStatus(error, procedure));
			reply.finish();
			this.#forget(connection, entry, reply);
			this.#release(waiting);
			return;
		}
		if (outcome === undefined) {
			this.#complete(connection, entry, reply);
			this.#release(waiting);
			return;
		}
		reply.abandon();
		if ("resume" in outcome) {
			this.#suspend({ connection, xid, programName: this.#call.programName, procedure, passes: 0 }, outcome);
			return;
		}
		waiting?.record.release();
		this.#defer(connection, outcome, procedure, entry, waiting);
	}

	/** What is done of a suspended call stays done, so it goes on whether its connection is there or not. */
	#suspend(run: SuspendedRun, call: SuspendedCall): void {
		const { connection } = run;
		connection.began(call.bytesHeld);
		const task = (): void => {
			try {
				this.#resume(run, call);
			} catch (error) {
				publishFailure(error, run.programName, run.procedure.name);
				connection.destroy();
			} finally {
				connection.ended(call.bytesHeld);
			}
		};
		this.slices.after(call.ready, connection.line, task);
	}

	#resume(run: SuspendedRun, call: SuspendedCall): void {
		const { connection, xid } = run;
		const reply = connection.closed ? this.#unsent : connection.reply;
		reply.begin(xid);
		reply.accepted(AcceptStatus.success);
		let next: undefined | SuspendedCall;
		try {
			next = call.resume(reply);
		} catch (error) {
			reply.abandon();
			reply.begin(xid);
			reply.accepted(AcceptStatus.systemError);
			publishFailure(error, run.programName, run.procedure.name);
		}
		if (next === undefined) reply.finish();
		else reply.abandon();
		if (connection.closed) reply.discard();
		else connection.flushSoon();
		if (next === undefined) return;
		run.passes++;
		if (run.passes < REQUEST_PASSES_MAX) this.#suspend(run, next);
		else throw new Error(`A request was not done after ${REQUEST_PASSES_MAX} passes`);
	}

	#failureStatus(error: unknown, procedure: Procedure): AcceptStatus {
		if (error instanceof XdrError) return AcceptStatus.garbageArguments;
		const cause = error instanceof Pending ? new Error(`A request was not done after ${REQUEST_PASSES_MAX} passes`) : error;
		publishFailure(cause, this.#call.programName, procedure.name);
		return AcceptStatus.systemError;
	}

	/** Ends the reply in `reply` and keeps it for repetitions. */
	#complete(connection: ReplyChannel, entry: RememberedRequest<ReplyChannel> | null, reply: ReplyWriter): void {
		reply.finish();
		if (entry === null) return;
		const record = reply.finishedRecord();
		this.#duplicates.finish(connection.source, entry, record);
		endRepetitions(connection, entry, record);
	}

	/** A repetition is to be run; who has repeated it meanwhile gets the reply that was finished last, if there is one. */
	#forget(connection: ReplyChannel, entry: RememberedRequest<ReplyChannel> | null, reply: ReplyWriter | null): void {
		if (entry === null) return;
		this.#duplicates.forget(connection.source, entry);
		if (entry.repeatedBy !== null) endRepetitions(connection, entry, reply?.finishedRecord() ?? null);
	}

	#wait(
		connection: ReplyChannel,
		record: RecordRegion,
		entry: RememberedRequest<ReplyChannel> | null,
		waiting: WaitingRequest | null,
		pending: Pending,
	): void {
		const request = waiting ?? this.#keep(connection, record, entry);
		if (waiting === null) connection.began(request.bytesHeld);
		request.passes++;
		// What made the wait fail will be met again by the next pass, which knows how to answer it.
		const task = (): void => {
			try {
				this.#again(request);
			} catch (error) {
				// Such as no memory for the reply: the peer learns it by losing the connection, and no other does.
				publishFailure(error, "", "");
				for (const waiting of [connection, ...(request.entry?.repeatedBy ?? [])]) waiting.destroy();
			}
		};
		this.slices.after(pending.ready, connection.line, task);
	}

	#keep(connection: ReplyChannel, record: RecordRegion, entry: RememberedRequest<ReplyChannel> | null): WaitingRequest {
		const kept = this.#records.keep(record);
		return { record: kept, connection, entry, bytesHeld: kept.heldBytes + WAITING_OVERHEAD_BYTES, passes: 0 };
	}

	#again(request: WaitingRequest): void {
		const connection = addressee(request);
		if (connection.closed) {
			// Nothing was changed yet, and nobody waits: as if the call had never come.
			this.#forget(connection, request.entry, null);
			this.#release(request);
			return;
		}
		this.#execute(connection, this.#record.of(request.record), request);
		connection.flushSoon();
	}

	#release(waiting: WaitingRequest | null): void {
		if (waiting === null) return;
		waiting.record.release();
		waiting.connection.ended(waiting.bytesHeld);
	}

	/** The work is done; the reply goes out when `outcome` says how it reads. */
	#defer(
		connection: ReplyChannel,
		outcome: Promise<EncodeResults> | SharedResults,
		procedure: Procedure,
		entry: RememberedRequest<ReplyChannel> | null,
		waiting: WaitingRequest | null,
	): void {
		const { xid, programName } = this.#call;
		// A rerun may have moved to a newer connection; the first one goes on counting it.
		const bytesHeld = waiting?.bytesHeld ?? WAITING_OVERHEAD_BYTES;
		const deferred = { connection: waiting?.connection ?? connection, entry, bytesHeld, xid };
		if (waiting === null) connection.began(bytesHeld);
		const failed = (error: unknown): void => {
			publishFailure(error, programName, procedure.name);
			this.#answer(deferred, null);
		};
		const answer = (encode: EncodeResults): void => {
			try {
				this.#answer(deferred, encode);
			} catch (error) {
				failed(error);
			}
		};
		const { line } = connection;
		if ("encode" in outcome)
			this.slices.after(outcome.ready, line, (isFulfilled) => answer((results) => outcome.encode(results, isFulfilled)));
		else outcome.then((encode) => this.slices.run(line, () => answer(encode)), failed);
	}

	#answer(deferred: DeferredReply, encode: EncodeResults | null): void {
		const connection = addressee(deferred);
		// The change was made: if nobody waits for its reply now, somebody may ask for it again.
		const reply = connection.closed ? this.#unsent : connection.reply;
		reply.begin(deferred.xid);
		reply.accepted(encode === null ? AcceptStatus.systemError : AcceptStatus.success);
		try {
			encode?.(reply);
		} catch (error) {
			reply.abandon();
			throw error;
		}
		this.#complete(connection, deferred.entry, reply);
		if (connection.closed) reply.discard();
		else connection.flushSoon();
		deferred.connection.ended(deferred.bytesHeld);
	}
}

/** Programs by number; versions of one may come from several rooms. RangeError where two give the same one. */
function merged(programs: readonly Program[]): Map<number, Program> {
	const byNumber = new Map<number, Program>();
	for (const program of programs) {
		const { number, name } = program;
		const known = byNumber.get(number)?.versions ?? new Map();
		for (const version of program.versions.keys()) {
			if (known.has(version)) throw new RangeError(`Version ${version} of the program ${name} is there twice`);
		}
		byNumber.set(number, { number, name, versions: new Map([...known, ...program.versions]) });
	}
	return byNumber;
}

/** Where the reply goes: to the connection by which the call came, and if that is closed to one by which it came once more. */
function addressee(request: Pick<WaitingRequest, "connection" | "entry">): ReplyChannel {
	if (!request.connection.closed) return request.connection;
	return request.entry?.repeatedBy?.find(({ closed }) => !closed) ?? request.connection;
}

/** A repeated call: the reply it had, or, while it runs, the reply that it will have. It is taken from no connection that waits for it. */
function repeat(connection: ReplyChannel, known: RememberedRequest<ReplyChannel>): void {
	if (known.reply !== null) {
		connection.reply.append(known.reply);
		return;
	}
	if (known.firstSource === connection.source || known.repeatedBy?.includes(connection)) return;
	const waiting = known.repeatedBy ?? [];
	for (const gone of waiting) if (gone.closed) gone.ended(0);
	known.repeatedBy = [...waiting.filter(({ closed }) => !closed), connection];
	connection.began(0);
}

/** Gives the reply to all who sent the call once more while it ran, but for `answered`, who has it. */
function endRepetitions(answered: ReplyChannel, entry: RememberedRequest<ReplyChannel>, record: Buffer | null): void {
	const waiting = entry.repeatedBy;
	if (waiting === null) return;
	entry.repeatedBy = null;
	for (const connection of waiting) {
		if (connection !== answered && !connection.closed && record !== null) {
			connection.reply.append(record);
			connection.flushSoon();
		}
		connection.ended(0);
	}
}
