// The first phase of opening an export: its layers, and where its upper, work and state lie.

import { type Layer, LayerOpener, refuseOverlaps, TRUSTED_XATTRS, USER_XATTRS } from "../../layer/layer.ts";
import { LayerError } from "../../layer/layer-error.ts";
import { KeptRights } from "../../layer/rights.ts";
import { openToOwner, refuseOddFolder, refuseOddWork } from "../work/work-shape.ts";
import type { Attempt } from "./attempt.ts";
import { mayUseTrusted } from "./choose-handles.ts";
import { conceal, type ExportPaths, readOnlyPaths, refuseNameless, upperPaths } from "./export-paths.ts";
import { applyOverrides } from "./layer-forms.ts";
import { probeUpper } from "./probe-upper.ts";
import { openSharedTree, type SharedTree } from "./shared-tree.ts";
import { lockLower, lockUpper, type UpperLock } from "./upper-lock.ts";

/** The layers of an export, with upper locked unless it is only inspected. */
export interface OpenedLayers {
	readonly paths: ExportPaths;
	readonly upper: Layer | null;
	/** Where upper and work are opened; null without upper. */
	readonly tree: SharedTree | null;
	/** Null without upper, and where it is only inspected. */
	readonly lock: UpperLock | null;
	/** From the topmost down. */
	readonly lowers: readonly Layer[];
	readonly dataLowers: readonly Layer[];
	/** Upper, if there is one, and the lowers. */
	readonly stack: readonly Layer[];
}

/** LayerError: a layer cannot be used, two overlap, or another server has the upper. */
export function openLayers({ options, handles: { kind }, budget, keepsRights, keep, made }: Attempt): OpenedLayers {
	keep(budget.openLayers(options.lowers.length + (options.dataLowers?.length ?? 0), options.upper !== undefined));
	const opener = new LayerOpener(options.userXattrs ? USER_XATTRS : TRUSTED_XATTRS, kind);
	const lowers = options.lowers.map((path) => keep(opener.openLower(path)));
	const dataLowers = (options.dataLowers ?? []).map((path) => keep(opener.openLower(path)));
	refuseOverlaps([...lowers, ...dataLowers]);
	const paths = options.upper === undefined ? readOnlyPaths(options, lowers) : upperPaths(options, options.upper, lowers, made);
	if (paths.work === null) refuseOddFolder(paths.folder, paths.folder);
	else {
		if (options.purpose !== "inspect") openToOwner(paths.work);
		refuseOddWork(paths.work);
	}
	const tree =
		paths.upper === null || paths.work === null
			? null
			: keep(openSharedTree(paths.upper, paths.work, { isReadOnly: false, isPrivateOnly: kind === "kernel" }));
	const upper = tree === null || paths.upper === null ? null : keep(opener.openUpper(paths.upper, tree.open(paths.upper)));
	const stack = upper === null ? lowers : [upper, ...lowers];
	if (keepsRights && upper !== null) refuseOthersUpper(upper);
	if (keepsRights) for (const layer of [...stack, ...dataLowers]) layer.rights = keptRights(options.fakeRoot ?? false);
	applyOverrides(lowers);
	for (const lower of lowers) conceal(lower, paths, options.stateFolder);
	if (upper !== null) refuseOverlaps([...stack, ...dataLowers]);
	if (kind === "kernel") refuseNameless([...stack, ...dataLowers], paths.folder);
	const lock =
		upper === null || options.purpose === "inspect"
			? null
			: keep(lockUpper({ path: upper.path, root: upper.root, folder: paths.folder }, `holdfast ${options.purpose}`));
	if (options.purpose === "serve") for (const layer of [...lowers, ...dataLowers]) lockLower(layer);
	if (upper !== null && lock !== null) probeUpper(upper, paths.folder, upper.rights.isKept);
	return { paths, upper, tree, lock, lowers, dataLowers, stack };
}

/** Root marks its uppers in ways that others do not see. */
function refuseOthersUpper(upper: Layer): void {
	const uid = process.geteuid?.() ?? 0;
	if (upper.rootStat.uid === uid || mayUseTrusted()) return;
	throw new LayerError(
		`Cannot serve the upper ${upper.path} as user ${uid}: it belongs to user ${upper.rootStat.uid}, whose marks on it (trusted.overlay.*) ` +
			"this one may not see. Serve it as that user, or use an upper of your own.",
	);
}

/** How an ordinary user keeps what only the superuser may say of real files. */
function keptRights(asRoot: boolean): KeptRights {
	return new KeptRights(asRoot, process.geteuid?.() ?? 0, process.getegid?.() ?? 0);
}
