// Calls of the server to the peer of a connection (RFC 5531): their answers are found by xid.

import { XdrError } from "../xdr/xdr-error.ts";
import { XdrReader } from "../xdr/xdr-reader.ts";
import { SERVER_CALLS_MAX } from "./limits.ts";
import type { ServerCall } from "./program.ts";
import type { RecordRegion } from "./record-slots.ts";
import { AcceptStatus, AUTH_BODY_BYTES_MAX, ReplyStatus } from "./rpc-message.ts";

export type CallFailure = "closed" | "late" | "refused" | "too-many";

/** A call to a peer has no results. */
export class CallError extends Error {
	override readonly name = "CallError";
	readonly reason: CallFailure;

	constructor(reason: CallFailure, message: string) {
		super(message);
		this.reason = reason;
	}
}

interface OutstandingCall {
	readonly resolve: (results: XdrReader) => void;
	readonly reject: (error: CallError) => void;
	readonly timer: NodeJS.Timeout;
}

/** The calls of one connection that have no answer yet. */
export class ServerCalls {
	readonly #write: (xid: number, call: ServerCall) => void;
	readonly #outstanding = new Map<number, OutstandingCall>();
	#nextXid = 1;
	#isClosed = false;

	constructor(write: (xid: number, call: ServerCall) => void) {
		this.#write = write;
	}

	get size(): number {
		return this.#outstanding.size;
	}

	call(call: ServerCall): Promise<XdrReader> {
		if (this.#isClosed) return Promise.reject(new CallError("closed", "The connection is closed"));
		if (this.#outstanding.size >= SERVER_CALLS_MAX) {
			return Promise.reject(new CallError("too-many", `${SERVER_CALLS_MAX} calls wait for an answer of this peer`));
		}
		const xid = this.#nextXid;
		this.#nextXid = xid === 0xffffffff ? 1 : xid + 1;
		return new Promise((resolve, reject) => {
			const timer = setTimeout(() => {
				this.#outstanding.delete(xid);
				reject(new CallError("late", `No answer within ${call.timeoutMilliseconds} ms`));
			}, call.timeoutMilliseconds).unref();
			this.#outstanding.set(xid, { resolve, reject, timer });
			this.#write(xid, call);
		});
	}

	/** Takes a REPLY. One to a call that nobody waits for any more, or that was never made, is passed over. */
	answered({ recordBytes, recordView, recordStart, recordEnd }: RecordRegion): void {
		const xid = recordView.getUint32(recordStart);
		const call = this.#outstanding.get(xid);
		if (call === undefined) return;
		this.#outstanding.delete(xid);
		clearTimeout(call.timer);
		const results = resultsOf(new Uint8Array(recordBytes.subarray(recordStart, recordEnd)));
		if (results === null) call.reject(new CallError("refused", "The peer refuses the call"));
		else call.resolve(results);
	}

	/** All calls fail, and every further one. */
	close(): void {
		this.#isClosed = true;
		for (const { reject, timer } of this.#outstanding.values()) {
			clearTimeout(timer);
			reject(new CallError("closed", "The connection closed before the answer came"));
		}
		this.#outstanding.clear();
	}
}

/** A reader at the results; null where there are none. */
function resultsOf(record: Uint8Array): XdrReader | null {
	const reader = XdrReader.over(record);
	try {
		reader.fixed(8);
		if (reader.u32() !== ReplyStatus.accepted) return null;
		reader.u32();
		reader.opaque(AUTH_BODY_BYTES_MAX);
		return reader.u32() === AcceptStatus.success ? reader : null;
	} catch (error) {
		if (error instanceof XdrError) return null;
		throw error;
	}
}
