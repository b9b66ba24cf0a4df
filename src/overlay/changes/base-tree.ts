// Goes through what the base has below a directory, in the order of paths, but for what is to be seen elsewhere in the overlay.

import { namesInPath, pathBelow } from "../../layer/path-search.ts";
import type { Real } from "../../layer/real.ts";
import type { Stat } from "../../linux/stat.ts";
import { FileType } from "../../vfs/operations.ts";
import { rootNode } from "../engine/engine.ts";
import { findInStack } from "../lookup/stack-search.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { inPasses } from "../operations/until-ready.ts";
import { hasMoved, namesIn } from "./change-list.ts";

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
	const newFrame = (at: Buffer, reals: readonly Real[]): Frame => {
		const names = new Map<string, Buffer>();
		for (const real of reals) for (const name of namesIn(engine, real)) names.set(name.toString("latin1"), name);
		return { path: at, reals, names: [...names.values()].sort(Buffer.compare), at: 0 };
	};
	const frames = [await inPasses(overlay, () => newFrame(path, stackAt(opened, path)))];
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

/** The directories that one of the base is merged from. */
function stackAt({ overlay: { engine } }: OpenedOverlay, path: Buffer): readonly Real[] {
	let reals: readonly Real[] = rootNode(engine).reals.filter(({ layer }) => !layer.isUpper);
	for (const name of namesInPath(path)) reals = findInStack(engine, reals, name)?.reals ?? [];
	return reals;
}
