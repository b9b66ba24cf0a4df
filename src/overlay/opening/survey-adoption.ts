// What an adoption would meet: refusals, and what there is to adopt. Changes nothing.

import { join } from "node:path";
import { closingAfter } from "../../collections/closing-after.ts";
import { LayerOpener, openDirectory, overlayXattrs, refuseOverlaps, TRUSTED_XATTRS, USER_XATTRS } from "../../layer/layer.ts";
import { pathExists } from "../../linux/read-file.ts";
import { readRegistry } from "../work/registry.ts";
import { workOf } from "./export-paths.ts";
import { refuseForeignUpper } from "./foreign-upper.ts";
import type { OpenOptions } from "./open-options.ts";
import { MARKER, markerFolder } from "./ownership.ts";
import { checkStack } from "./stack.ts";
import { refuseOthersWork, refuseOtherWriter } from "./users-of-upper.ts";

export interface AdoptionSurvey {
	/** Null: there is none, or it is as holdfast left it. */
	readonly upper: { readonly directories: number; readonly whiteouts: number; readonly marked: number } | null;
	/** Paths of the lowers that once were uppers. */
	readonly formerUppers: readonly string[];
}

/** LayerError, RegistryError: these layers would be refused. */
export function surveyAdoption(
	options: Pick<OpenOptions, "lowers" | "dataLowers" | "userXattrs" | "upper" | "work" | "whiteoutFiles">,
): AdoptionSurvey {
	const work = options.upper === undefined ? null : workOf(options.upper, options.work);
	const registry = work === null ? null : readRegistry(join(work, "holdfast"));
	const opener = new LayerOpener(
		options.userXattrs ? USER_XATTRS : TRUSTED_XATTRS,
		registry === null ? "portable" : (registry.handles ?? "kernel"),
	);
	return closingAfter((keep) => {
		const lowers = options.lowers.map((path) => keep(opener.openLower(path)));
		const dataLowers = (options.dataLowers ?? []).map((path) => keep(opener.openLower(path)));
		const formerUppers = lowers.filter((lower) => overlayXattrs(lower.root, lower.xattr).length > 0).map(({ path }) => path);
		if (options.upper === undefined || work === null) return { upper: null, formerUppers };
		const upper = keep(opener.openUpper(options.upper, openDirectory(options.upper, "upper")));
		refuseOverlaps([upper, ...lowers, ...dataLowers]);
		refuseOthersWork(options.upper, work);
		refuseOtherWriter({ path: upper.path, fd: upper.root }, "serve");
		if (registry !== null) checkStack(registry, { upper, lowers, dataLowers }, { folder: join(work, "holdfast") });
		const isAsLeft = registry !== null && pathExists(join(markerFolder(work), MARKER));
		if (isAsLeft) return { upper: null, formerUppers };
		const counts = { directories: 0, whiteouts: 0, marked: 0 };
		refuseForeignUpper(upper, lowers, work, "adopted", options.whiteoutFiles ?? "auto", counts);
		return { upper: counts, formerUppers };
	});
}
