// The attributes and link count of an object.

import { Stat } from "../../linux/stat.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { FileType } from "../../vfs/operations.ts";
import { must } from "../../vfs/system-errors.ts";
import { showTimes } from "../data/partials.ts";
import { microsOf } from "../engine/change-attribute.ts";
import { ATTRIBUTES_TICKS, type Engine, entryOf, NAMES_TICKS } from "../engine/engine.ts";
import type { Node } from "../nodes/node.ts";

/** Attributes of the topmost real object. */
export function statOf(engine: Engine, node: Node): Stat {
	// an object that was made before the last restart and removed since, in the reply to the request that made it
	if (node.reals.length === 0) throw new OverlayError("stale", "The object has been removed");
	const { memory } = engine;
	const { isUpper } = node;
	if (node.stat !== null && memory.now - node.statTime < (isUpper ? NAMES_TICKS : ATTRIBUTES_TICKS)) return node.stat;
	const stat = new Stat();
	must(node.top.layer.stat(engine.descriptors.path(node.top), stat), "Cannot read attributes");
	if (!isUpper) node.top.layer.handles.countNames(node.top.handle, stat);
	// somebody has removed it from its lower, and only our descriptor still holds it; by its handle it could not be opened again
	if (stat.nlink === 0 && !isUpper) throw new OverlayError("stale", "The object has been removed from its layer");
	if (isUpper && engine.partials !== null) showTimes(engine.partials, node, stat);
	noteStat(engine, node, stat);
	return stat;
}

/** Remembers attributes that were just read. */
export function noteStat({ memory, partials, changeAttribute }: Engine, node: Node, stat: Stat): void {
	if (node.isUpper) {
		// a fill changes them behind the client's back
		if (partials !== null && partials.of(node) !== null) return;
		// it may have been given out before the object was evicted, or by another process
		if (node.change < 0 && !node.isChanged) {
			node.change = microsOf(stat);
			node.changeEpoch = changeAttribute.epoch;
		}
	}
	node.stat = stat;
	node.statTime = memory.now;
}

/** The link count that clients see (handles.md, H7): of a lower file its own less the names removed, of a copied up one as its `nlink` says. */
export function linkCount(engine: Engine, node: Node, stat: Stat): number {
	// a merged directory has as many subdirectories as nobody counted; 1 says so, as in the kernel
	if (node.type === FileType.dir) return node.reals.length > 1 ? 1 : stat.nlink;
	if (node.isOrphan) return 0;
	if (node.isUpper) return node.isIndexed ? Math.max(stat.nlink + node.nlinkDelta, 0) : stat.nlink;
	return lowerLinks(engine, node, stat);
}

/**
 * The microseconds of the change attribute, given out for good. All that ever changes of an object of a lower is that it loses names by records
 * of ours, which its ctime does not tell.
 */
export function giveChange(engine: Engine, node: Node, stat: Stat): number {
	if (node.isUpper) return engine.changeAttribute.give(node, stat);
	return node.type === FileType.dir ? microsOf(stat) : microsOf(stat) + stat.nlink - linkCount(engine, node, stat);
}

/** Names left of a lower file. Only a file of several names can have a record. */
export function lowerLinks(engine: Engine, node: Node, stat: Stat): number {
	if (stat.nlink === 1 || engine.writable === null) return stat.nlink;
	if (node.lowerLinks < 0) {
		const entry = entryOf(engine, node);
		node.lowerLinks = (entry === null ? null : engine.writable.linkCounts.get(entry)) ?? stat.nlink;
	}
	return node.lowerLinks;
}
