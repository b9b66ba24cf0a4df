// Where the frames of a zstd stream begin and end (RFC 8878, section 3.1): Node.js before 24 takes a frame that was cut off for a whole one,
// and before 26 it decompresses the first frame alone.

import { UnpackError } from "./unpack-error.ts";

const FRAME_MAGIC = 0xfd2fb528;
/** The lowest four bits are the writer's own. */
const SKIPPABLE_MAGIC = 0x184d2a50;
const SKIPPABLE_MASK = 0xfffffff0;
const MAGIC_BYTES = 4;
const BLOCK_HEADER_BYTES = 3;
const CHECKSUM_BYTES = 4;
const [RLE, RESERVED] = [1, 3];
/** Sizes of the dictionary id and of the content size, by their flags. */
const DICTIONARY_ID_BYTES = [0, 1, 2, 4];
const CONTENT_SIZE_BYTES = [0, 2, 4, 8];

/** The bytes of a stream, taken in any portions. */
class Input {
	readonly #chunks: AsyncIterator<Buffer>;
	#left: Buffer = Buffer.alloc(0);

	constructor(chunks: AsyncIterable<Buffer>) {
		this.#chunks = chunks[Symbol.asyncIterator]();
	}

	async isAtEnd(): Promise<boolean> {
		return !(await this.#fill(1));
	}

	/** So many bytes in one; UnpackError where the stream has fewer. */
	async take(length: number): Promise<Buffer> {
		if (!(await this.#fill(length))) throw new UnpackError("it ends too early, so it was cut off; get it again");
		const taken = this.#left.subarray(0, length);
		this.#left = this.#left.subarray(length);
		return taken;
	}

	/** As take, in portions as they come. */
	async *pass(length: number): AsyncGenerator<Buffer> {
		for (let left = length; left > 0; ) {
			if (this.#left.length === 0) await this.#fill(1);
			const portion = await this.take(Math.min(left, Math.max(1, this.#left.length)));
			yield portion;
			left -= portion.length;
		}
	}

	/** Whether there are so many bytes. */
	async #fill(length: number): Promise<boolean> {
		while (this.#left.length < length) {
			const next = await this.#chunks.next();
			if (next.done) return false;
			this.#left = this.#left.length === 0 ? next.value : Buffer.concat([this.#left, next.value]);
		}
		return true;
	}
}

/**
 * What the frames of a stream hold, one frame after the other, each through `decompress`. UnpackError where the stream ends within a frame, or
 * something else than a frame follows.
 */
export async function* throughFrames(
	chunks: AsyncIterable<Buffer>,
	decompress: (frame: AsyncIterable<Buffer>) => AsyncIterable<Buffer>,
): AsyncGenerator<Buffer> {
	const input = new Input(chunks);
	while (!(await input.isAtEnd())) {
		const magic = await input.take(MAGIC_BYTES);
		const number = magic.readUInt32LE(0);
		if (number === FRAME_MAGIC) {
			yield* decompress(frame(magic, input));
		} else if ((number & SKIPPABLE_MASK) >>> 0 === SKIPPABLE_MAGIC) {
			const length = (await input.take(4)).readUInt32LE(0);
			for await (const portion of input.pass(length)) portion.length;
		} else {
			throw new UnpackError("its compressed data is damaged (no zstd frame where one should begin); get it again");
		}
	}
}

/** The bytes of one frame, its magic number included. */
async function* frame(magic: Buffer, input: Input): AsyncGenerator<Buffer> {
	yield magic;
	const descriptor = await input.take(1);
	yield descriptor;
	const flags = descriptor[0];
	const isSingleSegment = (flags & 0x20) !== 0;
	const contentSize = flags >> 6;
	const contentSizeBytes = contentSize === 0 && isSingleSegment ? 1 : CONTENT_SIZE_BYTES[contentSize];
	yield await input.take((isSingleSegment ? 0 : 1) + DICTIONARY_ID_BYTES[flags & 3] + contentSizeBytes);
	for (let isLast = false; !isLast; ) {
		const bytes = await input.take(BLOCK_HEADER_BYTES);
		yield bytes;
		const header = bytes.readUIntLE(0, BLOCK_HEADER_BYTES);
		isLast = (header & 1) === 1;
		const type = (header >> 1) & 3;
		if (type === RESERVED) throw new UnpackError("its compressed data is damaged (a block of no known type); get it again");
		yield* input.pass(type === RLE ? 1 : header >> 3);
	}
	if ((flags & 4) !== 0) yield await input.take(CHECKSUM_BYTES);
}
