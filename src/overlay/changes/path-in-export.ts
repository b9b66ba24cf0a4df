// Which path of an export a word of the command line is.

import { namesInPath, pathBelow } from "../../layer/path-search.ts";
import type { Real } from "../../layer/real.ts";
import { isDot, isDotDot, shownBytes } from "../../vfs/names.ts";
import { FileType } from "../../vfs/operations.ts";
import { rootNode } from "../engine/engine.ts";
import { lookupChild } from "../lookup/objects.ts";
import { findInStack } from "../lookup/stack-search.ts";
import type { Node } from "../nodes/node.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { inPasses } from "../operations/until-ready.ts";

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
	let node: Node | null = rootNode(engine);
	let base: readonly Real[] = node.reals.filter(({ layer }) => !layer.isUpper);
	for (const name of names) {
		node = node === null || node.type !== FileType.dir ? null : lookupChild(engine, node, name);
		const found = base.length === 0 ? null : findInStack(engine, base, name);
		if (node === null && found === null) return false;
		base = found?.stat.type === FileType.dir ? found.reals : [];
		if (found !== null && node === null && base.length === 0 && name !== names.at(-1)) return false;
	}
	return true;
}
