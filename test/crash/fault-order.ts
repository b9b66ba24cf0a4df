/** What a test tells the injection of faults, and what it is told. */

import { constants } from "node:os";

const { EACCES, EDQUOT, EIO, EMFILE, ENOSPC, EROFS } = constants.errno;

/** What a client may be told of each error besides success. */
export const ERRORS: Readonly<Record<string, readonly [error: number, statuses: readonly string[]]>> = {
	ENOSPC: [ENOSPC, ["nospc"]],
	EDQUOT: [EDQUOT, ["dquot"]],
	EROFS: [EROFS, ["rofs"]],
	EIO: [EIO, ["io"]],
	EACCES: [EACCES, ["acces"]],
	EMFILE: [EMFILE, ["jukebox"]],
};

export interface FaultOrder {
	/** Which of the calls that may have the error has it, the first being 1; Infinity is not to be had in 32 bits: 0 counts only. */
	readonly at: number;
	/** The error number. */
	readonly error: number;
	/** All further ones have it too. */
	readonly isFrom: boolean;
}

export interface FaultReport {
	/** Calls that may have the error. */
	readonly seen: number;
	/** Those that had it. */
	readonly hits: number;
	/** Of the first of them. */
	readonly name: string;
}

export function formatOrder({ at, error, isFrom }: FaultOrder): string {
	return `${at} ${error} ${isFrom ? 1 : 0}`;
}

export function parseOrder(text: string): FaultOrder {
	const [at, error, isFrom] = text.split(" ").map(Number);
	return { at, error, isFrom: isFrom === 1 };
}
