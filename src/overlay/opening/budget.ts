// What all exports of one process share: descriptors, objects, listings and threads.

import { LayerError } from "../../layer/layer-error.ts";
import { DescriptorCache } from "../../layer/real.ts";
import { raiseDescriptorLimit } from "../../linux/limits.ts";
import { LISTING_LIMITS, ListingMemory } from "../listing/listing.ts";
import { NodeOrder } from "../nodes/node-order.ts";
import type { LowerFileSystems } from "../threads/patience.ts";
import { ThreadPool } from "../threads/thread-pool.ts";

export interface BudgetLimits {
	/** Objects in memory. */
	readonly nodesMax?: number;
	readonly descriptorsMax?: number;
	readonly listingBytesMax?: number;
}

/** With it a server that has walked directories of a million entries stays below 512 MiB. */
const NODES_MAX = 32768;
/** Descriptors left for connections, workers and the one operation that runs. */
const DESCRIPTORS_RESERVED = 2048;
/** What each layer keeps open, and what one look-up in all of them opens for a moment. */
const DESCRIPTORS_PER_LAYER = 5;
/** What an upper keeps open beside that: work, index, journal. */
const DESCRIPTORS_PER_UPPER = 12;
/** Flushes at once on each file system where uppers lie on several: a part of Node's four threads. */
const FLUSHES_EACH = 2;
/** Less than this beside the layers is not enough for the smallest cache and a few connections. */
const DESCRIPTORS_FEWEST = 256;
const DESCRIPTORS_MIN = 64;
/** Of Node.js and of threads, and what one operation opens. */
const DESCRIPTORS_OF_PROCESS = 96;
const DESCRIPTORS_MAX = 65536;

/** One for all exports of a process, so that ten cost no more than one, and what an idle one has goes to the busy ones. */
export class Budget {
	readonly descriptors: DescriptorCache;
	readonly nodes: NodeOrder;
	readonly listings: ListingMemory;
	readonly lowerFileSystems: LowerFileSystems = new Map();
	/** Descriptors that this process may have open. */
	readonly #descriptorLimit: number;
	readonly #descriptorsMax: number | undefined;
	readonly #upperThreads = new Map<string, ThreadPool>();
	readonly #freeingThreads = new Map<string, ThreadPool>();
	/** What all that is open keeps open. */
	#descriptorsHeld = 0;

	constructor(limits: BudgetLimits = {}) {
		this.#descriptorLimit = raiseDescriptorLimit();
		this.#descriptorsMax = limits.descriptorsMax;
		this.descriptors = new DescriptorCache(this.#cachedDescriptors());
		this.nodes = new NodeOrder(limits.nodesMax ?? NODES_MAX);
		this.listings = new ListingMemory(limits.listingBytesMax ?? LISTING_LIMITS.cacheBytes);
	}

	/** Makes room for the descriptors of so many lowers and perhaps an upper, until it is closed. LayerError: there is none. */
	openLayers(lowers: number, hasUpper: boolean): { close(): void } {
		const own = lowers * DESCRIPTORS_PER_LAYER + (hasUpper ? DESCRIPTORS_PER_LAYER + DESCRIPTORS_PER_UPPER : 0);
		const needed = this.#descriptorsHeld + own + DESCRIPTORS_FEWEST;
		if (this.#descriptorLimit < needed) {
			throw new LayerError(
				`Cannot open ${lowers} lowers: this process may have ${this.#descriptorLimit} descriptors open, and needs at least ${needed}. ` +
					`Raise the hard limit (ulimit -Hn ${needed}), or use fewer layers.`,
			);
		}
		this.#hold(own);
		return { close: () => this.#hold(-own) };
	}

	/** Descriptors that connections may have, so that they leave enough for what they ask for. */
	get descriptorsForConnections(): number {
		return this.#descriptorLimit - this.#descriptorsHeld - this.descriptors.limit - DESCRIPTORS_OF_PROCESS;
	}

	/** Threads for an upper and its flushes: of each file system its own, so that one which hangs holds up no other. */
	upperThreads(device: string): ThreadPool {
		let pool = this.#upperThreads.get(device);
		if (pool === undefined) {
			pool = new ThreadPool();
			this.#upperThreads.set(device, pool);
			if (this.#upperThreads.size > 1) for (const one of this.#upperThreads.values()) one.flushesMax = FLUSHES_EACH;
		}
		return pool;
	}

	/** The same for what frees space: a file may keep one of them for minutes, and no flush, listing or copy waits behind it. */
	freeingThreads(device: string): ThreadPool {
		let pool = this.#freeingThreads.get(device);
		if (pool === undefined) {
			pool = new ThreadPool();
			this.#freeingThreads.set(device, pool);
		}
		return pool;
	}

	#hold(descriptors: number): void {
		this.#descriptorsHeld += descriptors;
		this.descriptors.limit = this.#cachedDescriptors();
	}

	#cachedDescriptors(): number {
		if (this.#descriptorsMax !== undefined) return this.#descriptorsMax;
		const free = this.#descriptorLimit - this.#descriptorsHeld - DESCRIPTORS_RESERVED;
		return Math.min(Math.max(Math.floor(free / 2), DESCRIPTORS_MIN), DESCRIPTORS_MAX);
	}
}
