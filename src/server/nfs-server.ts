// The server: listeners, connections, registration with rpcbind, and an orderly end.

import { createServer, isIP, type Server, type Socket } from "node:net";
import type { ExportOptions } from "../exports/export.ts";
import { Exports, type Refusal } from "../exports/exports.ts";
import type { AddressedBytes } from "../linux/memory.ts";
import { mount3Program } from "../mount3/mount3-program.ts";
import { MOUNT_PROGRAM, MOUNT_VERSION_3 } from "../mount3/protocol.ts";
import { nfs3Program } from "../nfs3/nfs3-program.ts";
import { NFS_PROGRAM, NFS_VERSION_3 } from "../nfs3/protocol.ts";
import { type Nfs4Options, Nfs4Service } from "../nfs4/nfs4-service.ts";
import { NFS_VERSION_4 } from "../nfs4/protocol.ts";
import { CallerCache, type Peer, STRANGER } from "../rpc/caller.ts";
import { Connection, type RequestsInFlight } from "../rpc/connection.ts";
import { Dispatcher, type ReplyChannel } from "../rpc/dispatcher.ts";
import { DuplicateRequests } from "../rpc/duplicate-requests.ts";
import { DEFAULT_RPC_LIMITS, type RpcLimits } from "../rpc/limits.ts";
import { LargeBuffers } from "../rpc/record-receiver.ts";
import { ReplyWriter } from "../rpc/reply-writer.ts";
import { RPCBIND_ADDRESSES, type RpcbindMapping, registerWithRpcbind, unregisterFromRpcbind } from "../rpc/rpcbind.ts";
import { SlabPool } from "../rpc/slab-pool.ts";
import { describeThrown } from "../vfs/system-errors.ts";
import { formatListenAddress, type ListenAddress, listenAt } from "./listen-address.ts";
import { peerOf, processUser } from "./peer.ts";

/** How long a connection that was shut down is read on until the peer closes it. */
const DEFAULT_LINGER_SECONDS = 2;
/** How long requests that were taken may wait for their disk once the server closes. */
const DEFAULT_DRAIN_SECONDS = 30;
const SWEEP_INTERVAL_MS = 5000;
/** Connections of peers that nothing is for, beside all others, and as a part of these. Beyond it the oldest is closed: they take nobody's place. */
const REFUSED_CONNECTIONS_MAX = 16;
const REFUSED_CONNECTIONS_PART = 1 / 8;
/** Peers of whose refusal `warn` is told. */
const REFUSALS_TOLD_MAX = 100;

export interface NfsServerOptions {
	readonly exports: readonly ExportOptions[];
	readonly listen: readonly ListenAddress[];
	/** Memory that system calls can fill, where READ puts what it reads. */
	readonly allocate: (size: number) => AddressedBytes;
	/** Milliseconds since the epoch. */
	readonly clock?: () => number;
	/** Milliseconds, never going back: for deadlines. */
	readonly now?: () => number;
	readonly limits?: Partial<RpcLimits>;
	readonly lingerSeconds?: number;
	readonly drainSeconds?: number;
	/** Tell the host's rpcbind where to find this server. */
	readonly rpcbind?: boolean;
	/** Serve version 3, and with it MOUNT; default: true. */
	readonly nfs3?: boolean;
	/** Serve version 4.1; default: no. */
	readonly nfs4?: Nfs4Options;
	/** Is given a sentence about what went wrong without stopping the server. */
	readonly warn?: (sentence: string) => void;
}

/** Serves overlays over NFS version 3 with MOUNT, and version 4.1, all at each address. */
export class NfsServer {
	/** Replies that clients may ask for again: `save()` after `close()`, `restore()` before `listen()`. */
	readonly duplicateRequests: DuplicateRequests<ReplyChannel>;
	readonly #options: NfsServerOptions;
	readonly #limits: RpcLimits;
	readonly #pool: SlabPool;
	readonly #largeBuffers: LargeBuffers;
	readonly #inFlight: RequestsInFlight = { requests: 0, bytes: 0 };
	readonly #now: () => number;
	readonly #dispatcher: Dispatcher;
	readonly #connections = new Set<Connection>();
	/** Those among them of peers that nothing is for, the oldest first. */
	readonly #refused = new Set<Connection>();
	readonly #refusalsTold = new Set<string>();
	readonly #exports: Exports;
	readonly #nfs4: Nfs4Service | null = null;
	readonly #user = processUser();
	readonly #listeners: Server[] = [];
	#addresses: ListenAddress[] = [];
	#mappings: RpcbindMapping[] = [];
	#sweep: NodeJS.Timeout | undefined;
	#isExcessNoted = false;
	#accepted = 0;
	#closing: Promise<void> | undefined;
	#onLastClosed: (() => void) | undefined;

	constructor(options: NfsServerOptions) {
		this.#options = options;
		this.#limits = { ...DEFAULT_RPC_LIMITS, ...options.limits };
		this.#pool = new SlabPool(options.allocate, this.#limits.replyBytesTotal);
		this.#pool.onExcess = () => this.#longestStalled()?.destroy();
		this.#largeBuffers = new LargeBuffers(this.#limits.recordBytesTotal);
		this.#largeBuffers.onExcess = () => this.#noteRecordExcess();
		this.#now = options.now ?? (() => performance.now());
		this.duplicateRequests = new DuplicateRequests(options.clock ?? Date.now);
		this.#exports = new Exports(options.exports);
		const programs = options.nfs3 === false ? [] : [nfs3Program(this.#exports), mount3Program(this.#exports)];
		if (options.nfs4 !== undefined) {
			this.#nfs4 = new Nfs4Service(this.#exports, options.nfs4, this.#now, (sentence) => this.#warn(sentence));
			programs.push(this.#nfs4.program);
		}
		const nobody = new CallerCache(STRANGER).anonymous();
		this.#dispatcher = new Dispatcher(programs, this.duplicateRequests, new ReplyWriter(this.#pool), nobody);
	}

	/** Where it listens, with the ports it got. */
	get addresses(): readonly ListenAddress[] {
		return this.#addresses;
	}

	/** The same as people write it. */
	get addressNames(): readonly string[] {
		return this.#addresses.map(formatListenAddress);
	}

	/** Calls taken so far. */
	get calls(): number {
		return this.#dispatcher.calls;
	}

	get connectionCount(): number {
		return this.#connections.size;
	}

	/** Listens at all addresses, or at none: then it throws an Error with a sentence for the user. */
	async listen(): Promise<void> {
		this.#nfs4?.start();
		try {
			for (const address of this.#options.listen) {
				const listener = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) =>
					this.#accept(socket, peerOf(socket, "path" in address, this.#user, this.#exports.asksOwner)),
				);
				this.#listeners.push(listener);
				this.#addresses.push(await listenAt(listener, address));
				// Running out of descriptors is one accept that fails, not the end of the server.
				listener.on("error", (error) => this.#warn(`A connection could not be accepted: ${describeThrown(error)}`));
			}
		} catch (error) {
			this.destroy();
			throw error;
		}
		this.#sweep = setInterval(() => this.closeLate(), SWEEP_INTERVAL_MS).unref();
		if (this.#options.rpcbind) await this.#register();
	}

	/**
	 * Stops taking connections and requests, sends the reply of every request that was taken, and resolves when every
	 * connection is closed: by its peer, or after the bounds.
	 */
	close(): Promise<void> {
		this.#closing ??= this.#close();
		return this.#closing;
	}

	/** Closes everything at once. */
	destroy(): void {
		clearInterval(this.#sweep);
		this.#nfs4?.stop();
		for (const listener of this.#listeners.splice(0)) listener.close();
		for (const connection of this.#connections) connection.destroy();
	}

	async #close(): Promise<void> {
		clearInterval(this.#sweep);
		for (const listener of this.#listeners.splice(0)) listener.close();
		const { drainSeconds = DEFAULT_DRAIN_SECONDS, lingerSeconds = DEFAULT_LINGER_SECONDS } = this.#options;
		const timers = new Set<NodeJS.Timeout>();
		const destroyAfter = (connection: Connection, seconds: number): void => {
			timers.add(setTimeout(() => connection.destroy(), seconds * 1000));
		};
		const unregistered = this.#unregister();
		const allClosed = new Promise<void>((resolve) => {
			this.#onLastClosed = resolve;
		});
		for (const connection of [...this.#connections]) {
			destroyAfter(connection, drainSeconds);
			connection.onDrained = () => destroyAfter(connection, lingerSeconds);
			connection.drain();
		}
		if (this.#connections.size > 0) await allClosed;
		for (const timer of timers) clearTimeout(timer);
		this.#nfs4?.close();
		await unregistered;
	}

	#accept(socket: Socket, peer: Peer | null): void {
		const refusal = peer === null ? null : this.#exports.refusal(peer);
		if (peer === null || this.#closing !== undefined || !this.#makeRoom(refusal !== null)) {
			socket.destroy();
			return;
		}
		if (refusal !== null) this.#tellRefusal(refusal, peer.address, socket.remotePort ?? 0);
		const source = this.duplicateRequests.connected(peer.address, socket.remotePort ?? 0);
		const connection = new Connection(socket, {
			dispatcher: this.#dispatcher,
			limits: this.#limits,
			largeBuffers: this.#largeBuffers,
			reply: new ReplyWriter(this.#pool),
			callers: new CallerCache(peer),
			source,
			isRefused: refusal !== null,
			number: ++this.#accepted,
			inFlight: this.#inFlight,
			now: this.#now,
			onClose: () => {
				this.duplicateRequests.disconnected(source);
				this.#connections.delete(connection);
				this.#refused.delete(connection);
				if (this.#connections.size === 0) this.#onLastClosed?.();
			},
		});
		this.#connections.add(connection);
		if (refusal !== null) this.#refused.add(connection);
	}

	/** Whether there is room for one more connection, after one was closed that can be spared. */
	#makeRoom(isRefused: boolean): boolean {
		if (isRefused) {
			const [oldest] = this.#refused;
			if (this.#refused.size < Math.min(REFUSED_CONNECTIONS_MAX, Math.ceil(this.#limits.connections * REFUSED_CONNECTIONS_PART)))
				return true;
			oldest.destroy();
			// at once: many are accepted before the first of them has closed
			this.#refused.delete(oldest);
			this.#connections.delete(oldest);
			return true;
		}
		if (this.#connections.size - this.#refused.size < this.#limits.connections) return true;
		const victim = this.#longestIdle();
		victim?.destroy();
		return victim !== undefined;
	}

	#tellRefusal(refusal: Refusal, address: string, port: number): void {
		const key = `${refusal} ${address}`;
		if (this.#refusalsTold.has(key) || this.#refusalsTold.size >= REFUSALS_TOLD_MAX) return;
		this.#refusalsTold.add(key);
		this.#warn(`A client is refused: ${describeRefusal(refusal, address, port)}`);
	}

	#longestIdle(): Connection | undefined {
		let found: Connection | undefined;
		for (const connection of this.#connections) {
			if (this.#refused.has(connection)) continue;
			if (!connection.idle || connection.closed) continue;
			if (found === undefined || isSparedBefore(found, connection)) found = connection;
		}
		return found;
	}

	#longestStalled(): Connection | undefined {
		let found: Connection | undefined;
		for (const connection of this.#connections) {
			if (connection.stalledSince === null) continue;
			if (found === undefined || connection.lastActive < found.lastActive) found = connection;
		}
		return found;
	}

	/** Closes connections whose peers are past a deadline. Called every few seconds. */
	closeLate(): void {
		const now = this.#now();
		const { stallSeconds, recordSeconds } = this.#limits;
		for (const connection of this.#connections) {
			const { stalledSince, recordSince } = connection;
			const hasStalled = stalledSince !== null && stalledSince < now - stallSeconds * 1000;
			if (hasStalled || (recordSince !== null && recordSince < now - recordSeconds * 1000)) connection.destroy();
		}
	}

	/** Not at once: the memory was taken in the middle of a read. */
	#noteRecordExcess(): void {
		if (this.#isExcessNoted) return;
		this.#isExcessNoted = true;
		setImmediate(() => {
			this.#isExcessNoted = false;
			while (this.#largeBuffers.isExcessive) {
				const victim = this.#slowestSender();
				if (victim === undefined) return;
				victim.destroy();
			}
		});
	}

	/** Of those whose incomplete records hold memory who has sent nothing for the longest; who is held back here comes last. */
	#slowestSender(): Connection | undefined {
		let found: Connection | undefined;
		for (const connection of this.#connections) {
			if (connection.closed || connection.recordBytes === 0) continue;
			if (found === undefined || isSlower(connection, found)) found = connection;
		}
		return found;
	}

	async #register(): Promise<void> {
		const { nfs3 = true, nfs4 } = this.#options;
		const mappings = mappingsOf(this.#addresses, nfs3, nfs4 !== undefined);
		try {
			await registerWithRpcbind(mappings, RPCBIND_ADDRESSES);
			this.#mappings = mappings;
		} catch (error) {
			this.#warn(`Not registered with rpcbind: ${(error as Error).message}`);
		}
	}

	async #unregister(): Promise<void> {
		if (this.#mappings.length === 0) return;
		try {
			await unregisterFromRpcbind(this.#mappings, RPCBIND_ADDRESSES);
		} catch (error) {
			this.#warn(`Still registered with rpcbind: ${(error as Error).message}`);
		}
	}

	#warn(sentence: string): void {
		this.#options.warn?.(sentence);
	}
}

/** Whether the second can rather be spared than the first: back channels are quiet by nature. */
function isSparedBefore(a: Connection, b: Connection): boolean {
	return a.isSpared === b.isSpared ? b.lastActive < a.lastActive : a.isSpared;
}

function isSlower(a: Connection, b: Connection): boolean {
	const isHeldBack = a.recordSince === null;
	if (isHeldBack !== (b.recordSince === null)) return !isHeldBack;
	return a.lastActive < b.lastActive;
}

function describeRefusal(refusal: Refusal, address: string, port: number): string {
	const isUnix = address === "unix";
	switch (refusal) {
		case "unlisted":
			return isUnix ? "no --allow names unix." : `no --allow names ${address}.`;
		case "unprivileged":
			return isUnix
				? "over a Unix socket calls are taken from root only (--insecure takes them from everybody)."
				: `${address} calls from port ${port}, and calls are taken from ports below 1024 (--insecure takes them from all).`;
		case "other-user":
			return `it comes from ${isUnix ? "a Unix socket" : address} and is another user's, as far as can be told (--allow-other takes calls of all users).`;
	}
}

/** One mapping for each program and family: the first address of each. */
function mappingsOf(addresses: readonly ListenAddress[], nfs3: boolean, nfs4: boolean): RpcbindMapping[] {
	const mappings: RpcbindMapping[] = [];
	for (const [family, networkId] of [
		[4, "tcp"],
		[6, "tcp6"],
	] as const) {
		const address = addresses.find((candidate) => "host" in candidate && isIP(candidate.host) === family);
		if (address === undefined || !("host" in address)) continue;
		const place = { networkId, host: address.host, port: address.port };
		if (nfs3) mappings.push({ program: NFS_PROGRAM, version: NFS_VERSION_3, ...place });
		if (nfs4) mappings.push({ program: NFS_PROGRAM, version: NFS_VERSION_4, ...place });
		if (nfs3) mappings.push({ program: MOUNT_PROGRAM, version: MOUNT_VERSION_3, ...place });
	}
	return mappings;
}
