// The pool of memory for replies.

import type { AddressedBytes } from "../linux/memory.ts";
import { Slab } from "../xdr/xdr-writer.ts";
import { LARGE_SLAB_BYTES, SMALL_SLAB_BYTES } from "./limits.ts";

const SMALL_KEPT_MAX = 64;
const LARGE_KEPT_MAX = 8;

/** Memory for replies: two sizes, used again and again. What the kernel has not taken yet is out of the pool. */
export class SlabPool {
	readonly #allocate: (size: number) => AddressedBytes;
	readonly #heldBytesMax: number;
	/** Called when a slab was taken that brings the memory outside the pool over its bound. */
	onExcess: (() => void) | null = null;
	#heldBytes = 0;
	readonly #small: Slab[] = [];
	readonly #large: Slab[] = [];

	constructor(allocate: (size: number) => AddressedBytes, heldBytesMax: number) {
		this.#allocate = allocate;
		this.#heldBytesMax = heldBytesMax;
	}

	take(size: number): Slab {
		const slab = this.#take(size);
		this.#heldBytes += slab.bytes.length;
		if (this.#heldBytes > this.#heldBytesMax) this.onExcess?.();
		return slab;
	}

	#take(size: number): Slab {
		if (size <= SMALL_SLAB_BYTES) return this.#small.pop() ?? new Slab(this.#allocate(SMALL_SLAB_BYTES));
		if (size > LARGE_SLAB_BYTES) throw new RangeError(`A reply of ${size} bytes does not fit a slab of ${LARGE_SLAB_BYTES}`);
		return this.#large.pop() ?? new Slab(this.#allocate(LARGE_SLAB_BYTES));
	}

	release(slab: Slab): void {
		this.lose(slab);
		const large = slab.bytes.length > SMALL_SLAB_BYTES;
		const kept = large ? this.#large : this.#small;
		if (kept.length < (large ? LARGE_KEPT_MAX : SMALL_KEPT_MAX)) kept.push(slab);
	}

	/** The slab will not come back: the kernel may still read it. */
	lose(slab: Slab): void {
		this.#heldBytes -= slab.bytes.length;
	}
}
