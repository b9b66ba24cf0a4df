// Keeps the main thread from waiting for the disk of a slow lower.

import { RecentMap } from "../../collections/recent-map.ts";
import type { Layer } from "../../layer/layer.ts";
import { SEPARATOR } from "../../layer/path-search.ts";
import type { Real } from "../../layer/real.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { close, duplicate } from "../../linux/open.ts";
import { Pending } from "../../vfs/errors.ts";
import type { FoundPath, PathRequest } from "./find-path.ts";
import type { Job } from "./job.ts";
import { Offload } from "./offload.ts";
import { ThreadPool } from "./thread-pool.ts";
import type { WarmRequest, WarmTarget } from "./warm.ts";

/** Calls on a file system that were quick, one after the other, before it is trusted. */
const STREAK = 32;
/** What counts as quick in a thread of its own, and how long a call on the main thread may take before the trust is gone. */
const QUICK_MS = 2;
const SLOW_MS = 10;
/** How long, and of how many calls, it is known that they need not wait. */
const WARM_MS = 10_000;
const WARM_MAX = 65_536;
/** Threads for each file system: one that hangs takes no more. As many again for what takes long even where it is quick. */
const THREADS = 4;
/** For the threads to end. */
const CLOSE_MS = 1000;

/** What may have to wait. */
interface Question extends Pick<WarmRequest, "what" | "name" | "offset" | "length"> {
	readonly layer: Layer;
	readonly handle: FileHandle;
	/** Of the file whose content is asked for; else -1. */
	readonly fd: number;
}

/** What all exports of a process know of one file system that lowers lie on. */
export interface LowerFileSystem {
	readonly quick: ThreadPool;
	readonly long: ThreadPool;
	streak: number;
	isTrusted: boolean;
}

/** By the device of the file system. */
export type LowerFileSystems = Map<string, LowerFileSystem>;

interface State {
	/** Questions that hold up a request each. */
	readonly quick: Offload;
	/** Searches, listings, copies. */
	readonly long: Offload;
	readonly shared: LowerFileSystem;
}

/**
 * Keeps the main thread from waiting for the disk of a lower. A file system that has not been quick of late is asked in a thread of its own
 * first; the request waits, others go on, and when it is run again the kernel has the answer in memory. One that has been quick is asked at
 * once, and loses that trust with the first call that takes long.
 */
export class Patience {
	readonly #clock: () => number;
	readonly #fileSystems: LowerFileSystems;
	/** By the device of the file system. */
	readonly #states = new Map<string, State>();
	/** Expiry (ms) per question: until then the kernel's caches count as warm. */
	readonly #warm = new RecentMap<string, number>(WARM_MAX);
	/** Questions under way. */
	readonly #asked = new Map<string, Promise<void>>();
	#current: State | null = null;
	#since = 0;

	constructor(clock: () => number, fileSystems: LowerFileSystems = new Map()) {
		this.#clock = clock;
		this.#fileSystems = fileSystems;
	}

	/** To be called before a call that may wait for the disk of a lower. Throws Pending where it has to be made elsewhere first. */
	guard(layer: Layer, handle: FileHandle, name: Uint8Array | null, what: Exclude<WarmRequest["what"], "data">): void {
		this.#guard({ layer, handle, name, what, fd: -1, offset: 0, length: 0 });
	}

	/** As `guard`, before content is read of an open file, on a file system that does not say whether it is in memory. */
	guardData({ layer, handle }: Real, fd: number, offset: number, length: number): void {
		this.#guard({ layer, handle, name: null, what: "data", fd, offset, length });
	}

	/** Content of an open file that is not in memory, of any layer; returns when it was read a moment ago, and has been lost again. */
	data({ layer, handle }: Real, fd: number, offset: number, length: number): void {
		this.#ask(this.#stateOf(layer), { layer, handle, name: null, what: "data", fd, offset, length }, this.#clock());
	}

	/** Whether this may take longer than a file system in memory does, so that a long list is read elsewhere. */
	isTrusted(layer: Layer): boolean {
		return isQuick(layer) || this.#stateOf(layer).shared.isTrusted;
	}

	/** A search for a path, in a thread; how long a short one takes shows how quick the file system is. */
	async search(layer: Layer, request: PathRequest, isShort: boolean): Promise<FoundPath> {
		const state = this.#stateOf(layer);
		const found = (await (isShort ? state.quick : state.long).run({ kind: "search", ...request })) as FoundPath;
		if (isShort) learn(state.shared, found.milliseconds);
		return found;
	}

	/** Threads for what takes long on the file system of a lower. */
	threads(layer: Layer): Pick<Offload, "run"> {
		return this.#stateOf(layer).long;
	}

	/** No call is under way. */
	pause(): void {
		if (this.#current === null) return;
		this.#judge(this.#clock());
	}

	/** Threads that hang are left to the end of the process. */
	async close(): Promise<void> {
		const closed = Promise.all([...this.#states.values()].map(({ quick, long }) => Promise.all([quick.close(), long.close()])));
		await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, CLOSE_MS).unref())]);
	}

	#guard(question: Question): void {
		if (isQuick(question.layer)) return;
		const now = this.#clock();
		this.#judge(now);
		const state = this.#stateOf(question.layer);
		if (!state.shared.isTrusted) this.#ask(state, question, now);
		this.#current = state;
		this.#since = now;
	}

	#judge(now: number): void {
		if (this.#current !== null && now - this.#since > SLOW_MS) {
			this.#current.shared.isTrusted = false;
			this.#current.shared.streak = 0;
		}
		this.#current = null;
	}

	#stateOf({ fileSystem }: Layer): State {
		let state = this.#states.get(fileSystem.device);
		if (state === undefined) {
			let shared = this.#fileSystems.get(fileSystem.device);
			if (shared === undefined) {
				shared = { quick: new ThreadPool(THREADS), long: new ThreadPool(THREADS), streak: 0, isTrusted: false };
				this.#fileSystems.set(fileSystem.device, shared);
			}
			state = { quick: new Offload(shared.quick), long: new Offload(shared.long), shared };
			this.#states.set(fileSystem.device, state);
		}
		return state;
	}

	#ask(state: State, question: Question, now: number): void {
		const { layer, name, what, offset, length } = question;
		const key = keyOf(question);
		const warm = this.#warm.get(key);
		if (warm !== undefined && warm > now) return;
		const asked = this.#asked.get(key);
		if (asked !== undefined) throw new Pending(asked);
		const place = placeOf(question);
		if (place === null) return;
		const job: Job = {
			kind: "warm",
			place,
			name: name === null ? null : Buffer.from(name),
			what,
			offset,
			length,
			xattrs: [...layer.hiding.opaques.map(({ opaque }) => opaque), layer.xattr.redirect, layer.xattr.metacopy],
		};
		const ready = state.quick
			.run(job)
			.then((took) => {
				// how much there is to read says nothing of how quick it is
				if (what !== "data" && what !== "list") learn(state.shared, took as number);
			})
			.catch(() => {})
			.then(() => {
				if (place.by === "descriptor") close(place.fd);
				this.#asked.delete(key);
				this.#warm.set(key, this.#clock() + WARM_MS);
			});
		this.#asked.set(key, ready);
		throw new Pending(ready);
	}
}

function learn(shared: LowerFileSystem, took: number): void {
	shared.streak = took < QUICK_MS ? shared.streak + 1 : 0;
	shared.isTrusted = shared.streak >= STREAK;
}

function keyOf({ layer, handle, name, what, offset, length }: Question): string {
	const id = `${layer.fileSystem.number}:${handle.type}:${handle.bytes.toString("latin1")}`;
	return `${what}:${id}:${offset}:${length}:${name === null ? "" : Buffer.from(name.buffer, name.byteOffset, name.length).toString("latin1")}`;
}

/** Where a thread finds what is asked about; null: it does not, as what is to be searched for first. A descriptor is the thread's own. */
function placeOf({ layer, handle, fd }: Question): WarmTarget | null {
	if (fd >= 0) {
		const own = duplicate(fd);
		return own < 0 ? null : { by: "descriptor", fd: own };
	}
	if (!layer.handles.isPortable) return { by: "handle", mount: layer.root, type: handle.type, bytes: Buffer.from(handle.bytes) };
	const trail = layer.handles.trail(handle);
	if (trail === null) return null;
	return { by: "path", root: trail.root, path: new Uint8Array(Buffer.concat(trail.names.flatMap((name) => [SEPARATOR, name]))) };
}

/** An upper that does not answer cannot serve, and what lies in memory always answers. */
function isQuick({ isUpper, fileSystem }: Layer): boolean {
	return isUpper || fileSystem.name === "tmpfs";
}

/** The threads of an export. `patience` null: whoever asks waits. */
export interface Threads {
	readonly patience: Patience | null;
	readonly offload: Offload;
}

/** Where work on an object of a layer is done that takes long: what waits for a lower holds up nobody who waits for another, or for upper. */
export function threadsFor({ patience, offload }: Threads, layer: Layer): Pick<Offload, "run"> {
	return patience === null || layer.isUpper ? offload : patience.threads(layer);
}
