// Where the replies of a connection are written.

import { Slab, XdrWriter } from "../xdr/xdr-writer.ts";
import type { ServerCall } from "./program.ts";
import { AcceptStatus, AuthFlavor, type AuthStatus, MessageType, RejectStatus, ReplyStatus, RPC_VERSION } from "./rpc-message.ts";
import type { SlabPool } from "./slab-pool.ts";

/** Complete records: the first `length` bytes of a slab. */
export interface ReplyPiece {
	readonly slab: Slab;
	readonly length: number;
}

const LAST_FRAGMENT = 0x80000000;
const FULL_BYTES = 256 * 1024;
const NO_SLAB = new Slab({ bytes: Buffer.alloc(0), address: 0 });

/**
 * Where the replies of one connection are written, one behind the other, until `takePieces()` hands them to the socket.
 * Holds no slab in between, so an idle connection holds no memory.
 */
export class ReplyWriter extends XdrWriter {
	readonly #pool: SlabPool;
	#pieces: ReplyPiece[] = [];
	/** Memory of the slabs that were taken and not given back, also while the socket still writes them. */
	heldBytes = 0;
	#finishedStart = 0;

	constructor(pool: SlabPool) {
		super((size) => {
			const slab = pool.take(size);
			this.heldBytes += slab.bytes.length;
			return slab;
		}, NO_SLAB);
		this.#pool = pool;
	}

	protected override moved(slab: Slab, used: number): void {
		if (used > 0) this.#pieces.push({ slab, length: used });
		else if (slab !== NO_SLAB) this.release(slab);
	}

	/** Begins a record: mark, xid, REPLY (RFC 5531 section 9). */
	begin(xid: number): void {
		this.start = this.position;
		this.u32(0);
		this.u32(xid);
		this.u32(MessageType.reply);
	}

	/** Begins a call of ours, with the credential and the AUTH_NONE verifier; arguments follow. */
	beginCall(xid: number, { program, version, procedure, credential }: Omit<ServerCall, "encode" | "timeoutMilliseconds">): void {
		this.start = this.position;
		this.u32(0);
		this.u64(xid, MessageType.call);
		this.u64(RPC_VERSION, program);
		this.u64(version, procedure);
		if (credential === null) {
			this.u64(AuthFlavor.none, 0);
		} else {
			this.u32(AuthFlavor.sys);
			this.opaque(credential);
		}
		this.u64(AuthFlavor.none, 0);
	}

	/** An accepted reply with the AUTH_NONE verifier; results follow `success`. */
	accepted(status: AcceptStatus): void {
		this.u32(ReplyStatus.accepted);
		this.u64(0, 0);
		this.u32(status);
	}

	programMismatch(low: number, high: number): void {
		this.accepted(AcceptStatus.programMismatch);
		this.u64(low, high);
	}

	rpcMismatch(): void {
		this.u64(ReplyStatus.denied, RejectStatus.rpcMismatch);
		this.u64(RPC_VERSION, RPC_VERSION);
	}

	authError(status: AuthStatus): void {
		this.u64(ReplyStatus.denied, RejectStatus.authError);
		this.u32(status);
	}

	/** Ends the record. */
	finish(): void {
		this.patchU32(0, LAST_FRAGMENT + (this.position - this.start - 4));
		this.#finishedStart = this.start;
		this.start = this.position;
	}

	/** A copy of the record that `finish()` ended last. */
	finishedRecord(): Buffer {
		const length = this.position - this.#finishedStart;
		const copy = Buffer.allocUnsafe(length);
		this.slab.bytes.copy(copy, 0, this.#finishedStart, this.position);
		return copy;
	}

	/** Takes back what was written since `begin()`. */
	abandon(): void {
		this.position = this.start;
	}

	/** Appends a record that was complete before. */
	append(record: Uint8Array): void {
		this.start = this.position;
		this.raw(record);
		this.start = this.position;
	}

	/** Whether so much is complete that it should leave while the processor's caches still hold it. */
	get full(): boolean {
		return this.position >= FULL_BYTES || this.#pieces.length > 0;
	}

	/** All complete records. Each piece's slab is to be released when the socket is done with it. */
	takePieces(): readonly ReplyPiece[] {
		if (this.slab !== NO_SLAB) {
			if (this.position > 0) this.#pieces.push({ slab: this.slab, length: this.position });
			else this.release(this.slab);
			this.use(NO_SLAB, 0, 0);
		}
		if (this.#pieces.length === 0) return NO_PIECES;
		const pieces = this.#pieces;
		this.#pieces = [];
		return pieces;
	}

	/** Drops all records. */
	discard(): void {
		for (const { slab } of this.takePieces()) this.release(slab);
	}

	release(slab: Slab): void {
		this.heldBytes -= slab.bytes.length;
		this.#pool.release(slab);
	}

	/** The socket was destroyed while it wrote the slab. */
	lose(slab: Slab): void {
		this.heldBytes -= slab.bytes.length;
		this.#pool.lose(slab);
	}
}

const NO_PIECES: readonly ReplyPiece[] = [];
