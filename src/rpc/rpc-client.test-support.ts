// An RPC client for tests that shows the very bytes.

import { connect, type NetConnectOpts, type Socket } from "node:net";
import { XdrReader } from "../xdr/xdr-reader.ts";
import { XdrWriter } from "../xdr/xdr-writer.ts";
import { AuthFlavor, MessageType, RPC_VERSION } from "./rpc-message.ts";

/** A number is an unsigned integer, text and bytes are variable-length opaque, `{ raw }` stands as it is. */
export type XdrItem = number | boolean | string | Uint8Array | { readonly raw: Uint8Array };

export function xdr(...items: readonly XdrItem[]): Buffer {
	const writer = XdrWriter.growing();
	for (const item of items) {
		if (typeof item === "number") writer.u32(item);
		else if (typeof item === "boolean") writer.bool(item);
		else if (typeof item === "string") writer.opaque(Buffer.from(item));
		else if (item instanceof Uint8Array) writer.opaque(item);
		else writer.raw(item.raw);
	}
	return writer.copyFrom(0);
}

export interface CallOptions {
	readonly xid?: number;
	readonly rpcVersion?: number;
	readonly program: number;
	readonly version: number;
	readonly procedure: number;
	readonly args?: Uint8Array;
	/** Flavor and body of the credential; AUTH_SYS of root if absent. */
	readonly credential?: readonly [flavor: number, body: Uint8Array];
	readonly verifier?: readonly [flavor: number, body: Uint8Array];
}

export function authSys(uid: number, gid: number, gids: readonly number[] = [], stamp = 0): readonly [number, Uint8Array] {
	return [AuthFlavor.sys, xdr(stamp, "tester", uid, gid, gids.length, ...gids)];
}

export const AUTH_NONE: readonly [number, Uint8Array] = [AuthFlavor.none, new Uint8Array(0)];

/** An RPC call without record mark. */
export function encodeCall(options: CallOptions): Buffer {
	const { xid = 1, rpcVersion = RPC_VERSION, program, version, procedure, args = new Uint8Array(0) } = options;
	const [flavor, body] = options.credential ?? authSys(0, 0);
	const [verifierFlavor, verifierBody] = options.verifier ?? AUTH_NONE;
	return xdr(xid, MessageType.call, rpcVersion, program, version, procedure, flavor, body, verifierFlavor, verifierBody, { raw: args });
}

/** The bytes as fragments of these lengths; the rest is the last one. */
export function inFragments(record: Uint8Array, lengths: readonly number[] = []): Buffer {
	const parts: Uint8Array[] = [];
	let at = 0;
	for (const length of lengths) {
		parts.push(xdr(length), record.subarray(at, at + length));
		at += length;
	}
	parts.push(xdr(0x80000000 + record.length - at), record.subarray(at));
	return Buffer.concat(parts);
}

/** Results of an accepted, successful reply as a reader; an Error otherwise. */
export function results(record: Buffer): XdrReader {
	const reader = XdrReader.over(record);
	const header = [reader.u32(), reader.u32(), reader.u32(), reader.u32(), reader.u32(), reader.u32()];
	if (header.slice(1).some((word, index) => word !== [1, 0, 0, 0, 0][index])) throw new Error(`The call was refused: ${header}`);
	return reader;
}

/** A client that shows the bytes. */
export class RpcClient {
	readonly socket: Socket;
	readonly #records: Buffer[] = [];
	#bytes: Buffer = Buffer.alloc(0);
	#wake: (() => void) | null = null;
	#nextXid = 1000;
	readonly #calls: Buffer[] = [];
	/** Calls of the server are for `takeCall`, not `receive`. */
	separatesCalls = false;
	ended = false;
	closed = false;

	constructor(socket: Socket) {
		this.socket = socket;
		socket.on("data", (chunk: Buffer) => this.#data(chunk));
		socket.on("end", () => {
			this.ended = true;
			this.#wake?.();
		});
		socket.on("error", () => {});
		socket.on("close", () => {
			this.closed = true;
			this.#wake?.();
		});
	}

	static connect(options: NetConnectOpts): Promise<RpcClient> {
		return new Promise((resolve, reject) => {
			const socket = connect({ ...options, allowHalfOpen: true });
			socket.once("error", reject);
			socket.once("connect", () => {
				socket.off("error", reject);
				resolve(new RpcClient(socket));
			});
		});
	}

	#data(chunk: Buffer): void {
		this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
		while (this.#bytes.length >= 4) {
			const end = 4 + (this.#bytes.readUInt32BE(0) & 0x7fffffff);
			if (this.#bytes.length < end) break;
			const record = this.#bytes.subarray(4, end);
			if (this.separatesCalls && record.readUInt32BE(4) === MessageType.call) this.#calls.push(record);
			else this.#records.push(record);
			this.#bytes = this.#bytes.subarray(end);
		}
		this.#wake?.();
	}

	send(bytes: Uint8Array): void {
		this.socket.write(bytes);
	}

	/** The next reply, whatever it answers; null when the server has ended the connection. */
	receive(): Promise<Buffer | null> {
		return this.#firstOf(this.#records);
	}

	/** The next call of the server; null when it has ended the connection. */
	takeCall(): Promise<Buffer | null> {
		return this.#firstOf(this.#calls);
	}

	async #firstOf(records: Buffer[]): Promise<Buffer | null> {
		while (records.length === 0) {
			if (this.ended || this.closed) return null;
			await new Promise<void>((resolve) => {
				this.#wake = resolve;
			});
		}
		return records.shift() as Buffer;
	}

	/** Sends a call and gives the whole reply; only for one call at a time. */
	async call(options: CallOptions): Promise<Buffer> {
		this.send(inFragments(encodeCall({ xid: this.#nextXid++, ...options })));
		const reply = await this.receive();
		if (reply === null) throw new Error("The server ended the connection");
		return reply;
	}

	/** Resolves when the server has ended the connection. */
	async end(): Promise<void> {
		while ((await this.receive()) !== null);
	}

	close(): void {
		this.socket.destroy();
	}

	/** Breaks the connection: the server hears of it even while it has nothing to send. */
	reset(): void {
		this.socket.resetAndDestroy();
	}
}
