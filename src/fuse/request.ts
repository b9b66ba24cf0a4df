// One FUSE request as it lies in its slot: header and arguments.

import type { AddressedBytes } from "../linux/memory.ts";
import { OverlayError } from "../vfs/errors.ts";
import type { ChangeKey, OverlayObject, OverlayOperations } from "../vfs/operations.ts";
import { IN_HEADER_BYTES } from "./protocol.ts";

/** No offset or size beyond 2^53 - 1 is handled: their high half is at most this. */
const SAFE_HI_MAX = 0x1fffff;

const HEADER_WORDS = IN_HEADER_BYTES / 4;

/** What a request keeps from one pass to the next. */
export interface RequestState {
	/** Of the change that it makes. */
	readonly key: ChangeKey | null;
	/** The handle of the object that its change has made or led to: the change must not be made again. */
	made: Buffer | null;
	/** How much of a long work is done. */
	progress: number;
}

export const NO_STATE: RequestState = { key: null, made: null, progress: 0 };

/** A view of the request in the slot it was last put on. One serves all requests of a mount, since a pass is synchronous. */
export class FuseRequest {
	readonly #bytes: Buffer;
	readonly #words: Uint32Array;
	/** Where its slot begins, in bytes. */
	at = 0;
	/** Bytes of the whole request. */
	length = 0;
	state: RequestState = NO_STATE;

	constructor({ bytes }: AddressedBytes) {
		this.#bytes = bytes;
		this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
	}

	/** Goes to a slot. What its first word says is kept: a request that is not to be run once more is cleared before it is run. */
	put(at: number, state: RequestState): this {
		this.at = at;
		this.length = this.#words[at >>> 2];
		this.state = state;
		return this;
	}

	/** struct fuse_in_header. */
	get opcode(): number {
		return this.#words[(this.at >>> 2) + 1];
	}

	get uniqueLo(): number {
		return this.#words[(this.at >>> 2) + 2];
	}

	get uniqueHi(): number {
		return this.#words[(this.at >>> 2) + 3];
	}

	/** The id of the object that it is about; 0, which is nobody's, for what no id can be. */
	get nodeId(): number {
		return this.#idAt((this.at >>> 2) + 4);
	}

	get uid(): number {
		return this.#words[(this.at >>> 2) + 6];
	}

	get gid(): number {
		return this.#words[(this.at >>> 2) + 7];
	}

	/** Of the thread that waits for the reply; 0 where this process cannot see it. */
	get pid(): number {
		return this.#words[(this.at >>> 2) + 8];
	}

	get argumentBytes(): number {
		return this.length - IN_HEADER_BYTES;
	}

	/** A word of the arguments. */
	word(index: number): number {
		return this.#words[(this.at >>> 2) + HEADER_WORDS + index];
	}

	/** A node id in two words of the arguments. */
	id(index: number): number {
		return this.#idAt((this.at >>> 2) + HEADER_WORDS + index);
	}

	/** An offset or a length in two words. `code`: of the error for one that no file reaches. */
	size(index: number, code: "fbig" | "inval" = "inval"): number {
		const hi = this.word(index + 1);
		if (hi > SAFE_HI_MAX) throw new OverlayError(code, "An offset beyond 2^53 - 1 bytes");
		return hi * 4294967296 + this.word(index);
	}

	/** The name that begins at a byte of the arguments: a view. "inval" where no NUL ends it. */
	name(from: number): Buffer {
		const start = this.at + IN_HEADER_BYTES + from;
		const end = start >= this.at + this.length ? -1 : this.#bytes.indexOf(0, start);
		if (end < 0 || end >= this.at + this.length) throw new OverlayError("inval", "A name that does not end");
		return this.#bytes.subarray(start, end);
	}

	/** Bytes of the arguments: a view. "inval" where the request is shorter. */
	data(from: number, length: number): Buffer {
		if (from + length > this.argumentBytes) throw new OverlayError("inval", "A request with less data than it says");
		const start = this.at + IN_HEADER_BYTES + from;
		return this.#bytes.subarray(start, start + length);
	}

	/** Makes the change of this request, unless an earlier pass has made it. `change` gives the object that the reply is about. */
	once(overlay: OverlayOperations, change: () => OverlayObject): OverlayObject {
		const { state } = this;
		if (state.made !== null) return overlay.decode(state.made);
		const object = change();
		state.made = object.handle;
		return object;
	}

	#idAt(word: number): number {
		return this.#words[word + 1] === 0 ? this.#words[word] : 0;
	}
}
