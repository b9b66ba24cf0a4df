// The second phase of opening an export: its registry, whether the layers are as before, and the claim on upper.

import { LayerError } from "../../layer/layer-error.ts";
import { tellDirectories } from "../../vfs/progress.ts";
import { createRegistry, type Registry, readRegistry, renewRegistry } from "../work/registry.ts";
import type { Attempt } from "./attempt.ts";
import { refuseHalfApplied, refuseRebinding, undoRebinding } from "./export-folder.ts";
import { refuseFormerUppers } from "./former-uppers.ts";
import { applyForm, type LayerForms, learnForms, readForms, writeForms } from "./layer-forms.ts";
import type { OpenedLayers } from "./open-layers.ts";
import { isFirst } from "./open-options.ts";
import { type Adoption, claimUpper, takeUpper, UNCHANGED, writePid } from "./ownership.ts";
import { openPortableLowers, openRebound } from "./portable-lowers.ts";
import { assignNumbers, checkStack, newRegistry } from "./stack.ts";

/** An export that is ours to open. */
export interface Claim {
	readonly registry: Registry;
	/** What upper holds must be adopted before a handle is given. */
	readonly adoption: Adoption;
	/** Where something is: files of upper named `.wh.NAME` are whiteouts. */
	readonly hasFiles: boolean;
	/** It had a registry before. */
	readonly isOld: boolean;
}

/** Numbers the layers as the registry has them, and readies what portable ids of lowers need. LayerError, RegistryError. */
export function claimExport(attempt: Attempt, layers: OpenedLayers): Claim {
	const { options, handles, keep } = attempt;
	const { paths, lowers, dataLowers } = layers;
	const existing = readRegistry(paths.folder);
	if (options.purpose !== "rebind") refuseRebinding(paths.folder);
	else if (paths.work !== null) undoRebinding(paths.work, paths.folder);
	refuseHalfApplied(options, paths.folder);
	refuseFormerUppers(options, lowers, existing);
	const known = readForms(paths.folder, lowers.length);
	const files = options.whiteoutFiles ?? "auto";
	const forms = learnForms(lowers, known, files, tellDirectories);
	for (const [i, lower] of lowers.entries()) applyForm(lower, forms[i]);
	const { registry, adoption, hasFiles } = openRegistry(attempt, layers, existing, known);
	if (isFirst(options)) writeForms(paths.folder, { lowers: forms, upper: adoption === "none" ? null : { hasFiles } });
	assignNumbers(registry, layers);
	for (const [i, lower] of lowers.entries()) lower.mayHoldMetacopies = i < lowers.length - 1 || dataLowers.length > 0;
	if (registry.rebound !== undefined) openRebound(paths, lowers, keep);
	const isOld = existing !== null;
	if (handles.kind === "portable") openPortableLowers(attempt, paths, layers, registry, isOld);
	return { registry, adoption, hasFiles, isOld };
}

function openRegistry(
	{ options, handles }: Attempt,
	layers: OpenedLayers,
	existing: Registry | null,
	known: LayerForms | null,
): Omit<Claim, "isOld"> {
	const { paths, upper, lowers } = layers;
	if (existing !== null) checkStack(existing, layers, paths);
	const { adoption, hasFiles } = upper === null ? UNCHANGED : claimUpper(options, paths, upper, lowers, existing, known);
	if (existing === null && !isFirst(options)) {
		throw new LayerError(`Cannot find the registry of this export in ${paths.folder}: these layers have not been served yet.`);
	}
	const linkNames = handles.kind === "portable" && options.linkNames !== false;
	const registry = existing ?? { ...newRegistry(layers), handlesWhy: handles.why, ...(linkNames ? { linkNames } : {}) };
	if (upper !== null && adoption !== "none") takeUpper(paths, upper, lowers, registry, adoption);
	if (existing !== null && options.purpose !== "inspect") renew(paths.folder, upper !== null);
	const written = existing ?? createRegistry(paths.folder, registry);
	if (upper !== null && options.purpose !== "inspect") writePid(paths.folder);
	return { registry: written, adoption, hasFiles };
}

/** A read-only export is served from a state folder that cannot be written as well. */
function renew(folder: string, mustWrite: boolean): void {
	try {
		renewRegistry(folder);
	} catch (error) {
		if (mustWrite || (error as NodeJS.ErrnoException).code === undefined) throw error;
	}
}
