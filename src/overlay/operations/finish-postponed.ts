// Completes changes that were interrupted as soon as there is room for them.

import type { Engine } from "../engine/engine.ts";
import type { Listings } from "../listing/listing.ts";
import { isPostponed } from "../lookup/postponed.ts";

/** Completes what there is room for now. To be called when no operation is under way. */
export function finishPostponed(engine: Engine, listings: Listings): void {
	const journal = engine.writable?.journal;
	if (journal === undefined || journal.postponed.length === 0) return;
	const done = journal.finishPostponed();
	if (done.length === 0) return;
	// what is in memory of it was learnt before
	engine.memory.changes++;
	engine.memory.doubts++;
	for (const node of engine.nodes.all()) {
		if (done.some((change) => isPostponed(engine, change, node))) engine.nodes.forget(node);
		else if (done.some((change) => change.isIn(node.top.handle))) {
			node.stat = null;
			listings.forget(node);
		}
	}
}
