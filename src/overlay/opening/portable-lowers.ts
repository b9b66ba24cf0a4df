// What is known of lowers whose ids are paths: exchanged images, names that lead to one file, and ids of before a rebind.

import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Layer } from "../../layer/layer.ts";
import { LayerError } from "../../layer/layer-error.ts";
import { hasLinkNames, LinkNames, noteLinkNames } from "../../layer/link-names.ts";
import { PortableLower } from "../../layer/portable-lower.ts";
import { RebaseRows } from "../../layer/rebase-rows.ts";
import { Rebound } from "../../layer/rebound.ts";
import { ReboundRows } from "../../layer/rebound-rows.ts";
import { showName } from "../../vfs/names.ts";
import type { Registry } from "../work/registry.ts";
import type { Attempt } from "./attempt.ts";
import { linkNamesFolder, reboundFolder, rowsFolder } from "./export-folder.ts";
import type { ExportPaths } from "./export-paths.ts";
import { isFirst, type OpenOptions } from "./open-options.ts";

/** Objects of the time when the export had kernel handles. Lowers of one home count as one file system, as they did then. */
export function openRebound(paths: ExportPaths, lowers: readonly Layer[], keep: Attempt["keep"]): void {
	const homes = new Map<number, Layer[]>();
	for (const lower of lowers) homes.set(lower.home, [...(homes.get(lower.home) ?? []), lower]);
	for (const [home, layers] of homes) {
		const path = reboundFolder(paths.folder, home);
		if (!existsSync(path)) continue;
		const providers = layers.map(({ handles }) => handles as PortableLower);
		const rebound = new Rebound(keep(new ReboundRows(path)), providers);
		for (const layer of layers) layer.fileSystem = layers[0].fileSystem;
		for (const provider of providers) provider.rebound = rebound;
	}
}

/** What is known of lowers whose ids are paths: what was exchanged under them, and which of their files have several names. */
export function openPortableLowers(
	{ options, keep }: Attempt,
	paths: ExportPaths,
	lowers: readonly Layer[],
	registry: Registry,
	isOld: boolean,
): void {
	noteAllLinkNames(options, paths, lowers, isOld);
	for (const lower of lowers) {
		if (!(lower.handles instanceof PortableLower)) continue;
		lower.handles.onChanged = (name) => options.onChanged?.(join(lower.path, showName(name)));
		const rows = rowsFolder(paths.folder, registry, lower);
		if (rows !== null && existsSync(rows)) lower.handles.rows = keep(new RebaseRows(rows));
		const links = linkNamesOf(paths, lower);
		if (hasLinkNames(links)) lower.handles.links = keep(new LinkNames(links));
	}
}

function linkNamesOf(paths: ExportPaths, lower: Layer): string {
	return linkNamesFolder(paths.folder, lower.fileSystem.uuid.toString("hex"));
}

/** Which names of lower files lead to one: asked for at the first serve, and kept, since identity depends on it. */
function noteAllLinkNames(options: OpenOptions, paths: ExportPaths, lowers: readonly Layer[], isOld: boolean): void {
	if (!options.linkNames) return;
	if (isOld && lowers.some((lower) => !hasLinkNames(linkNamesOf(paths, lower)))) {
		throw new LayerError(
			"Cannot begin to follow the names of lower files (--link-names): this export has been served without, and handles that clients hold " +
				"would name other objects. Begin anew with a fresh upper and work.",
		);
	}
	if (isOld || !isFirst(options)) return;
	for (const lower of lowers)
		noteLinkNames(lower, linkNamesOf(paths, lower), (directories) => options.onProgress?.(lower.path, directories));
}
