// Where upper, work and state of an export lie, and the folders made for a new one.

import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, realpathSync, rmdirSync, rmSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { concealedKey } from "../../layer/hiding.ts";
import { type Layer, LayerOpener, onOneMount, USER_XATTRS } from "../../layer/layer.ts";
import { LayerError, UnfitError } from "../../layer/layer-error.ts";
import { whyNot } from "../../linux/errno.ts";
import { close, O, openAt, openPath } from "../../linux/open.ts";
import { pathExists } from "../../linux/read-file.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { FileType } from "../../vfs/operations.ts";
import { registryPath } from "../work/registry.ts";
import { rootName, treeName } from "./layer-names.ts";
import { isFirst, type OpenOptions } from "./open-options.ts";
import { noteTrees, readOnlyFolder } from "./read-only-folder.ts";

/** Where the changeable parts of an export are. */
export interface ExportPaths {
	readonly folder: string;
	readonly upper: string | null;
	readonly work: string | null;
	/** Upper was made just now, so it takes the look of the topmost lower. */
	readonly isNewUpper: boolean;
}

function layerName(lowers: readonly Layer[]): string {
	const hash = createHash("sha256");
	for (const lower of lowers) hash.update(lower.fileSystem.uuid).update(rootName(lower.rootHandle)).update("\n");
	return hash.digest("hex").slice(0, 24);
}

/** Entries of portable ids do not lie in the kernel's index, which refuses names that it does not know. */
export function indexPath(work: string, isPortable: boolean): string {
	return isPortable ? join(work, "holdfast", "index") : join(work, "index");
}

/** Found again by the file systems and root ids of the layers, wherever they are mounted. */
export function readOnlyPaths(options: OpenOptions, lowers: readonly Layer[]): ExportPaths {
	refuseInside(options.stateFolder, lowers, "the state folder");
	const isPortable = lowers.some(({ handles }) => handles.isPortable);
	const names = isPortable ? lowers.map((lower) => treeName(lower)) : [];
	const folder = isPortable
		? readOnlyFolder(options.stateFolder, names, options.lowers)
		: join(options.stateFolder, "read-only", layerName(lowers));
	if (isFirst(options)) makeFolder(folder, "the state folder");
	if (isFirst(options) && isPortable) noteTrees(folder, options.lowers);
	return { folder, upper: null, work: null, isNewUpper: false };
}

/** The work folder of an upper: as named, or its sibling. */
export function workOf(upper: string, work: string | undefined): string {
	const path = resolve(upper);
	return resolve(work ?? join(dirname(path), `${basename(path)}.work`));
}

/** Before a folder is made for the changes to a tree. LayerError: the tree cannot be served, or the state folder lies in it. */
export function refuseStateInside(stateFolder: string, tree: string): void {
	const layer = openToLook(tree);
	try {
		refuseInside(stateFolder, [layer], "the state folder, where the changes would be kept,");
	} finally {
		layer.close();
	}
}

/** Where kernel handles cannot be used, as for portable ones. */
function openToLook(tree: string): Layer {
	try {
		return new LayerOpener().openLower(tree);
	} catch (error) {
		if (!(error instanceof UnfitError)) throw error;
		return new LayerOpener(USER_XATTRS, "portable").openLower(tree);
	}
}

export function upperPaths(options: OpenOptions, upperPath: string, lowers: readonly Layer[], opened: { close(): void }[]): ExportPaths {
	const upper = resolve(upperPath);
	const work = workOf(upper, options.work);
	refuseInside(upper, lowers, "the upper");
	refuseInside(work, lowers, "the work folder");
	const isNewUpper = !pathExists(upper);
	const folder = join(work, "holdfast");
	if (isNewUpper && pathExists(registryPath(folder))) {
		throw new LayerError(
			`Cannot find the upper ${upper}, which the work folder ${work} belongs to. Put it back where it was; to begin anew remove that folder too.`,
		);
	}
	// what is made in there later must be known by now, to be concealed
	if (isFirst(options) && lowers.some(({ isWholeTree }) => isWholeTree)) makeFolder(options.stateFolder, "the state folder");
	if (isFirst(options)) {
		const before = pathExists(work) ? readdirSync(work) : [];
		// a parent that is not there is a typing error more often than a wish
		for (const made of [
			makeFolder(upper, "the upper", dirname(upper).startsWith(join(resolve(options.stateFolder), "/"))),
			makeFolder(work, "the work folder", false),
		]) {
			if (made !== undefined) opened.push({ close: () => removeEmpty(made) });
		}
		// with a new upper what is kept of it goes too: without its marks it would be another one
		if (isNewUpper) opened.push({ close: () => removeOwn(work, before) });
	} else if (isNewUpper || !pathExists(folder)) {
		throw new LayerError(`Cannot find what holdfast keeps of ${upper}: there is no ${isNewUpper ? upper : folder}.`);
	}
	checkWork(upper, work, lowers);
	return { folder, upper, work, isNewUpper };
}

/** Whether users other than the owners of the folders above it may search all of these, and so come to what lies in it. */
export function isReachable(path: string): boolean {
	for (let folder = dirname(realpathSync(path)); ; folder = dirname(folder)) {
		if ((statSync(folder).mode & 0o011) === 0) return false;
		if (folder === dirname(folder)) return true;
	}
}

const OWN_FOLDERS = ["holdfast", "index", "work"];

/** Of a work folder, what was not there before. */
function removeOwn(work: string, before: readonly string[]): void {
	for (const name of OWN_FOLDERS.filter((own) => !before.includes(own))) {
		try {
			rmSync(join(work, name), { recursive: true, force: true });
		} catch {
			// then it stays, and a start says what is wrong with it
		}
	}
}

/** What was made for an export that then could not be served goes again. */
function removeEmpty(path: string): void {
	try {
		rmdirSync(path);
	} catch {
		// it is in use, or has been removed already
	}
}

/** The folder itself if it was made, undefined if it was there. */
export function makeFolder(path: string, what: string, withParents = true): string | undefined {
	try {
		return withParents ? makeWithParents(path) : makeOne(path);
	} catch (error) {
		const { code, errno = 0 } = error as NodeJS.ErrnoException;
		if (code === "EEXIST" && isDirectory(path)) return undefined;
		if (code === "ENOENT") throw new LayerError(`Cannot make ${what} ${path}: there is no folder ${dirname(path)}.`);
		throw new LayerError(`Cannot make ${what} ${path}: ${code === "EEXIST" ? "it is not a directory" : whyNot(errno, dirname(path))}.`);
	}
}

function makeOne(path: string): string {
	mkdirSync(path, { mode: 0o700 });
	return path;
}

/** The topmost folder that was made. With `recursive` Node.js tells of a file system that is read-only as of a folder that is not there. */
function makeWithParents(path: string): string | undefined {
	if (isDirectory(path)) return undefined;
	const above = dirname(path) === path ? undefined : makeWithParents(dirname(path));
	try {
		makeOne(path);
	} catch (error) {
		// another process was faster
		if ((error as NodeJS.ErrnoException).code === "EEXIST" && isDirectory(path)) return above;
		throw error;
	}
	return above ?? path;
}

/** False also where a symlink leads nowhere, or round. */
function isDirectory(path: string): boolean {
	try {
		return statSync(path).isDirectory();
	} catch {
		return false;
	}
}

/** Work and upper must allow rename(2) between them, and neither may lie in the other. */
function checkWork(upper: string, work: string, lowers: readonly Layer[]): void {
	const upperFd = openPath(upper, O.rdonly | O.directory);
	const workFd = openPath(work, O.rdonly | O.directory);
	try {
		if (upperFd < 0) throw new LayerError(`Cannot open the upper ${upper}: ${whyNot(upperFd, upper)}.`);
		if (workFd < 0) throw new LayerError(`Cannot open the work folder ${work}: ${whyNot(workFd, work)}.`);
		const upperStat = new Stat();
		const workStat = new Stat();
		fstat(upperFd, upperStat);
		fstat(workFd, workStat);
		if (upperStat.sameInode(workStat))
			throw new LayerError(`Cannot use ${upper} as both upper and work: they are the same directory. Give work one of its own.`);
		if (!upperStat.sameDevice(workStat) || !onOneMount(upperFd, workFd)) {
			throw new LayerError(`Cannot use the work folder ${work}: it must be on the same file system and mount as the upper ${upper}.`);
		}
		for (const lower of lowers) {
			if (!lower.isRoot(workStat) && !isBelow(lower.outside, workStat)) continue;
			throw new LayerError(`Cannot use the work folder ${work}: the lower ${lower.path} lies inside it. Choose another --work.`);
		}
		if (isBelow(workFd, upperStat)) throw new LayerError(`Cannot use the work folder ${work}: it lies inside the upper ${upper}.`);
		if (isBelow(upperFd, workStat)) throw new LayerError(`Cannot use the upper ${upper}: it lies inside the work folder ${work}.`);
	} finally {
		if (upperFd >= 0) close(upperFd);
		if (workFd >= 0) close(workFd);
	}
}

/** Whether a directory lies below another, up to the root of its mounts. */
function isBelow(fd: number, ancestor: Stat): boolean {
	const stat = new Stat();
	const before = new Stat();
	fstat(fd, before);
	let at = openAt(fd, "..", O.path);
	for (;;) {
		if (at < 0) return false;
		fstat(at, stat);
		if (stat.sameInode(ancestor) || stat.sameInode(before)) break;
		fstat(at, before);
		const next = openAt(at, "..", O.path);
		close(at);
		at = next;
	}
	close(at);
	return stat.sameInode(ancestor);
}

/** What holdfast writes must not lie in a tree that it serves and never writes. Checked before anything is made. */
function refuseInside(path: string, lowers: readonly Layer[], what: string): void {
	const lower = lowerAround(path, lowers);
	// somewhere in the whole tree it must lie
	if (lower === null || lower.isWholeTree) return;
	throw new LayerError(
		`Cannot keep ${what} in ${path}: it lies inside the lower ${lower.path}, which is never written to. ` +
			"Choose another place with --upper and --work, or with --state-dir.",
	);
}

/**
 * Keeps from clients what lies in the whole tree and is this export's own, its secrets among it. Opened by nothing else, it is found by no name, in no
 * listing, and by no handle, for a directory's leads down from the root. What other file systems hold is not seen anyway.
 */
export function conceal(lower: Layer, { upper, work, folder }: ExportPaths, stateFolder: string): void {
	if (!lower.isWholeTree) return;
	const keys = new Set<string>();
	const stat = new Stat();
	for (const path of [upper, work, folder, stateFolder]) {
		const fd = path === null ? -1 : openPath(path, O.path | O.directory);
		if (fd < 0) continue;
		if (fstat(fd, stat) === 0 && stat.sameDevice(lower.rootStat)) keys.add(concealedKey(stat.inoHi, stat.inoLo));
		close(fd);
	}
	if (keys.size > 0) lower.concealed = keys;
}

/** The lower that a path, or what there is already of it, lies in; null: in none. LayerError where that cannot be found out. */
export function lowerAround(path: string, lowers: readonly Layer[]): Layer | null {
	let existing = resolve(path);
	while (!pathExists(existing)) existing = dirname(existing);
	const fd = openPath(realpathSync(existing), O.path);
	if (fd < 0) throw new LayerError(`Cannot open ${existing}: ${whyNot(fd, existing)}.`);
	try {
		const stat = new Stat();
		fstat(fd, stat);
		return lowers.find((lower) => lower.isRoot(stat) || (stat.type === FileType.dir && isBelow(fd, lower.rootStat))) ?? null;
	} finally {
		close(fd);
	}
}

/** A file system without a uuid is recognised again only where the registry itself lies on it. */
export function refuseNameless(layers: readonly Layer[], folder: string): void {
	const stat = new Stat();
	let existing = folder;
	while (!pathExists(existing)) existing = dirname(existing);
	const fd = openPath(existing, O.path);
	if (fd >= 0) {
		fstat(fd, stat);
		close(fd);
	}
	for (const layer of layers) {
		if (layer.fileSystem.uuid.some((byte) => byte !== 0)) continue;
		if (layer.rootStat.sameDevice(stat)) continue;
		throw new UnfitError(
			`Cannot recognise the file system (${layer.fileSystem.name}) of ${layer.path} again: it has no uuid`,
			"Give it one (tune2fs -U random), or keep the work or state folder on that same file system.",
		);
	}
}
