// Binary content in a patch: deflated, and written by 85 characters, as git does.

import { createDeflate } from "node:zlib";

const DIGITS = Buffer.from("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~");
/** Bytes of one line. */
const LINE_BYTES = 52;
const NEWLINE = 0x0a;

/** `literal` with the whole content, which is read once, and the empty line that ends it. */
export async function* literalOf(size: number, content: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
	yield Buffer.from(`literal ${size}\n`);
	let left: Buffer = Buffer.alloc(0);
	for await (const piece of deflated(content)) {
		const bytes = Buffer.concat([left, piece]);
		const whole = bytes.length - (bytes.length % LINE_BYTES);
		for (let at = 0; at < whole; at += LINE_BYTES) yield lineOf(bytes.subarray(at, at + LINE_BYTES));
		left = bytes.subarray(whole);
	}
	if (left.length > 0) yield lineOf(left);
	yield Buffer.of(NEWLINE);
}

async function* deflated(content: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
	const deflate = createDeflate();
	let failure: unknown = null;
	const feed = async () => {
		for await (const chunk of content) {
			if (!deflate.write(chunk)) await new Promise((done) => deflate.once("drain", done));
		}
	};
	const feeding = feed().then(
		() => void deflate.end(),
		(error) => {
			failure = error;
			deflate.end();
		},
	);
	for await (const piece of deflate) yield piece as Buffer;
	await feeding;
	if (failure !== null) throw failure;
}

/** A letter for the length, and five characters for each four bytes. */
function lineOf(bytes: Buffer): Buffer {
	const groups = Math.ceil(bytes.length / 4);
	const line = Buffer.alloc(1 + groups * 5 + 1);
	line[0] = bytes.length <= 26 ? 0x40 + bytes.length : 0x60 + bytes.length - 26;
	const padded = Buffer.alloc(groups * 4);
	bytes.copy(padded);
	for (let i = 0; i < groups; i++) {
		let value = padded.readUInt32BE(i * 4);
		for (let digit = 4; digit >= 0; digit--) {
			line[1 + i * 5 + digit] = DIGITS[value % 85];
			value = Math.floor(value / 85);
		}
	}
	line[line.length - 1] = NEWLINE;
	return line;
}
