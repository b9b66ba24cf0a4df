import type { Layer } from "../layer/layer.ts";
import { setRecent } from "../layer/recent.ts";
import type { FileHandle } from "../linux/file-handle.ts";
import { Pending } from "./errors.ts";
import { type Job, Offload } from "./offload.ts";
import type { WarmRequest } from "./warm.ts";

/** Calls on a file system that were quick, one after the other, before it is trusted. */
const STREAK = 32;
/** What counts as quick in a thread of its own, and how long a call on the main thread may take before the trust is gone. */
const QUICK_MS = 2;
const SLOW_MS = 10;
/** How long, and of how many calls, it is known that they need not wait. */
const WARM_MS = 10_000;
const WARM_MAX = 65_536;
/** Threads for each file system: one that hangs takes no more. */
const THREADS = 4;
/** For the threads to end. */
const CLOSE_MS = 1000;

type What = WarmRequest["what"];

interface State {
	readonly offload: Offload;
	streak: number;
	isTrusted: boolean;
}

/**
 * Keeps the main thread from waiting for the disk of a lower. A file system that has not been quick of late is asked in a thread of its own
 * first; the request waits, others go on, and when it is run again the kernel has the answer in memory. One that has been quick is asked at
 * once, and loses that trust with the first call that takes long.
 */
export class Patience {
	readonly #clock: () => number;
	readonly #states = new Map<number, State>();
	/** Until when, by what was asked. */
	readonly #warm = new Map<string, number>();
	/** Questions under way. */
	readonly #asked = new Map<string, Promise<void>>();
	#current: State | null = null;
	#since = 0;

	constructor(clock: () => number) {
		this.#clock = clock;
	}

	/** To be called before a call that may wait for the disk of a lower. Throws Pending where it has to be made elsewhere first. */
	guard(layer: Layer, handle: FileHandle, name: Uint8Array | null, what: What): void {
		if (isQuick(layer)) return;
		const now = this.#clock();
		this.#judge(now);
		const state = this.#stateOf(layer);
		if (!state.isTrusted) this.#ask(state, layer, handle, name, what, now);
		this.#current = state;
		this.#since = now;
	}

	/** Whether this may take longer than a file system in memory does, so that a long list is read elsewhere. */
	isTrusted(layer: Layer): boolean {
		return isQuick(layer) || this.#stateOf(layer).isTrusted;
	}

	/** Content that is not in memory, of any layer; returns when it was read a moment ago, and has been lost again. */
	data(layer: Layer, handle: FileHandle, offset: number, length: number): void {
		this.#ask(this.#stateOf(layer), layer, handle, null, "data", this.#clock(), offset, length);
	}

	/** No call is under way. */
	pause(): void {
		if (this.#current === null) return;
		this.#judge(this.#clock());
	}

	/** Threads that hang are left to the end of the process. */
	async close(): Promise<void> {
		const closed = Promise.all([...this.#states.values()].map(({ offload }) => offload.close()));
		await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, CLOSE_MS).unref())]);
	}

	#judge(now: number): void {
		if (this.#current !== null && now - this.#since > SLOW_MS) {
			this.#current.isTrusted = false;
			this.#current.streak = 0;
		}
		this.#current = null;
	}

	#stateOf({ fileSystem }: Layer): State {
		let state = this.#states.get(fileSystem.number);
		if (state === undefined) {
			state = { offload: new Offload(THREADS), streak: 0, isTrusted: false };
			this.#states.set(fileSystem.number, state);
		}
		return state;
	}

	#ask(state: State, layer: Layer, handle: FileHandle, name: Uint8Array | null, what: What, now: number, offset = 0, length = 0): void {
		const id = `${layer.fileSystem.number}:${handle.type}:${handle.bytes.toString("latin1")}`;
		const key = `${what}:${id}:${offset}:${length}:${name === null ? "" : Buffer.from(name.buffer, name.byteOffset, name.length).toString("latin1")}`;
		const warm = this.#warm.get(key);
		if (warm !== undefined && warm > now) return;
		const asked = this.#asked.get(key);
		if (asked !== undefined) throw new Pending(asked);
		const job: Job = {
			kind: "warm",
			root: layer.root,
			type: handle.type,
			handle: Buffer.from(handle.bytes),
			name: name === null ? null : Buffer.from(name),
			what,
			offset,
			length,
			xattrs: [layer.xattr.opaque, layer.xattr.redirect, layer.xattr.metacopy],
		};
		const ready = state.offload
			.run(job)
			.then((took) => this.#learn(state, what, took as number))
			.catch(() => {})
			.then(() => {
				this.#asked.delete(key);
				setRecent(this.#warm, key, this.#clock() + WARM_MS, WARM_MAX);
			});
		this.#asked.set(key, ready);
		throw new Pending(ready);
	}

	#learn(state: State, what: What, took: number): void {
		// how much there is to read says nothing of how quick it is
		if (what === "data" || what === "list") return;
		state.streak = took < QUICK_MS ? state.streak + 1 : 0;
		state.isTrusted = state.streak >= STREAK;
	}
}

/** An upper that does not answer cannot serve, and what lies in memory always answers. */
function isQuick({ isUpper, fileSystem, handles }: Layer): boolean {
	return isUpper || fileSystem.name === "tmpfs" || handles.isPortable;
}
