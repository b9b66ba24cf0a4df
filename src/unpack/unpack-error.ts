// Why something cannot be unpacked, and names of archives in sentences about it.

import { showName } from "../vfs/names.ts";

/** Why an archive cannot be unpacked: the end of a sentence that begins with its name. */
export class UnpackError extends Error {
	constructor(reason: string) {
		super(reason);
		this.name = "UnpackError";
	}
}

/** Why one entry cannot be unpacked. `entry` is its name, or null for the entry that is being unpacked. */
export class EntryError extends UnpackError {
	readonly entry: Buffer | null;

	constructor(reason: string, entry: Buffer | null = null) {
		super(reason);
		this.name = "EntryError";
		this.entry = entry;
	}
}

/** A name out of an archive as it may be printed. */
export function quoteName(name: Uint8Array): string {
	return `"${showName(name).replaceAll('"', "\\x22")}"`;
}
