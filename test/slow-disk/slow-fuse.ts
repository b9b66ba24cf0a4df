/**
 * A FUSE file system (include/uapi/linux/fuse.h) with one file, `image`, whose every READ takes as long as it is told. A process of its
 * own, that must never touch its own mount: it would wait for itself.
 *
 *     node slow-fuse.js MOUNTPOINT BACKING-FILE
 *
 * On standard input: "delay MILLISECONDS", "delay hang" (until another delay is set) or "state". Each is answered by one line of JSON,
 * `SlowFuseState`. Killed, it fails every READ that waits, and every later one.
 */

import { spawn } from "node:child_process";
import { fstatSync, openSync, read, readSync, writeSync, writevSync } from "node:fs";
import { createInterface } from "node:readline";

export interface SlowFuseState {
	/** READs since the start. */
	readonly calls: number;
	/** Of these, not answered yet. */
	readonly waiting: number;
}

const Opcode = { forget: 2, getattr: 3, lookup: 1, open: 14, read: 15, statfs: 17, release: 18, flush: 25, init: 26 } as const;
const NO_REPLY: readonly number[] = [Opcode.forget, 36 /* INTERRUPT */, 42 /* BATCH_FORGET */];
const IN_HEADER_BYTES = 40;
const OUT_HEADER_BYTES = 16;
const ATTRIBUTES_BYTES = 88;
const ROOT = 1n;
const IMAGE = 2n;
const ENOENT = 2;
const ENODEV = 19;
const ENOSYS = 38;
/** The protocol as of which `encodeInit` is; newer kernels speak it. */
const MINOR = 31;
/** READs that the kernel may have under way: as good as no bound, so that none waits for another. */
const BACKGROUND_MAX = 4096;
const PAGES_MAX = 256;
const ASYNC_READ = 1 << 0;
const ASYNC_DIO = 1 << 15;
const MAX_PAGES = 1 << 22;
/** A day: names and attributes are asked for once. */
const VALID_SECONDS = 86_400n;

const [mountpoint, backing] = process.argv.slice(2) as [string, string];
const image = openSync(backing, "r");
const imageBytes = fstatSync(image).size;
const device = openSync("/dev/fuse", "r+");
let delayMilliseconds: number | "hang" = 0;
let calls = 0;
let waiting = 0;
/** READs that hang. */
const held: (() => void)[] = [];

const mount = spawn(
	"mount",
	["-i", "-n", "-t", "fuse", "-o", "ro,fd=3,rootmode=40000,user_id=0,group_id=0,max_read=1048576", "holdfast-slow-disk", mountpoint],
	{ stdio: ["ignore", "ignore", "inherit", device] },
);

mount.on("close", (code) => {
	if (code !== 0) end();
	tell();
});

createInterface({ input: process.stdin })
	.on("line", command)
	.on("close", () => end());

serve();

function command(line: string): void {
	const [verb, value] = line.split(" ");
	if (verb === "delay") {
		delayMilliseconds = value === "hang" ? "hang" : Number(value);
		if (delayMilliseconds !== "hang") for (const answer of held.splice(0)) later(answer);
	}
	tell();
}

function tell(): void {
	const state: SlowFuseState = { calls, waiting };
	writeSync(1, `${JSON.stringify(state)}\n`);
}

/** A thread of Node's waits in read() of the device: an ordinary exit would wait for it. */
function end(): void {
	process.kill(process.pid, "SIGKILL");
}

/** One request after the other; those that take time are answered out of order. */
function serve(): void {
	const buffer = Buffer.allocUnsafe((PAGES_MAX + 1) * 4096);
	read(device, buffer, 0, buffer.length, null, (error, length) => {
		if (error?.code === "ENODEV") end();
		if (!error) take(buffer.subarray(0, length));
		serve();
	});
}

function take(request: Buffer): void {
	const opcode = request.readUInt32LE(4);
	if (NO_REPLY.includes(opcode)) return;
	const unique = request.readBigUInt64LE(8);
	const node = request.readBigUInt64LE(16);
	const body = request.subarray(IN_HEADER_BYTES);
	if (opcode === Opcode.init) reply(unique, encodeInit());
	else if (opcode === Opcode.lookup && node === ROOT && body.toString().startsWith("image\0")) reply(unique, encodeEntry(IMAGE));
	else if (opcode === Opcode.lookup) reply(unique, null, ENOENT);
	else if (opcode === Opcode.getattr) reply(unique, encodeAttr(node));
	else if (opcode === Opcode.open) reply(unique, Buffer.alloc(16));
	else if (opcode === Opcode.statfs) reply(unique, encodeStatfs());
	else if (opcode === Opcode.release || opcode === Opcode.flush) reply(unique, Buffer.alloc(0));
	else if (opcode === Opcode.read) readSlowly(unique, Number(body.readBigUInt64LE(8)), body.readUInt32LE(16));
	else reply(unique, null, ENOSYS);
}

function readSlowly(unique: bigint, offset: number, size: number): void {
	calls++;
	waiting++;
	const answer = () => {
		waiting--;
		const data = Buffer.allocUnsafe(size);
		reply(unique, data.subarray(0, readSync(image, data, 0, size, offset)));
	};
	if (delayMilliseconds === "hang") held.push(answer);
	else later(answer);
}

function later(answer: () => void): void {
	if (delayMilliseconds === 0) answer();
	else setTimeout(answer, Number(delayMilliseconds));
}

function reply(unique: bigint, body: Buffer | null, errorNumber = 0): void {
	const header = Buffer.alloc(OUT_HEADER_BYTES);
	header.writeUInt32LE(OUT_HEADER_BYTES + (body?.length ?? 0), 0);
	header.writeInt32LE(-errorNumber, 4);
	header.writeBigUInt64LE(unique, 8);
	try {
		writevSync(device, body === null ? [header] : [header, body]);
	} catch (error) {
		// ENOENT: whoever asked has been killed meanwhile
		if ((error as NodeJS.ErrnoException).errno === -ENODEV) end();
		if ((error as NodeJS.ErrnoException).errno !== -ENOENT) throw error;
	}
}

function encodeInit(): Buffer {
	const body = Buffer.alloc(64);
	body.writeUInt32LE(7, 0);
	body.writeUInt32LE(MINOR, 4);
	body.writeUInt32LE(0, 8); // max_readahead
	body.writeUInt32LE(ASYNC_READ | ASYNC_DIO | MAX_PAGES, 12);
	body.writeUInt16LE(BACKGROUND_MAX, 16);
	body.writeUInt16LE(BACKGROUND_MAX, 18);
	body.writeUInt32LE(4096, 20); // max_write
	body.writeUInt32LE(1, 24); // time_gran
	body.writeUInt16LE(PAGES_MAX, 28);
	return body;
}

function encodeEntry(node: bigint): Buffer {
	const body = Buffer.alloc(40 + ATTRIBUTES_BYTES);
	body.writeBigUInt64LE(node, 0);
	body.writeBigUInt64LE(VALID_SECONDS, 16);
	body.writeBigUInt64LE(VALID_SECONDS, 24);
	attributes(node).copy(body, 40);
	return body;
}

function encodeAttr(node: bigint): Buffer {
	const head = Buffer.alloc(16);
	head.writeBigUInt64LE(VALID_SECONDS, 0);
	return Buffer.concat([head, attributes(node)]);
}

function attributes(node: bigint): Buffer {
	const body = Buffer.alloc(ATTRIBUTES_BYTES);
	body.writeBigUInt64LE(node, 0);
	body.writeBigUInt64LE(BigInt(node === IMAGE ? imageBytes : 0), 8);
	body.writeBigUInt64LE(BigInt(node === IMAGE ? Math.ceil(imageBytes / 512) : 0), 16);
	body.writeUInt32LE(node === IMAGE ? 0o100444 : 0o040555, 60);
	body.writeUInt32LE(node === IMAGE ? 1 : 2, 64);
	body.writeUInt32LE(4096, 80);
	return body;
}

function encodeStatfs(): Buffer {
	const body = Buffer.alloc(80);
	body.writeBigUInt64LE(BigInt(Math.ceil(imageBytes / 4096)), 0);
	body.writeUInt32LE(4096, 40);
	body.writeUInt32LE(255, 44);
	body.writeUInt32LE(4096, 48);
	return body;
}
