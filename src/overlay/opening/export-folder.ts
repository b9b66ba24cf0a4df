// The names in an export's own folder that only some commands write, and an interrupted rebind undone.

import { renameSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Layer } from "../../layer/layer.ts";
import { LayerError } from "../../layer/layer-error.ts";
import { pathExists, readFileNamed } from "../../linux/read-file.ts";
import { unlessFull } from "../../vfs/system-errors.ts";
import { type Registry, writeDurably } from "../work/registry.ts";
import { indexPath } from "./export-paths.ts";
import type { OpenOptions } from "./open-options.ts";

/** Where the rows of a lower are; null as long as its image was never exchanged. */
export function rowsFolder(folder: string, registry: Registry, lower: Layer): string | null {
	const record = registry.lowers.find(({ home }) => home === lower.home);
	return record?.rebases === undefined ? null : rowsPath(folder, lower.home, record.rebases);
}

export function rowsPath(folder: string, home: number, rebases: number): string {
	return join(folder, "rebases", `${home}-${rebases}`);
}

/** Where the names of a lower's files are noted (`LinkNames`), by the uuid of its home. */
export function linkNamesFolder(folder: string, uuid: string): string {
	return join(folder, "link-names", uuid);
}

export const LOWERS_FILE = "lowers";

/** Notes where the lowers are that an upper is served with: a rebase looks there for what was. Paths say nothing else. */
export function noteLowers(folder: string, lowers: readonly Layer[]): void {
	const path = join(folder, LOWERS_FILE);
	const text = `${JSON.stringify(lowers.map(({ path }) => resolve(path)))}\n`;
	if (!pathExists(path) || readFileNamed(path).toString() !== text) unlessFull(() => writeDurably(path, Buffer.from(text)));
}

/** It is there where nothing was ever copied up or removed without being recorded: all of upper was made by servers that do. */
export const ALL_BASES_FILE = "all-bases";

/** In the export's folder while a rebind is under way. */
export const REBINDING_FILE = "rebinding";

export function reboundFolder(folder: string, home: number): string {
	return join(folder, "rebound", String(home));
}

/** A start before the rebind has ended would serve neither kind. LayerError. */
export function refuseRebinding(folder: string): void {
	if (!pathExists(join(folder, REBINDING_FILE))) return;
	throw new LayerError(`Cannot serve this export: a rebind was interrupted (${join(folder, REBINDING_FILE)}). Run holdfast rebind again.`);
}

/** What an interrupted rebind has moved already goes back to where kernel handles have it. */
export function undoRebinding(work: string, folder: string): void {
	const [theirs, ours] = [indexPath(work, false), indexPath(work, true)];
	if (pathExists(join(folder, REBINDING_FILE)) && !pathExists(theirs) && pathExists(ours)) renameSync(ours, theirs);
}

/** In `work/holdfast`: an apply to the lower itself that has not come to its end. */
export const APPLY_TO_LOWER = "apply-lower";

/** LayerError: an apply to the lower was stopped, so that it is neither what it was nor what it is to be. */
export function refuseHalfApplied({ purpose }: OpenOptions, folder: string): void {
	if (purpose === "inspect" || !pathExists(join(folder, APPLY_TO_LOWER))) return;
	throw new LayerError(
		`Cannot use this export: holdfast apply was stopped while it brought its changes into the lower (${join(folder, APPLY_TO_LOWER)}). ` +
			"Run that command again first: it goes on.",
	);
}
