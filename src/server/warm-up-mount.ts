// The kernel's side of a mount that warms a server up: requests as programs in a mount make them, on files of its own.

import { KEPT_BYTES } from "../fuse/kept-layout.ts";
import { FUSE_MINOR_MAX, FUSE_VERSION, InitFlag, Opcode, ROOT_ID, SetattrValid } from "../fuse/protocol.ts";
import { truncateFile } from "../linux/data.ts";
import { socketPair } from "../linux/descriptor-passing.ts";
import { ERRNO, must } from "../linux/errno.ts";
import { type AddressedBytes, allocate } from "../linux/memory.ts";
import { readMessage, writeMessage } from "../linux/messages.ts";
import { close, setNonblocking } from "../linux/open.ts";
import { makeSharedMemory, mapShared } from "../linux/shared-memory.ts";

/** Requests that are sent at once. */
const BATCH = 8;
const HEADER_BYTES = 40;
const ANSWER_BYTES = 16;
const MESSAGE_BYTES = 64 * 1024;
const READAHEAD_BYTES = 128 * 1024;
const DATA_BYTES = 1000;
const MODE_WORD = 17;
const SETATTR_WORDS = 22;
/** Of READDIRPLUS. */
const LISTED_BYTES = 4096;
/** Numbers of requests need both words, as a mount has them that is used for long. */
const UNIQUE_HI = 3;

interface Asked {
	readonly opcode: number;
	readonly nodeId: number;
	readonly args: Buffer;
}

/** What is kept of mounts that warm up, one after the other; it takes room only while it is used. */
export class WarmUpMemory {
	readonly bytes: AddressedBytes;
	readonly #descriptor: number;

	constructor() {
		this.#descriptor = must(makeSharedMemory("holdfast-warm-up", KEPT_BYTES), "Cannot make memory for requests");
		this.bytes = must(mapShared(this.#descriptor, KEPT_BYTES), "Cannot map memory for requests");
	}

	/** Nobody uses it: all of it is zero again. */
	clear(): void {
		truncateFile(this.#descriptor, 0);
		truncateFile(this.#descriptor, KEPT_BYTES);
	}

	close(): void {
		this.clear();
		close(this.#descriptor);
	}
}

export class WarmUpMount {
	/** What the session is to serve. */
	readonly device: number;
	readonly #near: number;
	readonly #memory = allocate(MESSAGE_BYTES);
	#unique = 0;

	constructor() {
		[this.#near, this.device] = must(socketPair("seqpacket"), "Cannot make a socket");
		must(setNonblocking(this.#near, true), "Cannot read without waiting");
	}

	/** When nothing reads requests any more. */
	close(): void {
		close(this.#near);
		close(this.device);
	}

	async init(): Promise<void> {
		const flags = -1 & ~InitFlag.posixLocks & ~InitFlag.flockLocks;
		await this.#send([
			{ opcode: Opcode.init, nodeId: 0, args: words(FUSE_VERSION, FUSE_MINOR_MAX, READAHEAD_BYTES, flags, -1, ...zeros(11)) },
		]);
	}

	/**
	 * Uses the files of a directory in the root, and makes, writes, changes, reads, renames and removes others there. Before each batch of requests it
	 * asks whether to go on; resolves to whether it came to the end.
	 */
	async round(directoryName: string, lowerNames: readonly string[], goesOn: () => Promise<boolean>): Promise<boolean> {
		const [directory] = (await this.#send([ask(Opcode.lookup, ROOT_ID, name(directoryName))])).map(nodeIdIn);
		const sendAll = async (asked: readonly Asked[]): Promise<Buffer[] | null> => {
			const replies: Buffer[] = [];
			for (let at = 0; at < asked.length; at += BATCH) {
				if (!(await goesOn())) return null;
				replies.push(...(await this.#send(asked.slice(at, at + BATCH))));
			}
			return replies;
		};
		const lower = (await sendAll(lowerNames.map((one) => ask(Opcode.lookup, directory, name(one)))))?.map(nodeIdIn);
		if (lower === undefined) return false;
		const made = lowerNames.map((one) => `made-${one}`);
		const created = await sendAll(made.map((one) => ask(Opcode.create, directory, words(0o101, 0o100644, 0o022, 0), name(one))));
		const files = created?.map(nodeIdIn);
		if (files === undefined) return false;
		const half = lower.length / 2;
		const [firstNames, otherNames] = [lowerNames.slice(0, half), lowerNames.slice(half)];
		const moved = firstNames.map((one) => `moved-${one}`);
		const batches: (readonly Asked[])[] = [
			[...lower, ...files].map((id) => ask(Opcode.getattr, id, words(...zeros(4)))),
			lower.map((id) => ask(Opcode.read, id, words(0, 0, 0, 0, DATA_BYTES, ...zeros(5)))),
			files.map((id) => ask(Opcode.write, id, words(0, 0, 0, 0, DATA_BYTES, ...zeros(5)), DATA)),
			files.map((id) => ask(Opcode.setattr, id, mode(0o640))),
			lower.slice(0, half / 2).map((id) => ask(Opcode.setattr, id, mode(0o640))),
			files.map((id) => ask(Opcode.read, id, words(0, 0, 0, 0, DATA_BYTES, ...zeros(5)))),
			firstNames.map((one, i) => ask(Opcode.rename2, directory, words(directory, 0, 0, 0), name(one), name(moved[i]))),
			made.slice(0, half).map((one) => ask(Opcode.rename2, directory, words(directory, 0, 0, 0), name(one), name(`${one}-moved`))),
			made.slice(0, half).map((one) => ask(Opcode.lookup, directory, name(one))),
			[ask(Opcode.readdirplus, directory, words(0, 0, 0, 0, LISTED_BYTES, ...zeros(5)))],
			[...otherNames, ...moved, ...made.slice(half), ...made.slice(0, half).map((one) => `${one}-moved`)].map((one) =>
				ask(Opcode.unlink, directory, name(one)),
			),
		];
		for (const batch of batches) if ((await sendAll(batch)) === null) return false;
		this.#forget([directory, ...lower, ...files]);
		return true;
	}

	/** Sends requests, and waits for their replies: no error may be among them. */
	async #send(asked: readonly Asked[]): Promise<Buffer[]> {
		const uniques = asked.map((one) => this.#put(one));
		const answers = new Map<number, Buffer>();
		while (answers.size < asked.length) {
			await new Promise((resolve) => setImmediate(resolve));
			this.#receive(answers);
		}
		return uniques.map((unique) => answers.get(unique) as Buffer);
	}

	/** Nothing answers it. */
	#forget(ids: readonly number[]): void {
		for (const nodeId of ids) this.#put(ask(Opcode.forget, nodeId, words(1, 0)));
	}

	#put({ opcode, nodeId, args }: Asked): number {
		this.#unique += 2;
		const length = HEADER_BYTES + args.length;
		this.#memory.bytes.set(words(length, opcode, this.#unique, UNIQUE_HI, nodeId, 0, 0, 0, process.pid, 0));
		this.#memory.bytes.set(args, HEADER_BYTES);
		must(writeMessage(this.#near, this.#memory.address, length), "Cannot send a request");
		return this.#unique;
	}

	#receive(answers: Map<number, Buffer>): void {
		for (;;) {
			const length = readMessage(this.#near, this.#memory.address, MESSAGE_BYTES);
			if (length === -ERRNO.EAGAIN) return;
			if (must(length, "Cannot read a reply") === 0) throw new Error("The session has ended");
			const { bytes } = this.#memory;
			const error = bytes.readInt32LE(4);
			const unique = bytes.readUInt32LE(8);
			if (unique === 0) continue;
			if (error !== 0) throw new Error(`A request was answered with ${error}`);
			answers.set(unique, Buffer.from(bytes.subarray(ANSWER_BYTES, length)));
		}
	}
}

const DATA = Buffer.alloc(DATA_BYTES, 1);

function ask(opcode: number, nodeId: number, ...parts: readonly Buffer[]): Asked {
	return { opcode, nodeId, args: Buffer.concat(parts) };
}

/** Words of 32 bits in the order of bytes of this machine, which is little-endian wherever this runs. */
function words(...values: readonly number[]): Buffer {
	return Buffer.from(Uint32Array.from(values).buffer);
}

function zeros(count: number): number[] {
	return new Array<number>(count).fill(0);
}

/** Of a reply with an entry. */
function nodeIdIn(body: Buffer): number {
	return body.readUInt32LE(0);
}

function name(text: string): Buffer {
	return Buffer.from(`${text}\0`);
}

function mode(bits: number): Buffer {
	const values = zeros(SETATTR_WORDS);
	values[0] = SetattrValid.mode;
	values[MODE_WORD] = bits;
	return words(...values);
}
