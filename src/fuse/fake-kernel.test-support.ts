// The kernel's side of a FUSE connection for tests: sends requests byte by byte, and takes the replies.

import assert from "node:assert/strict";
import { socketPair } from "../linux/descriptor-passing.ts";
import { ERRNO } from "../linux/errno.ts";
import { allocate } from "../linux/memory.ts";
import { readMessage, writeMessage } from "../linux/messages.ts";
import { close, setNonblocking } from "../linux/open.ts";
import { Opcode } from "./protocol.ts";

/** linux/fuse.h up to 7.45: what a new kernel offers, in both words. */
export const ALL_FLAGS = [0x73ffffff & ~(1 << 16), 0xffff] as const;

export interface FuseAnswer {
	/** An error number, or 0. */
	readonly error: number;
	readonly body: Buffer;
}

export interface Asker {
	readonly uid?: number;
	readonly gid?: number;
	readonly pid?: number;
}

/** Words of 32 bits, little-endian. */
export function words(...values: readonly number[]): Buffer {
	const bytes = Buffer.alloc(4 * values.length);
	values.forEach((value, i) => {
		bytes.writeUInt32LE(value >>> 0, 4 * i);
	});
	return bytes;
}

/** A name with its NUL. */
export function name(text: string): Buffer {
	return Buffer.from(`${text}\0`, "latin1");
}

export class FakeKernel {
	/** What a session is to serve. */
	readonly device: number;
	#near: number;
	readonly #memory = allocate(256 * 1024);
	readonly #answers = new Map<number, FuseAnswer>();
	#unique = 2;
	/** Messages that answer no request. */
	readonly strays: Buffer[] = [];

	constructor() {
		const pair = socketPair("seqpacket");
		assert.ok(typeof pair !== "number");
		[this.#near, this.device] = pair;
		assert.equal(setNonblocking(this.#near, true), 0);
	}

	/** Sends a request and does not wait for its reply. The low half of its number. */
	send(opcode: number, nodeId: number, args?: Uint8Array, asker?: Asker): number {
		return this.sendRequest(this.request(opcode, nodeId, args, asker));
	}

	/** A request with the next number. */
	request(opcode: number, nodeId: number, args: Uint8Array = Buffer.alloc(0), { uid = 0, gid = 0, pid = 1 }: Asker = {}): Buffer {
		this.#unique += 2;
		return Buffer.concat([words(40 + args.length, opcode, this.#unique, 0, nodeId, 0, uid, gid, pid, 0), args]);
	}

	sendRequest(request: Buffer): number {
		this.sendRaw(request);
		return request.readUInt32LE(8);
	}

	/** As if no reply to this request had come. */
	discard(unique: number): void {
		this.receive();
		this.#answers.delete(unique);
	}

	/** Sends a message as it is. */
	sendRaw(message: Uint8Array): void {
		this.#memory.bytes.set(message);
		assert.equal(writeMessage(this.#near, this.#memory.address, message.length), message.length);
	}

	/** The reply to the request of this number, as soon as it is there. */
	async answer(unique: number): Promise<FuseAnswer> {
		for (;;) {
			this.receive();
			const answer = this.#answers.get(unique);
			if (answer !== undefined) {
				this.#answers.delete(unique);
				return answer;
			}
			await new Promise((resolve) => setImmediate(resolve));
		}
	}

	/** Takes what is there. Whether an unanswered request has been answered meanwhile is seen by `isAnswered`. */
	receive(): void {
		for (;;) {
			const length = readMessage(this.#near, this.#memory.address, this.#memory.bytes.length);
			if (length === -ERRNO.EAGAIN) return;
			assert.ok(length >= 16, `a reply of ${length} bytes`);
			const message = Buffer.from(this.#memory.bytes.subarray(0, length));
			assert.equal(message.readUInt32LE(0), length, "the length in the header of a reply");
			assert.equal(message.readUInt32LE(12), 0);
			const unique = message.readUInt32LE(8);
			if (unique === 0) {
				this.strays.push(message);
				continue;
			}
			assert.ok(!this.#answers.has(unique), `a second reply to request ${unique}`);
			this.#answers.set(unique, { error: 0 - message.readInt32LE(4), body: message.subarray(16) });
		}
	}

	isAnswered(unique: number): boolean {
		this.receive();
		return this.#answers.has(unique);
	}

	/** Sends a request and waits for its reply. */
	ask(opcode: number, nodeId: number, args?: Uint8Array, asker?: Asker): Promise<FuseAnswer> {
		return this.answer(this.send(opcode, nodeId, args, asker));
	}

	/** The body of a reply that must be no error. */
	async take(opcode: number, nodeId: number, args?: Uint8Array, asker?: Asker): Promise<Buffer> {
		const { error, body } = await this.ask(opcode, nodeId, args, asker);
		assert.equal(error, 0, `error ${error} of operation ${opcode}`);
		return body;
	}

	/** Begins a connection as a kernel does that speaks this minor version. */
	init(minor = 45, flags: number = ALL_FLAGS[0], flags2: number = ALL_FLAGS[1]): Promise<FuseAnswer> {
		const args =
			minor < 36 ? words(7, minor, 131072, flags & ~(1 << 30)) : words(7, minor, 131072, flags, flags2, ...new Array(11).fill(0));
		return this.ask(Opcode.init, 0, args);
	}

	/** Unmounts. */
	close(): void {
		if (this.#near >= 0) close(this.#near);
		this.#near = -1;
	}
}
