// Where the data of a sparse file lies, in the four forms that GNU tar has written it (GNU tar manual, "Storing Sparse Files").

import type { ByteReader } from "./byte-source.ts";
import { type PaxHeader, parseDecimal } from "./pax-records.ts";
import { BLOCK_BYTES, numberAt } from "./tar-header.ts";

/** A piece of a file that is not a hole, in bytes. */
export interface Extent {
	readonly offset: number;
	readonly length: number;
}

export interface SparseMap {
	/** Of the file, with its holes. */
	readonly size: number;
	readonly extents: readonly Extent[];
	/** Bytes that the map itself has taken of the content. */
	readonly mapBytes: number;
}

/** More pieces than this are refused: the map is held in memory. */
const EXTENTS_MAX = 1_048_576;
const PAIR_BYTES = 24;
const HEADER_PAIRS_AT = 386;
const HEADER_PAIRS = 4;
const HEADER_IS_EXTENDED_AT = 482;
const HEADER_SIZE_AT = 483;
const EXTENSION_PAIRS = 21;
const EXTENSION_IS_EXTENDED_AT = 504;
const NUMBER_BYTES = 12;
const LINE_BYTES_MAX = 20;
const NEWLINE = 0x0a;

/** The old GNU form, type "S": in the header, and in blocks that follow it. Null: damaged. */
export async function readOldSparseMap(block: Buffer, reader: ByteReader): Promise<SparseMap | null> {
	const size = numberAt(block, [HEADER_SIZE_AT, NUMBER_BYTES]);
	const numbers: number[] = [];
	addPairs(numbers, block, HEADER_PAIRS_AT, HEADER_PAIRS);
	for (let isExtended = block[HEADER_IS_EXTENDED_AT] !== 0; isExtended; ) {
		const extension = await reader.take(BLOCK_BYTES);
		if (extension.length < BLOCK_BYTES || numbers.length > 2 * EXTENTS_MAX) return null;
		isExtended = extension[EXTENSION_IS_EXTENDED_AT] !== 0;
		addPairs(numbers, extension, 0, EXTENSION_PAIRS);
	}
	return mapOf(size, numbers, 0);
}

/** Up to the first pair that is empty. */
function addPairs(numbers: number[], block: Buffer, start: number, count: number): void {
	for (let at = start; at < start + count * PAIR_BYTES && block[at] !== 0; at += PAIR_BYTES) {
		numbers.push(numberAt(block, [at, NUMBER_BYTES]), numberAt(block, [at + NUMBER_BYTES, NUMBER_BYTES]));
	}
}

export function isSparse({ records }: PaxHeader): boolean {
	for (const key of records.keys()) if (key.startsWith("GNU.sparse.")) return true;
	return false;
}

/** The PAX forms 0.0 and 0.1, which have it in the header, and 1.0, which has it before the content. Null: damaged, or a form unknown. */
export async function readPaxSparseMap(header: PaxHeader, reader: ByteReader, storedBytes: number): Promise<SparseMap | null> {
	const record = (key: string) => header.records.get(`GNU.sparse.${key}`)?.toString("latin1");
	const size = decimal(record("realsize") ?? record("size"));
	const [major, minor] = [record("major") ?? "0", record("minor")];
	if (major === "1" && minor === "0") {
		const start = reader.offset;
		const numbers = await readNumbers(reader, storedBytes);
		return numbers === null ? null : mapOf(size, numbers, reader.offset - start);
	}
	if (major !== "0" || (minor !== undefined && minor !== "0" && minor !== "1")) return null;
	const map = record("map");
	const numbers = (map === undefined ? header.sparsePairs : map === "" ? [] : map.split(",")).map(decimal);
	const count = record("numblocks");
	return count !== undefined && decimal(count) * 2 !== numbers.length ? null : mapOf(size, numbers, 0);
}

/** "COUNT\nOFFSET\nLENGTH\n...", filled up to whole blocks. */
async function readNumbers(reader: ByteReader, storedBytes: number): Promise<number[] | null> {
	const numbers: number[] = [];
	let wanted = 1;
	let line = "";
	for (let read = 0; wanted > 0 && read < storedBytes; read += BLOCK_BYTES) {
		const block = await reader.take(BLOCK_BYTES);
		if (block.length < BLOCK_BYTES) return null;
		for (let at = 0; at < BLOCK_BYTES && wanted > 0; ) {
			const newline = block.indexOf(NEWLINE, at);
			line += block.toString("latin1", at, newline < 0 ? BLOCK_BYTES : newline);
			if (line.length > LINE_BYTES_MAX) return null;
			if (newline < 0) break;
			at = newline + 1;
			const value = decimal(line);
			line = "";
			if (numbers.length === 0) {
				if (!(value <= EXTENTS_MAX)) return null;
				wanted += value * 2;
			}
			numbers.push(value);
			wanted--;
		}
	}
	return wanted > 0 ? null : numbers.slice(1);
}

function decimal(text: string | undefined): number {
	return parseDecimal(text ?? "", 0, Number.MAX_SAFE_INTEGER) ?? Number.NaN;
}

/** The pieces must follow one another and lie within the file. */
function mapOf(size: number, numbers: readonly number[], mapBytes: number): SparseMap | null {
	if (!(Number.isSafeInteger(size) && size >= 0) || numbers.length % 2 !== 0 || numbers.length > 2 * EXTENTS_MAX) return null;
	const extents: Extent[] = [];
	let end = 0;
	for (let at = 0; at < numbers.length; at += 2) {
		const [offset, length] = [numbers[at], numbers[at + 1]];
		if (!(offset >= end && length >= 0 && offset + length <= size)) return null;
		end = offset + length;
		if (length > 0) extents.push({ offset, length });
	}
	return { size, extents, mapBytes };
}
