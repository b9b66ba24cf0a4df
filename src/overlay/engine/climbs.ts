// Searches for directories that were interrupted, so that their next pass goes on.

import { RecentMap } from "../../collections/recent-map.ts";
import type { Ancestor } from "../../layer/handle-provider.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { OverlayError, Pending } from "../../vfs/errors.ts";
import type { Node } from "../nodes/node.ts";
import type { Home } from "./home.ts";

/** Searches at a time; further ones wait. */
const CLIMBS_MAX = 16;
/** How long: a request may wait for abandoned searches to be nobody's, and must not use up its passes on that. */
const WAIT_MS = 20;
/** Searches that one may need within one another: no more than there are layers, but where redirects were made up. */
const NESTED_MAX = 1000;
/** One that no pass has come back to for so long is nobody's any more. */
const UNCLAIMED_MS = 10_000;

/** A real directory, and its name in the real directory above it. */
export interface Rung {
	readonly key: string;
	readonly name: Buffer;
}

/** How far the search for the overlay directory of a real one has come: see `directoryOfReal`. */
export interface Climb {
	/** Of the real directory. */
	readonly key: string;
	readonly home: Home;
	readonly start: FileHandle;
	/** All directories on the way, where that is known from the start. */
	readonly ancestry: readonly Ancestor[] | null;
	/** Index of the mount on which it goes up, in Home.mounts. */
	mount: number;
	/** The real directory that it has come up to. */
	at: FileHandle;
	/** Those between `at` and the start, or `reached` and the start, from the lowest up. */
	readonly rungs: Rung[];
	/** The overlay directory that it has come down to; null: it still goes up. */
	reached: Node | null;
	/** Memory.changes when it began, and how often it has begun anew since. */
	changes: number;
	restarts: number;
	/** It took more than one pass. */
	isInterrupted: boolean;
	/** A pass is at it, perhaps in a search of another directory that it needs. */
	isActive: boolean;
}

function afterWait(): Promise<void> {
	return new Promise((resolve) => {
		setTimeout(resolve, WAIT_MS);
	});
}

export class Climbs {
	readonly #clock: () => number;
	/** By the keys of the real directories that are asked about. */
	readonly #climbs = new RecentMap<string, { readonly climb: Climb; used: number }>();
	/** By the identities that were asked for: the keys of the real directories. */
	readonly #keys = new RecentMap<string, string>(CLIMBS_MAX);

	#depth = 0;

	constructor(clock: () => number) {
		this.#clock = clock;
	}

	/** Goes on with a search by `go`. OverlayError "loop" where that search needs itself, or too many others, to be done. */
	run(climb: Climb, go: () => Node): Node {
		if (climb.isActive || this.#depth >= NESTED_MAX) {
			if (!climb.isActive) this.end(climb);
			throw new OverlayError("loop", "Redirects of overlayfs lead round, or on too often: the directory is in no place");
		}
		climb.isActive = true;
		this.#depth++;
		try {
			return go();
		} finally {
			climb.isActive = false;
			this.#depth--;
		}
	}

	get(key: string): Climb | undefined {
		const known = this.#climbs.use(key);
		if (known === undefined) return undefined;
		known.used = this.#clock();
		return known.climb;
	}

	/** The search that was begun for an identity. */
	for(identity: string): Climb | undefined {
		if (this.#climbs.size === 0) return undefined;
		const key = this.#keys.get(identity);
		return key === undefined ? undefined : this.get(key);
	}

	note(identity: string, key: string): void {
		this.#keys.set(identity, key);
	}

	/** Pending where there are too many. What a search needs to go on does not wait for others, which may wait for it. */
	begin(climb: Climb): void {
		const now = this.#clock();
		while (this.#climbs.size >= CLIMBS_MAX && this.#depth === 0) {
			const oldest = this.#climbs.oldest as string;
			if (now - (this.#climbs.get(oldest)?.used ?? 0) < UNCLAIMED_MS) throw new Pending(afterWait());
			this.#climbs.delete(oldest);
		}
		this.#climbs.set(climb.key, { climb, used: now });
	}

	end(climb: Climb): void {
		this.#climbs.delete(climb.key);
	}
}
