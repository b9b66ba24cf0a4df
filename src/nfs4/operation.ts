// What an operation of a compound is.

import type { XdrReader } from "../xdr/xdr-reader.ts";
import type { XdrWriter } from "../xdr/xdr-writer.ts";
import type { Compound } from "./compound.ts";
import type { Status } from "./status.ts";

/**
 * What is left of an operation when it cannot fail any more, or when its change is made: writes what follows the status and gives that. It may
 * throw Pending, and is then called again, in a later pass.
 */
export type Finish = (reply: XdrWriter) => Status;

/** A status, with what follows it written; or what is left to do, now or when something has been waited for. */
export type Outcome = Status | Finish | Promise<Finish>;

/** An operation of RFC 8881 section 18. */
export interface Operation {
	readonly number: number;
	readonly name: string;
	/**
	 * It changes something: its result has at most so many bytes behind the status, for which there must be room in the reply before it begins.
	 * 0: it changes nothing, and is refused afterwards if its result is too long.
	 */
	readonly resultBytesMax: number;
	/**
	 * Its result tells what it finds, or nobody remembers that it was done: if a change comes behind it, that is kept for a retry after a restart, which
	 * might find the change.
	 */
	readonly looks?: boolean;
	/** May come without SEQUENCE before it, and then alone. */
	readonly isAlone?: boolean;
	/**
	 * Decodes everything, does its work, writes what follows the status NFS4_OK. Throws OverlayError, ClaimError, Nfs4Error and XdrError, and then
	 * nothing was changed; or Pending: it is run again, from its own first byte.
	 */
	run(compound: Compound, args: XdrReader, reply: XdrWriter): Outcome;
	/**
	 * The overlay has made its change before a restart, and now it fails, as on a directory that has gone since: reads all arguments, and writes what follows
	 * the status NFS4_OK. `handle`: of what it made.
	 */
	again?(compound: Compound, args: XdrReader, reply: XdrWriter, handle: Uint8Array | null): void;
	/** Writes what follows the status of a failure; nothing for most. */
	fail?(reply: XdrWriter): void;
}
