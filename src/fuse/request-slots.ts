// The slots that requests are received into, and lie in until they are answered.

import type { AddressedBytes } from "../linux/memory.ts";
import { LARGE_SLOT_BYTES, LARGE_SLOTS, LARGE_SLOTS_AT, SMALL_SLOT_BYTES, SMALL_SLOTS, SMALL_SLOTS_AT } from "./kept-layout.ts";
import { PAGE_BYTES } from "./protocol.ts";

/**
 * A slot is in use as long as its first word, the length of the request, is not 0. read(2) puts a request into a large one. If it has to wait it
 * moves to a small one, or keeps its own if it is too long for that.
 */
export class RequestSlots {
	readonly #bytes: Buffer;
	readonly #words: Uint32Array;
	readonly #large: number[] = [];
	readonly #small: number[] = [];
	readonly #isTouched = new Set<number>();

	constructor({ bytes }: AddressedBytes) {
		this.#bytes = bytes;
		this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
		for (const at of places(LARGE_SLOTS_AT, LARGE_SLOT_BYTES, LARGE_SLOTS)) if (!this.isUsed(at)) this.#large.push(at);
		for (const at of places(SMALL_SLOTS_AT, SMALL_SLOT_BYTES, SMALL_SLOTS)) if (!this.isUsed(at)) this.#small.push(at);
	}

	isUsed(at: number): boolean {
		return this.#words[at >>> 2] !== 0;
	}

	/** Requests that nobody has answered, in the order in which the kernel has made them. */
	left(): number[] {
		const used = [
			...places(LARGE_SLOTS_AT, LARGE_SLOT_BYTES, LARGE_SLOTS),
			...places(SMALL_SLOTS_AT, SMALL_SLOT_BYTES, SMALL_SLOTS),
		].filter((at) => this.isUsed(at));
		const unique = (at: number) => this.#words[(at >>> 2) + 2] + this.#words[(at >>> 2) + 3] * 4294967296;
		return used.sort((a, b) => unique(a) - unique(b));
	}

	/** Where the next request is received; -1: all slots are in use. */
	get next(): number {
		const at = this.#large[this.#large.length - 1] ?? -1;
		if (at >= 0 && !this.#isTouched.has(at)) this.#touch(at);
		return at;
	}

	/** The request in the next slot waits: where it is from now on. */
	keep(): number {
		const from = this.#large[this.#large.length - 1];
		const length = this.#words[from >>> 2];
		const to = length <= SMALL_SLOT_BYTES ? this.#small.pop() : undefined;
		if (to === undefined) {
			this.#large.pop();
			return from;
		}
		// whole before it counts, and then twice for a moment: that does no harm
		this.#bytes.copy(this.#bytes, to + 4, from + 4, from + length);
		this.#words[to >>> 2] = length;
		this.#words[from >>> 2] = 0;
		return to;
	}

	/** The request in the next slot needs no further look. */
	clear(at: number): void {
		this.#words[at >>> 2] = 0;
	}

	/** A request that was kept is done. */
	release(at: number): void {
		this.clear(at);
		(at < SMALL_SLOTS_AT ? this.#large : this.#small).push(at);
	}

	/** A page that is not there yet would have to be got within read(2), which fails there once the process is to die. */
	#touch(at: number): void {
		for (let page = at; page < at + LARGE_SLOT_BYTES; page += PAGE_BYTES) this.#bytes[page] = 0;
		this.#isTouched.add(at);
	}
}

function places(start: number, size: number, count: number): number[] {
	return Array.from({ length: count }, (_, i) => start + i * size);
}
