// Hashes of the names in the index, by which it is known without a system call that it has no entry of a name.

import { visitEntries } from "../../linux/directory.ts";
import { ERRNO } from "../../linux/errno.ts";
import type { FileHandle } from "../../linux/file-handle.ts";

/** More names than this are not kept: 4 MiB. */
export const NAMES_MAX = 786_432;
const SLOTS_MIN = 256;
/** Marks a free slot; no name has it for a hash. */
const FREE = 0;

/**
 * A set of 32-bit hashes of names. It only grows: a name that is not among them was never added, while another may have the hash of one
 * that was. An open table with linear probing that is at most three quarters full.
 */
export class EntryHashes {
	#slots: Uint32Array;
	#count = 0;
	#isFull = false;

	constructor(slots: Uint32Array = new Uint32Array(SLOTS_MIN)) {
		this.#slots = slots;
		for (const hash of slots) if (hash !== FREE) this.#count++;
	}

	/** The table itself, to be handed to another thread. */
	get slots(): Uint32Array {
		return this.#slots;
	}

	/** More names were added than are kept: it knows nothing any more. */
	get isFull(): boolean {
		return this.#isFull;
	}

	add(name: string | Uint8Array): void {
		this.#insert(hashOf(name));
	}

	addAll(other: EntryHashes): void {
		if (other.#isFull) this.#fill();
		for (const hash of other.#slots) if (hash !== FREE) this.#insert(hash);
	}

	/** False: the name was never added. */
	mayHave(name: string): boolean {
		return this.#mayHave(hashOf(name));
	}

	/** The same of the name that the record of an object has in hex, which need not be made for it. */
	mayHaveRecord(uuid: Uint8Array, { type, bytes }: FileHandle): boolean {
		return this.#mayHave(hashOfId(type, bytes, 0, bytes.length, hashOfUuid(uuid, 0)));
	}

	#mayHave(hash: number): boolean {
		if (this.#isFull) return true;
		const slots = this.#slots;
		const mask = slots.length - 1;
		for (let at = hash & mask; ; at = (at + 1) & mask) {
			if (slots[at] === hash) return true;
			if (slots[at] === FREE) return false;
		}
	}

	#insert(hash: number): void {
		if (this.#isFull) return;
		const mask = this.#slots.length - 1;
		let at = hash & mask;
		for (; this.#slots[at] !== FREE; at = (at + 1) & mask) if (this.#slots[at] === hash) return;
		if (this.#count >= NAMES_MAX) {
			this.#fill();
			return;
		}
		this.#slots[at] = hash;
		this.#count++;
		if (this.#count * 4 > this.#slots.length * 3) this.#grow();
	}

	#fill(): void {
		this.#isFull = true;
		this.#slots = new Uint32Array(SLOTS_MIN);
	}

	#grow(): void {
		const slots = new Uint32Array(this.#slots.length * 2);
		const mask = slots.length - 1;
		for (const hash of this.#slots) {
			if (hash === FREE) continue;
			let at = hash & mask;
			while (slots[at] !== FREE) at = (at + 1) & mask;
			slots[at] = hash;
		}
		this.#slots = slots;
	}
}

/** Names of the index are records in hex (encodeRecord); of any other name this makes some number too. */
function hashOf(name: string | Uint8Array): number {
	const length = Math.min(name.length >> 1, record.length);
	record.fill(0, length);
	for (let i = 0; i < length; i++) record[i] = (digitAt(name, 2 * i) << 4) | digitAt(name, 2 * i + 1);
	return hashOfId(record[TYPE_AT], record, ID_AT, Math.max(ID_AT, length), hashOfUuid(record, UUID_AT));
}

/** A name has at most 255 bytes. */
const record = Buffer.alloc(128);
/** Where they stand in a record. */
const TYPE_AT = 4;
const UUID_AT = 5;
const ID_AT = 21;

function digitAt(name: string | Uint8Array, at: number): number {
	const digit = typeof name === "string" ? name.charCodeAt(at) : name[at];
	return ((digit & 15) + (digit >> 6) * 9) & 15;
}

/** MurmurHash3, 32 bits, of bytes[start, end), four at a time. */
function hashOfId(type: number, bytes: Uint8Array, start: number, end: number, seed: number): number {
	let hash = seed ^ type;
	let at = start;
	for (; at + 4 <= end; at += 4) hash = mixed(hash, wordAt(bytes, at));
	let rest = 0;
	for (; at < end; at++) rest = (rest << 8) | bytes[at];
	hash = mixed(hash, rest) ^ (end - start);
	hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
	hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
	return (hash ^ (hash >>> 16)) >>> 0 || 1;
}

function hashOfUuid(bytes: Uint8Array, at: number): number {
	return wordAt(bytes, at) ^ wordAt(bytes, at + 4) ^ wordAt(bytes, at + 8) ^ wordAt(bytes, at + 12);
}

function wordAt(bytes: Uint8Array, at: number): number {
	return bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
}

function mixed(hash: number, word: number): number {
	const part = Math.imul(word, 0xcc9e2d51);
	const next = hash ^ Math.imul((part << 15) | (part >>> 17), 0x1b873593);
	return (Math.imul((next << 13) | (next >>> 19), 5) + 0xe6546b64) | 0;
}

/**
 * Adds the names in a directory opened for reading, from its beginning on, and at most `limit` of them. Whether that is all; else the negated
 * error number.
 */
export function addEntries(fd: number, hashes: EntryHashes, limit: number): boolean | number {
	let count = 0;
	const status = visitEntries(fd, (name) => {
		if (count++ === limit) return false;
		hashes.add(name);
		return undefined;
	});
	return status < 0 ? status : count <= limit;
}

/** The slots of all names in a directory opened for reading, or the negated error number; -ENOSPC: they are too many. */
export function hashEntries(fd: number): Uint32Array | number {
	const hashes = new EntryHashes();
	const status = addEntries(fd, hashes, Number.POSITIVE_INFINITY);
	if (typeof status === "number") return status;
	return hashes.isFull ? -ERRNO.ENOSPC : hashes.slots;
}
