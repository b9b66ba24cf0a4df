// What a remote program is to the dispatcher.

import type { RequestOrigin } from "../vfs/operations.ts";
import type { XdrReader } from "../xdr/xdr-reader.ts";
import type { XdrWriter } from "../xdr/xdr-writer.ts";
import type { Caller } from "./caller.ts";
import type { RequestIdentity } from "./duplicate-requests.ts";

/** Writes the results of a procedure. */
export type EncodeResults = (reply: XdrWriter) => void;

/** A request that is remembered. */
export interface TakenRequest extends RequestIdentity {
	readonly origin: RequestOrigin;
}

/** One remote procedure. */
export interface Procedure {
	readonly name: string;
	/** A repeated call must get the reply of the first and not be run again. */
	readonly remembered: boolean;
	/**
	 * Reads the arguments, does the work, writes the results. May throw XdrError (GARBAGE_ARGS) and Pending (it is run again
	 * from its start); anything else is a fault of ours (SYSTEM_ERR). Views of the arguments are valid until it returns.
	 * A promise means that the work is done, and that the reply has to wait. `identity` tells a remembered request from all others.
	 */
	run(caller: Caller, args: XdrReader, reply: XdrWriter, identity: TakenRequest | null): undefined | Promise<EncodeResults>;
}

/** A remote program (RFC 5531 section 8.3): its versions, each a table of procedures by number. Several may give versions of one number. */
export interface Program {
	readonly number: number;
	readonly name: string;
	readonly versions: ReadonlyMap<number, readonly Procedure[]>;
}

/** Procedure 0 of every program does nothing (RFC 5531 section 12.1). */
export const NULL_PROCEDURE: Procedure = { name: "NULL", remembered: false, run() {} };
