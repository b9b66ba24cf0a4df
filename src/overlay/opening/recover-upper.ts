// The fourth phase of opening an export: upper as it should be, after a kill, a move, or somebody else's changes.

import { TRUSTED_XATTRS } from "../../layer/layer.ts";
import { LayerError } from "../../layer/layer-error.ts";
import { syncFileSystem } from "../../linux/data.ts";
import { whyNot } from "../../linux/errno.ts";
import { tellDirectories } from "../../vfs/progress.ts";
import { adoptUpper, type UpperReport } from "../adopt/adopt-upper.ts";
import { convertMarks } from "../adopt/convert-marks.ts";
import { giveIds } from "../adopt/give-ids.ts";
import { isMoved, notePlace, relink } from "../adopt/moved.ts";
import { takeBackRecords } from "../adopt/take-back.ts";
import type { Engine } from "../engine/engine.ts";
import type { Writable } from "../journal/writable.ts";
import { readRootMarks } from "../lookup/stack-search.ts";
import { identityKey } from "../nodes/node.ts";
import type { Attempt } from "./attempt.ts";
import type { Claim } from "./claim-export.ts";
import { noteLowers } from "./export-folder.ts";
import type { ExportPaths } from "./export-paths.ts";
import type { OpenedLayers } from "./open-layers.ts";
import type { OpenOptions } from "./open-options.ts";
import { endAdoption } from "./ownership.ts";

/** Null: nothing had to be adopted. LayerError, OverlayError. */
export function recoverUpper({ options, handles }: Attempt, layers: OpenedLayers, claim: Claim, engine: Engine): UpperReport | null {
	const { paths, upper, lowers } = layers;
	const { writable } = engine;
	// while a layer is being adopted its redirects are followed
	if (options.purpose === "adopt") for (const lower of lowers) lower.isAdopted = true;
	if (upper === null || writable === null) return null;
	if (options.purpose !== "inspect") {
		// what an interrupted change still needs of work must be taken out of it before the rest is thrown away
		writable.journal.recover(claim.adoption === "none", options.isSync, options.purpose === "serve");
		const needed = new Set(writable.journal.postponed.flatMap(({ temporaries }) => temporaries));
		if (options.isPatient === true && claim.adoption === "none") writable.work.cleanInBackground(needed);
		else writable.work.clean(needed);
	}
	engine.held.load();
	loadTrash(engine, writable);
	const hasMoved = writable.ids !== null && handles.kind === "portable" && relinkMoved(options, writable, layers, claim.isOld);
	if (hasMoved || claim.adoption === "again") engine.changeAttribute.mayBeOlder = true;
	const adopted = claim.adoption === "none" ? null : adopt(engine, writable, paths, claim, hasMoved);
	upper.mayHoldMetacopies = !engine.dataFiles.isEmpty;
	return adopted;
}

function loadTrash({ homes }: Engine, { work, layer, ids }: Writable): void {
	const home = [...homes.values()].find(({ isUpper }) => isUpper);
	work.trash.load((folder, name) => {
		// a portable id leads nowhere without its link
		const handle = ids === null && home !== undefined ? layer.handles.at(folder, name) : -1;
		return typeof handle === "number" || home === undefined ? null : identityKey(home.number, handle);
	});
}

/** Upper and work may have been copied since they were served last: says whether. */
function relinkMoved(options: OpenOptions, writable: Writable, { paths, lowers }: OpenedLayers, isOld: boolean): boolean {
	if (options.purpose === "inspect") return false;
	const hasMoved = isOld && isMoved(writable, paths.folder);
	if (hasMoved) {
		const report = relink(writable, (directories) => tellDirectories(writable.layer.path, directories));
		options.onMoved?.(report);
	}
	notePlace(writable, paths.folder);
	if (options.purpose === "serve") noteLowers(paths.folder, lowers);
	return hasMoved;
}

function adopt(engine: Engine, writable: Writable, paths: ExportPaths, { adoption, hasFiles }: Claim, hasMoved: boolean): UpperReport {
	const progress = (directories: number) => tellDirectories(writable.layer.path, directories);
	const converted = convertMarks(writable, hasFiles, progress);
	// that of the root may have been
	readRootMarks(engine.nodes.root.top);
	takeBackRecords(engine, writable, hasMoved, tellDirectories);
	if (writable.ids !== null && writable.layer.xattr === TRUSTED_XATTRS) writable.ids.forgetNotes();
	giveIds(writable, progress);
	const report = adoptUpper(engine, adoption === "again", progress);
	// what was looked at while the index was not complete
	engine.nodes.forgetAll();
	const status = syncFileSystem(writable.index.fd);
	if (status < 0) throw new LayerError(`Cannot flush the file system of ${writable.layer.path}: ${whyNot(status)}.`);
	endAdoption(paths.folder);
	return { ...report, converted };
}
