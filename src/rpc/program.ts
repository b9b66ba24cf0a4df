// What a remote program is to the dispatcher.

import type { RequestOrigin } from "../vfs/operations.ts";
import type { XdrReader } from "../xdr/xdr-reader.ts";
import type { XdrWriter } from "../xdr/xdr-writer.ts";
import type { Caller } from "./caller.ts";
import type { RequestIdentity } from "./duplicate-requests.ts";

/** Writes the results of a procedure. */
export type EncodeResults = (reply: XdrWriter) => void;

/** Results that have to wait for what many may wait for, as one flush. */
export interface SharedResults {
	readonly ready: Promise<unknown>;
	/** Called when `ready` is settled. */
	encode(reply: XdrWriter, isFulfilled: boolean): void;
}

/** A request that is remembered. */
export interface TakenRequest extends RequestIdentity {
	readonly origin: RequestOrigin;
}

/** A call of ours to the peer of a connection, which serves a program there. */
export interface ServerCall {
	readonly program: number;
	readonly version: number;
	readonly procedure: number;
	/** By which the peer knows us: AUTH_SYS (RFC 5531 appendix A), or null for AUTH_NONE. */
	readonly credential: Uint8Array | null;
	readonly encode: (call: XdrWriter) => void;
	readonly timeoutMilliseconds: number;
}

/** The connection that a call came by, as programs see it: one object for as long as it lasts. */
export interface CallChannel {
	readonly closed: boolean;
	/** It is quiet by nature, as one that is there for calls to its peer: closed after all others when connections run out. */
	isSpared: boolean;
	/** Of connections of one server, in the order in which they came. */
	readonly number: number;
	/**
	 * Calls the peer. Resolves with the results, which are the caller's to keep; rejects with CallError when it was refused, when no answer came in
	 * time, when the connection closes, and at once when too many calls are under way.
	 */
	call(call: ServerCall): Promise<XdrReader>;
	/** `listener` is called once, when the connection closes or at once if it is closed. */
	whenClosed(listener: () => void): void;
}

/**
 * A call that is done in part and waits. It keeps what it needs by itself: its record may be overwritten. It is run to its end even if its
 * connection closes meanwhile.
 */
export interface SuspendedCall {
	/** Memory that it keeps. */
	readonly bytesHeld: number;
	/** Its outcome does not matter: what made it fail is met again by who goes on. */
	readonly ready: Promise<unknown>;
	/** Goes on. Undefined: all results are written; else it waits again, and what was written is of no use. Must not throw Pending. */
	resume(reply: XdrWriter): undefined | SuspendedCall;
}

/** One remote procedure. */
export interface Procedure {
	readonly name: string;
	/** A repeated call must get the reply of the first and not be run again. */
	readonly remembered: boolean;
	/**
	 * Reads the arguments, does the work, writes the results. May throw XdrError (GARBAGE_ARGS) and Pending (it is run again
	 * from its start); anything else is a fault of ours (SYSTEM_ERR). Views of the arguments are valid until it returns.
	 * A promise, or shared results, mean that the work is done, and that the reply has to wait. `identity` tells a remembered request from all others.
	 * A suspended call is for procedures that are not remembered.
	 */
	run(
		caller: Caller,
		args: XdrReader,
		reply: XdrWriter,
		identity: TakenRequest | null,
		channel: CallChannel,
	): undefined | Promise<EncodeResults> | SharedResults | SuspendedCall;
}

/** A remote program (RFC 5531 section 8.3): its versions, each a table of procedures by number. Several may give versions of one number. */
export interface Program {
	readonly number: number;
	readonly name: string;
	readonly versions: ReadonlyMap<number, readonly Procedure[]>;
}

/** Procedure 0 of every program does nothing (RFC 5531 section 12.1). */
export const NULL_PROCEDURE: Procedure = { name: "NULL", remembered: false, run() {} };
