// Goes through what the base has below a directory, in the order of paths, but for what is to be seen elsewhere in the overlay.

import { namesInPath, pathBelow } from "../../layer/path-search.ts";
import type { Real } from "../../layer/real.ts";
import type { Stat } from "../../linux/stat.ts";
import { FileType } from "../../vfs/operations.ts";
import { type Engine, rootNode } from "../engine/engine.ts";
import { findInReals, findInStack } from "../lookup/stack-search.ts";
import { lowersOf } from "../nodes/reals.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { inPasses } from "../operations/until-ready.ts";
import { hasMoved, namesInAll } from "./change-list.ts";

/** An object of the base. */
export interface BaseObject {
	/** In the base. */
	readonly path: Buffer;
	readonly real: Real;
	readonly stat: Stat;
}

interface Frame {
	readonly path: Buffer;
	readonly reals: readonly Real[];
	readonly names: readonly Buffer[];
	at: number;
}

/** All below a directory of the base. `isLeftOut`: of a path and what is below it. */
export async function* objectsOfBase(
	opened: OpenedOverlay,
	path: Buffer,
	isLeftOut: (path: Buffer) => boolean,
): AsyncGenerator<BaseObject> {
	const { overlay } = opened;
	const { engine } = overlay;
	const newFrame = (at: Buffer, reals: readonly Real[]): Frame => ({ path: at, reals, names: namesInAll(engine, reals), at: 0 });
	const frames = [await inPasses(overlay, () => newFrame(path, directoriesOfBase(engine, namesInPath(path)) ?? []))];
	for (let frame = frames.at(-1); frame !== undefined; frame = frames.at(-1)) {
		const { names, reals } = frame;
		if (frame.at === names.length) {
			frames.pop();
			continue;
		}
		const name = names[frame.at++];
		const below = pathBelow(frame.path, name);
		if (isLeftOut(below)) continue;
		const found = await inPasses(overlay, () => {
			const base = findInStack(engine, reals, name);
			const isGone = base === null || hasMoved(engine, base);
			const frameBelow = !isGone && base.stat.type === FileType.dir ? newFrame(below, base.reals) : null;
			engine.descriptors.trim();
			return isGone ? null : { object: { path: below, real: base.reals[0], stat: base.stat }, frameBelow };
		});
		if (found === null) continue;
		yield found.object;
		if (found.frameBelow !== null) frames.push(found.frameBelow);
	}
}

/** The directories that one of the base is merged from; null: it has none at this path. */
export function directoriesOfBase(engine: Engine, names: readonly Uint8Array[]): readonly Real[] | null {
	let reals: readonly Real[] | null = lowersOf(rootNode(engine));
	for (const name of names) reals = reals === null ? null : findInReals(engine, reals, name);
	return reals;
}
