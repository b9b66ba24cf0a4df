/** XDR (RFC 4506) for the tests' own client. Independent of src on purpose: one must not repeat the other's mistakes. */

export class XdrWriter {
	readonly #parts: Buffer[] = [];

	u32(value: number): this {
		const part = Buffer.alloc(4);
		part.writeUInt32BE(value >>> 0);
		return this.raw(part);
	}

	i32(value: number): this {
		return this.u32(value >>> 0);
	}

	u64(value: bigint): this {
		const part = Buffer.alloc(8);
		part.writeBigUInt64BE(BigInt.asUintN(64, value));
		return this.raw(part);
	}

	bool(value: boolean): this {
		return this.u32(value ? 1 : 0);
	}

	/** Bytes of a length that both sides know, padded to four. */
	fixed(bytes: Uint8Array): this {
		return this.raw(Buffer.from(bytes)).raw(Buffer.alloc(-bytes.length & 3));
	}

	/** Length and bytes, padded to four. */
	opaque(bytes: Uint8Array): this {
		return this.u32(bytes.length).fixed(bytes);
	}

	string(value: string | Uint8Array): this {
		return this.opaque(typeof value === "string" ? Buffer.from(value) : value);
	}

	/** As it is: for arguments that are broken on purpose. */
	raw(bytes: Buffer): this {
		this.#parts.push(bytes);
		return this;
	}

	bytes(): Buffer {
		return Buffer.concat(this.#parts);
	}
}

/** Throws on anything that XDR does not allow: bytes missing, a boolean of 2, padding that is not zero. */
export class XdrReader {
	readonly buffer: Buffer;
	at = 0;

	constructor(buffer: Buffer) {
		this.buffer = buffer;
	}

	u32(): number {
		const value = this.buffer.readUInt32BE(this.at);
		this.at += 4;
		return value;
	}

	i32(): number {
		return this.u32() | 0;
	}

	u64(): bigint {
		const value = this.buffer.readBigUInt64BE(this.at);
		this.at += 8;
		return value;
	}

	bool(): boolean {
		const value = this.u32();
		if (value > 1) throw new Error(`XDR boolean of ${value} at byte ${this.at - 4}`);
		return value === 1;
	}

	fixed(length: number): Buffer {
		const end = this.at + length;
		const padded = end + (-length & 3);
		if (padded > this.buffer.length) throw new Error(`XDR: ${length} bytes at ${this.at} end beyond ${this.buffer.length}`);
		const bytes = Buffer.from(this.buffer.subarray(this.at, end));
		if (this.buffer.subarray(end, padded).some((byte) => byte !== 0)) throw new Error(`XDR padding is not zero at byte ${end}`);
		this.at = padded;
		return bytes;
	}

	opaque(most = Number.POSITIVE_INFINITY): Buffer {
		const length = this.u32();
		if (length > most) throw new Error(`XDR: ${length} bytes where at most ${most} may be`);
		return this.fixed(length);
	}

	string(most?: number): string {
		return this.opaque(most).toString();
	}

	optional<T>(read: () => T): T | null {
		return this.bool() ? read() : null;
	}

	/** For a linked list: entries while the "follows" boolean is true. */
	list<T>(read: () => T): T[] {
		const all: T[] = [];
		while (this.bool()) all.push(read());
		return all;
	}

	end(): void {
		if (this.at !== this.buffer.length) throw new Error(`XDR: ${this.buffer.length - this.at} bytes are left over`);
	}
}
