// What a request for claims can be answered besides success: a closed set.

import { ERRNO } from "../linux/errno.ts";

/** By the names of RFC 8881 section 15.1. Only added to, since the log has their places. A front end has one table from these codes to its own, total by the type checker. */
export const CLAIM_ERROR_CODES = [
	"bad_high_slot",
	"bad_range",
	"bad_session",
	"bad_slot",
	"bad_stateid",
	"clid_inuse",
	"clientid_busy",
	"complete_already",
	"dead_session",
	"delay",
	"expired",
	"grace",
	"inval",
	"locked",
	"locks_held",
	"no_grace",
	"noent",
	"nospc",
	"not_same",
	"old_stateid",
	"openmode",
	"perm",
	"reclaim_bad",
	"reclaim_conflict",
	"retry_uncached_rep",
	"seq_false_retry",
	"seq_misordered",
	"share_denied",
	"stale_clientid",
	"dquot",
] as const;

export type ClaimErrorCode = (typeof CLAIM_ERROR_CODES)[number];

/** The one error that claims throw for what a client can cause or must be told. Nothing was changed by the call that threw it. */
export class ClaimError extends Error {
	readonly code: ClaimErrorCode;

	constructor(code: ClaimErrorCode, message: string) {
		super(message);
		this.name = "ClaimError";
		this.code = code;
	}
}

/** What it is answered that something cannot be written. */
export function unwritten(errno: number): "nospc" | "dquot" {
	return Math.abs(errno) === ERRNO.EDQUOT ? "dquot" : "nospc";
}

/** The files that remember claims cannot be used; the message is a sentence for who runs the server. */
export class ClaimFilesError extends Error {
	/** Negated, of the system call that failed; 0: there is none. */
	readonly errno: number;

	constructor(message: string, errno = 0) {
		super(message);
		this.name = "ClaimFilesError";
		this.errno = errno;
	}
}
