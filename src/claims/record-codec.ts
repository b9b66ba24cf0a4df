// The form of a record in the log: its length, its type, its fields, and a checksum of all of these.

import { crc32 } from "node:zlib";

/** Two bytes for the length, one for the type. */
const HEAD_BYTES = 3;
const CRC_BYTES = 4;
export const RECORD_BYTES_MAX = 0xffff;
const LEAST_BYTES = HEAD_BYTES + CRC_BYTES;

/** Writes one record after the other into the same memory. */
export class RecordWriter {
	readonly #bytes = Buffer.allocUnsafeSlow(RECORD_BYTES_MAX);
	#at = 0;

	begin(type: number): this {
		this.#bytes[2] = type;
		this.#at = HEAD_BYTES;
		return this;
	}

	u8(value: number): this {
		this.#bytes[this.#at++] = value;
		return this;
	}

	u16(value: number): this {
		this.#at = this.#bytes.writeUInt16BE(value, this.#at);
		return this;
	}

	u32(value: number): this {
		this.#at = this.#bytes.writeUInt32BE(value, this.#at);
		return this;
	}

	bytes(value: Uint8Array): this {
		this.u16(value.length);
		this.#bytes.set(value, this.#at);
		this.#at += value.length;
		return this;
	}

	/** A string of bytes (latin1). */
	key(value: string): this {
		this.u16(value.length);
		this.#at += this.#bytes.write(value, this.#at, "latin1");
		return this;
	}

	text(value: string): this {
		return this.bytes(Buffer.from(value));
	}

	/** The whole record, until the next one is begun. */
	end(): Buffer {
		this.#bytes.writeUInt16BE(this.#at + CRC_BYTES, 0);
		const end = this.#bytes.writeUInt32BE(crc32(this.#bytes.subarray(0, this.#at)), this.#at);
		return this.#bytes.subarray(0, end);
	}
}

/** Reads the fields of a record that was found whole. */
export class RecordReader {
	readonly #bytes: Buffer;
	#at = 0;

	constructor(bytes: Buffer) {
		this.#bytes = bytes;
	}

	/** Goes to the fields of the record that begins here, and gives its type. */
	enter(start: number): number {
		this.#at = start + HEAD_BYTES;
		return this.#bytes[start + 2];
	}

	u8(): number {
		return this.#bytes[this.#at++];
	}

	u16(): number {
		this.#at += 2;
		return this.#bytes.readUInt16BE(this.#at - 2);
	}

	u32(): number {
		this.#at += 4;
		return this.#bytes.readUInt32BE(this.#at - 4);
	}

	bytes(): Buffer {
		const length = this.u16();
		this.#at += length;
		return Buffer.from(this.#bytes.subarray(this.#at - length, this.#at));
	}

	key(): string {
		const length = this.u16();
		this.#at += length;
		return this.#bytes.toString("latin1", this.#at - length, this.#at);
	}

	text(): string {
		return this.bytes().toString();
	}
}

/**
 * Length of the record that begins here, if it is whole and its checksum right. "torn": the bytes end in its middle, or in its checksum's place at the
 * very end stands another; "damaged": more follows what is none.
 */
export function recordAt(bytes: Buffer, start: number): number | "torn" | "damaged" {
	if (bytes.length - start < LEAST_BYTES) return "torn";
	const length = bytes.readUInt16BE(start);
	if (length < LEAST_BYTES) return "damaged";
	const end = start + length;
	if (end > bytes.length) return "torn";
	if (crc32(bytes.subarray(start, end - CRC_BYTES)) === bytes.readUInt32BE(end - CRC_BYTES)) return length;
	return end === bytes.length ? "torn" : "damaged";
}
