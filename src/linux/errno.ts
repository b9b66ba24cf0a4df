// Error numbers, their names, and the error for a system call that should not have failed.

import { constants } from "node:os";

/** Error numbers of this machine; calls in this folder return them negated. */
export const ERRNO = constants.errno;
/** Missing from node:os: "no such attribute" is ENODATA on Linux. */
export const ENODATA = 61;

const names = new Map<number, string>();

for (const [name, value] of Object.entries(ERRNO)) if (!names.has(value)) names.set(value, name);

/** "ENOENT" for -2 or 2. */
export function errnoName(error: number): string {
	return names.get(Math.abs(error)) ?? `errno ${Math.abs(error)}`;
}

/** A system call failed where no caller's mistake explains it. */
export class SystemCallError extends Error {
	readonly errno: number;

	constructor(attempt: string, error: number) {
		super(`${attempt}: ${errnoName(error)}`);
		this.name = "SystemCallError";
		this.errno = Math.abs(error);
	}
}

/** The result if it is none of the errors, else throws. */
export function must(value: number, attempt: string): number {
	if (value < 0) throw new SystemCallError(attempt, value);
	return value;
}
