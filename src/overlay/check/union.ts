// The union as a check sees it: a second implementation of look-up, without caches, that judges the engine's.

import { isHiddenByFile, isWhiteoutFile, marksOf } from "../../layer/hiding.ts";
import type { Layer, OverlayXattrs } from "../../layer/layer.ts";
import { visitEntries } from "../../linux/directory.ts";
import { ERRNO } from "../../linux/errno.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { readLink } from "../../linux/names.ts";
import { close, descriptorPath, O, openAt, openBeneath, RESOLVE } from "../../linux/open.ts";
import { fstat, Stat, statAt } from "../../linux/stat.ts";
import { showName } from "../../vfs/names.ts";
import { FileType } from "../../vfs/operations.ts";
import { failed, ifThere, isFound, must } from "../../vfs/system-errors.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";
import { isAbsolute, parseRedirect } from "../format/redirect.ts";
import { isWhiteoutInode } from "../format/whiteout.ts";

const BENEATH = RESOLVE.beneath | RESOLVE.noSymlinks | RESOLVE.noXdev;
const SLASH = 0x2f;

/** Equal for two descriptors of one inode, as long as a check runs. */
export function inodeKey(stat: Stat): string {
	return `${stat.devMajor}:${stat.devMinor}:${stat.inoHi}:${stat.inoLo}`;
}

/** A real directory of a lower, found again by its handle. */
export interface LowerDirectory {
	/** Position among the lowers. */
	readonly layer: number;
	readonly handle: FileHandle;
	readonly key: string;
	/** As of Real: empty files with this xattr are whiteouts in it. */
	readonly whiteoutXattr: string | null;
}

/** The lowers' part of a directory of the overlay, opened. */
export class OpenStack {
	readonly directories: readonly LowerDirectory[];
	readonly fds: number[] = [];

	constructor(lowers: readonly Layer[], directories: readonly LowerDirectory[]) {
		this.directories = directories;
		for (const { layer, handle } of directories) {
			const fd = lowers[layer].handles.open(handle, O.path | O.directory);
			if (fd < 0) this.close();
			this.fds.push(must(fd, `Cannot open a directory of ${lowers[layer].path}`));
		}
	}

	close(): void {
		for (const fd of this.fds.splice(0)) close(fd);
	}
}

interface LowerFile {
	readonly kind: "file";
	readonly layer: number;
	readonly stat: Stat;
	readonly isMetacopy: boolean;
}

/** `isEnd`: it hides those below it. */
interface FoundDirectory {
	readonly directory: LowerDirectory;
	readonly isEnd: boolean;
}

/** What the lowers show under a name, below a directory of the overlay. */
export type LowerFound = { readonly kind: "none" } | LowerFile | { readonly kind: "dir"; readonly directories: readonly LowerDirectory[] };

const NONE: LowerFound = { kind: "none" };

/** Where the search for a name goes on: in the same directories, or, behind an absolute redirect, by a path from the roots of the lowers. */
interface Search {
	name: Uint8Array;
	path: readonly Buffer[] | null;
}

/** The marks of a directory that turn or end a search. */
interface Marks {
	readonly isOpaque: boolean;
	readonly whiteoutXattr: string | null;
	readonly redirect: Buffer | null;
}

/** Looks names up in the lowers of a stack, by the rules of overlayfs, without any cache. */
export class LowerUnion {
	readonly lowers: readonly Layer[];
	readonly xattr: OverlayXattrs;
	readonly roots: readonly LowerDirectory[];

	constructor(lowers: readonly Layer[], xattr: OverlayXattrs) {
		this.lowers = lowers;
		this.xattr = xattr;
		this.roots = lowers.map((lower, layer) => ({
			layer,
			handle: lower.rootHandle,
			key: inodeKey(lower.rootStat),
			whiteoutXattr: this.#marks(layer, lower.root).whiteoutXattr,
		}));
	}

	/** What lies under a name, or where an upper directory's `redirect` leads instead. */
	find(stack: OpenStack, name: Uint8Array, redirect: Buffer | null = null): LowerFound {
		const search: Search = { name, path: null };
		if (redirect !== null && !turn(search, redirect, [])) return NONE;
		const directories: LowerDirectory[] = [];
		for (let layer = 0; layer < this.lowers.length; layer++) {
			const hit = this.#hit(stack, layer, search);
			if (hit === null) continue;
			if (hit === "end") break;
			const found = this.#examine(hit.fd, layer, hit.whiteoutXattr, search);
			close(hit.fd);
			if (found === "end") break;
			if ("kind" in found) return directories.length === 0 ? found : { kind: "dir", directories };
			directories.push(found.directory);
			if (found.isEnd || hit.isEnd) break;
		}
		return directories.length === 0 ? NONE : { kind: "dir", directories };
	}

	#hit(stack: OpenStack, layer: number, search: Search) {
		if (search.path !== null) return this.#openPath(layer, search, search.path);
		const at = stack.directories.findIndex((directory) => directory.layer === layer);
		if (at < 0) return null;
		const { fd, isHidden } = this.#open(layer, stack.fds[at], search.name);
		if (fd < 0) return isHidden ? "end" : null;
		return { fd, isEnd: isHidden, whiteoutXattr: stack.directories[at].whiteoutXattr };
	}

	/** What a directory of a lower shows under a name, negative for nothing, and whether a file says that what is below is hidden. */
	#open(layer: number, directory: number, name: Uint8Array): { readonly fd: number; readonly isHidden: boolean } {
		const fd = openBeneath(directory, name, O.path | O.nofollow, BENEATH);
		if (fd !== -ERRNO.ENOENT) must(fd, "Cannot open a name of a lower");
		if (!this.lowers[layer].hiding.hasFiles) return { fd, isHidden: false };
		const stat = new Stat();
		const isHidden = isHiddenByFile(directory, name, stat);
		if (fd < 0) return { fd, isHidden };
		must(fstat(fd, stat), "Cannot read attributes in a lower");
		if (!isWhiteoutFile(name, stat.type)) return { fd, isHidden };
		close(fd);
		return { fd: -1, isHidden };
	}

	/** What an open object of a lower means for the search: the end of it, a file, or a directory with perhaps more below it. */
	#examine(fd: number, layer: number, whiteoutXattr: string | null, search: Search): "end" | LowerFile | FoundDirectory {
		const stat = new Stat();
		must(fstat(fd, stat), "Cannot read attributes in a lower");
		if (isWhiteoutInode(fd, stat, whiteoutXattr)) return "end";
		if (stat.type !== FileType.dir) {
			const isMetacopy =
				stat.type === FileType.reg && xattrOrNone(fd, this.xattr.metacopy, "Cannot read where the data of a file is") !== null;
			return { kind: "file", layer, stat, isMetacopy };
		}
		// a subvolume is shown as an empty directory, and not entered
		if (!stat.sameDevice(this.lowers[layer].rootStat)) return "end";
		const marks = this.#marks(layer, fd);
		const directory = { layer, handle: handle(this.lowers[layer], fd), key: inodeKey(stat), whiteoutXattr: marks.whiteoutXattr };
		const isEnd = marks.isOpaque || (marks.redirect !== null && !turn(search, marks.redirect, []));
		return { directory, isEnd };
	}

	/** Follows the path of an absolute redirect from a lower's root: each name on it may be a whiteout, opaque, or redirect on. */
	#openPath(layer: number, search: Search, path: readonly Buffer[]) {
		const stat = new Stat();
		let at = this.lowers[layer].root;
		let { whiteoutXattr } = this.roots[layer];
		let isEnd = false;
		for (const [i, name] of path.entries()) {
			const { fd, isHidden } = this.#open(layer, at, name);
			if (i > 0) close(at);
			if (isHidden) isEnd = true;
			if (fd < 0) return isEnd ? "end" : null;
			at = fd;
			if (i === path.length - 1) break;
			must(fstat(at, stat), "Cannot read attributes in a lower");
			const marks = stat.type === FileType.dir ? this.#marks(layer, at) : null;
			if (marks === null || (marks.redirect !== null && !turn(search, marks.redirect, path.slice(i + 1)))) {
				close(at);
				return "end";
			}
			({ whiteoutXattr } = marks);
			if (marks.isOpaque) isEnd = true;
		}
		return { fd: at, isEnd, whiteoutXattr };
	}

	#marks(layer: number, fd: number): Marks {
		const redirect = xattrOrNone(fd, this.xattr.redirect, "Cannot read the redirect of a directory");
		return { ...marksOf(this.lowers[layer].hiding, fd, new Stat()), redirect };
	}

	/**
	 * The way from a lower's root down to a directory, that first and this last; null when it lies in none of the lowers.
	 * `layer`: any lower on its file system.
	 */
	climb(layer: number, from: FileHandle): { readonly layer: number; readonly steps: readonly Rung[] } | null {
		for (const lower of this.lowers) {
			if (lower.fileSystem !== this.lowers[layer].fileSystem) continue;
			const fd = ifThere(lower.handles.openOn(lower.outside, from, O.path | O.directory), "Cannot open a directory of a lower");
			if (fd < 0) return null;
			const found = this.#climbFrom(lower, fd);
			if (found !== null) return found;
		}
		return null;
	}

	#climbFrom(lower: Layer, start: number): { readonly layer: number; readonly steps: readonly Rung[] } | null {
		const stat = new Stat();
		const parentStat = new Stat();
		const steps: Rung[] = [];
		let fd = start;
		try {
			must(fstat(fd, stat), "Cannot read a directory of a lower");
			for (;;) {
				const layer = this.lowers.findIndex((lower) => lower.isRoot(stat));
				if (layer >= 0) return { layer, steps: steps.reverse() };
				const parent = ifThere(openAt(fd, "..", O.path), "Cannot open a directory of a lower");
				if (parent < 0) return null;
				must(fstat(parent, parentStat), "Cannot read a directory of a lower");
				const name = parentStat.sameInode(stat) ? null : this.#nameIn(parent, fd, stat);
				if (name !== null) steps.push({ name, handle: handle(lower, fd), key: inodeKey(stat) });
				close(fd);
				fd = parent;
				if (name === null) return null;
				must(fstat(fd, stat), "Cannot read a directory of a lower");
			}
		} finally {
			close(fd);
		}
	}

	/** The kernel knows the path of an open directory; it is checked, and where it does not help the parent is listed. */
	#nameIn(parent: number, fd: number, stat: Stat): Buffer | null {
		const found = new Stat();
		const isName = (name: Buffer) => isFound(statAt(parent, name, found), "Cannot read a directory of a lower") && found.sameInode(stat);
		const path = readLink(-100, descriptorPath(fd));
		const last = path?.subarray(path.lastIndexOf(SLASH) + 1);
		if (last !== undefined && last.length > 0 && isName(last)) return last;
		const lower = this.lowers.find((one) => one.rootStat.sameDevice(stat));
		if (lower === undefined) return null;
		// by way of the private mount, where reading leaves no access time
		const list = ifThere(lower.handles.open(handle(lower, parent), O.rdonly | O.directory), "Cannot open a directory of a lower");
		if (list < 0) return null;
		const candidates: Buffer[] = [];
		const status = visitEntries(list, (name, _type, hi, lo) => {
			if (lo === stat.inoLo && hi === stat.inoHi) candidates.push(Buffer.from(name));
			return undefined;
		});
		close(list);
		must(status, "Cannot read a directory of a lower");
		return candidates.find(isName) ?? null;
	}
}

/** A step of the way down to a directory. */
export interface Rung {
	readonly name: Buffer;
	readonly handle: FileHandle;
	readonly key: string;
}

/** Turns a search to where a redirect leads; `rest` is the part of the present path behind it. False: it leads nowhere. */
function turn(search: Search, redirect: Buffer, rest: readonly Buffer[]): boolean {
	const names = parseRedirect(redirect);
	if (names === null) return false;
	if (isAbsolute(redirect)) search.path = [...names, ...rest];
	else if (search.path === null) search.name = names[0];
	else search.path = [...search.path.slice(0, search.path.length - rest.length - 1), names[0], ...rest];
	return true;
}

export function handle(layer: Layer, fd: number): FileHandle {
	const found = layer.handles.of(fd);
	if (typeof found === "number") throw failed("Cannot take a file handle", found);
	return found;
}

/** A directory of the overlay: an upper one and what it is merged with, or lower ones alone. */
export interface MergedDirectory {
	readonly upper: { readonly handle: FileHandle; readonly key: string } | null;
	readonly stack: readonly LowerDirectory[];
	/** In the overlay; empty for its root. */
	readonly path: string;
	/** The directory that it lies in, and under which name; null for the root. */
	readonly parent: MergedDirectory | null;
	readonly name: Buffer | null;
	/** It is merged with what its own redirect leads to. */
	readonly isRedirected: boolean;
}

const ROOT = { parent: null, name: null, isRedirected: false };

/** Remembers where lower directories have appeared, least recently used ones forgotten. */
const KNOWN_MAX = 1000;

/** Where in the overlay lower objects are to be seen. Needs to know which upper directories merge with which lower ones. */
export class MergedDirectories {
	readonly #union: LowerUnion;
	readonly #upper: Layer;
	readonly #root: MergedDirectory;
	/** From a lower directory to the upper ones that are merged with it. */
	readonly #mergedBy = new Map<string, MergedDirectory[]>();
	readonly #known = new Map<string, readonly MergedDirectory[]>();

	constructor(union: LowerUnion, upper: Layer) {
		this.#union = union;
		this.#upper = upper;
		this.#root = { upper: { handle: upper.rootHandle, key: inodeKey(upper.rootStat) }, stack: union.roots, path: "", ...ROOT };
	}

	get root(): MergedDirectory {
		return this.#root;
	}

	note(place: MergedDirectory): void {
		for (const { key } of place.stack) {
			const others = this.#mergedBy.get(key);
			if (others === undefined) this.#mergedBy.set(key, [place]);
			else others.push(place);
		}
	}

	/** The upper directories that are merged with a lower one. */
	mergedWith(key: string): readonly MergedDirectory[] {
		return this.#mergedBy.get(key) ?? [];
	}

	/** All lower directories that more than one upper one is merged with. */
	*mergedTwice(): Iterable<readonly MergedDirectory[]> {
		for (const places of this.#mergedBy.values()) if (places.length > 1) yield places;
	}

	/** Where a lower directory is to be seen. */
	of(layer: number, handle: FileHandle): readonly MergedDirectory[] {
		const way = this.#union.climb(layer, handle);
		if (way === null) return [];
		let at: readonly MergedDirectory[] = [this.#root];
		for (const rung of way.steps) at = this.#below(at, rung);
		return at;
	}

	/** One step down: from where a lower directory is to be seen to where one of its children is. */
	#below(parents: readonly MergedDirectory[], rung: Rung): readonly MergedDirectory[] {
		const known = this.#known.get(rung.key);
		if (known !== undefined) return known;
		const places = [...this.mergedWith(rung.key)];
		for (const parent of parents) {
			if (this.isCovered(parent, rung.name)) continue;
			const found = this.lower(parent, rung.name);
			if (found.kind !== "dir" || !found.directories.some(({ key }) => key === rung.key)) continue;
			const path = `${parent.path}/${showName(rung.name)}`;
			places.push({ upper: null, stack: found.directories, path, parent, name: rung.name, isRedirected: false });
		}
		if (this.#known.size >= KNOWN_MAX) this.#known.clear();
		this.#known.set(rung.key, places);
		return places;
	}

	/** Whether the upper directory of a place has the name itself, be it a whiteout. */
	isCovered(place: MergedDirectory, name: Uint8Array): boolean {
		if (place.upper === null) return false;
		const fd = ifThere(this.#upper.handles.open(place.upper.handle, O.path | O.directory), "Cannot open a directory of upper");
		if (fd < 0) return false;
		const status = statAt(fd, name, new Stat());
		close(fd);
		return isFound(status, "Cannot read a directory of upper");
	}

	/** What the lowers of a place have under a name. */
	lower(place: MergedDirectory, name: Uint8Array): LowerFound {
		const stack = new OpenStack(this.#union.lowers, place.stack);
		try {
			return this.#union.find(stack, name);
		} finally {
			stack.close();
		}
	}
}
