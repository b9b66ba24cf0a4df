// Records of PAX headers, byte for byte (POSIX.1-2017, pax, "pax Extended Header").

import { UnpackError } from "./unpack-error.ts";

/** By key, as Latin-1. */
export type PaxRecords = ReadonlyMap<string, Buffer>;

export interface PaxHeader {
	readonly records: PaxRecords;
	/** Offset and length of each piece of a sparse file, in the one form of GNU tar that gives a key several times. */
	readonly sparsePairs: readonly string[];
}

const NONE: PaxHeader = { records: new Map(), sparsePairs: [] };
const SPARSE_OFFSET = "GNU.sparse.offset";
const SPARSE_LENGTH = "GNU.sparse.numbytes";
/** Keys that can be true of one entry only. */
const OF_ONE_ENTRY = ["size", "path", "linkpath"];
/** All values that hold for the whole archive. */
const GLOBAL_BYTES_MAX = 4 * 1024 * 1024;
const SPACE = 0x20;
const EQUALS = 0x3d;
const NEWLINE = 0x0a;

export function noPaxHeader(): PaxHeader {
	return NONE;
}

/** "LENGTH KEY=VALUE\n", one after another; a later one of the same key counts. UnpackError where it is none. */
export function parsePax(bytes: Buffer): PaxHeader {
	const records = new Map<string, Buffer>();
	const sparsePairs: string[] = [];
	for (let at = 0; at < bytes.length; ) {
		const space = bytes.indexOf(SPACE, at);
		const length = space < 0 ? 0 : (parseDecimal(bytes.toString("latin1", at, Math.min(space, at + 20)), 1, bytes.length - at) ?? 0);
		const end = at + length - 1;
		const equals = bytes.subarray(0, Math.max(end, 0)).indexOf(EQUALS, space);
		if (length === 0 || bytes[end] !== NEWLINE || equals < 0) {
			throw new UnpackError("a PAX header of it is damaged; get it again");
		}
		const key = bytes.toString("latin1", space + 1, equals);
		// a copy, so that the header it stands in can go
		const value = Buffer.from(bytes.subarray(equals + 1, end));
		records.set(key, value);
		if (key === SPARSE_OFFSET || key === SPARSE_LENGTH) {
			if ((key === SPARSE_OFFSET) !== (sparsePairs.length % 2 === 0)) throw new UnpackError("a PAX header of it is damaged; get it again");
			sparsePairs.push(value.toString("latin1"));
		}
		at = end + 1;
	}
	return { records, sparsePairs };
}

/** What holds for all entries that follow, with what a further header for all of them says. */
export function addGlobalRecords(before: PaxRecords, records: PaxRecords): PaxRecords {
	for (const key of OF_ONE_ENTRY) {
		if (records.has(key)) throw new UnpackError(`it gives one ${key} to all entries, which no layer does; pack it again`);
	}
	const all = new Map([...before, ...records]);
	let bytes = 0;
	for (const [key, value] of all) bytes += key.length + value.length;
	if (bytes > GLOBAL_BYTES_MAX) throw new UnpackError("its PAX headers for all entries have more than 4 MiB; no layer needs that");
	return all;
}

/** A decimal number without sign; undefined for anything else, and outside of the bounds. */
export function parseDecimal(text: string, least: number, most: number): number | undefined {
	const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
	return value >= least && value <= most ? value : undefined;
}
