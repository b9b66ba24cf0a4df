// Reads XDR items (RFC 4506).

import { XdrError } from "./xdr-error.ts";

/**
 * Reads XDR items (RFC 4506) from a region of a buffer. One reader serves every record: `reset` points it at the next
 * one, so that decoding allocates nothing but the views that are handed out. Those views are of the receive buffer,
 * and valid only until control returns to the event loop.
 */
export class XdrReader {
	bytes: Uint8Array = EMPTY;
	view: DataView = EMPTY_VIEW;
	/** Of the region. */
	start = 0;
	position = 0;
	end = 0;

	/** `view` must cover the same memory as `bytes`; it is made once per buffer, not once per record. */
	reset(bytes: Uint8Array, view: DataView, start: number, end: number): this {
		this.bytes = bytes;
		this.view = view;
		this.start = start;
		this.position = start;
		this.end = end;
		return this;
	}

	/** A reader of its own over all of `bytes`. */
	static over(bytes: Uint8Array): XdrReader {
		const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
		return new XdrReader().reset(bytes, view, 0, bytes.byteLength);
	}

	get remaining(): number {
		return this.end - this.position;
	}

	/** Unsigned integer (RFC 4506 section 4.2). A hyper is two of them, high half first. */
	u32(): number {
		const at = this.position;
		if (at + 4 > this.end) throw new XdrError("The record ends inside an integer");
		this.position = at + 4;
		return this.view.getUint32(at);
	}

	/** Boolean (RFC 4506 section 4.4): nothing but 0 and 1 is one. */
	bool(): boolean {
		const value = this.u32();
		if (value > 1) throw new XdrError(`${value} is no boolean`);
		return value === 1;
	}

	/** An enumeration (RFC 4506 section 4.3) whose values are 0 .. `last`. */
	enumeration(last: number): number {
		const value = this.u32();
		if (value > last) throw new XdrError(`${value} is not among 0 .. ${last}`);
		return value;
	}

	/** Steps over `length` bytes and their padding (RFC 4506 section 4.9); gives the index of the first. */
	fixed(length: number): number {
		const at = this.position;
		// `length` may be 2^32 - 1, so the padding is computed without 32-bit operators.
		const padded = length + ((4 - (length & 3)) & 3);
		if (padded > this.end - at) throw new XdrError("The record ends inside opaque data");
		this.position = at + padded;
		return at;
	}

	/** Fixed-length opaque data (RFC 4506 section 4.9), copied: it outlives the record. */
	fixedCopy(length: number): Uint8Array {
		const at = this.fixed(length);
		// Buffer.slice would be a view
		return new Uint8Array(this.bytes.subarray(at, at + length));
	}

	/** Variable-length opaque data or a string (RFC 4506 sections 4.10, 4.11) as a view. Padding is not required to be zero. */
	opaque(maximumLength: number): Uint8Array {
		const length = this.u32();
		if (length > maximumLength) throw new XdrError(`${length} bytes where at most ${maximumLength} are allowed`);
		const at = this.fixed(length);
		// Half the cost of Buffer.subarray, and this is on the path of every request.
		return new Uint8Array(this.bytes.buffer, this.bytes.byteOffset + at, length);
	}
}

const EMPTY = new Uint8Array(0);
const EMPTY_VIEW = new DataView(EMPTY.buffer);
