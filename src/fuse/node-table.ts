// Node ids: which object of the overlay each stands for, and how often the kernel has looked it up.

import { type AddressedBytes, copyBytes } from "../linux/memory.ts";
import { OverlayError } from "../vfs/errors.ts";
import type { OverlayObject } from "../vfs/operations.ts";
import { HEADER, NODE_BYTES, NODES_AT, NODES_MAX } from "./kept-layout.ts";
import { ROOT_ID } from "./protocol.ts";

const NODE_WORDS = NODE_BYTES / 4;

/** Words of a record: look-ups (0: the id is free); length of the handle and flags; the handle; the next id with the same hash. */
const [LOOKUPS, KIND, HANDLE, NEXT] = [0, 1, 2, 18];
const LENGTH_MASK = 0xff;
/** The overlay holds the object for it: it has lost a name while the kernel knew it. */
const HELD = 1 << 8;
/** The object gets another id when it is looked up next: see `retire`. */
const RETIRED = 1 << 9;

/** Chains are short: there are at least as many heads as records. */
const HEADS_FEWEST = 1024;

/**
 * The records lie in memory that may outlive the process, and are written before the reply that tells of them. A look-up that is counted may so
 * never be told, after a kill, and never the other way round. What leads from a handle to its id is in this process alone.
 *
 * The hash of a handle is its last four bytes: they are of its signature.
 */
export class NodeTable {
	readonly #bytes: Buffer;
	readonly #words: Uint32Array;
	#heads = new Uint32Array(HEADS_FEWEST);
	readonly #free: number[] = [];
	/** Ids in use. */
	size = 0;

	/** Takes over what is there; `root`: the handle of the node id 1, which is never forgotten. */
	constructor({ bytes }: AddressedBytes, root: Uint8Array) {
		this.#bytes = bytes;
		this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
		if (this.#high < ROOT_ID) this.#words[HEADER.nodesHigh] = ROOT_ID;
		this.#put(ROOT_ID, root);
		this.#words[wordOf(ROOT_ID) + LOOKUPS] = 1;
		this.#restore();
	}

	/** The handle behind an id: a view. OverlayError "stale": there is none. */
	handle(id: number): Buffer {
		if (id === 0 || id > this.#high || this.#words[wordOf(id) + LOOKUPS] === 0) {
			throw new OverlayError("stale", "The kernel has forgotten this node id, or was never given it");
		}
		const at = NODES_AT + id * NODE_BYTES + 4 * HANDLE;
		return this.#bytes.subarray(at, at + (this.#words[wordOf(id) + KIND] & LENGTH_MASK));
	}

	/** The id of an object, for a reply that counts as a look-up of it. OverlayError "nospc": there are NODES_MAX. */
	lookUp({ handle }: OverlayObject): number {
		let id = this.find(handle);
		if (id === 0) id = this.#add(handle);
		if (id !== ROOT_ID) this.#words[wordOf(id) + LOOKUPS]++;
		return id;
	}

	/** 0: it has none. */
	find(handle: Uint8Array): number {
		for (let id = this.#heads[this.#headOf(handle)]; id !== 0; id = this.#words[wordOf(id) + NEXT]) if (this.#is(id, handle)) return id;
		return 0;
	}

	/** The kernel has forgotten so many look-ups of an id. The handle to let go of where the overlay holds the object, and this was all; else null. */
	forget(id: number, count: number): Buffer | null {
		if (id <= ROOT_ID || id > this.#high) return null;
		const word = wordOf(id);
		const left = this.#words[word + LOOKUPS];
		if (left === 0) return null;
		if (count < left) {
			this.#words[word + LOOKUPS] = left - count;
			return null;
		}
		if ((this.#words[word + KIND] & RETIRED) === 0) {
			this.#unchain(id);
			this.size--;
		}
		const held = (this.#words[word + KIND] & HELD) === 0 ? null : copyBytes(this.handle(id));
		this.#words[word + LOOKUPS] = 0;
		this.#free.push(id);
		return held;
	}

	/**
	 * What the kernel has cached of an object stays with its id, which whoever has it open goes on with; the object gets another one when it is looked up
	 * next. So nothing has to be taken from the kernel, which might have to wait for this server.
	 */
	retire(id: number): void {
		const word = wordOf(id);
		if (id <= ROOT_ID || (this.#words[word + KIND] & RETIRED) !== 0) return;
		this.#unchain(id);
		this.size--;
		this.#words[word + KIND] |= RETIRED;
	}

	/** Whether the kernel knows an object that the overlay does not hold for it yet. It does from now on. */
	holds(handle: Uint8Array): boolean {
		const id = this.find(handle);
		if (id <= ROOT_ID || (this.#words[wordOf(id) + KIND] & HELD) !== 0) return false;
		this.#words[wordOf(id) + KIND] |= HELD;
		return true;
	}

	/** What the overlay held for this mount when the last server of it ended. */
	*held(): Iterable<Uint8Array> {
		for (let id = ROOT_ID + 1; id <= this.#high; id++) {
			const word = wordOf(id);
			if (this.#words[word + LOOKUPS] > 0 && (this.#words[word + KIND] & HELD) !== 0) yield this.handle(id);
		}
	}

	get #high(): number {
		return this.#words[HEADER.nodesHigh];
	}

	#restore(): void {
		for (let id = this.#high; id >= ROOT_ID; id--) {
			if (this.#words[wordOf(id) + LOOKUPS] === 0) this.#free.push(id);
			else if ((this.#words[wordOf(id) + KIND] & RETIRED) === 0) this.#chain(id);
		}
	}

	#add(handle: Uint8Array): number {
		const id = this.#free.pop() ?? this.#high + 1;
		if (id >= NODES_MAX) throw new OverlayError("nospc", `The kernel knows ${NODES_MAX} objects of this mount`);
		this.#put(id, handle);
		if (id > this.#high) this.#words[HEADER.nodesHigh] = id;
		this.#chain(id);
		return id;
	}

	#put(id: number, handle: Uint8Array): void {
		this.#bytes.set(handle, NODES_AT + id * NODE_BYTES + 4 * HANDLE);
		this.#words[wordOf(id) + KIND] = handle.length;
	}

	#is(id: number, handle: Uint8Array): boolean {
		if ((this.#words[wordOf(id) + KIND] & LENGTH_MASK) !== handle.length) return false;
		const at = NODES_AT + id * NODE_BYTES + 4 * HANDLE;
		for (let i = handle.length - 1; i >= 0; i--) if (this.#bytes[at + i] !== handle[i]) return false;
		return true;
	}

	#headOf(handle: Uint8Array): number {
		return this.#headAt(handle, handle.length);
	}

	/** Without a view of its own: many are forgotten in one request. */
	#headOfId(id: number): number {
		return this.#headAt(this.#bytes, NODES_AT + id * NODE_BYTES + 4 * HANDLE + (this.#words[wordOf(id) + KIND] & LENGTH_MASK));
	}

	#headAt(bytes: Uint8Array, end: number): number {
		return (bytes[end - 1] | (bytes[end - 2] << 8) | (bytes[end - 3] << 16) | (bytes[end - 4] << 24)) & (this.#heads.length - 1);
	}

	#chain(id: number): void {
		this.size++;
		if (this.size > this.#heads.length) {
			this.#grow(id);
			return;
		}
		this.#link(id);
	}

	#link(id: number): void {
		const head = this.#headOfId(id);
		this.#words[wordOf(id) + NEXT] = this.#heads[head];
		this.#heads[head] = id;
	}

	/** Twice as many heads, and all that hung on the old ones. */
	#grow(added: number): void {
		const old = this.#heads;
		this.#heads = new Uint32Array(2 * old.length);
		for (const head of old) {
			for (let id = head; id !== 0; ) {
				const next = this.#words[wordOf(id) + NEXT];
				this.#link(id);
				id = next;
			}
		}
		this.#link(added);
	}

	#unchain(id: number): void {
		const head = this.#headOfId(id);
		const next = this.#words[wordOf(id) + NEXT];
		if (this.#heads[head] === id) {
			this.#heads[head] = next;
			return;
		}
		for (let at = this.#heads[head]; at !== 0; at = this.#words[wordOf(at) + NEXT]) {
			if (this.#words[wordOf(at) + NEXT] !== id) continue;
			this.#words[wordOf(at) + NEXT] = next;
			return;
		}
	}
}

function wordOf(id: number): number {
	return NODES_AT / 4 + id * NODE_WORDS;
}
