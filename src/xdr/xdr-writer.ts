// Writes XDR items (RFC 4506).

import type { AddressedBytes } from "../linux/memory.ts";

/** A piece of addressed memory with the view through which integers are stored. Made once, used for many replies. */
export class Slab {
	readonly memory: AddressedBytes;
	readonly bytes: Buffer;
	readonly view: DataView;

	constructor(memory: AddressedBytes) {
		this.memory = memory;
		this.bytes = memory.bytes;
		this.view = new DataView(memory.bytes.buffer, memory.bytes.byteOffset, memory.bytes.byteLength);
	}
}

/** Gives a slab with room for at least this many bytes. */
export type TakeSlab = (size: number) => Slab;

/**
 * Writes XDR items (RFC 4506) one after the other. What is being written (the record that began at `start`) always lies
 * in one piece: when the slab is full, the record moves to the next one, and `moved` hears of the old one.
 */
export class XdrWriter {
	protected slab: Slab;
	#take: TakeSlab;
	#view: DataView;
	#capacity: number;
	/** Where the record in progress begins. */
	start = 0;
	/** Where the next item goes. */
	position = 0;

	constructor(take: TakeSlab, slab: Slab) {
		this.#take = take;
		this.slab = slab;
		this.#view = slab.view;
		this.#capacity = slab.bytes.length;
	}

	/** A writer into ordinary memory that grows without end, for messages that are not replies. */
	static growing(): XdrWriter {
		const take: TakeSlab = (size) => new Slab({ bytes: Buffer.allocUnsafeSlow(Math.max(1024, size * 2)), address: 0 });
		return new XdrWriter(take, take(0));
	}

	/** Memory to be filled by others, at `position` and as far as `ensure` was asked for. */
	get memory(): AddressedBytes {
		return this.slab.memory;
	}

	protected use(slab: Slab, start: number, position: number): void {
		this.slab = slab;
		this.#view = slab.view;
		this.#capacity = slab.bytes.length;
		this.start = start;
		this.position = position;
	}

	/** Makes room for `size` bytes at `position`. May move the record: indices are kept only relative to `start`. */
	ensure(size: number): void {
		if (this.position + size > this.#capacity) this.#move(size);
	}

	#move(size: number): void {
		const length = this.position - this.start;
		const from = this.slab;
		const slab = this.#take(length + size);
		from.bytes.copy(slab.bytes, 0, this.start, this.position);
		this.moved(from, this.start);
		this.use(slab, 0, length);
	}

	/** The record has left `slab`, whose first `used` bytes are complete records. */
	protected moved(_slab: Slab, _used: number): void {}

	u32(value: number): void {
		if (this.position + 4 > this.#capacity) this.#move(4);
		this.#view.setUint32(this.position, value);
		this.position += 4;
	}

	/** Changes an integer that was written before, at an index relative to `start`. */
	patchU32(offset: number, value: number): void {
		this.#view.setUint32(this.start + offset, value);
	}

	/** Takes back everything behind `offset` (relative to `start`). */
	rewind(offset: number): void {
		this.position = this.start + offset;
	}

	/** How much of the record there is. */
	get length(): number {
		return this.position - this.start;
	}

	u64(hi: number, lo: number): void {
		if (this.position + 8 > this.#capacity) this.#move(8);
		this.#view.setUint32(this.position, hi);
		this.#view.setUint32(this.position + 4, lo);
		this.position += 8;
	}

	/** An unsigned hyper from a Number of at most 2^53 - 1. */
	u64FromNumber(value: number): void {
		this.u64(Math.floor(value / 4294967296), value >>> 0);
	}

	bool(value: boolean): void {
		this.u32(value ? 1 : 0);
	}

	/** The bytes with neither length nor padding: what is already XDR, or of a fixed length that is a multiple of four. */
	raw(data: Uint8Array): void {
		const length = data.length;
		this.ensure(length);
		this.slab.bytes.set(data, this.position);
		this.position += length;
	}

	/** Variable-length opaque data or a string (RFC 4506 sections 4.10, 4.11), padded with zeros. */
	opaque(data: Uint8Array): void {
		const length = data.length;
		this.ensure(length + 8);
		this.#view.setUint32(this.position, length);
		const target = this.slab.bytes;
		let at = this.position + 4;
		// A call of `set` costs as much as copying some sixty bytes; handles and names are shorter than that.
		if (length > SHORT) {
			target.set(data, at);
			at += length;
		} else {
			for (let index = 0; index < length; index++) target[at++] = data[index];
		}
		this.position = at;
		this.pad(length);
	}

	/** Zeros after `length` bytes, up to the next multiple of four (RFC 4506 section 3). */
	pad(length: number): void {
		let missing = (4 - (length & 3)) & 3;
		this.ensure(missing);
		for (; missing > 0; missing--) this.slab.bytes[this.position++] = 0;
	}

	/** The same without a copy: good until anything more is written. */
	viewFrom(offset: number): Uint8Array {
		return this.slab.bytes.subarray(this.start + offset, this.position);
	}

	/** A copy of the record from `offset` (relative to `start`) to here. */
	copyFrom(offset: number): Buffer {
		return Buffer.from(this.slab.bytes.subarray(this.start + offset, this.position));
	}
}

const SHORT = 64;
