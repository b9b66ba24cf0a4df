// Whether what the lowers have in the place of a change is still what was recorded when the change was made.

import type { Real } from "../../layer/real.ts";
import { close } from "../../linux/open.ts";
import type { Stat } from "../../linux/stat.ts";
import { OverlayError } from "../../vfs/errors.ts";
import type { Engine } from "../engine/engine.ts";
import { type BaseState, compareBase, decodeBase } from "../format/base-version.ts";
import type { Writable } from "../journal/writable.ts";
import type { Node } from "../nodes/node.ts";
import { recordOf } from "../nodes/reals.ts";
import { getVersion, getVersionOfGone } from "../work/marks.ts";

/**
 * `base`: what the lowers have at the path of a change, with its attributes; `node`: what the overlay has there, or null. A damaged record is
 * told of, and counts as none.
 */
export function baseStateOf(engine: Engine, base: Real, stat: Stat, node: Node | null): BaseState {
	if (engine.writable === null) return "unknown";
	try {
		const how = { isPortable: base.layer.handles.isPortable, isRemoved: node === null };
		const version = versionOf(engine, engine.writable, base, stat, node);
		return version === "another" ? "changed" : compareBase(version === null ? null : decodeBase(version), stat, how);
	} catch (error) {
		if (error instanceof OverlayError) return "unknown";
		throw error;
	}
}

/** What was recorded of the object that upper has changed, removed or replaced here; null: nothing. "another": all is recorded, and this object is not. */
function versionOf(engine: Engine, writable: Writable, base: Real, stat: Stat, node: Node | null): Buffer | "another" | null {
	const record = recordOf(base);
	const entry = record.toString("hex");
	const answer = writable.index.ask(entry);
	if (answer.kind === "gone") return getVersionOfGone(writable, record);
	if (answer.kind === "upper") {
		try {
			return getVersion(writable, answer.fd, answer.stat.type);
		} finally {
			close(answer.fd);
		}
	}
	const left = stat.nlink > 1 ? writable.linkCounts.read(entry) : null;
	if (left !== null) return left.base;
	// upper knows nothing of this object, which has come into the place of another
	if (writable.recordsAllBases) return "another";
	return node?.isUpper === true && node.isIndexed ? getVersion(writable, engine.descriptors.path(node.top), node.type) : null;
}
