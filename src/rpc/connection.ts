// One connection: reads records, has them executed, sends replies, and holds back a peer that does not read.

import { Socket } from "node:net";
import { hasPeerLeft, sendFrom } from "../linux/socket.ts";
import type { XdrReader } from "../xdr/xdr-reader.ts";
import type { Slab } from "../xdr/xdr-writer.ts";
import type { CallerCache } from "./caller.ts";
import type { Dispatcher, ReplyChannel } from "./dispatcher.ts";
import type { ConnectionSource } from "./duplicate-requests.ts";
import type { RpcLimits } from "./limits.ts";
import type { ServerCall } from "./program.ts";
import { type LargeBuffers, RecordError, RecordReceiver } from "./record-receiver.ts";
import type { RecordRegion } from "./record-slots.ts";
import type { ReplyPiece, ReplyWriter } from "./reply-writer.ts";
import { publishFailure } from "./rpc-failure.ts";
import { ServerCalls } from "./server-calls.ts";
import { Line } from "./slices.ts";

/** Records of one connection that are executed one after the other, some 200 microseconds; then others have their turn, if there are any. */
const RECORDS_PER_TURN = 16;
/** Records that all connections together have executed until each has had its turn, some 10 ms: the more there are, the shorter turns are. */
const RECORDS_PER_ROUND = 512;
const KEEPALIVE_DELAY_MS = 60_000;

export interface ConnectionOptions {
	readonly dispatcher: Dispatcher;
	readonly limits: RpcLimits;
	readonly largeBuffers: LargeBuffers;
	readonly reply: ReplyWriter;
	readonly callers: CallerCache;
	readonly source: ConnectionSource<ReplyChannel>;
	readonly isRefused: boolean;
	readonly number: number;
	/** What waits over all connections of a server, which share it. */
	readonly inFlight: RequestsInFlight;
	/** Milliseconds, never going back. */
	readonly now: () => number;
	readonly onClose: (connection: Connection) => void;
}

/** Requests that wait for a disk, over all connections, and bytes of their records. */
export interface RequestsInFlight {
	requests: number;
	bytes: number;
}

/**
 * One peer. All records of a received chunk are executed where they lie, and their replies leave in one write. It stops
 * reading, and leaves further requests in the kernel, while too many requests wait or too many replies are unread.
 */
export class Connection implements ReplyChannel {
	readonly reply: ReplyWriter;
	readonly callers: CallerCache;
	readonly source: ConnectionSource<ReplyChannel>;
	readonly isRefused: boolean;
	readonly number: number;
	readonly line = new Line();
	isSpared = false;
	/** Calls to this peer; null where none was ever made. */
	#calls: ServerCalls | null = null;
	#closeListeners: (() => void)[] = [];
	readonly #dispatcher: Dispatcher;
	readonly #limits: RpcLimits;
	readonly #receiver: RecordReceiver;
	readonly #now: () => number;
	readonly #onClose: (connection: Connection) => void;
	readonly #socket: Socket;
	/** Null where replies go through the socket alone. */
	readonly #direct: DirectSocket | null;
	/** Slabs that the socket is writing, in the order of its callbacks. */
	readonly #writing: Slab[] = [];
	/** Callbacks of writes that were found complete before: they come before any other. */
	#callbacksAhead = 0;
	readonly #written: () => void;
	readonly #flush: () => void;
	#flushScheduled = false;
	readonly #inFlight: RequestsInFlight;
	/** When the record began to come that is not whole; null where there is none. */
	#recordSince: number | null = null;
	#requests = 0;
	#requestBytes = 0;
	#paused = false;
	/** Paused until its next turn, since others have sent something too. */
	#hasYielded = false;
	/** Apart from `line`: what has come since does not wait behind all requests of this peer that go on. */
	readonly #incoming = new Line();
	/** No further requests are taken: the server stops. */
	#draining = false;
	/** The peer has shut its side down. */
	#peerEnded = false;
	#endSent = false;
	#closed = false;
	/** When the peer last sent something, or took something of what was sent to it. */
	lastActive: number;
	onDrained: (() => void) | null = null;

	constructor(accepted: Socket, options: ConnectionOptions) {
		this.reply = options.reply;
		this.callers = options.callers;
		this.source = options.source;
		this.isRefused = options.isRefused;
		this.number = options.number;
		this.#inFlight = options.inFlight;
		this.#dispatcher = options.dispatcher;
		this.#limits = options.limits;
		this.#receiver = new RecordReceiver(options.largeBuffers);
		this.#now = options.now;
		this.#onClose = options.onClose;
		this.lastActive = options.now();
		this.#written = () => this.#afterWrite();
		this.#flush = () => {
			this.#flushScheduled = false;
			this.#send();
		};
		this.#socket = readInto(accepted, {
			target: () => this.#receiver.target(),
			received: (count) => this.#received(count),
		});
		this.#direct = directSocket(this.#socket);
		this.source.hasPeerLeft = () => this.#peerEnded || (this.#direct?.hasPeerLeft() ?? false);
		this.#socket.setNoDelay(true);
		this.#socket.setKeepAlive(true, KEEPALIVE_DELAY_MS);
		this.#socket.on("end", () => {
			this.#peerEnded = true;
			this.#endIfDone();
		});
		// A broken connection is every peer's right; `close` follows.
		this.#socket.on("error", () => {});
		this.#socket.on("close", () => this.#afterClose());
	}

	get closed(): boolean {
		return this.#closed;
	}

	/** Nothing of this peer's is being worked on, nor waits for it to read. */
	get idle(): boolean {
		return this.#requests === 0 && this.#writing.length === 0;
	}

	/** Since when the peer has not read what was sent to it; null when nothing waits for it. */
	get stalledSince(): number | null {
		return this.#writing.length > 0 ? this.lastActive : null;
	}

	/** Since when a record has been coming that is not whole; null where there is none, or where it is held back here. */
	get recordSince(): number | null {
		return this.#paused ? null : this.#recordSince;
	}

	/** Memory of a record that is not whole, beside the small buffer that each connection has. */
	get recordBytes(): number {
		return this.#receiver.heldBytes;
	}

	began(bytes: number): void {
		this.#inFlight.requests++;
		this.#inFlight.bytes += bytes;
		this.#requests++;
		this.#requestBytes += bytes;
	}

	ended(bytes: number): void {
		this.#inFlight.requests--;
		this.#inFlight.bytes -= bytes;
		this.#requests--;
		this.#requestBytes -= bytes;
		// Requests that were left in the buffer may go on, and a connection that drains may be done.
		if (!this.#closed) this.flushSoon();
	}

	flushSoon(): void {
		if (this.#flushScheduled) return;
		this.#flushScheduled = true;
		process.nextTick(this.#flush);
	}

	call(call: ServerCall): Promise<XdrReader> {
		this.#calls ??= new ServerCalls((xid, call) => this.#writeCall(xid, call));
		if (this.#closed || this.#draining) this.#calls.close();
		return this.#calls.call(call);
	}

	/** Never between the pieces of a reply that is being written. */
	#writeCall(xid: number, call: ServerCall): void {
		process.nextTick(() => {
			if (this.#closed || this.#endSent) return;
			this.reply.beginCall(xid, call);
			call.encode(this.reply);
			this.reply.finish();
			this.flushSoon();
		});
	}

	answered(record: RecordRegion): void {
		this.#calls?.answered(record);
	}

	whenClosed(listener: () => void): void {
		if (this.#closed) listener();
		else this.#closeListeners.push(listener);
	}

	/** Takes no further requests, answers those it has, then shuts its side down. `onDrained` is called when the kernel has it all. */
	drain(): void {
		this.#draining = true;
		this.#calls?.close();
		this.#receiver.drop();
		this.#resume();
		this.#send();
	}

	destroy(): void {
		if (this.#closed) return;
		this.#forget();
		this.#receiver.close();
		this.#socket.destroy();
	}

	/** Gives up everything that was to be sent. */
	#forget(): void {
		this.#closed = true;
		for (const slab of this.#writing.splice(0)) this.reply.lose(slab);
		this.#calls?.close();
		for (const listener of this.#closeListeners.splice(0)) listener();
	}

	/** Returns whether to go on reading. */
	#received(count: number): boolean {
		this.#receiver.received(count);
		this.lastActive = this.#now();
		if (this.#draining) this.#receiver.drop();
		else this.#process();
		this.#send();
		return !this.#paused;
	}

	#overloaded(): boolean {
		const { requests, bytes } = this.#inFlight;
		return (
			// nobody waits for others altogether: what is in flight here ends, and then one more is taken
			(this.#requests > 0 && (requests >= this.#limits.requestsInFlightTotal || bytes >= this.#limits.requestBytesInFlightTotal)) ||
			this.#requests >= this.#limits.requestsInFlight ||
			this.#requestBytes >= this.#limits.requestBytesInFlight ||
			this.reply.heldBytes >= this.#limits.replyBytes
		);
	}

	/** Executes the records that are there, as far as the bounds allow. */
	#process(): void {
		let taken = 0;
		try {
			for (;;) {
				if (this.#closed || this.#draining) return;
				if (this.#overloaded()) {
					this.#paused = true;
					return;
				}
				// one of each connection in each turn of the event loop, since many may have sent much at once; who has sent one request waits for nobody
				if (taken > 0 && this.#receiver.mayHaveNext && (taken >= this.#recordsMax() || this.#dispatcher.slices.isSpent)) {
					this.#yield();
					return;
				}
				if (!this.#receiver.next()) break;
				taken++;
				this.#dispatcher.take(this, this.#receiver);
				if (this.reply.full && !this.#closed) this.#write();
			}
			if (!this.#receiver.isPartial) this.#recordSince = null;
			else if (taken > 0 || this.#recordSince === null) this.#recordSince = this.#now();
		} catch (error) {
			if (!(error instanceof RecordError)) publishFailure(error, "", "");
			// No record, or one beyond the bounds: what follows cannot be made sense of.
			this.destroy();
		}
	}

	#recordsMax(): number {
		const { lines } = this.#dispatcher.slices;
		return lines * RECORDS_PER_TURN <= RECORDS_PER_ROUND ? RECORDS_PER_TURN : Math.max(1, Math.floor(RECORDS_PER_ROUND / lines));
	}

	#yield(): void {
		this.#paused = true;
		this.#hasYielded = true;
		this.#dispatcher.slices.run(this.#incoming, () => {
			this.#hasYielded = false;
			this.#send();
		});
	}

	/** Hands all complete replies to the socket, then goes on where the bounds had stopped it. */
	#send(): void {
		if (this.#closed) {
			this.reply.discard();
			return;
		}
		this.#write();
		while (this.#paused && !this.#hasYielded && !this.#overloaded() && !this.#closed) {
			this.#paused = false;
			// it was held back here until now
			if (this.#recordSince !== null) this.#recordSince = this.#now();
			this.#process();
			this.#write();
			if (!this.#paused) this.#socket.resume();
		}
		this.#endIfDone();
	}

	#write(): void {
		const pieces = this.reply.takePieces();
		if (pieces.length === 0) return;
		// Behind what the socket still holds, everything has to go through it.
		if (this.#writing.length > 0 || this.#direct === null) this.#queue(pieces, 0, 0);
		else this.#sendNow(pieces, this.#direct);
	}

	/** Gives replies to the kernel without the socket's help, which costs more than the rest of a short call, and the socket what the kernel does not take. */
	#sendNow(pieces: readonly ReplyPiece[], direct: DirectSocket): void {
		for (let index = 0; index < pieces.length; index++) {
			const { slab, length } = pieces[index];
			const sent = direct.send(slab.memory.address, length, index < pieces.length - 1);
			if (sent !== length) {
				// An error will be met by the socket again, and ends it in its own way.
				this.#queue(pieces, index, Math.max(0, sent));
				return;
			}
			this.reply.release(slab);
		}
	}

	/** Gives the socket all pieces from one on, and of that what follows its first `sent` bytes. */
	#queue(pieces: readonly ReplyPiece[], from: number, sent: number): void {
		const several = pieces.length - from > 1;
		if (several) this.#socket.cork();
		for (let index = from; index < pieces.length; index++) {
			const { slab, length } = pieces[index];
			this.#writing.push(slab);
			this.#socket.write(slab.bytes.subarray(index === from ? sent : 0, length), this.#written);
		}
		if (several) this.#socket.uncork();
		if (this.#socket.writableLength > 0) return;
		// The kernel has taken all of it already: the slabs are free, and warm, before the callbacks say so.
		this.#callbacksAhead += this.#writing.length;
		for (const slab of this.#writing.splice(0)) this.reply.release(slab);
	}

	#afterWrite(): void {
		if (this.#callbacksAhead > 0) {
			this.#callbacksAhead--;
			return;
		}
		const slab = this.#writing.shift();
		if (slab === undefined) return;
		this.reply.release(slab);
		this.lastActive = this.#now();
		if (this.#paused || this.#draining) this.#send();
	}

	#resume(): void {
		if (!this.#paused) return;
		this.#paused = false;
		this.#socket.resume();
	}

	/** Shuts the write side down once the peer or the server wants no more and every request is answered. */
	#endIfDone(): void {
		if (this.#endSent || this.#closed || this.#requests > 0 || this.#paused) return;
		if (!this.#draining && !this.#peerEnded) return;
		this.#endSent = true;
		// Behind all replies, however slowly the peer reads them.
		this.#socket.end(() => this.onDrained?.());
	}

	#afterClose(): void {
		this.#forget();
		this.reply.discard();
		this.#receiver.close();
		this.#onClose(this);
	}
}

interface ReadTarget {
	readonly target: () => Uint8Array;
	readonly received: (count: number) => boolean;
}

/**
 * An accepted socket as one that reads into memory of ours, which is ten times as fast as `data` events. Node offers
 * `onread` only where a socket is made from a handle or connects, so the handle changes hands; `accepted` must have been
 * paused since it was accepted (`pauseOnConnect`), and counts as closed for its server.
 */
function readInto(accepted: Socket, read: ReadTarget): Socket {
	const owner = accepted as Socket & { _handle: object | null };
	const handle = owner._handle;
	if (handle === null || handle === undefined) throw new Error("An accepted socket has no handle");
	const options = {
		handle,
		allowHalfOpen: true,
		onread: { buffer: read.target, callback: (count: number) => read.received(count) },
	};
	const socket = new Socket(options as object);
	owner._handle = null;
	accepted.destroy();
	return socket;
}

interface DirectSocket {
	/** Bytes of the memory at `address` that the kernel has taken, or a negative number. */
	send(address: number, length: number, more: boolean): number;
	/** Whether the kernel knows that no more comes. */
	hasPeerLeft(): boolean;
}

/** As Node has them: descriptors are numbers that no documentation promises, and -1 where there is none. */
interface SocketHandle {
	readonly fd?: number;
}

/**
 * The way around a socket to its descriptor, for when the socket holds nothing. Null where it has none that carries just what was
 * written. Node closes a handle in the same turn in which it takes it from its socket, so while it is there its descriptor is this one.
 */
function directSocket(socket: Socket): DirectSocket | null {
	const owner = socket as Socket & { _handle?: SocketHandle | null };
	const handle = owner._handle;
	if (handle === null || handle === undefined || !PLAIN_HANDLES.has(handle.constructor.name)) return null;
	const fd = handle.fd;
	if (typeof fd !== "number" || fd < 0) return null;
	return {
		send(address, length, more) {
			if (owner._handle !== handle || address === 0 || socket.writableLength > 0) return -1;
			return sendFrom(fd, address, length, more);
		},
		hasPeerLeft: () => owner._handle !== handle || hasPeerLeft(fd),
	};
}

const PLAIN_HANDLES: ReadonlySet<string> = new Set(["TCP", "Pipe"]);
