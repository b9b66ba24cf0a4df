import { once } from "node:events";
import { createConnection, type Socket } from "node:net";
import { HANG_MILLISECONDS } from "./requirements.ts";
import { XdrReader, XdrWriter } from "./xdr-codec.ts";

export interface AuthSys {
	readonly uid: number;
	readonly gid: number;
	readonly gids?: readonly number[];
	readonly machine?: string;
}

/** The call was answered, but not by the procedure: rejected, or accepted with a status other than success. */
export class RpcRefusal extends Error {
	readonly kind: "denied" | "accepted";
	readonly status: number;
	/** What follows the status: low and high version, or the authentication status. */
	readonly detail: readonly number[];

	constructor(kind: "denied" | "accepted", status: number, detail: readonly number[]) {
		super(`RPC ${kind} with status ${status}${detail.length > 0 ? ` (${detail.join(", ")})` : ""}`);
		this.kind = kind;
		this.status = status;
		this.detail = detail;
	}
}

export const AcceptStatus = { success: 0, progUnavail: 1, progMismatch: 2, procUnavail: 3, garbageArgs: 4, systemErr: 5 } as const;

interface Waiting {
	readonly resolve: (record: Buffer) => void;
	readonly reject: (error: Error) => void;
}

/** One TCP connection that speaks ONC RPC (RFC 5531) as a client; any number of calls may be under way. */
export class RpcConnection {
	readonly socket: Socket;
	/** Replies to no call of `call()`: those to raw records. */
	readonly strays: Buffer[] = [];
	callTimeoutMilliseconds = HANG_MILLISECONDS;
	#xid = (Math.random() * 0x7fff_ffff) | 0;
	#received: Buffer[] = [];
	#receivedBytes = 0;
	#fragments: Buffer[] = [];
	readonly #waiting = new Map<number, Waiting>();
	#strayWaiters: (() => void)[] = [];
	#closed = false;

	private constructor(socket: Socket) {
		this.socket = socket;
		socket.setNoDelay(true);
		socket.on("data", (chunk) => this.#receive(chunk));
		socket.on("error", () => {});
		socket.on("close", () => {
			this.#closed = true;
			for (const waiting of this.#waiting.values()) waiting.reject(new Error("connection closed before the reply"));
			this.#waiting.clear();
			for (const wake of this.#strayWaiters.splice(0)) wake();
		});
	}

	/** `to` is a TCP port of 127.0.0.1, "host:port" is written as an object, and a path is a Unix socket. */
	static async connect(
		to: number | string | { host: string; port: number; localAddress?: string; localPort?: number },
	): Promise<RpcConnection> {
		const socket =
			typeof to === "number"
				? createConnection({ host: "127.0.0.1", port: to })
				: typeof to === "string"
					? createConnection({ path: to })
					: createConnection(to);
		const connection = new RpcConnection(socket);
		await once(socket, "connect");
		return connection;
	}

	get closed(): boolean {
		return this.#closed;
	}

	nextXid(): number {
		this.#xid = (this.#xid + 1) >>> 0;
		return this.#xid;
	}

	/** Resolves to a reader placed at the procedure's results; rejects with RpcRefusal. */
	async call(
		program: number,
		version: number,
		procedure: number,
		args: Buffer,
		credentials: AuthSys | null,
		xid = this.nextXid(),
	): Promise<XdrReader> {
		const reply = this.reply(xid);
		this.sendRecord(encodeCall(xid, program, version, procedure, args, credentials));
		return decodeReply(await reply);
	}

	/** The record that answers `xid`, whenever it comes. */
	reply(xid: number): Promise<Buffer> {
		return new Promise((resolve, reject) => {
			if (this.#closed) {
				reject(new Error("connection is closed"));
				return;
			}
			const timer = setTimeout(() => {
				this.#waiting.delete(xid);
				reject(new Error(`no reply within ${this.callTimeoutMilliseconds} ms`));
			}, this.callTimeoutMilliseconds);
			this.#waiting.set(xid, {
				resolve: (record) => {
					clearTimeout(timer);
					resolve(record);
				},
				reject: (error) => {
					clearTimeout(timer);
					reject(error);
				},
			});
		});
	}

	/** Sends one record, in one fragment unless told where to cut. */
	sendRecord(record: Buffer, fragmentBytes = record.length): void {
		const parts: Buffer[] = [];
		for (let at = 0; at < record.length; at += fragmentBytes) {
			const fragment = record.subarray(at, at + fragmentBytes);
			const mark = Buffer.alloc(4);
			mark.writeUInt32BE((fragment.length | (at + fragmentBytes >= record.length ? 0x8000_0000 : 0)) >>> 0);
			parts.push(mark, fragment);
		}
		this.socket.write(Buffer.concat(parts));
	}

	/** Bytes as they are, without record marks. */
	sendRaw(bytes: Buffer): void {
		this.socket.write(bytes);
	}

	/** The next reply that no call waits for; null when the peer closes first or nothing comes in time. */
	async stray(timeoutMilliseconds = HANG_MILLISECONDS): Promise<Buffer | null> {
		const until = Date.now() + timeoutMilliseconds;
		while (this.strays.length === 0 && !this.#closed && Date.now() < until) {
			await new Promise<void>((resolve) => {
				const timer = setTimeout(resolve, until - Date.now());
				this.#strayWaiters.push(() => {
					clearTimeout(timer);
					resolve();
				});
			});
		}
		return this.strays.shift() ?? null;
	}

	/** Whether the peer closes within the time. */
	async closes(timeoutMilliseconds = HANG_MILLISECONDS): Promise<boolean> {
		const until = Date.now() + timeoutMilliseconds;
		while (!this.#closed && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 10));
		return this.#closed;
	}

	close(): void {
		this.socket.destroy();
	}

	#receive(chunk: Buffer): void {
		this.#received.push(chunk);
		this.#receivedBytes += chunk.length;
		for (;;) {
			if (this.#receivedBytes < 4) return;
			if ((this.#received[0] as Buffer).length < 4) this.#received = [Buffer.concat(this.#received)];
			const mark = (this.#received[0] as Buffer).readUInt32BE(0);
			const length = mark & 0x7fff_ffff;
			if (this.#receivedBytes < 4 + length) return;
			const all = this.#received.length === 1 ? (this.#received[0] as Buffer) : Buffer.concat(this.#received);
			this.#fragments.push(all.subarray(4, 4 + length));
			this.#received = all.length > 4 + length ? [all.subarray(4 + length)] : [];
			this.#receivedBytes = all.length - 4 - length;
			if (mark >>> 31 === 1) this.#deliver(Buffer.concat(this.#fragments.splice(0)));
		}
	}

	#deliver(record: Buffer): void {
		const xid = record.length >= 4 ? record.readUInt32BE(0) : -1;
		const waiting = this.#waiting.get(xid);
		if (waiting) {
			this.#waiting.delete(xid);
			waiting.resolve(record);
			return;
		}
		this.strays.push(record);
		for (const wake of this.#strayWaiters.splice(0)) wake();
	}
}

export function encodeCall(
	xid: number,
	program: number,
	version: number,
	procedure: number,
	args: Buffer,
	credentials: AuthSys | null,
	rpcVersion = 2,
): Buffer {
	const call = new XdrWriter().u32(xid).u32(0).u32(rpcVersion).u32(program).u32(version).u32(procedure);
	if (credentials === null) call.u32(0).u32(0);
	else call.u32(1).opaque(encodeAuthSys(credentials));
	return call.u32(0).u32(0).raw(args).bytes();
}

export function encodeAuthSys(credentials: AuthSys): Buffer {
	const body = new XdrWriter()
		.u32(0)
		.string(credentials.machine ?? "test")
		.u32(credentials.uid)
		.u32(credentials.gid);
	const gids = credentials.gids ?? [];
	body.u32(gids.length);
	for (const gid of gids) body.u32(gid);
	return body.bytes();
}

export function decodeReply(record: Buffer): XdrReader {
	const reader = new XdrReader(record);
	reader.u32();
	if (reader.u32() !== 1) throw new Error("the record is no reply");
	if (reader.u32() === 1) {
		const status = reader.u32();
		throw new RpcRefusal("denied", status, status === 0 ? [reader.u32(), reader.u32()] : [reader.u32()]);
	}
	reader.u32();
	reader.opaque(400);
	const status = reader.u32();
	if (status === AcceptStatus.success) return reader;
	throw new RpcRefusal("accepted", status, status === AcceptStatus.progMismatch ? [reader.u32(), reader.u32()] : []);
}
