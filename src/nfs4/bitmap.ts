// bitmap4 (RFC 8881 section 3.2): three words of it have attributes of ours.

import { XdrError } from "../xdr/xdr-error.ts";
import type { XdrReader } from "../xdr/xdr-reader.ts";
import type { XdrWriter } from "../xdr/xdr-writer.ts";
import { BITMAP_WORDS_MAX } from "./protocol.ts";

export interface Bitmap {
	readonly words: readonly [number, number, number];
	/** It has bits beyond these words. */
	readonly hasMore: boolean;
}

export const NO_BITS: Bitmap = { words: [0, 0, 0], hasMore: false };

export function readBitmap(args: XdrReader): Bitmap {
	const count = args.u32();
	if (count > BITMAP_WORDS_MAX) throw new XdrError(`A bitmap of ${count} words`);
	const words: [number, number, number] = [0, 0, 0];
	let hasMore = false;
	for (let index = 0; index < count; index++) {
		const word = args.u32();
		if (index < 3) words[index] = word;
		else hasMore ||= word !== 0;
	}
	return { words, hasMore };
}

/** Without words of zeros at its end. */
export function writeBitmap(reply: XdrWriter, words: readonly number[]): void {
	let count = words.length;
	while (count > 0 && words[count - 1] === 0) count--;
	reply.u32(count);
	for (let index = 0; index < count; index++) reply.u32(words[index]);
}

export function bitmapOf(numbers: Iterable<number>): Bitmap {
	const words: [number, number, number] = [0, 0, 0];
	for (const number of numbers) words[number >>> 5] = (words[number >>> 5] | (1 << (number & 31))) >>> 0;
	return { words, hasMore: false };
}

export function hasBit({ words }: Bitmap, number: number): boolean {
	return (words[number >>> 5] & (1 << (number & 31))) !== 0;
}

/** Numbers of the bits, in order. */
export function numbersOf({ words }: Bitmap): number[] {
	const numbers: number[] = [];
	for (let index = 0; index < words.length; index++) {
		// from the lowest bit on
		for (let left = words[index]; left !== 0; left &= left - 1) numbers.push(index * 32 + 31 - Math.clz32(left & -left));
	}
	return numbers;
}
