// The table on disk that leads from paths to the kernel handles of before a rebind, and back.

import { createHash } from "node:crypto";
import { closeSync, fsyncSync, openSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import { readInto } from "../linux/data.ts";
import type { FileHandle } from "../linux/file-handle.ts";
import { type AddressedBytes, allocate } from "../linux/memory.ts";
import { pathExists, readFileNamed } from "../linux/read-file.ts";
import { describeThrown } from "../vfs/system-errors.ts";
import type { Birth } from "./handle-provider.ts";
import { LayerError } from "./layer-error.ts";
import { CHECK_BYTES, HASH_BYTES } from "./portable-id.ts";

/**
 * What an object of a lower was known by when its export still had kernel handles: its id, and what its file id was made of. Three files, for all
 * lowers of a home: `rows`, sorted by layer and path, `by-handle`, the numbers of rows sorted by id, and `paths`.
 *
 * A row of 96 bytes, numbers big-endian: at 0 the layer's place in the home (2), at 2 the first bytes of the path's id (16), at 18 the type and at 19
 * the length of the kernel handle, at 20 its bytes (44), at 64 what shows whether the lower was changed (4), at 68 the link count (4), at 72 the
 * number of the inode space (2), at 74 the inode number (8), at 82 where in `paths` its path is (6), at 88 how long that is (4).
 */
export interface ReboundRow {
	readonly layer: number;
	readonly hash: Buffer;
	readonly handle: FileHandle;
	readonly check: Buffer;
	readonly nlink: number;
	readonly birth: Birth;
	readonly path: Buffer;
}

const ROW_BYTES = 96;
const KEY_BYTES = 2 + HASH_BYTES;
const HANDLE_AT = 18;
const HANDLE_BYTES = 46;
const NUMBER_BYTES = 4;
const PATH_BYTES_MAX = 256 * 1024;
const FILES = { rows: "rows", byHandle: "by-handle", paths: "paths" } as const;
/** SHA-256 of each of them. Folders of earlier versions have none. */
const DIGEST_FILE = "digests";
/** Larger tables, of half a million names, would hold up a start: they are not looked at as a whole. */
const VERIFIED_BYTES_MAX = 64 * 1024 * 1024;

/** Collects rows and writes them sorted. */
export class ReboundWriter {
	#rows = Buffer.alloc(ROW_BYTES * 1024);
	#count = 0;
	readonly #paths: number;
	#pathsEnd = 0;
	readonly #folder: string;

	constructor(folder: string) {
		this.#folder = folder;
		this.#paths = openSync(join(folder, FILES.paths), "w", 0o600);
	}

	add(row: ReboundRow): void {
		if ((this.#count + 1) * ROW_BYTES > this.#rows.length) {
			const larger = Buffer.alloc(this.#rows.length * 2);
			this.#rows.copy(larger);
			this.#rows = larger;
		}
		const bytes = this.#rows.subarray(this.#count * ROW_BYTES, ++this.#count * ROW_BYTES);
		bytes.writeUInt16BE(row.layer, 0);
		row.hash.copy(bytes, 2, 0, HASH_BYTES);
		putHandle(bytes.subarray(HANDLE_AT), row.handle);
		row.check.copy(bytes, 64, 0, CHECK_BYTES);
		bytes.writeUInt32BE(row.nlink, 68);
		bytes.writeUInt16BE(row.birth.space, 72);
		bytes.writeUInt32BE(row.birth.inoHi, 74);
		bytes.writeUInt32BE(row.birth.inoLo, 78);
		bytes.writeUIntBE(this.#pathsEnd, 82, 6);
		bytes.writeUInt32BE(row.path.length, 88);
		for (let done = 0; done < row.path.length; ) done += writeSync(this.#paths, row.path, done);
		this.#pathsEnd += row.path.length;
	}

	/** Writes all of it down. The number of rows. */
	finish(): number {
		const rows = this.#rows;
		const order = (start: number, length: number) => (a: number, b: number) =>
			rows.compare(rows, b * ROW_BYTES + start, b * ROW_BYTES + start + length, a * ROW_BYTES + start, a * ROW_BYTES + start + length);
		const byPath = Uint32Array.from({ length: this.#count }, (_, i) => i).sort(order(0, KEY_BYTES));
		const sorted = Buffer.alloc(this.#count * ROW_BYTES);
		for (const [to, from] of byPath.entries()) rows.copy(sorted, to * ROW_BYTES, from * ROW_BYTES, (from + 1) * ROW_BYTES);
		this.#rows = sorted;
		const byHandle = Uint32Array.from({ length: this.#count }, (_, i) => i).sort(
			(a, b) =>
				sorted.compare(
					sorted,
					b * ROW_BYTES + HANDLE_AT,
					b * ROW_BYTES + HANDLE_AT + HANDLE_BYTES,
					a * ROW_BYTES + HANDLE_AT,
					a * ROW_BYTES + HANDLE_AT + HANDLE_BYTES,
				) || a - b,
		);
		const numbers = Buffer.alloc(this.#count * NUMBER_BYTES);
		for (const [i, row] of byHandle.entries()) numbers.writeUInt32BE(row, i * NUMBER_BYTES);
		write(join(this.#folder, FILES.rows), sorted);
		write(join(this.#folder, FILES.byHandle), numbers);
		fsyncSync(this.#paths);
		closeSync(this.#paths);
		write(join(this.#folder, DIGEST_FILE), Buffer.from(digestsOf(this.#folder)));
		return this.#count;
	}
}

function write(path: string, bytes: Buffer): void {
	const file = openSync(path, "w", 0o600);
	for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done);
	fsyncSync(file);
	closeSync(file);
}

function digestsOf(folder: string): string {
	const digest = (name: string) =>
		createHash("sha256")
			.update(readFileNamed(join(folder, name)))
			.digest("hex");
	return Object.values(FILES)
		.map((name) => `${name} ${digest(name)}\n`)
		.join("");
}

/** LayerError: the files are not as they were written. */
function verify(folder: string): void {
	const path = join(folder, DIGEST_FILE);
	if (!pathExists(path)) return;
	const restore = `Restore ${folder} from a backup: the handles of before the rebind are found by it.`;
	const written = readFileNamed(path).toString("latin1");
	const size = Object.values(FILES).reduce((sum, name) => sum + (statSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0), 0);
	if (size > VERIFIED_BYTES_MAX) return;
	let found: string;
	try {
		found = digestsOf(folder);
	} catch (error) {
		throw new LayerError(`Cannot read the rows of a rebind in ${folder}: ${describeThrown(error)}. ${restore}`);
	}
	if (found === written) return;
	const lines = found.split("\n");
	const damaged = written.split("\n").findIndex((line, i) => line !== lines[i]);
	const name = Object.values(FILES)[damaged] ?? DIGEST_FILE;
	throw new LayerError(`Cannot use ${join(folder, name)}: it is damaged, for its digest is not the one in ${path}. ${restore}`);
}

function putHandle(at: Buffer, { type, bytes }: FileHandle): void {
	if (bytes.length > HANDLE_BYTES - 2) throw new LayerError(`A kernel handle of ${bytes.length} bytes cannot be kept.`);
	at.fill(0, 0, HANDLE_BYTES);
	at[0] = type;
	at[1] = bytes.length;
	bytes.copy(at, 2);
}

/** Finds rows by path and by id, by bisection on disk. */
export class ReboundRows {
	readonly #rows: number;
	readonly #byHandle: number;
	readonly #paths: number;
	readonly #count: number;
	readonly #memory: AddressedBytes = allocate(PATH_BYTES_MAX);

	/** LayerError: its files are damaged. */
	constructor(folder: string) {
		verify(folder);
		this.#count = Math.floor(statSync(join(folder, FILES.byHandle)).size / NUMBER_BYTES);
		this.#rows = openSync(join(folder, FILES.rows), "r");
		this.#byHandle = openSync(join(folder, FILES.byHandle), "r");
		this.#paths = openSync(join(folder, FILES.paths), "r");
	}

	byPath(layer: number, hash: Uint8Array): ReboundRow | null {
		const wanted = Buffer.alloc(KEY_BYTES);
		wanted.writeUInt16BE(layer, 0);
		wanted.set(hash.subarray(0, HASH_BYTES), 2);
		const found = this.#bisect((i) => this.#row(i).compare(wanted, 0, KEY_BYTES, 0, KEY_BYTES));
		return found < 0 ? null : this.#read(found);
	}

	/** The first of the names of an object. */
	byHandle(handle: FileHandle): ReboundRow | null {
		if (handle.bytes.length > HANDLE_BYTES - 2) return null;
		const wanted = Buffer.alloc(HANDLE_BYTES);
		putHandle(wanted, handle);
		const found = this.#bisect((i) => this.#row(this.#number(i)).compare(wanted, 0, HANDLE_BYTES, HANDLE_AT, HANDLE_AT + HANDLE_BYTES));
		return found < 0 ? null : this.#read(this.#number(found));
	}

	close(): void {
		for (const file of [this.#rows, this.#byHandle, this.#paths]) closeSync(file);
	}

	/** The first place where `compare` says 0; negative where there is none. */
	#bisect(compare: (i: number) => number): number {
		let low = 0;
		let high = this.#count;
		while (low < high) {
			const middle = (low + high) >>> 1;
			if (compare(middle) < 0) low = middle + 1;
			else high = middle;
		}
		return low < this.#count && compare(low) === 0 ? low : -1;
	}

	#number(i: number): number {
		this.#take(this.#byHandle, NUMBER_BYTES, i * NUMBER_BYTES);
		return this.#memory.bytes.readUInt32BE(0);
	}

	/** A view that the next call uses again. */
	#row(i: number): Buffer {
		this.#take(this.#rows, ROW_BYTES, i * ROW_BYTES);
		return this.#memory.bytes.subarray(0, ROW_BYTES);
	}

	#read(i: number): ReboundRow {
		const bytes = Buffer.from(this.#row(i));
		const length = bytes.readUInt32BE(88);
		this.#take(this.#paths, Math.min(length, PATH_BYTES_MAX), bytes.readUIntBE(82, 6));
		return {
			layer: bytes.readUInt16BE(0),
			hash: bytes.subarray(2, KEY_BYTES),
			handle: { type: bytes[HANDLE_AT], bytes: bytes.subarray(HANDLE_AT + 2, HANDLE_AT + 2 + bytes[HANDLE_AT + 1]) },
			check: bytes.subarray(64, 64 + CHECK_BYTES),
			nlink: bytes.readUInt32BE(68),
			birth: { space: bytes.readUInt16BE(72), inoHi: bytes.readUInt32BE(74), inoLo: bytes.readUInt32BE(78) },
			path: Buffer.from(this.#memory.bytes.subarray(0, Math.min(length, PATH_BYTES_MAX))),
		};
	}

	#take(file: number, length: number, position: number): void {
		if (readInto(file, this.#memory.address, length, position) !== length)
			throw new LayerError("The rows of a rebind end too early: restore them.");
	}
}
