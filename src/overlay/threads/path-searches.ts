// Searches for the paths of portable ids that are made in other threads, at most so many at a time.

import { RecentMap } from "../../collections/recent-map.ts";
import type { Layer } from "../../layer/layer.ts";
import { TOO_FAR } from "../../layer/path-search.ts";
import { PortableLower, type SearchElsewhere } from "../../layer/portable-lower.ts";
import { OverlayError } from "../../vfs/errors.ts";
import type { FoundPath } from "./find-path.ts";
import type { Patience } from "./patience.ts";
import { awaitRunning, type Running } from "./running.ts";

/** How long a request waits for a search; after that its client is told to come again. */
const WAIT_MS = 1000;
/** How long, and of how many ids, it is known that no path leads to them. */
const ABSENT_MS = 30_000;
const ABSENT_MAX = 1024;
/** Searches at once, of all clients, in each lower: long ones, and short ones, which wait for nothing but a slow disk. */
const SEARCHES_MAX = 64;
const SHORT_MAX = 1024;

/**
 * Has searches for the paths of portable ids made in other threads, where they are long, or their lower is slow: whoever asked waits, and is told
 * to try again when it takes long.
 */
export function searchElsewhere(patience: Patience, lowers: readonly Layer[]): void {
	for (const lower of lowers)
		if (lower.handles instanceof PortableLower) lower.handles.searchElsewhere = new Searches(patience, lower, lower.handles);
}

/** Of one lower. */
class Searches implements SearchElsewhere {
	readonly #patience: Patience;
	readonly #lower: Layer;
	readonly #handles: PortableLower;
	readonly #long = new Map<string, Running>();
	readonly #short = new Map<string, Running>();
	readonly #absent = new RecentMap<string, number>(ABSENT_MAX);

	constructor(patience: Patience, lower: Layer, handles: PortableLower) {
		this.#patience = patience;
		this.#lower = lower;
		this.#handles = handles;
	}

	mayWait(): boolean {
		return !this.#patience.isTrusted(this.#lower);
	}

	search(id: Buffer, entriesMax: number): void {
		const key = id.toString("latin1");
		const now = performance.now();
		if ((this.#absent.get(key) ?? 0) > now) return;
		const isShort = Number.isFinite(entriesMax);
		const running = isShort ? this.#short : this.#long;
		let search = running.get(key);
		if (search === undefined) {
			if (running.size >= (isShort ? SHORT_MAX : SEARCHES_MAX)) throw new OverlayError("tryagain", "Too many paths are searched for");
			const own = Buffer.from(id);
			const found = this.#patience.search(this.#lower, { root: this.#lower.root, id: new Uint8Array(id), entriesMax }, isShort);
			const ready = found.then((result) => this.#take(key, own, result)).catch(() => {});
			search = { ready: ready.finally(() => running.delete(key)), begun: now };
			running.set(key, search);
		}
		awaitRunning(search, WAIT_MS, "The path of the object is being searched for");
	}

	#take(key: string, id: Buffer, { names }: FoundPath): void {
		if (names === TOO_FAR) this.#handles.noteFar(id);
		else if (names !== null) this.#handles.learn(names.map((name) => Buffer.from(name)));
		else this.#absent.set(key, performance.now() + ABSENT_MS);
	}
}
