// Portable ids in a lower: from path to id, and from id back to path.

import { RecentMap } from "../collections/recent-map.ts";
import { visitEntries } from "../linux/directory.ts";
import { ERRNO } from "../linux/errno.ts";
import type { FileHandle } from "../linux/file-handle.ts";
import type { PathBytes } from "../linux/libc.ts";
import { copyBytes } from "../linux/memory.ts";
import { readLink } from "../linux/names.ts";
import { close, descriptorPath, O, openAt } from "../linux/open.ts";
import { fstat, mountId, Stat, statAt } from "../linux/stat.ts";
import { type Ancestor, type Birth, type HandleProvider, idOfName, type Trail } from "./handle-provider.ts";
import type { LinkNames } from "./link-names.ts";
import {
	namesInPath,
	openInTree,
	openMountPoint,
	openNames,
	PATH_BYTES_MAX,
	PATH_GONE,
	SEPARATOR,
	searchPath,
	TOO_FAR,
} from "./path-search.ts";
import { checkIn, checkOfStat, depthOf, fitsCheck, HASH_BYTES, hashBelow, idBelow, isPathId, LOWER_ROOT, PORTABLE } from "./portable-id.ts";
import type { RebaseRows } from "./rebase-rows.ts";
import type { Rebound } from "./rebound.ts";
import type { ReboundRow } from "./rebound-rows.ts";

/** Paths that are remembered: what is not costs a search. */
const PLACES_MAX = 65_536;
/** Names that a search looks at, and how long it takes, before it goes on elsewhere. */
const INLINE_ENTRIES = 2048;
const INLINE_MS = 5;
/** So many objects of one directory are opened by their paths before that is opened, and for how long it then stays so: a lower may be exchanged. */
const DIRECTORY_HITS = 4;
const DIRECTORY_MS = 1000;
/** Ids whose search is known to go on elsewhere. */
const FAR_MAX = 1024;
const SLASH = 0x2f;
/** S_IFDIR >> 12. */
const DIRECTORY = 4;

/** Where an object of a lower is: a name in a directory. */
class PathPlace {
	/** The first bytes of its id. */
	readonly key: string;
	/** The first bytes of the id of its directory. */
	readonly aboveKey: string;
	readonly name: Buffer;
	/** Its place, once somebody has asked for it. */
	above: PathPlace | null = null;
	/** Below the root, with a slash at the end: of directories in which something was opened. Empty: it is too long for one call. */
	path: Buffer | null = null;
	/** In which it was used last, and in which all places above it were too. */
	generation = -1;
	wholeIn = -1;
	/** Attributes with which the object was found to be what it was, and what its id says of these: none need be hashed again. */
	size = -1;
	mtimeSec = 0;
	realType = 0;
	check = 0;

	constructor(key: string, aboveKey: string, name: Buffer) {
		this.key = key;
		this.aboveKey = aboveKey;
		this.name = name;
	}
}

/** Has searches made in other threads. */
export interface SearchElsewhere {
	/** Whether a search may have to wait for a disk: a short one is made elsewhere too then. */
	mayWait(): boolean;
	/**
	 * Throws, so that the question is asked again when the search has ended, and returns where it is known that there is no such path.
	 * `entriesMax`: names that it may look at; where it takes more, `noteFar` is told.
	 */
	search(id: Buffer, entriesMax: number): void;
}

/** Portable ids of a lower: each object is its path, and what leads from an id to its path is remembered or searched for. */
export class PortableLower implements HandleProvider {
	readonly isPortable = true;
	/** Null: searches are made at once, however long they take. */
	searchElsewhere: SearchElsewhere | null = null;
	/** Told the path of an object that is not what it was when its handle was given out. */
	onChanged: ((path: Buffer) => void) | null = null;
	/** What is left of the time when the export had kernel handles; null: it never had. */
	rebound: Rebound | null = null;
	/** Of files that an image was exchanged under; null: none was. */
	rows: RebaseRows | null = null;
	/** Null: each name of a file is an object of its own, or no file of several names was met yet. */
	links: LinkNames | null = null;
	/** Finds out which names lead to one file when the first of several names is met; may throw until it is known. Null: nobody wants to know. */
	findLinks: (() => LinkNames) | null = null;
	readonly #root: number;
	#rootPath: Buffer | null;
	readonly #mount: number;
	/** By the first bytes of the id. What was used since the last change of generations, and what in the one before: no place is ever removed. */
	#young = new Map<string, PathPlace>();
	#old: ReadonlyMap<string, PathPlace> = new Map();
	#generation = 0;
	#lastAbove: Buffer | null = null;
	#lastAboveKey = "";
	/** Of the object that was opened last. */
	#openedStat = new Stat();
	#opened = -1;
	/** The directory whose objects are opened one after another, open itself after some; until when. */
	#directory: PathPlace | null = null;
	#directoryFd = -1;
	#directoryHits = 0;
	#directoryUntil = 0;
	/** Ids that are searched for elsewhere: whoever asks again does not begin anew. */
	readonly #far = new RecentMap<string, true>(FAR_MAX);

	constructor(root: number) {
		this.#root = root;
		this.#rootPath = pathOf(root);
		this.#mount = mountId(root);
	}

	close(): void {
		this.#leaveDirectory();
	}

	of(fd: number): FileHandle | number {
		const id = this.ofOwn(fd);
		return id === NOT_HERE ? (this.rebound?.ofSibling(this, fd) ?? -ERRNO.ESTALE) : id;
	}

	/** As `of`, of this layer alone. */
	ofOwn(fd: number): FileHandle | number {
		const stat = new Stat();
		const status = fstat(fd, stat);
		if (status < 0) return status;
		const names = this.#namesOf(fd, stat);
		if (typeof names === "number") return names;
		let id = LOWER_ROOT;
		for (const [i, name] of names.entries()) id = this.#pathIdBelow(id, name, i === names.length - 1 ? stat : DIRECTORY_STAT);
		return names.length === 0 ? id : this.#known(id, stat);
	}

	at(directory: number, name: PathBytes): FileHandle | number {
		return idOfName(this, directory, name);
	}

	child(parent: FileHandle, _directory: number, name: Uint8Array, stat: Stat): FileHandle | number {
		const above = this.rebound === null ? parent : this.rebound.pathIdOf(this, parent);
		return above === null ? -ERRNO.ESTALE : this.#known(this.#pathIdBelow(above, name, stat), stat);
	}

	/** As it is for an inode below this lower, whatever else its home has. */
	pathIdOf(path: Buffer): FileHandle {
		let id = LOWER_ROOT;
		// what the check says of it counts for nothing here
		for (const name of namesInPath(path)) id = this.#pathIdBelow(id, name, DIRECTORY_STAT);
		return id;
	}

	countNames(handle: FileHandle, stat: Stat): void {
		if (stat.type === DIRECTORY) return;
		if (handle.type !== PORTABLE.path) {
			stat.nlink = this.rebound?.rowOf(handle)?.nlink ?? stat.nlink;
			return;
		}
		if (stat.nlink <= 1) return;
		stat.nlink = this.#demandLinks()?.get(handle.bytes)?.names ?? 1;
	}

	birthOf(handle: FileHandle): Birth | null {
		return handle.type === PORTABLE.path ? null : (this.rebound?.rowOf(handle)?.birth ?? null);
	}

	layerInHome(handle: FileHandle): number | null {
		return handle.type === PORTABLE.path ? null : (this.rebound?.rowOf(handle)?.layer ?? null);
	}

	open(handle: FileHandle, flags: number): number {
		if (handle.type !== PORTABLE.path) return this.rebound?.open(handle, flags) ?? -ERRNO.ESTALE;
		if (!isPathId(handle)) return -ERRNO.ESTALE;
		if (depthOf(handle.bytes) === 0) return openNames(this.#root, [], flags);
		const place = this.#remembered(handle.bytes);
		let names: readonly Buffer[] | null = null;
		let fd = place === null ? -ERRNO.ENOENT : this.#openInDirectory(place, flags);
		if (fd < 0) {
			const path = place === null ? null : this.#pathOf(place);
			if (path === null) {
				names = place === null ? this.#search(handle.bytes) : this.#namesTo(place);
				if (names === null) return -ERRNO.ESTALE;
				fd = openNames(this.#root, names, flags | O.nofollow);
			} else fd = openInTree(this.#root, path, flags | O.nofollow);
		}
		if (fd === -ERRNO.EXDEV) fd = this.#openMountPoint(names ?? this.#namesTo(place as PathPlace), flags | O.nofollow);
		if (fd < 0) return PATH_GONE.has(-fd) ? -ERRNO.ESTALE : fd;
		const stat = this.#openedStat;
		const status = fstat(fd, stat);
		// since an image was exchanged it has one more name, by which it is known
		if (status === 0 && stat.nlink > 1 && stat.type !== DIRECTORY && this.links?.isOther(handle.bytes)) {
			close(fd);
			return -ERRNO.ESTALE;
		}
		if (status === 0 && this.#isPlaceAsItWas(place, handle.bytes, stat)) {
			this.#opened = fd;
			return fd;
		}
		close(fd);
		if (status < 0) return status;
		this.onChanged?.(Buffer.concat((names ?? this.#namesTo(place as PathPlace)).flatMap((name) => [SEPARATOR, name])));
		return -ERRNO.ESTALE;
	}

	takeOpened(fd: number): Stat | null {
		if (this.#opened !== fd) return null;
		this.#opened = -1;
		const stat = this.#openedStat;
		this.#openedStat = new Stat();
		return stat;
	}

	/** As `#isAsItWas`; what it found out of this place is remembered. */
	#isPlaceAsItWas(place: PathPlace | null, id: Buffer, stat: Stat): boolean {
		if (place === null || this.rows !== null) return this.#isAsItWas(id, stat);
		const check = id.readUInt32BE(HASH_BYTES);
		if (place.size === stat.size && place.mtimeSec === stat.mtimeSec && place.realType === stat.realType && place.check === check)
			return true;
		if (!this.#isAsItWas(id, stat)) return false;
		place.size = stat.size;
		place.mtimeSec = stat.mtimeSec;
		place.realType = stat.realType;
		place.check = check;
		return true;
	}

	/** By a descriptor of its directory, where others in that were opened just before: a path takes the longer the deeper it is. Negative: not so. */
	#openInDirectory(place: PathPlace, flags: number): number {
		const directory = place.above;
		if (directory === null) return -ERRNO.ENOENT;
		if (directory !== this.#directory) {
			this.#leaveDirectory();
			this.#directory = directory;
			return -ERRNO.ENOENT;
		}
		if (++this.#directoryHits < DIRECTORY_HITS) return -ERRNO.ENOENT;
		const now = performance.now();
		if (this.#directoryFd < 0 || now >= this.#directoryUntil) {
			if (this.#directoryFd >= 0) close(this.#directoryFd);
			const path = this.#pathOf(directory);
			this.#directoryFd = path === null ? -1 : openInTree(this.#root, path, O.path | O.directory | O.nofollow);
			this.#directoryUntil = now + DIRECTORY_MS;
			if (this.#directoryFd < 0) return -ERRNO.ENOENT;
		}
		return openInTree(this.#directoryFd, place.name, flags | O.nofollow);
	}

	#leaveDirectory(): void {
		if (this.#directoryFd >= 0) close(this.#directoryFd);
		this.#directoryFd = -1;
		this.#directory = null;
		this.#directoryHits = 0;
	}

	#openMountPoint(names: readonly Buffer[], flags: number): number {
		const parent = openNames(this.#root, names.slice(0, -1), O.path | O.directory | O.nofollow);
		if (parent < 0) return parent;
		const fd = openMountPoint(parent, names[names.length - 1], flags);
		close(parent);
		return fd;
	}

	trail(handle: FileHandle): Trail | null {
		if (handle.type !== PORTABLE.path) return this.rebound?.trail(handle) ?? null;
		if (!isPathId(handle)) return null;
		if (depthOf(handle.bytes) === 0) return this.trailOf([]);
		const place = this.#remembered(handle.bytes);
		return place === null ? null : this.trailOf(this.#namesTo(place));
	}

	ancestry(handle: FileHandle): readonly Ancestor[] | null {
		// ids from the time before may lie in other layers of the home
		if (this.rebound !== null || !isPathId(handle)) return null;
		const place = depthOf(handle.bytes) === 0 ? null : this.#remembered(handle.bytes);
		if (place === null) return null;
		let id = LOWER_ROOT;
		return this.#namesTo(place).map((name) => {
			id = this.#pathIdBelow(id, name, DIRECTORY_STAT);
			return { id, name };
		});
	}

	trailOf(names: readonly Buffer[]): Trail {
		return { root: this.#root, names };
	}

	/** Opens what an export with kernel handles knew by another id. */
	openRow(row: ReboundRow, flags: number): number {
		const names = namesInPath(row.path);
		const fd = openNames(this.#root, names, flags | O.nofollow);
		if (fd < 0) return PATH_GONE.has(-fd) ? -ERRNO.ESTALE : fd;
		const status = fstat(fd, openedStat);
		if (status === 0 && checkOfStat(openedStat).equals(row.check)) return fd;
		close(fd);
		if (status < 0) return status;
		this.onChanged?.(Buffer.concat([SEPARATOR, row.path]));
		return -ERRNO.ESTALE;
	}

	openOn(_mount: number, handle: FileHandle, flags: number): number {
		return this.open(handle, flags);
	}

	/** It takes a long search. */
	noteFar(id: Buffer): void {
		this.#far.set(id.toString("latin1"), true);
	}

	/** What a search has found. */
	learn(names: readonly Buffer[]): void {
		let above = LOWER_ROOT.bytes.subarray(0, HASH_BYTES);
		for (const name of names) {
			const hash = hashBelow(above, name);
			this.#remember(hash, above, name);
			above = hash;
		}
	}

	/** The names from the root down to an open inode, or the negated error number. */
	#namesOf(fd: number, stat: Stat): Buffer[] | number {
		if (stat.nlink === 0) return -ERRNO.ESTALE;
		// paths on private mounts begin at their roots, and look alike
		if (this.rebound !== null && mountId(fd) !== this.#mount) return NOT_HERE;
		const path = pathOf(fd);
		if (path === null) return stat.type === DIRECTORY ? this.#climb(fd) : -ERRNO.ENAMETOOLONG;
		let below = this.#belowRoot(path);
		if (below === null) {
			// the lower, or a directory above it, has been given another name
			this.#rootPath = pathOf(this.#root);
			below = this.#belowRoot(path);
		}
		if (below === null) return NOT_HERE;
		return namesInPath(below);
	}

	/** The same by way of "..": a path can be too long for the kernel to tell. */
	#climb(start: number): Buffer[] | number {
		const names: Buffer[] = [];
		const rootStat = new Stat();
		const stat = new Stat();
		const nameStat = new Stat();
		fstat(this.#root, rootStat);
		let fd = openAt(start, ".", O.path | O.directory);
		for (;;) {
			if (fd < 0) return fd;
			fstat(fd, stat);
			if (stat.sameInode(rootStat)) break;
			const parent = openAt(fd, "..", O.rdonly | O.directory);
			close(fd);
			if (parent < 0) return parent;
			const candidates: Buffer[] = [];
			const status = visitEntries(parent, (name, type) => {
				if (type === DIRECTORY || type === 0) candidates.push(Buffer.from(name));
				return undefined;
			});
			const name = candidates.find((one) => statAt(parent, one, nameStat) === 0 && nameStat.sameInode(stat));
			fd = parent;
			if (name === undefined) {
				close(fd);
				return status < 0 ? status : -ERRNO.ESTALE;
			}
			names.push(name);
		}
		close(fd);
		return names.reverse();
	}

	#belowRoot(path: Buffer): Buffer | null {
		const root = this.#rootPath;
		if (root === null) return null;
		if (root.length === 1) return path.subarray(1);
		if (!path.subarray(0, root.length).equals(root)) return null;
		if (path.length === root.length) return EMPTY;
		return path[root.length] === SLASH ? path.subarray(root.length + 1) : null;
	}

	#pathIdBelow(parent: FileHandle, name: Uint8Array, stat: Stat): FileHandle {
		const id = this.#idBelow(parent, name, stat);
		this.#remember(id.bytes, parent.bytes, name);
		return id;
	}

	/** No handle of a file of several names is given before it is known what they are. */
	#demandLinks(): LinkNames | null {
		if (this.links === null && this.findLinks !== null) this.links = this.findLinks();
		return this.links;
	}

	/** The id that clients know an object by. */
	#known(id: FileHandle, stat: Stat): FileHandle {
		if (this.rebound !== null) return this.rebound.known(this, id);
		if (stat.nlink > 1 && stat.type !== DIRECTORY) {
			const linked = this.#demandLinks()?.get(id.bytes) ?? null;
			if (linked !== null) {
				let least = LOWER_ROOT;
				for (const [i, part] of linked.path.entries())
					least = this.#pathIdBelow(least, part, i === linked.path.length - 1 ? stat : DIRECTORY_STAT);
				return least;
			}
		}
		return id;
	}

	#idBelow(parent: FileHandle, name: Uint8Array, stat: Stat): FileHandle {
		const id = idBelow(parent, name, stat);
		if (this.rows !== null && stat.type !== DIRECTORY) this.#checkOf(id.bytes, stat).copy(checkIn(id.bytes));
		return id;
	}

	/** What shows whether the object of an id is what it was, with these attributes. */
	#checkOf(id: Buffer, stat: Stat): Buffer {
		const check = checkOfStat(stat);
		return this.rows === null || stat.type === DIRECTORY ? check : this.rows.shown(id, check);
	}

	#isAsItWas(id: Buffer, stat: Stat): boolean {
		return this.rows === null ? fitsCheck(id, stat) : this.#checkOf(id, stat).equals(checkIn(id));
	}

	/** `above`: the id of the directory, or its first bytes. */
	#remember(hash: Buffer, above: Buffer, name: Uint8Array): void {
		const key = hash.toString("latin1", 0, HASH_BYTES);
		// names are mostly looked up in the same directory as the one before
		if (above !== this.#lastAbove) {
			this.#lastAbove = above;
			this.#lastAboveKey = above.toString("latin1", 0, HASH_BYTES);
		}
		const directory = this.#placeAt(this.#lastAboveKey);
		if (directory !== undefined) this.#use(directory);
		let place = this.#placeAt(key);
		if (place === undefined) {
			place = new PathPlace(key, directory?.key ?? this.#lastAboveKey, copyBytes(name));
			place.above = directory ?? null;
		}
		this.#use(place);
	}

	#placeAt(key: string): PathPlace | undefined {
		return this.#young.get(key) ?? this.#old.get(key);
	}

	#use(place: PathPlace): void {
		if (place.generation === this.#generation) return;
		if (this.#young.size >= PLACES_MAX / 2) {
			this.#old = this.#young;
			this.#young = new Map();
			this.#generation++;
		}
		place.generation = this.#generation;
		this.#young.set(place.key, place);
	}

	/** Null: not all names that lead to it are remembered. */
	#remembered(id: Buffer): PathPlace | null {
		const place = this.#placeAt(id.toString("latin1", 0, HASH_BYTES));
		if (place === undefined) return null;
		const generation = this.#generation;
		if (place.wholeIn === generation) return place;
		for (let at = place; ; ) {
			this.#use(at);
			if (at.aboveKey === ROOT_KEY) break;
			at.above ??= this.#placeAt(at.aboveKey) ?? null;
			if (at.above === null) return null;
			at = at.above;
			// all above it were used in this generation too
			if (at.wholeIn === this.#generation) break;
		}
		if (generation === this.#generation) place.wholeIn = generation;
		return place;
	}

	#namesTo(place: PathPlace): Buffer[] {
		const names: Buffer[] = [];
		for (let at: PathPlace | null = place; at !== null; at = at.above) names.push(at.name);
		return names.reverse();
	}

	/** In memory of this module, until the next one; null: it is too long for one call. All places above must be known. */
	#pathOf(place: PathPlace): Uint8Array | null {
		const directory = place.above;
		if (directory === null) return place.name;
		directory.path ??= this.#directoryPath(directory);
		const length = directory.path.length + place.name.length;
		if (directory.path.length === 0 || length > PATH_BYTES_MAX) return null;
		pathMemory.set(directory.path, 0);
		pathMemory.set(place.name, directory.path.length);
		return pathMemory.subarray(0, length);
	}

	#directoryPath(directory: PathPlace): Buffer {
		const names = this.#namesTo(directory);
		const length = names.reduce((sum, name) => sum + name.length + 1, 0);
		return length > PATH_BYTES_MAX ? EMPTY : Buffer.concat(names.flatMap((name) => [name, SEPARATOR]));
	}

	#search(id: Buffer): Buffer[] | null {
		const elsewhere = this.searchElsewhere;
		const isFar = this.#far.get(id.toString("latin1")) === true;
		if (elsewhere !== null && (isFar || elsewhere.mayWait())) {
			elsewhere.search(id, isFar ? Number.POSITIVE_INFINITY : INLINE_ENTRIES);
			return null;
		}
		const names =
			elsewhere === null ? searchPath(this.#root, id, Number.POSITIVE_INFINITY) : searchPath(this.#root, id, INLINE_ENTRIES, INLINE_MS);
		if (names === TOO_FAR) {
			this.noteFar(id);
			elsewhere?.search(id, Number.POSITIVE_INFINITY);
			return null;
		}
		if (names !== null) this.learn(names);
		return names;
	}
}

/** No error of a system call. */
const NOT_HERE = -100_000;
const EMPTY = Buffer.alloc(0);
const ROOT_KEY = LOWER_ROOT.bytes.toString("latin1", 0, HASH_BYTES);
const pathMemory = Buffer.alloc(PATH_BYTES_MAX);
const openedStat = new Stat();
const DIRECTORY_STAT = new Stat();

DIRECTORY_STAT.mode = DIRECTORY << 12;

DIRECTORY_STAT.realType = DIRECTORY;

/** The path that the kernel knows of an open inode; null where it is too long for it. */
function pathOf(fd: number): Buffer | null {
	const path = readLink(-100, descriptorPath(fd));
	return path !== null && path[0] === SLASH ? path : null;
}
