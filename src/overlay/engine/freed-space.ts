// Tells which files take the kernel long to free, so that a thread does it.

import { RealObjectError } from "../../layer/real.ts";
import { countExtents } from "../../linux/data.ts";
import type { Stat } from "../../linux/stat.ts";
import { FileType } from "../../vfs/operations.ts";
import type { Node } from "../nodes/node.ts";
import { FREED_BYTES_MIN } from "../work/trash.ts";
import type { Engine } from "./engine.ts";

/** Above this there is too much in memory that goes with it, in however few pieces it lies on the disk. */
const FREED_BYTES_MAX = 64 * 1024 * 1024;
/** The same where the file system does not tell pieces, as one in memory: a few microseconds for each page. */
const UNTOLD_BYTES_MAX = 4 * 1024 * 1024;
/** Pieces that are freed at once: a millisecond each on a disk that is told of every one (discard). */
const EXTENTS_MAX = 16;

export interface FreedSpace {
	/** Up to this many bytes are always freed at once. */
	bytesMin: number;
	extentsMax: number;
	/** Without knowing in how many pieces it lies. */
	untoldBytesMax: number;
}

/** Tests have everything count as much. */
export const FREED_SPACE: FreedSpace = { bytesMin: FREED_BYTES_MIN, extentsMax: EXTENTS_MAX, untoldBytesMax: UNTOLD_BYTES_MAX };

/** Whether to free at most so many bytes of an upper file may keep a thread for long. `stat`: its attributes. */
export function takesLong(engine: Pick<Engine, "descriptors">, node: Node, stat: Stat, bytes: number): boolean {
	if (node.type !== FileType.reg || !node.isUpper) return false;
	const freed = Math.min(bytes, stat.blocks * 512);
	const { bytesMin, extentsMax, untoldBytesMax } = FREED_SPACE;
	if (freed <= bytesMin) return false;
	if (freed > FREED_BYTES_MAX) return true;
	try {
		const extents = countExtents(engine.descriptors.data(node.top, false), extentsMax + 1);
		return extents < 0 ? freed > untoldBytesMax : extents > extentsMax;
	} catch (error) {
		if (error instanceof RealObjectError) return true;
		throw error;
	}
}
