// Adopts a lower that was an upper once: notes where its redirects lead from, and where the data of its metacopy files is.

import type { Layer } from "../../layer/layer.ts";
import type { Real } from "../../layer/real.ts";
import { visitEntries } from "../../linux/directory.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { showName } from "../../vfs/names.ts";
import { FileType } from "../../vfs/operations.ts";
import { ifThere, isOfMachine, must } from "../../vfs/system-errors.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";
import { isMetacopy } from "../data/data-files.ts";
import type { Engine } from "../engine/engine.ts";
import { findInStack } from "../lookup/stack-search.ts";
import { recordOf } from "../nodes/reals.ts";
import { findData } from "./find-data.ts";

/** Something of a layer that could not be adopted, and why; it (and what is below it) answers with an error or is nobody's copy. */
export interface AdoptionProblem {
	readonly path: string;
	readonly reason: string;
}

/** What the adoption of a lower has found. */
export interface LayerReport {
	readonly layer: string;
	readonly directories: number;
	readonly redirects: number;
	/** Files whose data is in another layer. */
	readonly metacopies: number;
	readonly problems: readonly AdoptionProblem[];
}

const UNREAD = "Cannot read the redirect of a directory";

/**
 * Walks the directories of a lower that was an upper once, the delta alone, and notes where its redirects lead from, and where the data
 * of its metacopy files is.
 */
export function adoptLower(engine: Engine, layer: Layer, progress: (directories: number) => void): LayerReport {
	const root = engine.layers.indexOf(layer);
	const walk: { readonly reals: readonly Real[]; readonly path: string }[] = [{ reals: engine.nodes.root.reals.slice(root), path: "" }];
	const report = { layer: layer.path, directories: 0, redirects: 0, metacopies: 0, problems: [] as AdoptionProblem[] };
	for (let at = walk.pop(); at !== undefined; at = walk.pop()) {
		progress(++report.directories);
		engine.descriptors.trim();
		for (const { name, type } of entriesOf(engine, at.reals[0])) {
			const path = `${at.path}/${showName(name)}`;
			try {
				if (type === FileType.reg || type === 0) noteData(engine, layer, at.reals, name, report);
				if (type !== FileType.dir && type !== 0) continue;
				const found = findInStack(engine, at.reals, name);
				if (found === null || found.stat.type !== FileType.dir || found.reals[0].layer !== layer) continue;
				const { reals } = found;
				if (reals.length > 1 && xattrOrNone(engine.descriptors.path(reals[0]), engine.xattr.redirect, UNREAD) !== null) {
					engine.redirects.set(recordOf(reals[1]), recordOf(reals[0]));
					report.redirects++;
				}
				walk.push({ reals, path });
			} catch (error) {
				if (!(error instanceof OverlayError) || isOfMachine(error)) throw error;
				report.problems.push({ path, reason: error.message });
			}
		}
	}
	return report;
}

function noteData(
	engine: Engine,
	layer: Layer,
	parents: readonly Real[],
	name: Uint8Array,
	report: { metacopies: number; problems: AdoptionProblem[] },
): void {
	const fd = ifThere(openAt(engine.descriptors.path(parents[0]), name, O.path | O.nofollow), "Cannot open a file of a lower");
	if (fd < 0) return;
	try {
		if (!isMetacopy(engine, fd)) return;
		const file = findInStack(engine, parents.slice(0, 1), name)?.reals[0];
		if (file === undefined) return;
		report.metacopies++;
		const data = findData(engine, layer, parents.slice(1), name, fd);
		engine.dataFiles.set(file, data);
		if (data === null) throw new OverlayError("io", "its data is in another layer (metacopy), and it is not there");
	} finally {
		close(fd);
	}
}

/** Names in a real directory, with the types that its listing gives (0: unknown). */
export function entriesOf(engine: Engine, real: Real): { readonly name: Buffer; readonly type: number }[] {
	const fd = must(openAt(engine.descriptors.path(real), ".", O.rdonly | O.directory | O.noatime), "Cannot open a directory");
	const entries: { readonly name: Buffer; readonly type: number }[] = [];
	const status = visitEntries(fd, (name, type) => {
		entries.push({ name: Buffer.from(name), type });
		return undefined;
	});
	close(fd);
	must(status, "Cannot read a directory");
	return entries;
}
