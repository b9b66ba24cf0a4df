// The order in which objects in memory are evicted, over all exports of a process.

import { RecentMap } from "../../collections/recent-map.ts";
import type { Node } from "./node.ts";

/** Requests that come back to an object which must not be evicted meanwhile: as many as are known at a time. */
const KEPT_MAX = 64;

/** At most `limit` objects, whatever exports they are of: an idle export's go first. */
export class NodeOrder {
	readonly limit: number;
	/** Objects in memory, with the roots, which are never evicted and not in the list. */
	size = 0;
	/**
	 * A list through Node.younger and Node.older. All that can go are in it; a directory with objects below it in memory leaves it when eviction
	 * meets it, and comes back when the last of them has gone.
	 */
	#youngest: Node | null = null;
	#oldest: Node | null = null;
	readonly #kept = new RecentMap<Node, true>(KEPT_MAX);

	constructor(limit: number) {
		this.limit = limit;
	}

	link(node: Node): void {
		node.isQueued = true;
		node.older = this.#youngest;
		if (this.#youngest === null) this.#oldest = node;
		else this.#youngest.younger = node;
		this.#youngest = node;
	}

	/** As the next to be looked at. */
	linkFirst(node: Node): void {
		node.isQueued = true;
		node.younger = this.#oldest;
		if (this.#oldest === null) this.#youngest = node;
		else this.#oldest.older = node;
		this.#oldest = node;
	}

	/** It stays, with the directories above it, until many others are kept after it: a request will come back to it. */
	keep(node: Node): void {
		this.#kept.set(node, true);
	}

	unlink(node: Node): void {
		this.#kept.delete(node);
		this.#take(node);
	}

	#take(node: Node): void {
		if (!node.isQueued) return;
		node.isQueued = false;
		if (node.younger !== null) node.younger.older = node.older;
		else if (this.#youngest === node) this.#youngest = node.older;
		if (node.older !== null) node.older.younger = node.younger;
		else if (this.#oldest === node) this.#oldest = node.younger;
		node.younger = null;
		node.older = null;
	}

	/** Evicts down to the limit, those first that were not used since they were looked at last; never `kept`. */
	trim(kept: Node | null): void {
		// a node that stays is put at the young end and met again: three times each is enough to find every victim, with the one by which a
		// directory leaves the order
		let looks = this.size * 3;
		while (this.size > this.limit && looks-- > 0) {
			const node = this.#oldest;
			if (node === null) return;
			if (node.below > 0) this.#take(node);
			else if (node.isRecent || node.copyUp !== null || node.cutting !== null || node === kept || this.#kept.get(node) === true) {
				node.isRecent = false;
				this.#take(node);
				this.link(node);
			} else node.keeper?.forget(node);
		}
	}
}
