// Which path of an export a word of the command line is.

import type { Real } from "../../layer/real.ts";
import { isDot, isDotDot } from "../../vfs/names.ts";
import { FileType } from "../../vfs/operations.ts";
import { rootNode } from "../engine/engine.ts";
import { lookupChild } from "../lookup/objects.ts";
import { findInStack } from "../lookup/stack-search.ts";
import type { Node } from "../nodes/node.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { inPasses } from "../operations/until-ready.ts";

/** The path without needless "/" and "."; "outside": ".." leads out; "nothing": neither the overlay nor its lowers have it. */
export function pathInExport(opened: OpenedOverlay, word: Buffer): Promise<Buffer | "outside" | "nothing"> {
	const names: Buffer[] = [];
	for (const part of splitPath(word)) {
		if (part.length === 0 || isDot(part)) continue;
		if (!isDotDot(part)) names.push(part);
		else if (names.pop() === undefined) return Promise.resolve("outside");
	}
	const path = Buffer.concat(names.flatMap((name, i) => (i === 0 ? [name] : [SEPARATOR, name])));
	return inPasses(opened.overlay, () => (isThere(opened, names) ? path : "nothing"));
}

const SEPARATOR = Buffer.from("/");

function splitPath(path: Buffer): Buffer[] {
	const parts: Buffer[] = [];
	for (let from = 0; from <= path.length; ) {
		const end = path.indexOf(SEPARATOR, from);
		parts.push(path.subarray(from, end < 0 ? path.length : end));
		if (end < 0) break;
		from = end + 1;
	}
	return parts;
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
