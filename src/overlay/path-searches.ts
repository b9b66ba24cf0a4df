import type { Layer } from "../layer/layer.ts";
import { PortableLower } from "../layer/portable-lower.ts";
import { setRecent } from "../layer/recent.ts";
import type { Engine } from "./engine.ts";
import { OverlayError, Pending } from "./errors.ts";
import type { FoundPath } from "./offload.ts";

/** How long a request waits for a search; after that its client is told to come again. */
const WAIT_MS = 1000;
/** How long, and of how many ids, it is known that no path leads to them. */
const ABSENT_MS = 30_000;
const ABSENT_MAX = 1024;
/** Searches at once, of all clients. */
const SEARCHES_MAX = 64;

interface Search {
	readonly ready: Promise<void>;
	readonly begun: number;
}

/** Has long searches for the paths of portable ids made in other threads: whoever asked waits, and is told to try again when it takes long. */
export function searchElsewhere(engine: Engine, lowers: readonly Layer[]): void {
	for (const lower of lowers) {
		const { handles } = lower;
		if (!(handles instanceof PortableLower)) continue;
		const running = new Map<string, Search>();
		const absent = new Map<string, number>();
		handles.searchElsewhere = (id) => {
			const key = id.toString("latin1");
			const now = performance.now();
			if ((absent.get(key) ?? 0) > now) return null;
			let search = running.get(key);
			if (search === undefined) {
				if (running.size >= SEARCHES_MAX) throw new OverlayError("tryagain", "Too many paths are searched for");
				const found = engine.offload.run({ kind: "search", root: lower.root, id: new Uint8Array(id) }).then(
					(result) => {
						const { names } = result as FoundPath;
						if (names !== null) handles.learn(names.map((name) => Buffer.from(name)));
						else setRecent(absent, key, performance.now() + ABSENT_MS, ABSENT_MAX);
					},
					() => {},
				);
				search = { ready: found.finally(() => running.delete(key)), begun: now };
				running.set(key, search);
			} else if (now - search.begun >= WAIT_MS) {
				throw new OverlayError("tryagain", "The path of the object is being searched for");
			}
			const late = new Promise<void>((resolve) => setTimeout(resolve, WAIT_MS - (now - search.begun) + 1).unref());
			throw new Pending(Promise.race([search.ready, late]));
		};
	}
}
