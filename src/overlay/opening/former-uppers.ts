// Lowers that were uppers once: refused until their redirects are noted, and the adoption that notes them.

import { type Layer, overlayXattrs } from "../../layer/layer.ts";
import { LayerError } from "../../layer/layer-error.ts";
import { tellDirectories } from "../../vfs/progress.ts";
import { adoptLower, type LayerReport } from "../adopt/adopt-lower.ts";
import { type Registry, writeRegistry } from "../work/registry.ts";
import type { OpenOptions } from "./open-options.ts";
import type { OpenedOverlay } from "./opened-overlay.ts";

/** An opaque root says nothing, as in the kernel: there is nothing that it could hide which is not the root as well. */
const HARMLESS_MARKS = new Set(["opaque"]);

/** A lower whose root has overlay xattrs was an upper once: where its redirects lead from must be known before a handle is given. */
export function refuseFormerUppers(options: OpenOptions, lowers: readonly Layer[], registry: Registry | null): void {
	if (options.purpose === "adopt") return;
	for (const [i, lower] of lowers.entries()) {
		const marks = overlayXattrs(lower.root, lower.xattr).filter((mark) => !HARMLESS_MARKS.has(mark));
		if (marks.length === 0 || registry?.lowers[i]?.adopted) continue;
		throw new LayerError(
			`Cannot serve the lower ${lower.path}: its root carries overlay attributes (${marks.join(", ")}), so it was an upper once. ` +
				"Run `holdfast adopt` with the same layers first: it notes where the redirects of such a lower lead from, and never writes to it.",
		);
	}
}

/**
 * Notes the redirects, and where the data of metacopy files is, of all lowers that once were uppers. The overlay must have been opened for
 * it, which has adopted the upper; it is of no other use then.
 */
export function adoptLowers(opened: OpenedOverlay): LayerReport[] {
	const { engine } = opened.overlay;
	const lowers = engine.layers.filter((layer) => !layer.isUpper);
	const reports: LayerReport[] = [];
	const adopted = new Set<number>();
	for (const [i, layer] of lowers.entries()) {
		// what has nothing below it has nothing to take along or data from; of the others the root's attributes do not always tell
		if (!layer.mayHoldMetacopies && overlayXattrs(layer.root, layer.xattr).length === 0) continue;
		adopted.add(i);
		reports.push(adoptLower(engine, layer, (directories) => tellDirectories(layer.path, directories)));
	}
	const records = opened.registry.lowers.map((record, i) => (adopted.has(i) ? { ...record, adopted: true } : record));
	writeRegistry(opened.folder, { ...opened.registry, lowers: records });
	return reports;
}
