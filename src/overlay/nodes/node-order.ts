// The order in which objects in memory are evicted, over all exports of a process.

import type { Node } from "./node.ts";

/** At most `limit` objects, whatever exports they are of: an idle export's go first. */
export class NodeOrder {
	readonly limit: number;
	/** Objects in memory, with the roots, which are never evicted and not in the list. */
	size = 0;
	/** A list through Node.younger and Node.older. */
	#youngest: Node | null = null;
	#oldest: Node | null = null;

	constructor(limit: number) {
		this.limit = limit;
	}

	link(node: Node): void {
		node.older = this.#youngest;
		if (this.#youngest === null) this.#oldest = node;
		else this.#youngest.younger = node;
		this.#youngest = node;
	}

	unlink(node: Node): void {
		if (node.younger !== null) node.younger.older = node.older;
		else if (this.#youngest === node) this.#youngest = node.older;
		if (node.older !== null) node.older.younger = node.younger;
		else if (this.#oldest === node) this.#oldest = node.younger;
		node.younger = null;
		node.older = null;
	}

	/** Evicts down to the limit, those first that were not used since they were looked at last; never `kept`. */
	trim(kept: Node | null): void {
		// a node that stays is put at the young end and met again: twice each is enough to find every victim
		let looks = this.size * 2;
		while (this.size > this.limit && looks-- > 0) {
			const node = this.#oldest;
			if (node === null) return;
			if (node.isRecent || node.copyUp !== null || node === kept) {
				node.isRecent = false;
				this.unlink(node);
				this.link(node);
			} else node.keeper?.forget(node);
		}
	}
}
