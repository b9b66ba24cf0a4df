// Reads exact numbers of bytes out of a stream that comes in chunks of any size.

/** Where bytes come from, one chunk after another, each in memory of its own; null at the end. */
export interface ByteSource {
	next(): Promise<Uint8Array | null>;
	/** Passes over bytes that nobody asks for, where that is quicker than reading them; the number it passed over. */
	skip?(bytes: number): number;
}

export function sourceOf(chunks: AsyncIterable<Uint8Array>): ByteSource {
	const iterator = chunks[Symbol.asyncIterator]();
	return {
		async next() {
			const { done, value } = await iterator.next();
			return done ? null : value;
		},
	};
}

export class ByteReader {
	readonly #source: ByteSource;
	#chunk: Buffer = Buffer.alloc(0);
	#at = 0;
	/** Bytes before those in the chunk at hand. */
	#before = 0;

	constructor(source: ByteSource) {
		this.#source = source;
	}

	/** How many bytes were taken or passed over. */
	get offset(): number {
		return this.#before + this.#at;
	}

	/** That many bytes; fewer only where the source ends. */
	async take(count: number): Promise<Buffer> {
		const first = this.#takeSome(count);
		if (first.length === count) return first;
		const pieces = [first];
		for (let left = count - first.length; left > 0 && (await this.#fill()); ) {
			const piece = this.#takeSome(left);
			pieces.push(piece);
			left -= piece.length;
		}
		return pieces.length === 1 ? first : Buffer.concat(pieces);
	}

	/** Between one and that many bytes, none where the source ends. Nothing is copied. */
	async takeAny(most: number): Promise<Buffer> {
		if (this.#at === this.#chunk.length) await this.#fill();
		return this.#takeSome(most);
	}

	/** Passes over that many bytes; false where the source ends before. */
	async skip(count: number): Promise<boolean> {
		let left = count - this.#takeSome(count).length;
		if (left > 0 && this.#source.skip !== undefined) {
			const skipped = this.#source.skip(left);
			this.#before += skipped;
			return skipped === left;
		}
		while (left > 0) {
			if (!(await this.#fill())) return false;
			left -= this.#takeSome(left).length;
		}
		return true;
	}

	#takeSome(most: number): Buffer {
		const taken = this.#chunk.subarray(this.#at, this.#at + most);
		this.#at += taken.length;
		return taken;
	}

	/** The next chunk in the place of one that is used up; false at the end. */
	async #fill(): Promise<boolean> {
		const chunk = await this.#source.next();
		if (chunk === null) return false;
		this.#before += this.#at;
		this.#chunk = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length);
		this.#at = 0;
		return true;
	}
}
