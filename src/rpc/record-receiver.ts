// Cuts the byte stream of a connection into records.

import { RECORD_BYTES_MAX, RECORD_FRAGMENTS_MAX } from "./limits.ts";

/** The bytes of a connection are no records (RFC 5531 section 11), or records beyond the bounds: it cannot be followed further. */
export class RecordError extends Error {
	constructor(message: string) {
		super(message);
		this.name = "RecordError";
	}
}

const INITIAL_BYTES = 64 * 1024;
/** Of a record in fragments, to begin with. */
const ASSEMBLY_BYTES = 4096;
/** Room for the longest record with its mark, and for as much of the next ones as a small buffer takes. */
const LARGE_BYTES = 4 + RECORD_BYTES_MAX + INITIAL_BYTES;
const LARGE_KEPT_MAX = 4;

/** Buffers for long records, shared by the connections of a server: a connection has one only while a record needs it. */
export class LargeBuffers {
	readonly #kept: Buffer[] = [];
	readonly #heldBytesMax: number;
	/** Of records that have not come whole, over all connections. */
	#heldBytes = 0;
	/** Called when memory was taken that brings it over its bound. */
	onExcess: (() => void) | null = null;

	constructor(heldBytesMax: number = Number.POSITIVE_INFINITY) {
		this.#heldBytesMax = heldBytesMax;
	}

	get isExcessive(): boolean {
		return this.#heldBytes > this.#heldBytesMax;
	}

	/** So many bytes at least: for more than the usual a buffer of its own. */
	take(size: number = LARGE_BYTES): Buffer {
		const buffer = size <= LARGE_BYTES ? (this.#kept.pop() ?? Buffer.allocUnsafeSlow(LARGE_BYTES)) : Buffer.allocUnsafeSlow(size);
		this.hold(buffer.length);
		return buffer;
	}

	/** Counts memory that a record takes elsewhere; negative when it is done. */
	hold(bytes: number): void {
		this.#heldBytes += bytes;
		if (bytes > 0 && this.isExcessive) this.onExcess?.();
	}

	release(buffer: Buffer): void {
		this.hold(-buffer.length);
		if (buffer.length === LARGE_BYTES && this.#kept.length < LARGE_KEPT_MAX) this.#kept.push(buffer);
	}
}
/** Of the mark of a record, read as a signed integer: then it is a small one, which V8 keeps as it is. */
const isLast = (mark: number): boolean => mark < 0;
const lengthOf = (mark: number): number => mark & 0x7fffffff;

/**
 * Cuts a byte stream into records (RFC 5531 section 11). The socket reads directly into `target()`. A record that came as
 * one fragment is handed out where it lies; one of several fragments is put together in a buffer of its own, which
 * grows only as its bytes arrive.
 *
 * Between `target()` and `received()` the kernel may write behind `#end`, so bytes move only inside `target()`.
 */
export class RecordReceiver {
	readonly #largeBuffers: LargeBuffers;
	readonly #small: Buffer = Buffer.allocUnsafeSlow(INITIAL_BYTES);
	readonly #smallView = viewOf(this.#small);
	#buffer: Buffer = this.#small;
	#view = this.#smallView;
	#start = 0;
	#end = 0;

	#assembly: Buffer | null = null;
	#assembled = 0;
	#fragments = 0;
	#fragmentRemaining = 0;
	#lastFragment = false;

	/** The record that `next()` found: a region of `recordBytes`, valid until `target()` is called. */
	recordBytes: Buffer = this.#buffer;
	recordView: DataView = this.#view;
	recordStart = 0;
	recordEnd = 0;

	constructor(largeBuffers: LargeBuffers) {
		this.#largeBuffers = largeBuffers;
	}

	/** Where the next bytes of the stream go: at least one byte. */
	target(): Uint8Array {
		if (this.#start === this.#end) {
			this.#start = 0;
			this.#end = 0;
			if (this.#buffer !== this.#small) this.#useSmall();
		}
		const wanted = this.#wanted();
		if (this.#start > 0 && this.#start + wanted > this.#buffer.length) this.#compact();
		if (this.#end === this.#buffer.length) this.#grow(wanted);
		if (this.#end === 0) return this.#buffer;
		// The rest of a large record exactly: what follows it then starts at the front, and nothing is ever moved.
		const recordEnd = this.#start + wanted;
		return this.#buffer.subarray(this.#end, wanted > INITIAL_BYTES && recordEnd > this.#end ? recordEnd : this.#buffer.length);
	}

	/** The kernel has put `count` bytes into what `target()` gave. */
	received(count: number): void {
		this.#end += count;
	}

	/** Whether a record has begun to come and is not whole. To be asked when `next()` has found no further one. */
	get isPartial(): boolean {
		return this.#assembly !== null || this.#start < this.#end;
	}

	/** Whether `next()` can find one more, or throw, as far as it can be told before: of a record in fragments more bytes are enough. */
	get mayHaveNext(): boolean {
		const held = this.#end - this.#start;
		if (this.#assembly !== null) return held > 0;
		if (held < 4) return false;
		const mark = this.#view.getInt32(this.#start);
		return !isLast(mark) || lengthOf(mark) > RECORD_BYTES_MAX || lengthOf(mark) <= held - 4;
	}

	/** Memory that it holds beside its own small buffer. */
	get heldBytes(): number {
		return (this.#buffer === this.#small ? 0 : this.#buffer.length) + (this.#assembly?.length ?? 0);
	}

	/** Forgets all bytes. */
	drop(): void {
		this.#start = this.#end;
		this.#endAssembly();
	}

	/** Nothing will be received any more. The kernel may still hold `target()`, so its memory is not used again. */
	close(): void {
		this.drop();
		if (this.#buffer !== this.#small) this.#largeBuffers.hold(-this.#buffer.length);
		this.#buffer = this.#small;
	}

	/** Finds the next whole record; false when more bytes are needed. Throws RecordError. */
	next(): boolean {
		if (this.#assembly !== null) return this.#assemble();
		const available = this.#end - this.#start - 4;
		if (available < 0) return false;
		const mark = this.#view.getInt32(this.#start);
		if (!isLast(mark)) {
			this.#assembly = Buffer.allocUnsafeSlow(ASSEMBLY_BYTES);
			this.#largeBuffers.hold(ASSEMBLY_BYTES);
			this.#assembled = 0;
			this.#fragments = 0;
			this.#fragmentRemaining = 0;
			this.#lastFragment = false;
			return this.#assemble();
		}
		const length = lengthOf(mark);
		if (length > RECORD_BYTES_MAX) throw new RecordError(`A record of ${length} bytes is beyond ${RECORD_BYTES_MAX}`);
		if (length > available) return false;
		this.recordBytes = this.#buffer;
		this.recordView = this.#view;
		this.recordStart = this.#start + 4;
		this.recordEnd = this.recordStart + length;
		this.#start = this.recordEnd;
		return true;
	}

	#assemble(): boolean {
		for (;;) {
			if (this.#fragmentRemaining === 0 && !this.#lastFragment && !this.#beginFragment()) return false;
			const count = Math.min(this.#fragmentRemaining, this.#end - this.#start);
			this.#append(count);
			this.#fragmentRemaining -= count;
			if (this.#fragmentRemaining > 0) return false;
			if (!this.#lastFragment) continue;
			this.recordBytes = this.#assembly as Buffer;
			this.recordView = viewOf(this.recordBytes);
			this.recordStart = 0;
			this.recordEnd = this.#assembled;
			this.#endAssembly();
			return true;
		}
	}

	#endAssembly(): void {
		if (this.#assembly !== null) this.#largeBuffers.hold(-this.#assembly.length);
		this.#assembly = null;
	}

	#beginFragment(): boolean {
		if (this.#end - this.#start < 4) return false;
		const mark = this.#view.getInt32(this.#start);
		this.#start += 4;
		this.#lastFragment = isLast(mark);
		this.#fragmentRemaining = lengthOf(mark);
		if (++this.#fragments > RECORD_FRAGMENTS_MAX) throw new RecordError(`A record of more than ${RECORD_FRAGMENTS_MAX} fragments`);
		if (this.#assembled + this.#fragmentRemaining > RECORD_BYTES_MAX) {
			throw new RecordError(`A record in fragments is beyond ${RECORD_BYTES_MAX} bytes`);
		}
		return true;
	}

	#append(count: number): void {
		let assembly = this.#assembly as Buffer;
		if (this.#assembled + count > assembly.length) {
			const size = Math.min(RECORD_BYTES_MAX, Math.max(this.#assembled + count, assembly.length * 2));
			const larger = Buffer.allocUnsafeSlow(size);
			assembly.copy(larger, 0, 0, this.#assembled);
			this.#largeBuffers.hold(larger.length - assembly.length);
			this.#assembly = larger;
			assembly = larger;
		}
		this.#buffer.copy(assembly, this.#assembled, this.#start, this.#start + count);
		this.#assembled += count;
		this.#start += count;
	}

	/** Bytes from `#start` on that the record in progress takes, as far as its mark has been seen. */
	#wanted(): number {
		if (this.#assembly !== null || this.#end - this.#start < 4) return 4;
		const mark = this.#view.getInt32(this.#start);
		return isLast(mark) ? 4 + Math.min(lengthOf(mark), RECORD_BYTES_MAX) : 4;
	}

	#compact(): void {
		this.#buffer.copyWithin(0, this.#start, this.#end);
		this.#end -= this.#start;
		this.#start = 0;
	}

	/** Reached only when the buffer is full: a peer has sent 64 KiB before it is given room for the whole record. */
	#grow(wanted: number): void {
		const held = this.#end - this.#start;
		const larger = this.#largeBuffers.take(Math.max(wanted, held + INITIAL_BYTES));
		this.#buffer.copy(larger, 0, this.#start, this.#end);
		if (this.#buffer !== this.#small) this.#largeBuffers.release(this.#buffer);
		this.#buffer = larger;
		this.#view = viewOf(larger);
		this.#start = 0;
		this.#end = held;
	}

	#useSmall(): void {
		this.#largeBuffers.release(this.#buffer);
		this.#buffer = this.#small;
		this.#view = this.#smallView;
	}
}

function viewOf(bytes: Uint8Array): DataView {
	return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
