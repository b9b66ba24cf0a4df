// Whose an upper is: the marker that keeps the kernel away, and whether it must be adopted.

import { closeSync, openSync, readdirSync, rmSync, unlinkSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Layer } from "../../layer/layer.ts";
import { LayerError } from "../../layer/layer-error.ts";
import { hasEntries } from "../../linux/directory.ts";
import { ERRNO, errnoName, whyNot } from "../../linux/errno.ts";
import { close, O, openPath } from "../../linux/open.ts";
import { pathExists, readFileNamed } from "../../linux/read-file.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { setXattr } from "../../linux/xattr.ts";
import { must, unlessFull } from "../../vfs/system-errors.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";
import { copyMetadata } from "../copy-up/copy-up.ts";
import { flushFolder, type Registry, registryPath, writeDurably } from "../work/registry.ts";
import { ALL_BASES_FILE } from "./export-folder.ts";
import { type ExportPaths, indexPath, makeFolder } from "./export-paths.ts";
import { refuseForeignUpper } from "./foreign-upper.ts";
import type { LayerForms } from "./layer-forms.ts";
import { isFirst, type OpenOptions } from "./open-options.ts";

/** Beside the lock, which says more: for who looks here, and for earlier versions. */
export function writePid(folder: string): void {
	unlessFull(() => {
		const file = openSync(join(folder, "pid"), "w", 0o600);
		try {
			writeSync(file, `${process.pid}\n`);
		} finally {
			closeSync(file);
		}
	});
}

/** The marker stands in `work/work/incompat` from the first serve until release: the kernel refuses to mount while it does. */
export const MARKER = "holdfast";

export function markerFolder(work: string): string {
	return join(work, "work", "incompat");
}

function incompatible(work: string): string[] {
	const fd = openPath(markerFolder(work), O.rdonly | O.directory);
	if (fd < 0) return [];
	close(fd);
	return readFolder(markerFolder(work));
}

function readFolder(path: string): string[] {
	return pathExists(path) ? readdirSync(path) : [];
}

/**
 * Whether what upper holds must be adopted before a handle is given: `first`, it may have been made elsewhere; `again`, it is ours and
 * somebody else may have changed it, so that handles which are out must be asked about.
 */
export type Adoption = "none" | "first" | "again";

/** In the export's folder while an adoption is under way: its content says which. */
const ADOPTING_FILE = "adopting";

function adoptionUnderWay(folder: string): Adoption {
	const path = join(folder, ADOPTING_FILE);
	if (!pathExists(path)) return "none";
	return readFileNamed(path).toString("latin1").trim() === "first" ? "first" : "again";
}

/** From here on a start adopts, until `endAdoption`. */
export function beginAdoption(folder: string, adoption: Exclude<Adoption, "none">): void {
	writeDurably(join(folder, ADOPTING_FILE), Buffer.from(`${adoption}\n`));
}

/** All that the adoption has written is durable. */
export function endAdoption(folder: string): void {
	unlinkSync(join(folder, ADOPTING_FILE));
	flushFolder(folder);
}

/** What is to be done with an upper; `hasFiles`: files named `.wh.NAME` in it are whiteouts, to be converted. */
export interface UpperClaim {
	readonly adoption: Adoption;
	readonly hasFiles: boolean;
}

export const UNCHANGED: UpperClaim = { adoption: "none", hasFiles: false };

/** What is not ours, or not surely as we left it, is not touched. Throws LayerError, or says what is to be adopted. */
export function claimUpper(
	options: OpenOptions,
	paths: ExportPaths,
	upper: Layer,
	lowers: readonly Layer[],
	existing: Registry | null,
	known: LayerForms | null,
): UpperClaim {
	const work = paths.work as string;
	const entries = incompatible(work);
	refuseIncompatible(work, entries);
	const hasMarker = entries.includes(MARKER);
	const owner = xattrOrNone(upper.root, upper.xattr.identity, `Cannot read whose upper ${upper.path} is`)?.toString("hex") ?? null;
	const underWay = adoptionUnderWay(paths.folder);
	if (existing !== null) {
		if (owner !== existing.uuid) {
			throw new LayerError(
				`Cannot serve ${upper.path} with the work folder ${work}: that one belongs to another upper. Name the right --work.`,
			);
		}
		if (hasMarker && underWay === "none") return UNCHANGED;
		// a release that was interrupted is made again
		const isReleasing = options.purpose === "release" && hasMarker;
		if (!isFirst(options) && !isReleasing) {
			throw new LayerError(
				`Cannot say what the upper ${upper.path} holds: it was released, or its marker in ${markerFolder(work)} was removed, and the kernel ` +
					"may have changed it since. Serve it (or run holdfast adopt) first: that looks through it and takes it back.",
			);
		}
		const files = options.whiteoutFiles ?? "auto";
		// what told it may have been converted already
		const noted = files === "auto" ? known?.upper : { hasFiles: files === "yes" };
		if (underWay !== "none") return { adoption: underWay, hasFiles: noted?.hasFiles ?? false };
		return { adoption: "again", ...refuseForeignUpper(upper, lowers, work, "ours", files) };
	}
	// between its marker and its registry a first serve leaves a note
	if (hasMarker && underWay !== "first" && options.purpose !== "adopt") {
		throw new LayerError(
			`Cannot find the registry of the upper ${upper.path}: it was served before, but ${registryPath(paths.folder)} is not there, and the ` +
				"keys of the handles that clients hold are in it. Restore it from a backup. If there is none, run holdfast adopt: it makes new " +
				"keys, and those handles are bad from then on.",
		);
	}
	if (!isFirst(options)) return UNCHANGED;
	const isAsked = options.purpose === "adopt" || underWay !== "none";
	if (owner !== null && !hasMarker && !isAsked) {
		throw new LayerError(
			`Cannot serve the upper ${upper.path} with the work folder ${work}: the upper was served with another one. Name that with --work, ` +
				"or, if it is lost, run holdfast adopt; handles that were given out then are stale.",
		);
	}
	const expected = isAsked ? "adopted" : hasMarker ? "startedOver" : "new";
	const noted = underWay === "none" ? undefined : known?.upper?.hasFiles;
	const files = noted === undefined ? (options.whiteoutFiles ?? "auto") : noted ? "yes" : "no";
	return { adoption: "first", ...refuseForeignUpper(upper, lowers, work, expected, files) };
}

function refuseIncompatible(work: string, entries: readonly string[]): void {
	const others = entries.filter((name) => name !== MARKER);
	if (others.length === 0) return;
	throw new LayerError(
		`Cannot use the work folder ${work}: work/incompat says that another program keeps it in a state of its own (${others.join(", ")}; ` +
			'"volatile" means that a crash may have lost data). Look at the upper; if you take it as it is, remove that entry and run holdfast ' +
			"adopt, else start with a fresh upper and work.",
	);
}

/** Whether all is recorded of what upper stands for is known of one that was empty when it was taken. */
function noteBases(folder: string, isEmpty: boolean): void {
	const path = join(folder, ALL_BASES_FILE);
	if (isEmpty) writeDurably(path, Buffer.alloc(0));
	else rmSync(path, { force: true });
}

const FULL: ReadonlySet<number> = new Set([ERRNO.ENOSPC, ERRNO.EDQUOT]);

/** The marker and what belongs to it, made durable; behind them nobody but us changes the upper. */
export function takeUpper(paths: ExportPaths, upper: Layer, lowers: readonly Layer[], registry: Registry, adoption: Adoption): void {
	const work = paths.work as string;
	makeFolder(markerFolder(work), "the marker's folder");
	makeFolder(paths.folder, "the folder");
	makeFolder(indexPath(work, upper.handles.isPortable), "the index");
	// before the marker: with that in place a start believes that all is as we left it
	if (adoption !== "none") beginAdoption(paths.folder, adoption);
	noteBases(paths.folder, adoption === "first" && must(hasEntries(upper.root), "Cannot read upper") === 0);
	makeFolder(join(markerFolder(work), MARKER), "the marker");
	for (const folder of [markerFolder(work), join(work, "work"), paths.folder, work, dirname(work)]) flushFolder(folder);
	if (paths.isNewUpper) {
		const stat = new Stat();
		lowers[0].stat(lowers[0].root, stat);
		copyMetadata(upper, lowers[0].root, upper.root, stat, lowers[0].rights.isKept);
		fstat(upper.root, upper.rootStat);
	}
	const status = setXattr(upper.root, upper.xattr.identity, Buffer.from(registry.uuid, "hex"));
	if (status === -ERRNO.EPERM) {
		throw new LayerError(
			`Cannot mark the upper ${upper.path}: trusted extended attributes need the privilege CAP_SYS_ADMIN. Run holdfast as root, ` +
				"or with --userxattr.",
		);
	}
	if (FULL.has(-status)) throw new LayerError(`Cannot mark the upper ${upper.path}: ${whyNot(status)}.`);
	if (status < 0) {
		throw new LayerError(
			`Cannot mark the upper ${upper.path}: its file system (${upper.fileSystem.name}) refuses extended attributes (${errnoName(status)}).`,
		);
	}
}
