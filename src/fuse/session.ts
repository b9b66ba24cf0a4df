// A FUSE session: receives the requests of a mount, runs them, and sees to it that each gets its one reply.

import { randomFillSync } from "node:crypto";
import { ClaimError } from "../claims/errors.ts";
import type { HostLockOperations } from "../claims/operations.ts";
import { ERRNO, errnoName, must } from "../linux/errno.ts";
import { type AddressedBytes, allocate } from "../linux/memory.ts";
import { readMessage, writeMessage } from "../linux/messages.ts";
import { close, setNonblocking } from "../linux/open.ts";
import { isDying } from "../linux/processes.ts";
import { makeSharedMemory, mapShared } from "../linux/shared-memory.ts";
import { type Watch, watchReadable } from "../linux/watch.ts";
import { REQUEST_PASSES_MAX } from "../rpc/limits.ts";
import { publishFailure } from "../rpc/rpc-failure.ts";
import { Line, Slices } from "../rpc/slices.ts";
import { OverlayError, Pending } from "../vfs/errors.ts";
import { type Credentials, FileType, type OverlayObject, type OverlayOperations } from "../vfs/operations.ts";
import { ofSystem } from "../vfs/system-errors.ts";
import type { FuseDevice } from "./device.ts";
import { CLAIM_ERROR_NUMBER, ERROR_NUMBER } from "./errors.ts";
import { agree } from "./init.ts";
import { HEADER, KEPT_BYTES, KEPT_MAGIC, KEPT_VERSION, LARGE_SLOT_BYTES, REPLY_BYTES_MAX } from "./kept-layout.ts";
import { FuseMount } from "./mount.ts";
import { NodeTable } from "./node-table.ts";
import { Notifications } from "./notifications.ts";
import { type FuseOperation, LockedByOthers, NotImplemented, TooSmall } from "./operation.ts";
import { OPERATIONS } from "./operation-table.ts";
import { IN_HEADER_BYTES, NOTIFY_INC_EPOCH_MINOR, Opcode } from "./protocol.ts";
import { FuseReply } from "./reply.ts";
import { FuseRequest, NO_STATE, type RequestState } from "./request.ts";
import { RequestSlots } from "./request-slots.ts";
import { validityOf } from "./validity.ts";

/** What passes by itself ("tryagain") is waited for so often and so long. */
const [TRIES_MAX, TRY_MILLISECONDS] = [100, 100];
const DEFAULT_DRAIN_SECONDS = 30;
const PROGRAM = "FUSE";

export interface FuseSessionOptions {
	readonly device: FuseDevice;
	readonly overlay: OverlayOperations;
	/** As whom everything is done that comes through this mount, where the export can do it as nobody else; null: as the superuser. */
	readonly actsAs: Credentials | null;
	/** Others than this mount change the same objects: the kernel believes nothing for long. */
	readonly isShared: boolean;
	/** Programs need not wait for their writes; only where nobody else changes the same objects. */
	readonly writesBack?: boolean;
	/** For what others lock too, by the bytes that name this mount and no other; null: the kernel alone knows who locks what. */
	readonly locks?: ((mountId: Uint8Array) => HostLockOperations) | null;
	/** How long requests that were taken may wait for their disk once the session closes. */
	readonly drainSeconds?: number;
}

/** A request that is not answered yet, in a slot of its own. */
interface WaitingRequest {
	readonly at: number;
	readonly state: RequestState;
	passes: number;
}

export class FuseSession {
	/** The file system is unmounted, or its connection was aborted. */
	readonly ended: Promise<void>;
	/** Requests that were taken so far. */
	requests = 0;
	readonly #descriptor: number;
	readonly #isShared: boolean;
	readonly #drainSeconds: number;
	readonly #memory: AddressedBytes;
	readonly #header: Uint32Array;
	readonly #slots: RequestSlots;
	readonly #mount: FuseMount;
	readonly #request: FuseRequest;
	readonly #reply = new FuseReply(allocate(REPLY_BYTES_MAX));
	readonly #slices = new Slices();
	readonly #line = new Line();
	readonly #waiting = new Set<WaitingRequest>();
	readonly #owner: string;
	readonly #isResumed: boolean;
	readonly #notifications: Notifications;
	/** A request of this mount is being run: what is changed now the kernel knows. */
	#isRunning = false;
	#end: () => void = () => {};
	#watch: Watch | null = null;
	/** All slots are in use: what comes is left in the kernel. */
	#isPaused = false;
	#isClosing = false;
	#onAllAnswered: (() => void) | null = null;

	/** RangeError: what is kept of the mount is another version's. */
	constructor({
		device,
		overlay,
		actsAs,
		isShared,
		writesBack = false,
		locks = null,
		drainSeconds = DEFAULT_DRAIN_SECONDS,
	}: FuseSessionOptions) {
		this.#drainSeconds = drainSeconds;
		this.#descriptor = device.descriptor;
		this.#isShared = isShared;
		this.#memory = device.kept ?? privateMemory();
		const { bytes } = this.#memory;
		this.#header = new Uint32Array(bytes.buffer, bytes.byteOffset, 1024);
		this.#isResumed = this.#claim();
		const mountId = bytes.subarray(HEADER.mountId * 4, HEADER.mountId * 4 + 8);
		this.#owner = `fuse:${mountId.toString("hex")}`;
		const table = new NodeTable(this.#memory, overlay.root.handle);
		this.#notifications = new Notifications(device.descriptor);
		this.#mount = new FuseMount({
			overlay,
			table,
			notifications: this.#notifications,
			locks: locks?.(mountId) ?? null,
			actsAs,
			validity: validityOf(isShared, this.#header[HEADER.minor]),
			writesBack: writesBack && !isShared,
			isOneUser: this.#header[HEADER.isOneUser] !== 0,
		});
		this.#slots = new RequestSlots(this.#memory);
		this.#request = new FuseRequest(this.#memory);
		this.ended = new Promise((resolve) => {
			this.#end = resolve;
		});
		overlay.onChange((object, isByCommand) => this.#noteChange(object, isByCommand));
		overlay.holdOnLoss((handle) => table.holds(handle));
		if (this.#isResumed) overlay.restoreHolds(table.held());
	}

	/** Takes requests. What an earlier server of this mount has left comes first. */
	start(): void {
		must(setNonblocking(this.#descriptor, true), "Cannot read from /dev/fuse without waiting");
		if (this.#isResumed) this.#mount.flags = this.#header[HEADER.flags];
		// INIT may be among them
		for (const at of this.#slots.left()) this.#again(this.#wait(at, this.#state(at)));
		this.#watch = watchReadable(this.#descriptor, () => this.#drain());
	}

	/**
	 * Takes no more requests, and resolves when all that were taken are answered, or have waited for too long: they are left to the next server. The
	 * mount stays; who comes waits for that too.
	 */
	async close(): Promise<void> {
		this.#isClosing = true;
		this.#stop();
		if (this.#waiting.size === 0) return;
		await new Promise<void>((resolve) => {
			const timer = setTimeout(resolve, this.#drainSeconds * 1000);
			this.#onAllAnswered = () => {
				clearTimeout(timer);
				resolve();
			};
		});
		this.#waiting.clear();
	}

	/** Whether there is something to go on from; else makes it new. */
	#claim(): boolean {
		const header = this.#header;
		if (header[HEADER.magic] === KEPT_MAGIC && header[HEADER.version] !== KEPT_VERSION) {
			throw new RangeError("What is kept of this mount is of another version of holdfast: unmount it, and mount it again.");
		}
		if (header[HEADER.magic] !== KEPT_MAGIC) {
			randomFillSync(header, HEADER.mountId, 2);
			header[HEADER.version] = KEPT_VERSION;
			header[HEADER.magic] = KEPT_MAGIC;
		}
		return header[HEADER.minor] !== 0;
	}

	#noteChange({ handle, type }: OverlayObject, isByCommand: boolean): void {
		if (this.#isRunning || this.#isClosing || !(isByCommand || this.#isShared)) return;
		if (this.#header[HEADER.minor] < NOTIFY_INC_EPOCH_MINOR) return;
		const { table } = this.#mount;
		const id = isByCommand ? table.find(handle) : 0;
		// content of the same size and time would be believed to be the same
		if (id !== 0 && type !== FileType.dir) table.retire(id);
		this.#notifications.noteForeignChange(type === FileType.dir ? id : 0);
	}

	#drain(): void {
		while (!this.#isClosing) {
			const at = this.#slots.next;
			if (at < 0) {
				this.#isPaused = true;
				this.#watch?.pause();
				return;
			}
			const length = readMessage(this.#descriptor, this.#memory.address + at, LARGE_SLOT_BYTES);
			if (length <= 0) {
				if (length === -ERRNO.EAGAIN) return;
				// the request that was to be read was given up by who made it
				if (length === -ERRNO.EINTR || length === -ERRNO.ENOENT) continue;
				this.#ends(length);
				return;
			}
			this.requests++;
			this.#take(at, length);
			if (this.#slices.isSpent) return;
		}
	}

	#ends(error: number): void {
		const isUnmounted = error === 0 || error === -ERRNO.ENODEV || error === -ERRNO.ECONNABORTED;
		if (!isUnmounted) publishFailure(new Error(`Cannot read from /dev/fuse (${errnoName(error)})`), PROGRAM, "");
		this.#isClosing = true;
		this.#stop();
		this.#mount.locks?.end();
		this.#end();
	}

	#stop(): void {
		this.#notifications.stop();
		this.#watch?.close();
		this.#watch = null;
	}

	#take(at: number, length: number): void {
		const request = this.#request.put(at, NO_STATE);
		// no kernel sends such, and nobody can be told
		if (length < IN_HEADER_BYTES || request.length !== length) {
			this.#slots.clear(at);
			return;
		}
		const state = this.#state(at);
		const outcome = this.#run(at, state);
		if (outcome === null) this.#slots.clear(at);
		else this.#suspend(this.#wait(this.#slots.keep(), state), outcome);
	}

	/** What a request keeps over its passes. */
	#state(at: number): RequestState {
		const request = this.#request.put(at, NO_STATE);
		const { opcode, uniqueHi, uniqueLo, nodeId, length } = request;
		if (OPERATIONS[opcode]?.changes !== true) return { key: null, made: null, progress: 0 };
		// the kernel sets the highest bit of what it sends once more
		const numbers = [opcode, uniqueLo, uniqueHi & 0x7fffffff, nodeId, length, 0, 0];
		return { key: { request: { owner: this.#owner, numbers }, change: 0 }, made: null, progress: 0 };
	}

	#wait(at: number, state: RequestState): WaitingRequest {
		const waiting = { at, state, passes: 0 };
		this.#waiting.add(waiting);
		return waiting;
	}

	#suspend(waiting: WaitingRequest, outcome: Pending | Promise<void>): void {
		if (outcome instanceof Pending) {
			// what made the wait fail is met again by the next pass, which knows how to answer it
			this.#slices.after(outcome.ready, this.#line, () => this.#again(waiting));
			return;
		}
		const answer = (error: number) => {
			if (!this.#waiting.has(waiting)) return;
			this.#request.put(waiting.at, waiting.state);
			this.#reply.reset();
			this.#send(error);
			this.#done(waiting);
		};
		outcome.then(
			() => answer(0),
			(error: unknown) => answer(this.#errorNumber(error, this.#request.put(waiting.at, waiting.state).opcode)),
		);
	}

	#again(waiting: WaitingRequest): void {
		if (!this.#waiting.has(waiting)) return;
		waiting.passes++;
		const outcome = this.#run(waiting.at, waiting.state, waiting.passes);
		if (outcome === null) this.#done(waiting);
		else this.#suspend(waiting, outcome);
	}

	#done(waiting: WaitingRequest): void {
		this.#waiting.delete(waiting);
		this.#slots.release(waiting.at);
		if (this.#isPaused && !this.#isClosing) {
			this.#isPaused = false;
			this.#watch?.resume();
		}
		if (this.#waiting.size === 0) this.#onAllAnswered?.();
	}

	/** One pass of a request. Null: it is answered. Else what it waits for: to be run again, or to be answered. */
	#run(at: number, state: RequestState, passes = 0): Pending | Promise<void> | null {
		const request = this.#request.put(at, state);
		const reply = this.#reply;
		reply.reset();
		const operation = OPERATIONS[request.opcode];
		if (operation === undefined) {
			this.#runOwn();
			return null;
		}
		// what is run twice may count too often, and never too seldom
		if (operation.isSilent === true) this.#slots.clear(at);
		if (request.argumentBytes < operation.argumentBytes) {
			if (operation.isSilent !== true) this.#send(ERRNO.EINVAL);
			return null;
		}
		return this.#perform(operation, passes);
	}

	#perform(operation: FuseOperation, passes: number): Pending | Promise<void> | null {
		const mount = this.#mount;
		mount.counted.length = 0;
		let outcome: undefined | Promise<void>;
		try {
			mount.overlay.beginPass();
			this.#isRunning = true;
			outcome = operation.run(this.#request, this.#reply, mount);
			this.#isRunning = false;
		} catch (error) {
			this.#isRunning = false;
			mount.uncount();
			if (error instanceof Pending && (passes < REQUEST_PASSES_MAX || operation.waitsForOthers === true)) return error;
			if (error instanceof OverlayError && error.code === "tryagain" && passes < TRIES_MAX) {
				return new Pending(new Promise((resolve) => setTimeout(resolve, TRY_MILLISECONDS)));
			}
			const number = this.#errorNumber(error, this.#request.opcode);
			if (operation.isSilent !== true) this.#send(number);
			return null;
		}
		if (outcome !== undefined) return outcome;
		if (operation.isSilent !== true) this.#send(0);
		return null;
	}

	#errorNumber(thrown: unknown, opcode: number): number {
		if (thrown instanceof NotImplemented) return ERRNO.ENOSYS;
		if (thrown instanceof TooSmall) return ERRNO.ERANGE;
		if (thrown instanceof LockedByOthers) return ERRNO.EAGAIN;
		if (thrown instanceof ClaimError) return CLAIM_ERROR_NUMBER[thrown.code];
		const error = ofSystem(thrown);
		if (error instanceof OverlayError) return ERROR_NUMBER[error.code];
		const cause = error instanceof Pending ? new Error(`A request was not done after ${REQUEST_PASSES_MAX} passes`) : error;
		publishFailure(cause, PROGRAM, OPERATIONS[opcode]?.name ?? `operation ${opcode}`);
		return ERRNO.EIO;
	}

	/** What is about the session itself. */
	#runOwn(): void {
		switch (this.#request.opcode) {
			case Opcode.init:
				this.#init();
				return;
			case Opcode.interrupt:
				this.#interrupt(this.#request.word(0), this.#request.word(1));
				return;
			case Opcode.destroy:
				this.#send(0);
				return;
			default:
				this.#send(ERRNO.ENOSYS);
		}
	}

	/**
	 * Who waits for a request was sent a signal. Programs do not expect of files that calls are cut short by a signal that they handle, so a request is
	 * given up only for who is to die of it. Nothing is lost: it has changed nothing yet, or nobody will ask for what it has changed. Who waits for
	 * a lock does expect it.
	 */
	#interrupt(lo: number, hi: number): void {
		for (const waiting of this.#waiting) {
			const request = this.#request.put(waiting.at, waiting.state);
			if (request.uniqueLo !== lo || request.uniqueHi !== hi) continue;
			if (OPERATIONS[request.opcode]?.waitsForOthers !== true && !isDying(request.pid)) return;
			this.#reply.reset();
			this.#send(ERRNO.EINTR);
			this.#done(waiting);
			return;
		}
	}

	#init(): void {
		const outcome = agree(this.#request, this.#reply, this.#mount, this.#isShared);
		if (outcome === "too old") {
			this.#send(ERRNO.EPROTO);
			return;
		}
		if (outcome === "agreed") {
			const header = this.#header;
			header[HEADER.flags] = this.#mount.flags;
			header[HEADER.minor] = this.#request.word(1);
			this.#mount.validity = validityOf(this.#isShared, header[HEADER.minor]);
		}
		this.#send(0);
	}

	#send(error: number): void {
		const { uniqueHi, uniqueLo, opcode } = this.#request;
		const mount = this.#mount;
		const length = this.#reply.finish(error, uniqueHi, uniqueLo);
		const sent = writeMessage(this.#descriptor, this.#reply.memory.address, length);
		// nobody waits for it: it was answered before a kill, or the mount is at its end
		if (sent < 0) mount.uncount();
		mount.counted.length = 0;
		if (sent >= 0 || sent === -ERRNO.ENOENT || sent === -ERRNO.ENODEV || sent === -ERRNO.ECONNABORTED || sent === -ERRNO.EPERM) return;
		publishFailure(new Error(`Cannot write a reply to /dev/fuse (${errnoName(sent)})`), PROGRAM, OPERATIONS[opcode]?.name ?? "");
		// whoever waits must not wait for ever
		if (error === 0) this.#send(ERRNO.EIO);
	}
}

function privateMemory(): AddressedBytes {
	const fd = must(makeSharedMemory("holdfast", KEPT_BYTES), "Cannot make memory for requests");
	try {
		return must(mapShared(fd, KEPT_BYTES), "Cannot map memory for requests");
	} finally {
		close(fd);
	}
}
