// Which path of an export a word of the command line is.

import { namesInPath, pathBelow } from "../../layer/path-search.ts";
import { isDot, isDotDot, shownBytes } from "../../vfs/names.ts";
import { nodeAt } from "../lookup/objects.ts";
import { findInStack } from "../lookup/stack-search.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { inPasses } from "../operations/until-ready.ts";
import { directoriesOfBase } from "./base-tree.ts";

/** A word is no path of an export: the message is a sentence for the user. */
export class PathError extends Error {
	override readonly name = "PathError";
}

/** The paths that people mean by words, as `showName` shows them. PathError. */
export async function pathsInExport(opened: OpenedOverlay, words: readonly string[]): Promise<Buffer[]> {
	const paths: Buffer[] = [];
	for (const word of words) {
		const path = await pathInExport(opened, shownBytes(word));
		if (path === "outside") throw new PathError(`The path ${word} leads out of the export.`);
		if (path === "nothing") throw new PathError(`Neither the export nor its lowers have ${word}.`);
		paths.push(path);
	}
	return paths;
}

/** The path without needless "/" and "."; "outside": ".." leads out; "nothing": neither the overlay nor its lowers have it. */
function pathInExport(opened: OpenedOverlay, word: Buffer): Promise<Buffer | "outside" | "nothing"> {
	const names: Buffer[] = [];
	for (const part of namesInPath(word)) {
		if (isDot(part)) continue;
		if (!isDotDot(part)) names.push(part);
		else if (names.pop() === undefined) return Promise.resolve("outside");
	}
	const path = names.reduce(pathBelow, Buffer.alloc(0));
	return inPasses(opened.overlay, () => (isThere(opened, names) ? path : "nothing"));
}

function isThere({ overlay: { engine } }: OpenedOverlay, names: readonly Buffer[]): boolean {
	if (nodeAt(engine, names) !== null) return true;
	const above = directoriesOfBase(engine, names.slice(0, -1));
	return above !== null && findInStack(engine, above, names[names.length - 1]) !== null;
}
