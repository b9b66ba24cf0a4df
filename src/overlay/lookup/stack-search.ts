// Finds one name in a stack of real directories: whiteouts, opaque directories and redirects.

import type { RecentMap } from "../../collections/recent-map.ts";
import { CASEFOLD_REASON, isCasefolded } from "../../layer/casefold.ts";
import { hasPrefix, isHiddenByFile, isWhiteoutFile, marksOf, WHITEOUT_PREFIX } from "../../layer/hiding.ts";
import type { Layer, OverlayXattrs } from "../../layer/layer.ts";
import { openMountPoint, SEPARATOR } from "../../layer/path-search.ts";
import type { DescriptorCache, Real } from "../../layer/real.ts";
import { ERRNO } from "../../linux/errno.ts";
import { close, O, openBeneath, RESOLVE } from "../../linux/open.ts";
import { fstat, Stat, statAt } from "../../linux/stat.ts";
import { setXattr } from "../../linux/xattr.ts";
import { OverlayError, Pending } from "../../vfs/errors.ts";
import { FileType } from "../../vfs/operations.ts";
import { must } from "../../vfs/system-errors.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";
import { type Memory, NAMES_TICKS } from "../engine/engine.ts";
import type { PathWalk } from "../engine/path-walk.ts";
import type { Turns } from "../engine/turns.ts";
import { isAbsolute, redirectNames } from "../format/redirect.ts";
import { isWhiteoutInode, isWhiteoutName, isWhiteoutStat } from "../format/whiteout.ts";
import type { Node } from "../nodes/node.ts";
import { realOf, realOfName } from "../nodes/reals.ts";
import type { Patience } from "../threads/patience.ts";
import type { UpperState } from "../work/upper-state.ts";

/** The part of an engine that a look-up works with. */
export interface StackContext {
	readonly xattr: OverlayXattrs;
	readonly descriptors: Pick<DescriptorCache, "path">;
	/** Null: whoever asks waits. */
	readonly patience: Pick<Patience, "guard"> | null;
	/** Absolute redirects begin at the root. */
	readonly nodes: { readonly root: { readonly reals: readonly Real[] } };
	readonly writable: Pick<UpperState, "longRedirects" | "work"> | null;
	readonly memory: Pick<Memory, "now">;
	readonly turns: Pick<Turns, "spend" | "isSpent">;
	/** Of long redirects, by the root of the layer and the path. */
	readonly walks: RecentMap<string, PathWalk>;
}

const BENEATH = RESOLVE.beneath | RESOLVE.noSymlinks | RESOLVE.noXdev;

/** What stands under one name in the stack of a directory: the topmost real object, and below a directory those it is merged with. */
export interface Found {
	readonly reals: Real[];
	/** Open on each of them, O_PATH. */
	readonly fds: number[];
	/** Of the topmost. */
	readonly stat: Stat;
}

/** Whether a lower of this directory shows the name, so that removing it from upper alone would bring that back. */
export function isInLowers(engine: StackContext, directory: Node, name: Uint8Array): boolean {
	const found = findReals(engine, directory, name, directory.isUpper ? 1 : 0);
	if (found === null) return false;
	closeAll(found);
	return true;
}

/** Before a whiteout that is an empty file comes into an upper directory: only where this is said are there such. */
export function expectWhiteouts(engine: StackContext, directory: Node): void {
	const { top } = directory;
	const work = engine.writable?.work;
	if (work === undefined || work.whiteoutXattr === null) return;
	work.prepareWhiteout();
	if (top.whiteoutXattr !== null) return;
	const fd = engine.descriptors.path(top);
	if (marksOf(top.layer.hiding, fd, scratch).isOpaque) return;
	directory.stat = null;
	must(setXattr(fd, engine.xattr.opaque, Buffer.from("x")), "Cannot say that a directory has whiteouts");
	top.whiteoutXattr = engine.xattr.whiteout;
}

/** What the upper directory itself holds under a name: nothing, a whiteout, or an object. */
export function upperEntry(engine: StackContext, directory: Node, name: Uint8Array): "none" | "whiteout" | "object" {
	if (!directory.isUpper) return "none";
	const stat = new Stat();
	const status = statAt(engine.descriptors.path(directory.top), name, stat);
	if (status === -ERRNO.ENOENT) return "none";
	must(status, "Cannot look into a directory of upper");
	return isWhiteoutName(engine.descriptors.path(directory.top), name, stat, directory.top.whiteoutXattr) ? "whiteout" : "object";
}

export function closeAll(found: Found): void {
	for (const fd of found.fds) if (fd >= 0) close(fd);
}

/** Where the look-up of a name goes on in the layers below: in the same parents, or, behind an absolute redirect, by a path from their roots. */
interface Search {
	name: Uint8Array;
	path: readonly Buffer[] | null;
}

/** The stack of real directories under a name in the directories of its parent; null when there is none, or something else than a directory. */
export function findInReals(engine: StackContext, parents: readonly Real[], name: Uint8Array): Real[] | null {
	const found = findReals(engine, { reals: parents }, name, 0);
	if (found === null) return null;
	closeAll(found);
	return found.stat.type === FileType.dir ? found.reals : null;
}

/** As findInReals, of any type, with the attributes of the topmost. */
export function findInStack(
	engine: StackContext,
	parents: readonly Real[],
	name: Uint8Array,
): { readonly reals: Real[]; readonly stat: Stat } | null {
	const found = findReals(engine, { reals: parents }, name, 0);
	if (found !== null) closeAll(found);
	return found;
}

/** Taken by the next name that is found. */
let seen = new Stat();

export function findReals(
	engine: StackContext,
	directory: { readonly reals: readonly Real[] },
	name: Uint8Array,
	from: number,
): Found | null {
	const found = searchStack(engine, directory, name, from);
	return typeof found === "string" ? null : found;
}

/** What upper itself holds under a name that the overlay does not show. */
export type Vacancy = "none" | "whiteout";

/** As findReals, but says of a name that there is none of what upper has in its place. */
export function searchStack(
	engine: StackContext,
	directory: { readonly reals: readonly Real[] },
	name: Uint8Array,
	from: number,
): Found | Vacancy {
	const search: Search = { name, path: null };
	const reals: Real[] = [];
	const fds: number[] = [];
	let top: Stat | null = null;
	let vacancy: Vacancy = "none";
	let parents = directory.reals;
	let fd = -1;
	try {
		for (let i = from; i < parents.length; i++) {
			const parent = parents[i];
			if (parent.foreign) continue;
			if (search.path === null) engine.patience?.guard(parent.layer, parent.handle, search.name, "inode");
			let known: Stat | null = null;
			if (search.path === null && parent.whiteoutXattr === null && !parent.layer.hiding.hasFiles) {
				// most names lead to files, or to nothing: no descriptor is opened for that
				const path = engine.descriptors.path(parent);
				known = statIn(parent, path, search.name);
				if (known === null) continue;
				if (isWhiteoutStat(known)) {
					vacancy = parent.layer.isUpper ? "whiteout" : "none";
					break;
				}
				if (known.type !== FileType.dir && top !== null) break;
				if (known.type !== FileType.dir && !parent.layer.isUpper) {
					return { reals: [realOfName(parent, path, search.name, known)], fds: [-1], stat: known };
				}
			}
			const hit = search.path === null ? openName(engine, parent, search.name) : openPathInLayer(engine, parent, search, search.path);
			fd = hit.fd;
			if (fd < 0 && hit.isEnd) break;
			if (fd < 0) continue;
			const stat = known ?? new Stat();
			if (known === null) must(parent.layer.stat(fd, stat), "Cannot read attributes in a layer");
			if (isWhiteoutInode(fd, stat, hit.whiteoutXattr)) {
				vacancy = parent.layer.isUpper ? "whiteout" : "none";
				break;
			}
			if (stat.type !== FileType.dir) {
				if (top !== null) break;
				const found = { reals: [realOfHit(parent, search, fd, stat)], fds: [fd], stat };
				fd = -1;
				return found;
			}
			const real = realOfHit(parent, search, fd, stat);
			refuseCasefold(real, fd);
			const isEnd = readDirectoryMarks(engine, real, fd, search) || hit.isEnd;
			top ??= stat;
			reals.push(real);
			fds.push(fd);
			fd = -1;
			if (isEnd) break;
			if (search.path !== null && parents === directory.reals) {
				parents = engine.nodes.root.reals;
				i = parents.findIndex((root) => root.layer === parent.layer);
			}
		}
		if (fd >= 0) close(fd);
		return top === null ? vacancy : { reals, fds, stat: top };
	} catch (error) {
		if (fd >= 0) close(fd);
		for (const open of fds) close(open);
		throw error;
	}
}

/** Attributes of a name in one layer, read without a descriptor of it; null: nothing is there. `path`: a descriptor of the directory. */
function statIn(parent: Real, path: number, name: Uint8Array): Stat | null {
	const status = parent.layer.statAt(path, name, seen);
	if (status === -ERRNO.ENOENT) return null;
	must(status, "Cannot look a name of a layer up");
	const stat = seen;
	seen = new Stat();
	return stat;
}

/** By portable ids what the name leads to in a lower is known without asking the kernel where it is. */
function realOfHit(parent: Real, { name, path }: Search, fd: number, stat: Stat): Real {
	const { layer } = parent;
	return layer.handles.isPortable && !layer.isUpper && path === null ? realOfName(parent, fd, name, stat) : realOf(layer, fd, stat);
}

function refuseCasefold(real: Real, fd: number): void {
	if (real.layer.fileSystem.mayCasefold && isCasefolded(fd)) {
		throw new OverlayError("io", `Cannot show a directory of ${real.layer.path}: ${CASEFOLD_REASON}`);
	}
}

/** What a step of the search found in one layer: `isEnd`: nothing further down counts any more. */
interface Hit {
	/** O_PATH, or negative. */
	readonly fd: number;
	readonly isEnd: boolean;
	/** As of Real, of the directory that it lies in. */
	readonly whiteoutXattr: string | null;
}

const NOTHING: Hit = { fd: -1, isEnd: false, whiteoutXattr: null };
const HIDDEN: Hit = { fd: -1, isEnd: true, whiteoutXattr: null };

function openName(engine: StackContext, parent: Real, name: Uint8Array): Hit {
	const directory = engine.descriptors.path(parent);
	const { fd, isEnd } = openShown(parent.layer, directory, name);
	return fd < 0 && !isEnd ? NOTHING : { fd, isEnd, whiteoutXattr: parent.whiteoutXattr };
}

/** Opens (O_PATH) what a directory of a layer has under a name; negative: nothing. `isEnd`: a file says that it hides what is below. */
function openShown(layer: Layer, directory: number, name: Uint8Array): { readonly fd: number; readonly isEnd: boolean } {
	let fd = openBeneath(directory, name, O.path | O.nofollow, BENEATH);
	if (fd === -ERRNO.EXDEV && layer.handles.isPortable && !layer.isUpper) fd = openMountPoint(directory, name, O.path | O.nofollow);
	if (fd !== -ERRNO.ENOENT) must(fd, "Cannot open a name of a layer");
	if (fd >= 0 && layer.concealed !== null && fstat(fd, scratch) === 0 && layer.isConcealed(scratch)) {
		close(fd);
		fd = -1;
	}
	if (!layer.hiding.hasFiles) return { fd, isEnd: false };
	const isEnd = isHiddenByFile(directory, name, scratch);
	if (fd < 0 || !hasPrefix(name, WHITEOUT_PREFIX)) return { fd, isEnd };
	const status = fstat(fd, scratch);
	if (status === 0 && !isWhiteoutFile(name, scratch.type)) return { fd, isEnd };
	close(fd);
	must(status, "Cannot read attributes in a layer");
	return { fd: -1, isEnd };
}

const scratch = new Stat();

/**
 * Follows the path of an absolute redirect from a layer's root, name by name, since each may be a whiteout, opaque, or redirect on. Pending while
 * a long one takes more than one pass: how far it has come is remembered, and for a while the directory that it ends in.
 */
function openPathInLayer(engine: StackContext, root: Real, search: Search, path: readonly Buffer[]): Hit {
	const isLong = path.length > NAMES_INLINE;
	if (!isLong) return walkPath(engine, root, search, path, newWalk(engine, root), isLong);
	const key = `${root.key}/${Buffer.concat(path.flatMap((name) => [name, SEPARATOR])).toString("latin1")}`;
	let walk = engine.walks.use(key);
	if (walk === undefined || engine.memory.now - walk.time >= NAMES_TICKS) {
		walk = newWalk(engine, root);
		engine.walks.set(key, walk);
	}
	try {
		return walkPath(engine, root, search, path, walk, isLong);
	} catch (error) {
		if (!(error instanceof Pending)) engine.walks.delete(key);
		throw error;
	}
}

/** Longer paths are remembered. */
const NAMES_INLINE = 16;

function newWalk(engine: StackContext, root: Real): PathWalk {
	return { at: null, done: 0, isEnd: false, whiteoutXattr: root.whiteoutXattr, turned: null, time: engine.memory.now };
}

function walkPath(engine: StackContext, root: Real, search: Search, path: readonly Buffer[], walk: PathWalk, isLong: boolean): Hit {
	const { layer } = root;
	const stat = new Stat();
	let { done, isEnd, whiteoutXattr, turned } = walk;
	let isOwn = walk.at !== null;
	let at =
		walk.at === null
			? engine.descriptors.path(root)
			: must(layer.handles.open(walk.at, O.path | O.nofollow), "Cannot open a directory of a layer again");
	if (turned !== null) search.path = turned;
	/** Only as a whole: where it is goes with what was met on the way. */
	const note = () => {
		const handle = layer.handles.of(at);
		if (typeof handle !== "number") Object.assign(walk, { at: handle, done, isEnd, whiteoutXattr, turned });
	};
	try {
		for (; ; done++) {
			const isLast = done === path.length - 1;
			if (isLong) {
				if (done > walk.done && (isLast || engine.turns.isSpent(1))) note();
				engine.turns.spend(1, null);
			}
			const shown = openShown(layer, at, path[done]);
			const { fd } = shown;
			if (shown.isEnd) isEnd = true;
			if (fd < 0) return isEnd ? HIDDEN : NOTHING;
			if (isLast) return { fd, isEnd, whiteoutXattr };
			if (isOwn) close(at);
			at = fd;
			isOwn = true;
			must(fstat(at, stat), "Cannot read attributes in a layer");
			if (stat.type !== FileType.dir) return HIDDEN;
			const marks = marksOf(layer.hiding, at, scratch);
			({ whiteoutXattr } = marks);
			if (marks.isOpaque) isEnd = true;
			else if (readRedirect(engine, layer, at, search, path, done + 1)) turned = search.path;
		}
	} finally {
		if (isOwn) close(at);
	}
}

/** Whether the directory hides those below it; a redirect says under which name or path they are. */
function readDirectoryMarks(engine: StackContext, real: Real, fd: number, search: Search): boolean {
	const { isOpaque, whiteoutXattr } = marksOf(real.layer.hiding, fd, scratch);
	real.whiteoutXattr = whiteoutXattr;
	if (isOpaque) return true;
	const turns = readRedirect(engine, real.layer, fd, search, [], 0);
	if (real.layer.isUpper && !turns) real.redirect = null;
	return false;
}

/** The redirect that a real directory carries, or null. */
export function redirectOf(engine: StackContext, layer: Layer, fd: number): Buffer | null {
	const long = layer.isUpper ? (engine.writable?.longRedirects.get(fd) ?? null) : null;
	if (long !== null) return long;
	return xattrOrNone(fd, engine.xattr.redirect, "Cannot read the redirect of a directory");
}

/** Turns the search to where a directory's redirect leads, if it has one; from `behind` on names of the present path lie behind that directory. */
function readRedirect(engine: StackContext, layer: Layer, fd: number, search: Search, path: readonly Buffer[], behind: number): boolean {
	const redirect = redirectOf(engine, layer, fd);
	if (redirect === null) return false;
	if (!layer.isUpper && !layer.isAdopted) {
		throw new OverlayError("io", "A directory of a lower carries a redirect of overlayfs, and that layer has not been adopted");
	}
	const names = redirectNames(redirect);
	const rest = path.slice(behind);
	if (isAbsolute(redirect)) search.path = [...names, ...rest];
	else if (search.path === null) search.name = names[0];
	else search.path = [...search.path.slice(0, search.path.length - rest.length - 1), names[0], ...rest];
	return true;
}

/** Marks of the root of a layer that count. */
export function readRootMarks(root: Real): void {
	root.whiteoutXattr = marksOf(root.layer.hiding, root.layer.root, scratch).whiteoutXattr;
}
