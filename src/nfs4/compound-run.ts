// One COMPOUND in work: its operations one after the other, its file handles and stateids, and where it goes on after it had to wait.

import { ClaimError } from "../claims/errors.ts";
import type { ClaimChange, Session, Slot } from "../claims/operations.ts";
import type { Export } from "../exports/export.ts";
import { type Admission, credentialsOf } from "../exports/exports.ts";
import type { Caller } from "../rpc/caller.ts";
import { RECORD_BYTES_MAX } from "../rpc/limits.ts";
import type { CallChannel, SuspendedCall } from "../rpc/program.ts";
import { publishFailure } from "../rpc/rpc-failure.ts";
import { OverlayError, Pending } from "../vfs/errors.ts";
import type { ChangeKey, ClientRequest, Credentials, OverlayObject, OverlayOperations } from "../vfs/operations.ts";
import { ofSystem } from "../vfs/system-errors.ts";
import { XdrError } from "../xdr/xdr-error.ts";
import { XdrReader } from "../xdr/xdr-reader.ts";
import type { XdrWriter } from "../xdr/xdr-writer.ts";
import type { Compound, Place } from "./compound.ts";
import type { Nfs4Context } from "./context.ts";
import type { Finish, Operation, Outcome } from "./operation.ts";
import { operationOf } from "./operation-table.ts";
import { type KeptPlace, PROGRESS_BYTES_MAX, readProgress, writeProgress } from "./progress.ts";
import { MINOR_VERSION, OPAQUE_BYTES_MAX, Op } from "./protocol.ts";
import type { RequestDigest } from "./request-digest.ts";
import type { WireStateid } from "./stateid.ts";
import { CLAIM_STATUS, Nfs4Error, OVERLAY_STATUS, Status } from "./status.ts";
import { ILLEGAL } from "./unsupported.ts";

/** Memory that a suspended compound keeps beside its bytes. */
const SUSPENDED_BYTES = 512;

/** A compound that has run for so long lets others in; it is looked at behind each so many operations. */
const TURN_MILLISECONDS = 5;
const OPERATIONS_OF_TURN = 8;

/** Of a place whose object was never looked for. */
const NO_PASS = -1;

/** The change that comes first in a compound, to be told where it did not reach the disk. */
interface FirstChange {
	readonly operation: Operation;
	readonly index: number;
	/** Where its result begins in the reply. */
	readonly at: number;
}

export class CompoundRun implements Compound {
	readonly context: Nfs4Context;
	readonly caller: Caller;
	readonly channel: CallChannel;
	readonly requestBytes: number;
	digest: RequestDigest = { length: 0, hi: 0, lo: 0 };
	readonly count: number;
	index = 0;
	current: Place | null = null;
	saved: Place | null = null;
	stateid: WireStateid | null = null;
	savedStateid: WireStateid | null = null;
	slot: Slot | null = null;
	#minorVersion: number;
	#tag: Uint8Array;
	#args: XdrReader;
	/** The record is its own, and may be kept over a wait. */
	#ownsArgs = false;
	/** Where the results of this compound begin in the reply. */
	#head = 0;
	#status: Status = Status.ok;
	#operation: Operation | null = null;
	#operationStart = 0;
	#resultStart = 0;
	#finish: Finish | null = null;
	#pass = 0;
	/** Exports whose pass has begun. */
	#begun: Export[] = [];
	#changed: OverlayOperations[] = [];
	#firstChange: FirstChange | null = null;
	#hasWaitedForDisk = false;
	#diskFailed = false;
	#request: ClientRequest | null = null;
	#willChangeTold = false;
	replay: Uint8Array | null = null;
	/** Where the results behind that of SEQUENCE begin, counted from `#head`. */
	#behindSequence = 0;
	/** Something was done since the last change that a retry might find otherwise. */
	#hasLooked = false;
	#hasKeptProgress = false;

	/** Reads the header (RFC 8881 section 16.2.1). Throws XdrError. */
	constructor(context: Nfs4Context, caller: Caller, channel: CallChannel, args: XdrReader) {
		this.context = context;
		this.caller = caller;
		this.channel = channel;
		this.requestBytes = args.end - args.start;
		this.#tag = args.opaque(OPAQUE_BYTES_MAX);
		this.#minorVersion = args.u32();
		this.count = args.u32();
		this.#args = args;
	}

	get tagBytes(): number {
		return this.#tag.length;
	}

	get session(): Session {
		return (this.slot as Slot).session;
	}

	/** Runs it as far as it goes. */
	run(reply: XdrWriter): undefined | SuspendedCall {
		this.#head = reply.length;
		reply.u32(Status.ok);
		reply.opaque(this.#tag);
		reply.u32(0);
		if (this.#minorVersion !== MINOR_VERSION) {
			reply.patchU32(this.#head, Status.minorVersMismatch);
			return undefined;
		}
		return this.#goOn(reply);
	}

	#resume(reply: XdrWriter, results: Uint8Array): undefined | SuspendedCall {
		reply.raw(results);
		if (this.#operation !== null) this.#beginResult(reply, this.#operation);
		return this.#goOn(reply);
	}

	#goOn(reply: XdrWriter): undefined | SuspendedCall {
		this.#pass++;
		this.#begun = [];
		const began = this.count > OPERATIONS_OF_TURN ? this.context.now() : 0;
		while (this.#operation !== null || (this.#status === Status.ok && this.index < this.count)) {
			if (this.#operation === null && !this.#begin(reply)) break;
			const suspended = this.#step(reply, this.#operation as unknown as Operation);
			if (suspended !== undefined) return suspended;
			if (this.index === 1 && this.slot !== null) this.#beginBehindSequence(reply, this.slot);
			if (this.replay !== null) {
				reply.rewind(this.#head);
				reply.raw(this.replay);
				return undefined;
			}
			const isTurn = this.index % OPERATIONS_OF_TURN === 0 && this.index < this.count && this.#status === Status.ok;
			if (isTurn && this.context.now() - began > TURN_MILLISECONDS) return this.#suspend(reply, nextTurn(), false);
		}
		return this.#end(reply);
	}

	/** Reads the number of the next operation. */
	#begin(reply: XdrWriter): boolean {
		let number: number;
		try {
			number = this.#args.u32();
		} catch (error) {
			if (!(error instanceof XdrError)) throw error;
			// it cannot even be named
			this.#status = Status.badxdr;
			return false;
		}
		this.#operation = operationOf(number);
		this.#operationStart = this.#args.position;
		this.#beginResult(reply, this.#operation);
		return true;
	}

	#beginResult(reply: XdrWriter, operation: Operation): void {
		this.#resultStart = reply.length;
		reply.u64(operation.number, Status.ok);
	}

	/** One operation, or what is left of it. */
	#step(reply: XdrWriter, operation: Operation): undefined | SuspendedCall {
		let status: Status;
		try {
			let outcome: Outcome;
			if (this.#finish === null) {
				const refusal = this.#refusal(operation, reply);
				if (this.#hasLooked && operation.resultBytesMax > 0 && operation.looks !== true) this.#keepProgress(operation, reply);
				outcome = refusal === Status.ok ? operation.run(this, this.#args, reply) : refusal;
				if (refusal !== Status.ok) operation.fail?.(reply);
			} else {
				outcome = this.#finish;
			}
			if (typeof outcome === "function") {
				this.#finish = outcome;
				outcome = outcome(reply);
			}
			if (typeof outcome !== "number") return this.#waitFor(reply, outcome);
			status = outcome;
		} catch (error) {
			if (error instanceof Pending) return this.#suspend(reply, error.ready, this.#finish === null);
			reply.rewind(this.#resultStart + 8);
			status = this.#tellAgain(operation, reply) ? Status.ok : this.#statusOf(error, operation);
			if (status !== Status.ok) operation.fail?.(reply);
		}
		this.#done(reply, operation, status);
		return undefined;
	}

	/** A retry after a restart goes on where a change came last, with the results of then. */
	#beginBehindSequence(reply: XdrWriter, { outcome, progress }: Slot): void {
		this.#behindSequence = reply.length - this.#head;
		if ((outcome !== "rerun" && outcome !== "dead") || progress === null) return;
		const { index, bytesLeft, current, saved, results } = readProgress(progress);
		reply.raw(results);
		this.index = index;
		this.#args.position = this.#args.end - bytesLeft;
		this.current = this.#placeAgain(current);
		this.stateid = current?.stateid ?? null;
		this.saved = this.#placeAgain(saved);
		this.savedStateid = saved?.stateid ?? null;
	}

	#placeAgain(kept: KeptPlace | null): Place | null {
		const served = kept === null ? null : this.context.namespace.byHandle(kept.handle);
		return kept === null || served === null ? null : this.placeOfHandle(served, kept.handle);
	}

	/** Before this operation changes something. */
	#keepProgress(operation: Operation, reply: XdrWriter): void {
		const { claims } = this.context;
		this.#hasLooked = false;
		if (!claims.isPersistent) return;
		const from = this.#head + this.#behindSequence;
		const results = reply.viewFrom(from).subarray(0, this.#resultStart - from);
		const { index, current, saved } = this;
		const kept = {
			index,
			// with the number of the operation
			bytesLeft: this.#args.end - this.#operationStart + 4,
			current: current === null ? null : { handle: current.handle, stateid: this.stateid },
			saved: saved === null ? null : { handle: saved.handle, stateid: this.savedStateid },
			results,
		};
		const isLong = results.length > PROGRESS_BYTES_MAX;
		// what opens and locks change is found as it was
		if (isLong && operation.again === undefined) return;
		claims.keepProgress(this.slot as Slot, isLong ? null : writeProgress(kept));
		this.#hasKeptProgress = true;
		this.#willChangeTold = false;
	}

	/** An operation that fails, but was done before a restart: its result of then. */
	#tellAgain(operation: Operation, reply: XdrWriter): boolean {
		if (operation.again === undefined || this.slot === null || this.current === null || this.#operationStart < 0) return false;
		const answer = this.current.served.overlay.answerTo(this.#key(this.slot));
		if (answer === null || answer.error !== null) return false;
		this.#args.position = this.#operationStart;
		operation.again(this, this.#args, reply, answer.handle);
		return true;
	}

	#done(reply: XdrWriter, operation: Operation, status: Status): void {
		let told = status;
		if (status === Status.ok && operation.resultBytesMax === 0 && this.room(reply) < 0) {
			told = this.tooBigStatus(reply);
			reply.rewind(this.#resultStart + 8);
		}
		reply.patchU32(this.#resultStart + 4, told);
		this.#status = told;
		this.index++;
		if (operation.looks === true) this.#hasLooked = true;
		this.#operation = null;
		this.#finish = null;
	}

	/** Why an operation is not run at all, or "ok". */
	#refusal(operation: Operation, reply: XdrWriter): Status {
		if (operation === ILLEGAL) return Status.ok;
		if (this.index === 0) {
			if (operation.number === Op.sequence) return Status.ok;
			if (operation.isAlone !== true) return Status.opNotInSession;
			return this.count > 1 ? Status.notOnlyOp : Status.ok;
		}
		if (operation.number === Op.sequence) return Status.sequencePos;
		if (operation.number === Op.bindConnToSession) return Status.notOnlyOp;
		if (operation.resultBytesMax > 0 && this.room(reply) < operation.resultBytesMax) return this.tooBigStatus(reply);
		return Status.ok;
	}

	room(reply: XdrWriter): number {
		if (this.slot === null) return RECORD_BYTES_MAX - reply.length;
		// the record mark does not count
		const room = this.session.fore.responseBytes - (reply.length - 4);
		const kept = this.context.claims.keptBytes(this.slot);
		return kept === 0 ? room : Math.min(room, kept - (reply.length - this.#head));
	}

	tooBigStatus(reply: XdrWriter): Status {
		const { slot } = this;
		if (slot === null) return Status.repTooBig;
		const kept = this.context.claims.keptBytes(slot);
		const isKeeping = kept !== 0 && kept - (reply.length - this.#head) < this.session.fore.responseBytes - (reply.length - 4);
		return isKeeping ? Status.repTooBigToCache : Status.repTooBig;
	}

	#statusOf(thrown: unknown, operation: Operation): Status {
		const error = ofSystem(thrown);
		if (error instanceof OverlayError) return OVERLAY_STATUS[error.code];
		if (error instanceof Nfs4Error) return error.status;
		if (error instanceof ClaimError) return CLAIM_STATUS[error.code];
		if (error instanceof XdrError) return Status.badxdr;
		publishFailure(error, "NFS", operation.name);
		return Status.serverfault;
	}

	/** The work of an operation is done, or fails, when the promise is settled. */
	#waitFor(reply: XdrWriter, outcome: Promise<Finish>): SuspendedCall {
		const settled = outcome.then(
			(finish) => {
				this.#finish = finish;
			},
			(error: unknown) => {
				this.#finish = () => {
					throw error;
				};
			},
		);
		return this.#suspend(reply, settled, false);
	}

	/** Keeps what is done. `again`: the operation is run again from its own first byte. */
	#suspend(reply: XdrWriter, ready: Promise<unknown>, again: boolean): SuspendedCall {
		if (again) this.#args.position = this.#operationStart;
		const results = reply.copyFrom(this.#head);
		const kept = this.#operation === null ? results : results.subarray(0, this.#resultStart - this.#head);
		if (!this.#ownsArgs) {
			// a call that cannot fail any more needs no arguments
			const { bytes, position, end } = this.#args;
			const rest = new Uint8Array(bytes.subarray(position, end));
			this.#args = XdrReader.over(rest);
			this.#operationStart -= position;
			this.#tag = new Uint8Array(this.#tag);
			this.#ownsArgs = true;
		}
		const bytesHeld = SUSPENDED_BYTES + results.length + this.#args.end;
		return { bytesHeld, ready, resume: (writer) => this.#resume(writer, kept) };
	}

	/** All operations are done, or one has failed: the reply waits for the disk, is kept, and goes out. */
	#end(reply: XdrWriter): undefined | SuspendedCall {
		const status = this.#status;
		reply.patchU32(this.#head, status);
		reply.patchU32(this.#head + 8 + ((this.#tag.length + 3) & ~3), this.index);
		if (!this.#hasWaitedForDisk && this.#changed.length > 0) {
			this.#hasWaitedForDisk = true;
			const waits = this.#changed.map((overlay) => overlay.stable()).filter((wait) => wait !== null);
			const kept = this.#hasKeptProgress && waits.length > 0 ? this.context.claims.flush() : null;
			if (kept !== null) waits.push(kept);
			if (waits.length > 0) {
				const ready = Promise.all(waits).catch(() => {
					this.#diskFailed = true;
				});
				return this.#suspend(reply, ready, false);
			}
		}
		if (this.#diskFailed) this.#tellDiskFailure(reply);
		if (this.slot !== null) this.context.claims.finish(this.slot, reply.viewFrom(this.#head));
		return undefined;
	}

	/** The first change of the compound fails, and all behind it was never done, as far as anybody can tell. */
	#tellDiskFailure(reply: XdrWriter): void {
		this.#diskFailed = false;
		const { operation, index, at } = this.#firstChange as FirstChange;
		reply.rewind(at);
		reply.u64(operation.number, Status.io);
		operation.fail?.(reply);
		this.#status = Status.io;
		this.index = index + 1;
		this.#end(reply);
	}

	here(): Place {
		if (this.current === null) throw new Nfs4Error(Status.nofilehandle, "There is no current file handle");
		return this.current;
	}

	savedPlace(): Place {
		if (this.saved === null) throw new Nfs4Error(Status.nofilehandle, "There is no saved file handle");
		return this.saved;
	}

	object(place: Place): OverlayObject {
		if (place.pass !== this.#pass) {
			this.enter(place.served);
			place.object = place.served.overlay.decode(place.handle);
			place.pass = this.#pass;
		}
		return place.object;
	}

	placeOf(served: Export, object: OverlayObject): Place {
		return { served, handle: object.handle, object, pass: this.#pass };
	}

	placeOfHandle(served: Export, handle: Uint8Array): Place {
		return { served, handle, object: served.overlay.root, pass: NO_PASS };
	}

	moveTo(place: Place): void {
		this.current = place;
		this.stateid = null;
	}

	enter(served: Export): void {
		if (this.#begun.includes(served)) return;
		this.#begun.push(served);
		served.overlay.beginPass();
	}

	admission(served: Export): Admission {
		return this.context.namespace.admission(served, this.caller);
	}

	who(served: Export): Credentials {
		return credentialsOf(this.admission(served));
	}

	request(session: Session, sequence: number, slot: number): ClientRequest {
		const { length, hi, lo } = this.digest;
		return { owner: `s${Buffer.from(session.id).toString("latin1")}`, numbers: [sequence, slot, length, hi, lo, 0, 0] };
	}

	mayChange(served: Export): ChangeKey {
		this.who(served);
		this.#refuseReadOnly(served);
		const slot = this.slot as Slot;
		const key = this.#key(slot);
		if (slot.outcome === "dead" && served.overlay.answerTo(key) === null) throw deadSession();
		if (!this.#willChangeTold) {
			this.context.claims.willChange(slot);
			this.#willChangeTold = true;
		}
		return key;
	}

	#key({ session, sequence, number }: Slot): ChangeKey {
		this.#request ??= this.request(session, sequence, number);
		return { request: this.#request, change: this.index };
	}

	mayWrite(served: Export): void {
		this.#refuseReadOnly(served);
		if (this.slot?.outcome === "dead") throw deadSession();
	}

	#refuseReadOnly(served: Export): void {
		if (this.admission(served).readOnly) throw new OverlayError("rofs", "The export is read-only for this client");
	}

	changed(served: Export): void {
		if (!this.#changed.includes(served.overlay)) this.#changed.push(served.overlay);
		this.#firstChange ??= { operation: this.#operation as Operation, index: this.index, at: this.#resultStart };
	}

	claimChange(): ClaimChange {
		return { slot: this.slot as Slot, operation: this.index };
	}
}

function nextTurn(): Promise<void> {
	return new Promise((resolve) => setImmediate(resolve));
}

/** A session of before a failure of the host changes nothing any more: its client begins another one, and asks again there. */
function deadSession(): Nfs4Error {
	return new Nfs4Error(Status.deadsession, "The session is of before a failure of the host");
}
