// What is known of lowers whose ids are paths: exchanged images, names that lead to one file, and ids of before a rebind.

import { join } from "node:path";
import type { Layer } from "../../layer/layer.ts";
import { LayerError } from "../../layer/layer-error.ts";
import { findLinkNames, hasLinkNames, KeptLinkNames, type LinkNames, noteLinkNames, openLinkNames } from "../../layer/link-names.ts";
import { PortableLower } from "../../layer/portable-lower.ts";
import { RebaseRows } from "../../layer/rebase-rows.ts";
import { Rebound } from "../../layer/rebound.ts";
import { ReboundRows } from "../../layer/rebound-rows.ts";
import { pathExists } from "../../linux/read-file.ts";
import { showName } from "../../vfs/names.ts";
import { tellDirectories } from "../../vfs/progress.ts";
import type { Registry } from "../work/registry.ts";
import type { Attempt } from "./attempt.ts";
import { linkNamesFolder, reboundFolder, rowsFolder } from "./export-folder.ts";
import type { ExportPaths } from "./export-paths.ts";
import { isFirst, type OpenOptions } from "./open-options.ts";
import type { Stack } from "./stack.ts";

/** Objects of the time when the export had kernel handles. Lowers of one home count as one file system, as they did then. */
export function openRebound(paths: ExportPaths, lowers: readonly Layer[], keep: Attempt["keep"]): void {
	const homes = new Map<number, Layer[]>();
	for (const lower of lowers) homes.set(lower.home, [...(homes.get(lower.home) ?? []), lower]);
	for (const [home, layers] of homes) {
		const path = reboundFolder(paths.folder, home);
		if (!pathExists(path)) continue;
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
	{ lowers, dataLowers }: Pick<Stack, "lowers" | "dataLowers">,
	registry: Registry,
	isOld: boolean,
): void {
	noteAllLinkNames(options, paths, lowers, registry, isOld);
	for (const lower of [...lowers, ...dataLowers]) {
		const { handles } = lower;
		if (!(handles instanceof PortableLower)) continue;
		handles.onChanged = (name) => options.onChanged?.(join(lower.path, showName(name)));
		const rows = rowsFolder(paths.folder, registry, lower);
		if (rows !== null && pathExists(rows)) handles.rows = keep(new RebaseRows(rows));
		const folder = linkNamesOf(paths, lower);
		if (hasLinkNames(folder)) handles.links = new KeptLinkNames(folder);
		// nobody knows the files of a data layer
		else if (registry.linkNames && lowers.includes(lower)) handles.findLinks = () => findNow(options, lower, folder);
		keep({ close: () => handles.links?.close() });
	}
}

/** Whoever only looks keeps nothing. LayerError. */
function findNow(options: OpenOptions, lower: Layer, folder: string): LinkNames {
	const progress = (directories: number) => tellDirectories(lower.path, directories);
	return openLinkNames(folder, findLinkNames(lower, options.purpose === "inspect" ? null : folder, progress));
}

/** Where the names of a lower's files are kept, of an export. */
export function linkNamesOf(paths: ExportPaths, lower: Layer): string {
	return linkNamesFolder(paths.folder, lower.fileSystem.uuid.toString("hex"));
}

/** Which names of lower files lead to one is kept from the first serve on, or from when the first is met, since identity depends on it. */
function noteAllLinkNames(options: OpenOptions, paths: ExportPaths, lowers: readonly Layer[], registry: Registry, isOld: boolean): void {
	if (options.linkNames === undefined) return;
	const missing = lowers.filter((lower) => !hasLinkNames(linkNamesOf(paths, lower)));
	if (options.linkNames && isOld && !registry.linkNames && missing.length > 0) {
		throw new LayerError(
			"Cannot begin to follow the names of lower files (--link-names): this export has been served without, and handles that clients hold " +
				"would name other objects. Begin anew with a fresh upper and work.",
		);
	}
	if (!options.linkNames && isOld && (registry.linkNames || missing.length < lowers.length)) {
		throw new LayerError(
			"Cannot take the names of lower files for files of their own (--no-link-names): this export has been served with all names of a file as " +
				"one object, and handles that clients hold would name others. Begin anew with a fresh upper and work.",
		);
	}
	if (!options.linkNames || !isFirst(options)) return;
	for (const lower of missing) noteLinkNames(lower, linkNamesOf(paths, lower), (directories) => tellDirectories(lower.path, directories));
}
