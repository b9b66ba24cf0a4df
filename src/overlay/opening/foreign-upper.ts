// Refuses an upper that somebody else has made or uses, before it is served.

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { isWhiteoutFile } from "../../layer/hiding.ts";
import { type Layer, overlayXattrs, TRUSTED_XATTRS, USER_XATTRS } from "../../layer/layer.ts";
import { LayerError } from "../../layer/layer-error.ts";
import { namesOf } from "../../linux/directory.ts";
import { ERRNO, whyNot } from "../../linux/errno.ts";
import { close, O, openAt, openPath } from "../../linux/open.ts";
import { pathExists } from "../../linux/read-file.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { listXattrs } from "../../linux/xattr.ts";
import { showName } from "../../vfs/names.ts";
import { FileType } from "../../vfs/operations.ts";
import { tellProgress } from "../../vfs/progress.ts";
import { must } from "../../vfs/system-errors.ts";
import { isWhiteoutStat, isXattrWhiteout } from "../format/whiteout.ts";
import { isOfStorage, isProofOfFiles, refuseRootsMarks, refuseUnclear, type WhiteoutFiles } from "./layer-forms.ts";

/**
 * What is expected of an upper: `new`, nothing that another overlay has made; `startedOver`, the same, but for our own mark on its root;
 * `adopted`, whatever an overlay may have made; `ours`, the same, with our work folder.
 */
export type Expectation = "new" | "startedOver" | "adopted" | "ours";

/**
 * Looks at an upper before it is taken, the delta alone: marks of an overlay mean that it was made elsewhere and must be adopted; files
 * with names outside of it may be a lower's (`cp -al`), and writing would go through to that. Throws LayerError. Says whether its
 * files named `.wh.NAME` are whiteouts. `counts`: of what is met.
 */
export function refuseForeignUpper(
	upper: Layer,
	lowers: readonly Layer[],
	work: string,
	expectation: Expectation,
	files: WhiteoutFiles,
	counts: UpperCounts = { directories: 0, whiteouts: 0, marked: 0 },
): { readonly hasFiles: boolean } {
	refuseOtherPrefix(upper);
	const takesMarks = expectation === "adopted" || expectation === "ours";
	const rootMarks = overlayXattrs(upper.root, upper.xattr).filter((mark) => !(expectation === "startedOver" && mark === "holdfast"));
	if (!takesMarks && rootMarks.length > 0) throw notOurs(upper, `its root carries the overlay attribute ${rootMarks[0]}`);
	const foreign = foreignWork(work, takesMarks);
	if (foreign !== null && takesMarks) {
		throw new LayerError(`Cannot use the work folder ${work}: it holds ${foreign}, which no overlay puts there. Name the right --work.`);
	}
	if (foreign !== null) throw notOurs(upper, `its work folder already holds ${foreign}`);
	const mayShare = lowers.some((lower) => lower.fileSystem.device === upper.fileSystem.device);
	const walk: Walk = { upper, links: new Map(), mayShare, takesMarks, files, unclear: null, isProven: isOfStorage(upper.path), counts };
	judgeOtherMarks(walk, upper.root, upper.path);
	visitTree(walk, upper.root, "");
	if (takesMarks) for (const folder of FOLDERS_OF_LINKS) visitFolder(walk, join(work, folder));
	for (const [, inode] of walk.links) {
		if (inode.seen === inode.nlink) continue;
		throw new LayerError(
			`Cannot use the upper ${upper.path}: ${inode.path} has a further name outside of it, so it may be the lower's own file (cp -al), ` +
				"and writing to it would change the lower. Make the upper by cp -a --reflink=auto instead, or start with an empty one.",
		);
	}
	if (files !== "auto" || walk.unclear === null || walk.isProven)
		return { hasFiles: files === "yes" || (files === "auto" && walk.isProven) };
	// what lies in ours clients have made
	if (expectation === "ours") return { hasFiles: false };
	throw refuseUnclear(`the upper ${upper.path}`, walk.unclear.path, walk.unclear.name);
}

/** Folders of work in which files of upper have further names. */
const FOLDERS_OF_LINKS = ["index", "work", "holdfast/orphans", "holdfast/trash", "holdfast/lost+found", "holdfast/index", "holdfast/ids"];

/** Marks of the other kind would be content to us, and what they say would be lost. */
function refuseOtherPrefix(upper: Layer): void {
	const isUser = upper.xattr === USER_XATTRS;
	if (overlayXattrs(upper.root, upper.xattr).length > 0) return;
	const marks = overlayXattrs(upper.root, isUser ? TRUSTED_XATTRS : USER_XATTRS);
	if (marks.length === 0) return;
	throw new LayerError(
		`Cannot take the upper ${upper.path} ${isUser ? "with" : "without"} --userxattr: its root carries the attribute ` +
			`${isUser ? "trusted" : "user"}.overlay.${marks[0]}, so it was made ${isUser ? "without" : "with"} that option. Name it so.`,
	);
}

function notOurs(upper: Layer, why: string): LayerError {
	return new LayerError(
		`Cannot serve the upper ${upper.path}: it was made by another overlay (${why}). Run holdfast adopt with the same layers first: ` +
			"it looks through the upper and makes what handles need.",
	);
}

/** A name in work that an overlay does not put there; or, without `takesMarks`, one that only an overlay does. */
function foreignWork(work: string, takesMarks: boolean): string | null {
	if (!pathExists(work)) return null;
	for (const name of readdirSync(work)) {
		if (name === "holdfast") continue;
		if (name !== "work" && name !== "index") return name;
		const isKnown = (entry: string) => (name === "work" && entry === "incompat") || (takesMarks && KERNEL_NAME.test(entry));
		const foreign = readdirSync(join(work, name)).find((entry) => !isKnown(entry));
		if (foreign !== undefined) return join(name, foreign);
	}
	return null;
}

/** Temporaries, and index entries. */
const KERNEL_NAME = /^(#[0-9a-f]+|[0-9a-f]+)$/;

function visitFolder(walk: Walk, path: string): void {
	const fd = openPath(path, O.rdonly | O.directory | O.noatime);
	if (fd < 0) return;
	visitTree(walk, fd, path);
	close(fd);
}

interface Walk {
	readonly upper: Layer;
	/** Files of several names, by inode: names seen inside upper, and names that there are. */
	readonly links: Map<string, { readonly path: string; readonly nlink: number; seen: number }>;
	/** A lower lies on the same file system. */
	readonly mayShare: boolean;
	readonly takesMarks: boolean;
	readonly files: WhiteoutFiles;
	/** The first file that may be a whiteout by its name. */
	unclear: { readonly path: string; readonly name: Buffer } | null;
	/** That such files are whiteouts. */
	isProven: boolean;
	readonly counts: UpperCounts;
}

/** `marked`: objects with attributes of the overlay. */
interface UpperCounts {
	directories: number;
	whiteouts: number;
	marked: number;
}

function visitTree(walk: Walk, directory: number, path: string): void {
	tellProgress(`looking through ${walk.upper.path}`, ++walk.counts.directories, "directories");
	const stat = new Stat();
	for (const name of must(namesOf(directory), `Cannot read ${path}`)) {
		const childPath = join(path, showName(name));
		const fd = openAt(directory, name, O.path | O.nofollow);
		if (fd === -ERRNO.EACCES) continue;
		if (fd < 0) throw new LayerError(`Cannot open ${childPath}: ${whyNot(fd, childPath)}.`);
		try {
			fstat(fd, stat);
			// nothing is written to a whiteout, and device whiteouts share an inode with others in work
			if (walk.takesMarks && isXattrWhiteout(fd, stat, walk.upper.xattr.whiteout)) {
				walk.counts.whiteouts++;
				continue;
			}
			if (isWhiteoutStat(stat)) {
				if (stat.uid === 0 && process.geteuid?.() !== 0) throw refuseRootsMarks(`the upper ${walk.upper.path}`, childPath);
				walk.counts.whiteouts++;
				if (walk.takesMarks) continue;
				throw notOurs(walk.upper, `${childPath} is a whiteout`);
			}
			if (walk.files !== "no" && isWhiteoutFile(name, stat.type)) {
				if (!walk.takesMarks) throw notOurs(walk.upper, `${childPath} is a file named as a whiteout`);
				if (isProofOfFiles(name)) walk.isProven = true;
				else walk.unclear ??= { path: childPath, name };
			}
			judgeOtherMarks(walk, fd, childPath);
			const marks = walk.takesMarks ? [] : overlayXattrs(fd, walk.upper.xattr);
			if (marks.length > 0) throw notOurs(walk.upper, `${childPath} carries the overlay attribute ${marks[0]}`);
			if (stat.type === FileType.dir) descend(walk, fd, childPath);
			else if (stat.nlink > 1 && walk.mayShare) count(walk, stat, childPath);
		} finally {
			close(fd);
		}
	}
}

const FUSE_PREFIX = "user.fuseoverlayfs.";

/** Marks of fuse-overlayfs, and of an overlay with attributes of the other kind: what hides something can be converted, what leads elsewhere not. */
function judgeOtherMarks(walk: Walk, fd: number, path: string): void {
	const { upper } = walk;
	const names = listXattrs(fd);
	if (typeof names === "number") return;
	const other = upper.xattr === USER_XATTRS ? TRUSTED_XATTRS : USER_XATTRS;
	if (names.some((name) => name.toString("latin1").startsWith(upper.xattr.prefix))) walk.counts.marked++;
	for (const name of names) {
		const text = name.toString("latin1");
		const isOfFuse = text.startsWith(FUSE_PREFIX);
		if (isOfFuse) walk.isProven = true;
		if (!isOfFuse && !text.startsWith(other.prefix)) continue;
		if (!walk.takesMarks) throw notOurs(upper, `${path} carries the attribute ${text}`);
		if (text !== other.redirect && text !== other.metacopy && text !== other.identity) continue;
		throw new LayerError(
			`Cannot take the upper ${upper.path} ${other === TRUSTED_XATTRS ? "with" : "without"} --userxattr: ${path} carries the attribute ${text}, ` +
				`so it was made ${other === TRUSTED_XATTRS ? "without" : "with"} that option. Name it so.`,
		);
	}
}

function descend(walk: Walk, fd: number, path: string): void {
	const list = openAt(fd, ".", O.rdonly | O.directory | O.noatime);
	// an ordinary user's own, which becomes open to them when the upper is taken
	if (list === -ERRNO.EACCES) return;
	if (list < 0) throw new LayerError(`Cannot read ${path}: ${whyNot(list, path)}.`);
	try {
		visitTree(walk, list, path);
	} finally {
		close(list);
	}
}

function count(walk: Walk, stat: Stat, path: string): void {
	const key = `${stat.inoHi}:${stat.inoLo}`;
	const known = walk.links.get(key);
	if (known === undefined) walk.links.set(key, { path, nlink: stat.nlink, seen: 1 });
	else known.seen++;
}
