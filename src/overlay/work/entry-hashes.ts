// Hashes of the names in the index, by which it is known without a system call that it has no entry of a name.

import { visitEntries } from "../../linux/directory.ts";
import { ERRNO } from "../../linux/errno.ts";

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
		if (this.#isFull) return true;
		const slots = this.#slots;
		const mask = slots.length - 1;
		const hash = hashOf(name);
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

/** FNV-1a with the last mixing of MurmurHash3, so that the low bits are as good as the high ones. A name of the index is hex: one byte for each character. */
function hashOf(name: string | Uint8Array): number {
	let hash = 0x811c9dc5;
	if (typeof name === "string") for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ (name.charCodeAt(i) & 0xff), 0x01000193);
	else for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name[i], 0x01000193);
	hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
	hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
	return (hash ^ (hash >>> 16)) >>> 0 || 1;
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
