// Frames of zstd, written by zstd and by hand, in any portions, cut off at every byte, and one behind the other.

import assert from "node:assert/strict";
import { PassThrough, pipeline, Readable } from "node:stream";
import { test } from "node:test";
import * as zlib from "node:zlib";
import { UnpackError } from "./unpack-error.ts";
import { throughFrames } from "./zstd-frames.ts";

/** Of zstd 1.5.4: sizes known before and not, with a checksum and without, blocks as they are, repeated and compressed. */
const FRAMES: Readonly<Record<string, Buffer>> = {
	"repeated, two blocks, four bytes of size": base64("KLUv/aDgkwQAVAAAEAAAAQD7/znAAgIAEAADnwQA"),
	"no size, a checksum": base64("KLUv/QRYVAAAEAAAAQD7/znAAgIAEAADnwQALSjeJg=="),
	"compressed, one byte of size, a checksum": base64(
		"KLUv/SSrlQIAsooTC7CnDa0RiWwbigEdg3nIQg7yyCJXpjxZMpBHFz306dLb2dfVQR9c8MCHCy8nHxcHfGyxw54tu5t7WxvsoYUOerToauppaaDH4vAsd74VAPLyQn4=",
	),
	"not compressed": base64("KLUv/QBYQQEAEUjkkBhDR+Im6Hwt2t0vnhzfODGEnJ3GzrA4pS0m64G6aayrPnGQfA=="),
	"one repeated block": Buffer.from("28b52ffd206423030061", "hex"),
	"two bytes of size": Buffer.from("28b52ffd6000002308" + "0061", "hex"),
	"eight bytes of size, a dictionary's id of two": Buffer.from(`28b52ffde207002a00000000000000510100${"61".repeat(42)}`, "hex"),
};
const SKIPPABLE = Buffer.from("502a4d1803000000616263", "hex");
const { createZstdDecompress } = zlib as { createZstdDecompress?: () => NodeJS.ReadWriteStream };

function base64(text: string): Buffer {
	return Buffer.from(text, "base64");
}

async function* portions(bytes: Buffer, length: number): AsyncGenerator<Buffer> {
	for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

/** What each frame is made of, or what it holds, if `stream` decompresses. */
async function framesOf(bytes: Buffer, length = bytes.length, stream: () => NodeJS.ReadWriteStream = () => new PassThrough()) {
	const frames: Buffer[][] = [];
	const take = (frame: AsyncIterable<Buffer>) => {
		frames.push([]);
		return pipeline(Readable.from(frame), stream(), () => {}) as unknown as AsyncIterable<Buffer>;
	};
	for await (const chunk of throughFrames(portions(bytes, length), take)) frames.at(-1)?.push(chunk);
	return frames.map((chunks) => Buffer.concat(chunks));
}

test("each frame is given whole, in whatever portions it comes, and skippable frames are passed over", async () => {
	const frames = Object.values(FRAMES);
	const whole = Buffer.concat([SKIPPABLE, ...frames.flatMap((frame) => [frame, SKIPPABLE])]);
	for (const length of [1, 2, 3, 7, 64, whole.length]) assert.deepEqual(await framesOf(whole, length), frames, `${length}`);
	assert.deepEqual(await framesOf(Buffer.alloc(0)), []);
});

test("a frame that is cut off anywhere is refused, the first one and one behind another", async () => {
	for (const [name, frame] of Object.entries({ ...FRAMES, skippable: SKIPPABLE })) {
		for (let length = 1; length < frame.length; length++) {
			const cut = frame.subarray(0, length);
			for (const bytes of [cut, Buffer.concat([FRAMES["not compressed"] as Buffer, cut])]) {
				await assert.rejects(
					framesOf(bytes),
					(error) => error instanceof UnpackError && /cut off/.test(error.message),
					`${name}, ${length}`,
				);
			}
		}
	}
});

test("what is no frame, and a block of no known type, are refused", async () => {
	const frame = FRAMES["not compressed"] as Buffer;
	await assert.rejects(framesOf(Buffer.concat([frame, Buffer.from("rest")])), /damaged/);
	await assert.rejects(framesOf(Buffer.from("28b52ffd20010f000061", "hex")), /damaged/);
});

test("all frames are decompressed", {
	skip: createZstdDecompress === undefined && `Node.js ${process.versions.node} has no zstd`,
}, async () => {
	const frames = Object.values(FRAMES).slice(0, 5);
	const held = await framesOf(Buffer.concat(frames), 50, createZstdDecompress);
	const numbers = Array.from({ length: 60 }, (_, at) => `${at + 1}\n`).join("");
	assert.deepEqual(held.slice(0, 3), [Buffer.alloc(300_000), Buffer.alloc(300_000), Buffer.from(numbers)]);
	assert.deepEqual(held[3], frames[3]?.subarray(9));
	assert.deepEqual(held[4], Buffer.alloc(100, "a"));
});
