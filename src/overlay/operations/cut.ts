// Cuts files that take the kernel long to free, in a thread.

import type { FileHandle } from "../../linux/file-handle.ts";
import { close, O } from "../../linux/open.ts";
import type { Stat } from "../../linux/stat.ts";
import { OverlayError, Pending } from "../../vfs/errors.ts";
import type { ChangeKey, SetAttributes } from "../../vfs/operations.ts";
import { failed } from "../../vfs/system-errors.ts";
import { notePartial } from "../copy-up/partial-access.ts";
import { type Engine, writableOf } from "../engine/engine.ts";
import { takesLong } from "../engine/freed-space.ts";
import { Plan } from "../journal/plan.ts";
import type { Node } from "../nodes/node.ts";

/** Files that are cut at a time; who comes then waits for one of them. */
export const CUTS_MAX = 64;

/** What stands for the request of a change over all its passes. */
function requestOf({ request }: ChangeKey): object {
	return request.origin ?? request;
}

/** Whether the change under way was made by a cut that has ended. Throws OverlayError where that could not be made. */
export function claimCut(engine: Engine): boolean {
	const key = engine.changeKey;
	const outcome = key === null ? undefined : engine.cuts.outcomes.get(requestOf(key));
	if (outcome === undefined || outcome.change !== key?.change) return false;
	if (outcome.failure !== null) throw outcome.failure;
	return true;
}

/**
 * Changes attributes of an upper file where its new size frees much: Pending, and when that is settled the change was made and has its answer, whether
 * anybody runs the request again or not. Returns where nothing takes long.
 *
 * The change is noted first (`Journal.beginLong`), then a thread sets the size, and then all attributes are set in one change as any other, the size to
 * what it is already. Meanwhile the file shows its new size, nothing else is made of it, and everything else goes on.
 */
export function cutElsewhere(engine: Engine, node: Node, stat: Stat, change: SetAttributes): void {
	const { size } = change;
	// a change without a key would not be known when its request is run again
	if (size === undefined || size >= stat.size || engine.changeKey === null) return;
	const { journal, work } = writableOf(engine);
	if (!work.trash.isOpen || !takesLong(engine, node, stat, stat.size - size)) return;
	const { cuts } = engine;
	if (cuts.running.size >= CUTS_MAX) throw new Pending(Promise.race(cuts.running));
	const partial = engine.partials?.of(node) ?? null;
	if (partial !== null) engine.partials?.pause(partial);
	const { request, change: number } = engine.changeKey;
	const inode = node.top.handle;
	// of its own: the pass behind this one is not a second change under the same key
	const key = { request: { ...request }, change: number };
	const fd = begin(engine, node, key, inode, change);
	if (fd < 0) {
		if (partial !== null) engine.partials?.resume(partial);
		return;
	}
	engine.changeAttribute.expect(node);
	node.stat = null;
	engine.memory.changes++;
	const end = (failure: OverlayError | null) => {
		close(fd);
		node.cutting = null;
		node.stat = null;
		const outcome = failure ?? finish(engine, node, key, change);
		journal.endLong(inode);
		cuts.outcomes.set(request.origin ?? request, { change: number, failure: outcome });
		if (partial !== null) engine.partials?.resume(partial);
	};
	const cutting = engine.freeing.run({ kind: "cut", fd, size }).then(
		(status) => end((status as number) < 0 ? failed("Cannot set the size of a file", status as number) : null),
		(error) => end(new OverlayError("io", (error as Error).message)),
	);
	node.cutting = cutting;
	cuts.running.add(cutting);
	const leave = () => cuts.running.delete(cutting);
	cutting.then(leave, leave);
	throw new Pending(cutting);
}

/** Notes the change: the file, open to be cut; negative: it is to be cut at once, as where a full disk has no room for the note. */
function begin(engine: Engine, node: Node, key: ChangeKey, inode: FileHandle, change: SetAttributes): number {
	const { journal } = writableOf(engine);
	const fd = node.top.layer.handles.open(inode, O.rdwr | O.nofollow | O.noatime | O.nonblock);
	if (fd < 0) return fd;
	try {
		journal.beginLong(inode, { key, handle: node.handle, steps: [{ op: "attributes", inode, type: node.type, change }] });
		return fd;
	} catch (error) {
		close(fd);
		// RecordMap makes its folder when it is first needed
		if (error instanceof OverlayError || (error as NodeJS.ErrnoException).code !== undefined) return -1;
		throw error;
	}
}

/** Why it could not be made, or null. */
function finish(engine: Engine, node: Node, key: ChangeKey, change: SetAttributes): OverlayError | null {
	const writable = writableOf(engine);
	engine.changeKey = key;
	try {
		const plan = new Plan(engine, writable);
		plan.add({ op: "attributes", inode: plan.of(node), type: node.type, change }).perform(node.handle);
		writable.journal.answer(key, { error: null, handle: node.handle, isFound: true });
		notePartial(engine, node, change);
		return null;
	} catch (error) {
		if (!(error instanceof OverlayError)) throw error;
		return error;
	} finally {
		engine.changeKey = null;
	}
}
