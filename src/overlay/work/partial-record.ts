// The record on disk that says which granules of a partial file are present.

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { allocateRange, readInto, truncateFile, writeFrom } from "../../linux/data.ts";
import { namesOf } from "../../linux/directory.ts";
import { ERRNO } from "../../linux/errno.ts";
import { allocate } from "../../linux/memory.ts";
import { unlinkName } from "../../linux/names.ts";
import { close, O, openAt, openPath } from "../../linux/open.ts";
import { fstat, Stat, uniqueMountId } from "../../linux/stat.ts";
import { attempt, must } from "../../vfs/system-errors.ts";
import { crc32 } from "../format/crc32.ts";

/**
 * The record of a partial file, a file of upper with some of its bytes still in a lower. On disk: two slots for the header (the newer
 * sound one counts), then one bit for each granule that is stable, then one for each granule that is present.
 */
export interface PartialHeader {
	readonly granuleBytes: number;
	/** Granules that the bits are for. */
	readonly granules: number;
	/** Bytes of the data in the lower. */
	readonly dataSize: number;
	/** Bytes of the lower count only below this. */
	readonly lowerEnd: number;
}

export interface PartialBits {
	/** Granules whose bytes are in upper, and on its disk. */
	readonly stable: Uint8Array;
	/** Granules whose bytes are in upper, at least in the page cache. */
	readonly present: Uint8Array;
}

const MAGIC = 0x68667072;
const VERSION = 1;
const SLOT_BYTES = 2048;
const HEADER_BYTES = 2 * SLOT_BYTES;
const RUN_BYTES = 16;
const CRC_AT = 64;
const SLOT_USED = 68;
/** Records kept open, so that each write to a partial file does not open one. */
const OPEN_MAX = 64;
/** Files of more than 256 GiB have larger granules. */
const GRANULES_MAX = 2 ** 22;
/** 8 EiB would not fit into a Number exactly. */
const HALF = 0x100000000;

/** How large the granules of so many bytes are, at least `least`. */
export function granuleBytesFor(size: number, least: number): number {
	let bytes = least;
	while (size / bytes > GRANULES_MAX) bytes *= 2;
	return bytes;
}

export function bitmapBytes(granules: number): number {
	return Math.ceil(granules / 8);
}

function presentAt(granules: number): number {
	return HEADER_BYTES + Math.ceil(bitmapBytes(granules) / HEADER_BYTES) * HEADER_BYTES;
}

/**
 * Names the time for which the page cache of a file system keeps what it was given: this boot, and where the kernel tells (Linux 6.8) this
 * mount of it. What is said to be present in another one may be lost.
 */
export function runOf(path: string): Buffer {
	const fd = openPath(path, O.path);
	const mount = fd < 0 ? "" : uniqueMountId(fd);
	if (fd >= 0) close(fd);
	const boot = readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
	return createHash("sha256").update(`${boot} ${mount}`).digest().subarray(0, RUN_BYTES);
}

interface OpenRecord {
	readonly fd: number;
	sequence: number;
}

/** `work/holdfast/partial`: a record for each partial file, named by the record of its upper inode in hex. */
export class PartialRecords {
	readonly #path: string;
	readonly #run: Buffer;
	/** Negative as long as there is no folder. */
	#folder: number;
	readonly #open = new Map<string, OpenRecord>();

	constructor(folder: string, run: Buffer) {
		this.#path = join(folder, "partial");
		this.#run = run;
		this.#folder = openPath(this.#path, O.rdonly | O.directory);
		if (this.#folder !== -ERRNO.ENOENT) must(this.#folder, `Cannot open ${this.#path}`);
	}

	names(): string[] {
		if (this.#folder < 0) return [];
		return must(namesOf(this.#folder), `Cannot read ${this.#path}`).map((name) => name.toString("latin1"));
	}

	/** Nothing of it is on the disk before `sync` was waited for. */
	create(name: string, header: PartialHeader): void {
		if (this.#folder < 0) {
			attempt(() => mkdirSync(this.#path, { recursive: true, mode: 0o700 }));
			this.#folder = must(openPath(this.#path, O.rdonly | O.directory), `Cannot open ${this.#path}`);
		}
		this.remove(name);
		const fd = must(openAt(this.#folder, name, O.creat | O.excl | O.rdwr | O.nofollow, 0o600), "Cannot make the record of a partial file");
		this.#keep(name, { fd, sequence: 0 });
		const size = presentAt(header.granules) + bitmapBytes(header.granules);
		// so that no bit lacks room later, when its data has been written
		const allocated = allocateRange(fd, 0, 0, size);
		must(allocated === -ERRNO.EOPNOTSUPP ? truncateFile(fd, size) : allocated, "Cannot make the record of a partial file");
		this.writeHeader(name, header);
	}

	/** Null where there is no sound one: then nothing of the file was ever made stable. */
	read(name: string): { readonly header: PartialHeader; readonly bits: PartialBits } | null {
		const found = this.#read(name);
		if (found !== null && !found.isSameRun) {
			// the bits first: with the header of this run they are believed
			this.writePresent(name, found.header, found.bits.present, 0, found.bits.present.length);
			this.writeHeader(name, found.header);
		}
		return found;
	}

	/** As `read`, and writes nothing: for who looks while a server may run. */
	peek(name: string): { readonly header: PartialHeader; readonly bits: PartialBits } | null {
		return this.#read(name);
	}

	#read(name: string): { readonly header: PartialHeader; readonly bits: PartialBits; readonly isSameRun: boolean } | null {
		const { fd } = this.#opened(name);
		const slots = readAt(fd, 0, HEADER_BYTES);
		const found = [slots.subarray(0, SLOT_BYTES), slots.subarray(SLOT_BYTES)].map(decodeSlot).filter((slot) => slot !== null);
		if (found.length === 0) return null;
		const newest = found.reduce((a, b) => (b.sequence > a.sequence ? b : a));
		const { header } = newest;
		this.#opened(name).sequence = newest.sequence;
		const length = bitmapBytes(header.granules);
		const stat = new Stat();
		if (fstat(fd, stat) < 0 || stat.size < presentAt(header.granules) + length) return null;
		const stable = readAt(fd, HEADER_BYTES, length);
		const isSameRun = newest.run.equals(this.#run);
		const present = isSameRun ? readAt(fd, presentAt(header.granules), length) : Buffer.from(stable);
		return { header, bits: { stable, present }, isSameRun };
	}

	writeHeader(name: string, header: PartialHeader): void {
		const record = this.#opened(name);
		record.sequence++;
		const slot = encodeSlot(record.sequence, header, this.#run);
		writeAt(record.fd, slot, (record.sequence % 2) * SLOT_BYTES);
	}

	/** Bytes `from` to `to` of the bits. */
	writePresent(name: string, header: PartialHeader, bits: Uint8Array, from: number, to: number): void {
		writeAt(this.#opened(name).fd, bits.subarray(from, to), presentAt(header.granules) + from);
	}

	writeStable(name: string, bits: Uint8Array, from: number, to: number): void {
		writeAt(this.#opened(name).fd, bits.subarray(from, to), HEADER_BYTES + from);
	}

	/** A descriptor of its own, for a flush in another thread. */
	descriptor(name: string): number {
		return must(openAt(this.#folder, name, O.rdonly | O.nofollow), "Cannot open the record of a partial file");
	}

	remove(name: string): void {
		const open = this.#open.get(name);
		if (open !== undefined) close(open.fd);
		this.#open.delete(name);
		if (this.#folder >= 0) unlinkName(this.#folder, name);
	}

	close(): void {
		for (const { fd } of this.#open.values()) close(fd);
		this.#open.clear();
		if (this.#folder >= 0) close(this.#folder);
		this.#folder = -1;
	}

	#opened(name: string): OpenRecord {
		const known = this.#open.get(name);
		if (known !== undefined) return known;
		const fd = must(openAt(this.#folder, name, O.rdwr | O.nofollow), "Cannot open the record of a partial file");
		const slots = readAt(fd, 0, HEADER_BYTES);
		const sequences = [slots.subarray(0, SLOT_BYTES), slots.subarray(SLOT_BYTES)].map((slot) => decodeSlot(slot)?.sequence ?? 0);
		return this.#keep(name, { fd, sequence: Math.max(...sequences) });
	}

	#keep(name: string, record: OpenRecord): OpenRecord {
		for (const [oldest, { fd }] of this.#open) {
			if (this.#open.size < OPEN_MAX) break;
			close(fd);
			this.#open.delete(oldest);
		}
		this.#open.set(name, record);
		return record;
	}
}

/** Whether the first bytes of a record say something. */
export function isSoundRecord(header: Buffer): boolean {
	return decodeSlot(header.subarray(0, SLOT_BYTES)) !== null || decodeSlot(header.subarray(SLOT_BYTES)) !== null;
}

function encodeSlot(sequence: number, { granuleBytes, granules, dataSize, lowerEnd }: PartialHeader, run: Buffer): Buffer {
	const slot = Buffer.alloc(SLOT_USED);
	slot.writeUInt32LE(MAGIC, 0);
	slot.writeUInt32LE(VERSION, 4);
	slot.writeUInt32LE(sequence, 8);
	slot.writeUInt32LE(granuleBytes, 12);
	slot.writeUInt32LE(granules, 16);
	for (const [at, size] of [
		[24, dataSize],
		[32, lowerEnd],
	]) {
		slot.writeUInt32LE(size % HALF, at);
		slot.writeUInt32LE(Math.floor(size / HALF), at + 4);
	}
	slot.set(run, 40);
	slot.writeUInt32LE(crc32(slot.subarray(0, CRC_AT)), CRC_AT);
	return slot;
}

function decodeSlot(slot: Buffer): { readonly sequence: number; readonly header: PartialHeader; readonly run: Buffer } | null {
	if (slot.length < SLOT_USED || slot.readUInt32LE(0) !== MAGIC || slot.readUInt32LE(4) !== VERSION) return null;
	if (crc32(slot.subarray(0, CRC_AT)) !== slot.readUInt32LE(CRC_AT)) return null;
	const size = (at: number) => slot.readUInt32LE(at + 4) * HALF + slot.readUInt32LE(at);
	const header = { granuleBytes: slot.readUInt32LE(12), granules: slot.readUInt32LE(16), dataSize: size(24), lowerEnd: size(32) };
	if (header.granuleBytes === 0 || header.granules > GRANULES_MAX) return null;
	if (header.lowerEnd > header.granules * header.granuleBytes) return null;
	return { sequence: slot.readUInt32LE(8), header, run: Buffer.from(slot.subarray(40, 40 + RUN_BYTES)) };
}

/** As much of these bytes as there are. */
function readAt(fd: number, offset: number, length: number): Buffer {
	const { bytes, address } = allocate(Math.max(length, 1));
	let count = 0;
	while (count < length) {
		const got = must(readInto(fd, address + count, length - count, offset + count), "Cannot read the record of a partial file");
		if (got === 0) break;
		count += got;
	}
	return bytes.subarray(0, count);
}

function writeAt(fd: number, bytes: Uint8Array, offset: number): void {
	for (let done = 0; done < bytes.length; ) {
		done += must(writeFrom(fd, bytes.subarray(done), offset + done), "Cannot write the record of a partial file");
	}
}
