// Keeps everybody away from objects and names of changes that were interrupted and wait for room.

import { type Engine, entryOf } from "../engine/engine.ts";
import { type PostponedChange, postponed } from "../journal/postponed.ts";
import type { Node } from "../nodes/node.ts";

/** OverlayError "tryagain" for an object that is half changed. */
export function refusePostponed(engine: Engine, node: Node): void {
	const changes = engine.writable?.journal.postponed;
	if (changes === undefined || changes.length === 0) return;
	if (changes.some((change) => isPostponed(engine, change, node))) throw postponed();
}

/** The same for a name, whatever it leads to. */
export function refusePostponedName(engine: Engine, directory: Node, name: Uint8Array): void {
	const changes = engine.writable?.journal.postponed;
	if (changes === undefined || changes.length === 0) return;
	if (changes.some((change) => change.names(directory.top.handle, name))) throw postponed();
}

/** Whether a change is about this object. */
export function isPostponed(engine: Engine, change: PostponedChange, node: Node): boolean {
	if (change.isOf(node.top.handle)) return true;
	const entry = node.isUpper ? null : entryOf(engine, node);
	return entry !== null && change.names("index", entry);
}
