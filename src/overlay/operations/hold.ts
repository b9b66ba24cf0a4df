// Holding objects open: what is held outlives its last name.

import { close } from "../../linux/open.ts";
import { Stat } from "../../linux/stat.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { FileType } from "../../vfs/operations.ts";
import { abandonCopy } from "../copy-up/copy-job.ts";
import type { Engine } from "../engine/engine.ts";
import { FREED_SPACE } from "../engine/freed-space.ts";
import type { Node } from "../nodes/node.ts";
import { realOfHandle } from "../nodes/reals.ts";
import { orphanName } from "../work/held-objects.ts";

export function hold(engine: Engine, node: Node): void {
	if (node.type === FileType.dir) throw new OverlayError("isdir", "A directory is not held open");
	engine.held.hold(node.key);
}

/** Ends one hold; with the last one an orphan is gone. */
export function letGo(engine: Engine, key: string): void {
	const { held } = engine;
	if (!held.letGo(key) || !held.isOrphan(key)) return;
	// a mark goes when its object is copied up: who finds one needs to look for no inode
	if (held.removeMark(key)) bury(engine, key);
	else removeOrphan(engine, key);
}

/** Orphans removed in one turn. */
const REMOVED_AT_ONCE = 32;

/** Removes all orphans that nobody holds: at once, or, so that clients need not wait for that, in later turns. */
export function removeUnheld(engine: Engine, isInBackground: boolean): void {
	const { held, writable } = engine;
	if (writable === null) return;
	const left = held.doom();
	for (const key of left) bury(engine, key);
	for (const name of held.strangers()) writable.work.removeLeftOrphan(name);
	const go = () => {
		for (const key of left.splice(-REMOVED_AT_ONCE)) removeOrphan(engine, key);
		return left.length > 0;
	};
	if (isInBackground) writable.work.inBackground(go);
	else while (go());
}

/** Takes an orphan away, with all that is known of its inode. It need not be in memory. */
function removeOrphan(engine: Engine, key: string): void {
	const { held, partials, writable } = engine;
	const fd = held.open(key);
	if (fd >= 0 && writable !== null) {
		const { layer, ids } = writable;
		const stat = new Stat();
		const handle = layer.handles.of(fd);
		// a crash may have left it without its id
		if (typeof handle !== "number" && layer.stat(fd, stat) === 0) {
			if (stat.type === FileType.reg) partials?.drop(realOfHandle(layer, handle, stat));
			ids?.forget(handle);
		}
		const bytes = stat.blocks * 512;
		if (bytes > FREED_SPACE.bytesMin) writable.work.trash.take(writable.work.orphans, orphanName(key), bytes, key);
		close(fd);
	}
	held.remove(key);
	bury(engine, key);
}

function bury(engine: Engine, key: string): void {
	const node = engine.nodes.get(key);
	if (node === undefined) return;
	abandonCopy(engine, node);
	engine.nodes.bury(node);
}
