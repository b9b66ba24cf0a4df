// The reply to a FUSE request, built in memory that it is sent from.

import type { AddressedBytes } from "../linux/memory.ts";
import { OUT_HEADER_BYTES } from "./protocol.ts";

/** One serves all requests of a mount: it is written and sent within a pass. Words are put at even places as the structures of linux/fuse.h have them. */
export class FuseReply {
	readonly memory: AddressedBytes;
	readonly #words: Uint32Array;
	/** Where the next word goes, in bytes from the start of the header. A multiple of 4, but behind raw bytes. */
	position = OUT_HEADER_BYTES;

	constructor(memory: AddressedBytes) {
		this.memory = memory;
		this.#words = new Uint32Array(memory.bytes.buffer, memory.bytes.byteOffset, memory.bytes.length >>> 2);
	}

	/** Bytes behind the header. */
	get length(): number {
		return this.position - OUT_HEADER_BYTES;
	}

	reset(): void {
		this.position = OUT_HEADER_BYTES;
	}

	u32(value: number): void {
		this.#words[this.position >>> 2] = value;
		this.position += 4;
	}

	/** Two halves. */
	u64(hi: number, lo: number): void {
		const word = this.position >>> 2;
		this.#words[word] = lo;
		this.#words[word + 1] = hi;
		this.position += 8;
	}

	/** A whole number of at most 2^53; below zero as two's complement. */
	number(value: number): void {
		this.u64(Math.floor(value / 4294967296), value % 4294967296);
	}

	u16(value: number): void {
		this.memory.bytes.writeUInt16LE(value, this.position);
		this.position += 2;
	}

	raw(bytes: Uint8Array): void {
		this.memory.bytes.set(bytes, this.position);
		this.position += bytes.length;
	}

	zeros(count: number): void {
		this.memory.bytes.fill(0, this.position, this.position + count);
		this.position += count;
	}

	/** struct fuse_out_header; `error`: an error number, and then nothing follows it. The length of the whole. */
	finish(error: number, uniqueHi: number, uniqueLo: number): number {
		if (error !== 0) this.reset();
		const words = this.#words;
		words[0] = this.position;
		words[1] = -error;
		words[2] = uniqueLo;
		words[3] = uniqueHi;
		return this.position;
	}
}
