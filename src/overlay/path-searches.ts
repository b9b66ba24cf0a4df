import type { Layer } from "../layer/layer.ts";
import { PortableLower } from "../layer/portable-lower.ts";
import { setRecent } from "../layer/recent.ts";
import { OverlayError, Pending } from "./errors.ts";
import type { FoundPath } from "./offload.ts";
import type { Patience } from "./patience.ts";

/** How long a request waits for a search; after that its client is told to come again. */
const WAIT_MS = 1000;
/** How long, and of how many ids, it is known that no path leads to them. */
const ABSENT_MS = 30_000;
const ABSENT_MAX = 1024;
/** Searches at once, of all clients, in each lower: long ones, and short ones, which wait for nothing but a slow disk. */
const SEARCHES_MAX = 64;
const SHORT_MAX = 1024;

interface Search {
	readonly ready: Promise<void>;
	readonly begun: number;
}

/**
 * Has searches for the paths of portable ids made in other threads, where they are long, or their lower is slow: whoever asked waits, and is told
 * to try again when it takes long.
 */
export function searchElsewhere(patience: Patience, lowers: readonly Layer[]): void {
	for (const lower of lowers) {
		const { handles } = lower;
		if (!(handles instanceof PortableLower)) continue;
		const long = new Map<string, Search>();
		const short = new Map<string, Search>();
		const absent = new Map<string, number>();
		const take = (key: string, id: Buffer, { names }: FoundPath): void => {
			if (names === "too far") handles.noteFar(id);
			else if (names !== null) handles.learn(names.map((name) => Buffer.from(name)));
			else setRecent(absent, key, performance.now() + ABSENT_MS, ABSENT_MAX);
		};
		handles.mayWait = () => !patience.isTrusted(lower);
		handles.searchElsewhere = (id, entriesMax) => {
			const key = id.toString("latin1");
			const now = performance.now();
			if ((absent.get(key) ?? 0) > now) return null;
			const isShort = Number.isFinite(entriesMax);
			const running = isShort ? short : long;
			let search = running.get(key);
			if (search === undefined) {
				if (running.size >= (isShort ? SHORT_MAX : SEARCHES_MAX)) throw new OverlayError("tryagain", "Too many paths are searched for");
				const request = { root: lower.root, id: new Uint8Array(id), entriesMax };
				const found = isShort
					? patience.searchNear(lower, request)
					: (patience.threads(lower).run({ kind: "search", ...request }) as Promise<FoundPath>);
				const own = Buffer.from(id);
				const ready = found.then((result) => take(key, own, result)).catch(() => {});
				search = { ready: ready.finally(() => running.delete(key)), begun: now };
				running.set(key, search);
			} else if (now - search.begun >= WAIT_MS) {
				throw new OverlayError("tryagain", "The path of the object is being searched for");
			}
			const late = new Promise<void>((resolve) => setTimeout(resolve, WAIT_MS - (now - search.begun) + 1).unref());
			throw new Pending(Promise.race([search.ready, late]));
		};
	}
}
