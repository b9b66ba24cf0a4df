// From the change list to what is to be done to a target: all of it is looked at, and what stands against it, before anything is changed.

import { namesInPath, pathBelow } from "../../layer/path-search.ts";
import type { Real } from "../../layer/real.ts";
import { namesOf } from "../../linux/directory.ts";
import { ERRNO, whyNot } from "../../linux/errno.ts";
import { readLinkAt } from "../../linux/names.ts";
import { close, O } from "../../linux/open.ts";
import { Stat } from "../../linux/stat.ts";
import { showName } from "../../vfs/names.ts";
import { FileType } from "../../vfs/operations.ts";
import { tellProgress } from "../../vfs/progress.ts";
import { dataOfReal } from "../data/data-files.ts";
import { findInStack } from "../lookup/stack-search.ts";
import { linkCount, statOf } from "../lookup/stat.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import type { Overlay } from "../operations/overlay.ts";
import { inPasses } from "../operations/until-ready.ts";
import type { Seen } from "./apply-steps.ts";
import { directoriesOfBase } from "./base-tree.ts";
import type { Change } from "./change.ts";
import { hasSameTime, isSameContent, linkTarget, statOfBase } from "./compare.ts";
import { namesOfObjects } from "./names-of-objects.ts";
import type { Target } from "./target.ts";

/** A change that is to be applied. */
export interface Planned {
	readonly change: Change;
	/** Where in the target what it changes stands before anything is done, each byte a character. */
	readonly current: string;
	/** What stands there; null: nothing that stays. */
	readonly seen: Seen | null;
	/** What stands there has further names. */
	readonly isLinked: boolean;
}

/** Why a change cannot be applied as it is. */
export interface Conflict {
	readonly path: Buffer;
	/** Half a sentence. */
	readonly why: string;
}

export interface Look {
	readonly planned: readonly Planned[];
	readonly conflicts: readonly Conflict[];
	/** Changes that the target has already. */
	readonly already: number;
	/** Names of objects with several names that did not change, by the group of its changed ones: paths of the overlay. */
	readonly anchors: ReadonlyMap<string, string>;
	readonly moves: Moves;
}

export interface LookOptions {
	/** The target is the lower itself: then the lower is no witness of what it was. */
	readonly isInPlace: boolean;
	/** Conflicts are told, and what they are of is applied all the same where that can be. */
	readonly isForced: boolean;
}

/** The directories that are renamed, and what that makes of paths. Paths have each byte a character. */
export class Moves {
	readonly #from = new Map<string, string>();
	readonly #sources = new Set<string>();

	constructor(changes: readonly Change[]) {
		for (const { path, kind, from } of changes) {
			if (kind !== "renamed" || from === null) continue;
			this.#from.set(path.toString("latin1"), from.toString("latin1"));
			this.#sources.add(from.toString("latin1"));
		}
	}

	/** The directory of the target that a directory of the overlay is before; null: none that stays. */
	directory(path: string): string | null {
		const moved = aboveOrSame(path).find((one) => this.#from.has(one));
		const source = moved === undefined ? null : (this.#from.get(moved) as string);
		const current = moved === undefined ? path : `${source}${path.slice(moved.length)}`;
		const leaves = aboveOrSame(current).some((one) => this.#sources.has(one) && (source === null || one.length > source.length));
		return leaves ? null : current;
	}

	/** Where in the target the place of a path is before; null: in no directory that stays, or what stands there is moved. */
	before(path: string): string | null {
		const directory = this.directory(above(path));
		if (directory === null) return null;
		const name = path.slice(path.lastIndexOf("/") + 1);
		const current = directory === "" ? name : `${directory}/${name}`;
		return this.#sources.has(current) ? null : current;
	}

	/** Where a directory of the target is in the end. */
	after(current: string): string {
		for (const one of aboveOrSame(current)) {
			for (const [to, from] of this.#sources.has(one) ? this.#from : []) if (from === one) return `${to}${current.slice(one.length)}`;
		}
		return current;
	}

	/** Where a renamed directory comes from; null: it is none, or is there already. */
	source(path: string): string | null {
		return this.#from.get(path) ?? null;
	}

	isSource(path: string): boolean {
		return this.#sources.has(path);
	}
}

/** The path itself, and the directories above it, the deepest first; without the root. */
function aboveOrSame(path: string): string[] {
	const found: string[] = [];
	for (let at = path; at !== ""; at = above(at)) found.push(at);
	return found;
}

/** The directory that a path lies in; empty: the root. */
export function above(path: string): string {
	return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

const CHANGES_PER_PASS = 64;

/** Looks at the target for each change. Nothing is written. */
export async function lookAtTarget(opened: OpenedOverlay, target: Target, changes: readonly Change[], options: LookOptions): Promise<Look> {
	const { overlay } = opened;
	const moves = new Moves(changes.filter((change) => !hasMoved(target, change)));
	const look = new Looking(overlay, target, changes, moves, options);
	for (let at = 0; at < changes.length; at += CHANGES_PER_PASS) {
		tellProgress("looking at the target", at, "changes");
		const found = await inPasses(overlay, () => {
			const some = changes.slice(at, at + CHANGES_PER_PASS).map((change) => look.at(change));
			overlay.engine.descriptors.trim();
			return some;
		});
		for (const one of found) look.take(one);
	}
	return { planned: look.planned, conflicts: look.conflicts, already: look.already, anchors: await anchorsOf(opened, changes), moves };
}

/** Whether the target has a renamed directory at its new place alone. */
function hasMoved(target: Target, { kind, from, path }: Change): boolean {
	const stat = new Stat();
	if (kind !== "renamed" || from === null || target.stat(from, stat) !== -ERRNO.ENOENT) return false;
	return target.stat(path, stat) === 0 && stat.type === FileType.dir;
}

type Found = { readonly conflict: Conflict; readonly planned: Planned | null } | { readonly planned: Planned } | "already";

class Looking {
	readonly planned: Planned[] = [];
	readonly conflicts: Conflict[] = [];
	already = 0;
	readonly #overlay: Overlay;
	readonly #target: Target;
	readonly #moves: Moves;
	readonly #options: LookOptions;
	/** Directories that the changes bring, by their paths. */
	readonly #brought: ReadonlySet<string>;
	readonly #removed: ReadonlySet<string>;
	readonly #stat = new Stat();

	constructor(overlay: Overlay, target: Target, changes: readonly Change[], moves: Moves, options: LookOptions) {
		this.#overlay = overlay;
		this.#target = target;
		this.#moves = moves;
		this.#options = options;
		const brought = changes.filter(({ type, kind }) => type === FileType.dir && kind !== "removed");
		this.#removed = new Set(changes.filter(({ kind }) => kind === "removed").map(({ path }) => path.toString("latin1")));
		this.#brought = new Set(brought.map(({ path }) => path.toString("latin1")));
	}

	take(found: Found): void {
		if (found === "already") {
			this.already++;
			return;
		}
		if ("conflict" in found) this.conflicts.push(found.conflict);
		if (found.planned !== null && (this.#options.isForced || !("conflict" in found))) this.planned.push(found.planned);
	}

	at(change: Change): Found {
		const path = change.path.toString("latin1");
		const current = change.kind === "renamed" ? (this.#moves.source(path) ?? path) : this.#moves.before(path);
		const stat = this.#stat;
		const status = current === null ? -ERRNO.ENOENT : this.#target.stat(Buffer.from(current, "latin1"), stat);
		if (status < 0 && status !== -ERRNO.ENOENT) {
			return { conflict: { path: change.path, why: `it cannot be looked at: ${whyNot(status)}` }, planned: null };
		}
		const seen = status < 0 ? null : seenOf(stat);
		const isLinked = seen !== null && stat.type !== FileType.dir && stat.nlink > 1;
		const planned: Planned = { change, current: current ?? path, seen, isLinked };
		const why = this.#whyNot(planned, stat);
		if (why === null) return { planned };
		if (why === "already") return why;
		// what is not there cannot be forced
		const isLost = seen === null && (change.kind === "renamed" || change.kind === "metadata");
		return { conflict: { path: change.path, why }, planned: isLost || why === NO_PARENT || why === OCCUPIED ? null : planned };
	}

	/** Half a sentence; null: nothing stands against it. */
	#whyNot({ change, current, seen }: Planned, stat: Stat): string | null | "already" {
		const { kind, base, type } = change;
		if (!this.#hasParent(change)) return NO_PARENT;
		if (this.#isOccupied(change)) return OCCUPIED;
		if (seen === null) {
			if (kind === "removed") return "already";
			const isFree = kind === "added" || (kind === "changed" && this.#moves.before(change.path.toString("latin1")) === null);
			return isFree ? null : "it is not there";
		}
		if (kind === "added" || base === null) {
			if (type === FileType.dir && seen.type === FileType.dir) return null;
			return this.#isAsNow(change, current, stat) ? "already" : `${NAMES_OF_TYPES[seen.type] ?? "something"} is there`;
		}
		if (this.#options.isInPlace) return change.baseState === "changed" ? "the lower's own has changed since" : null;
		return this.#isAsNow(change, current, stat) ? "already" : this.#differsFromBase(change, current, base, stat);
	}

	/** Whether something stands where a directory is to be moved to, which no change takes away. */
	#isOccupied({ path, kind }: Change): boolean {
		const text = path.toString("latin1");
		if (kind !== "renamed" || this.#moves.source(text) === null || this.#removed.has(text)) return false;
		const place = this.#moves.before(text);
		return place !== null && this.#target.stat(Buffer.from(place, "latin1"), new Stat()) === 0;
	}

	#hasParent({ path, kind }: Change): boolean {
		if (kind === "removed") return true;
		const parent = above(path.toString("latin1"));
		if (parent === "" || this.#brought.has(parent)) return true;
		const before = this.#moves.directory(parent);
		const stat = new Stat();
		return before !== null && this.#target.stat(Buffer.from(before, "latin1"), stat) === 0 && stat.type === FileType.dir;
	}

	/** Whether the target has what the overlay has, of an object that is no directory. */
	#isAsNow({ handle, type, kind }: Change, current: string, stat: Stat): boolean {
		if (handle === null || kind === "metadata" || type === FileType.dir || stat.type !== type) return false;
		const { engine } = this.#overlay;
		const node = this.#overlay.decode(handle);
		const now = statOf(engine, node);
		if ((now.mode & 0o777) !== (stat.mode & 0o777) && type !== FileType.lnk) return false;
		if (type === FileType.reg) return now.size === stat.size && hasSameTime(now, stat);
		if (type === FileType.lnk) return this.#linkAt(current)?.equals(linkTarget(engine, node.top)) ?? false;
		return now.rdevMajor === stat.rdevMajor && now.rdevMinor === stat.rdevMinor;
	}

	#linkAt(current: string): Buffer | null {
		const at = this.#target.at(Buffer.from(current, "latin1"));
		const link = typeof at === "number" ? at : readLinkAt(at.directory, at.name);
		return typeof link === "number" ? null : link;
	}

	#hasModeOf(handle: Buffer | null, stat: Stat): boolean {
		return handle !== null && (statOf(this.#overlay.engine, this.#overlay.decode(handle)).mode & 0o777) === (stat.mode & 0o777);
	}

	/** Whether the target has another object than the lowers have; half a sentence. */
	#differsFromBase({ kind, type, handle }: Change, current: string, base: Real, stat: Stat): string | null {
		const was = statOfBase(this.#overlay.engine, base);
		const why = this.#differs(current, base, was, stat);
		if (why === OTHER_MODE && this.#hasModeOf(handle, stat)) return null;
		const goesWhole = kind === "removed" || kind === "renamed" || type !== FileType.dir;
		if (why !== null || was.type !== FileType.dir || !goesWhole) return why;
		const found = directoriesOfBase(this.#overlay.engine, namesInPath(Buffer.from(current, "latin1")));
		return found === null ? null : this.#differsBelow(current, found);
	}

	#differs(current: string, base: Real, was: Stat, stat: Stat): string | null {
		const { engine } = this.#overlay;
		if (was.type !== stat.type) return `it is ${NAMES_OF_TYPES[stat.type] ?? "something else"} there`;
		if (was.type === FileType.lnk) return this.#linkAt(current)?.equals(linkTarget(engine, base)) ? null : "it leads elsewhere there";
		if ((was.mode & 0o777) !== (stat.mode & 0o777)) return OTHER_MODE;
		if (was.type === FileType.dir) return null;
		if (was.type !== FileType.reg)
			return was.rdevMajor === stat.rdevMajor && was.rdevMinor === stat.rdevMinor ? null : "it is another device there";
		const isSame = was.size === stat.size && (hasSameTime(was, stat) || this.#hasContent(current, dataOfReal(engine, base)));
		return isSame ? null : "its content is not what the lower has";
	}

	#hasContent(current: string, data: Real): boolean {
		const fd = this.#target.open(Buffer.from(current, "latin1"), O.rdonly | O.nonblock);
		if (fd < 0) return false;
		try {
			return isSameContent(fd, this.#overlay.engine.descriptors.data(data, false));
		} finally {
			close(fd);
		}
	}

	/** A directory goes with all that it holds: only what the lowers have too may go. */
	#differsBelow(top: string, reals: readonly Real[]): string | null {
		const { engine } = this.#overlay;
		const directories = [{ path: top, reals }];
		const stat = new Stat();
		for (let at = directories.pop(); at !== undefined; at = directories.pop()) {
			const fd = this.#target.open(Buffer.from(at.path, "latin1"), O.rdonly | O.directory | O.noatime);
			const names = fd < 0 ? fd : namesOf(fd);
			if (fd >= 0) close(fd);
			if (typeof names === "number") return `${showName(Buffer.from(at.path, "latin1"))} cannot be read: ${whyNot(names)}`;
			for (const name of names) {
				const path = pathBelow(Buffer.from(at.path, "latin1"), name);
				const text = path.toString("latin1");
				if (this.#moves.isSource(text)) continue;
				const found = findInStack(engine, at.reals, name);
				if (found === null) return `it holds ${showName(path)}, which the lowers do not have`;
				if (this.#target.stat(path, stat) < 0) continue;
				const why = this.#differs(text, found.reals[0], found.stat, stat);
				if (why !== null) return `of ${showName(path)} in it: ${why}`;
				if (found.stat.type === FileType.dir) directories.push({ path: text, reals: found.reals });
				engine.descriptors.trim();
			}
		}
		return null;
	}
}

const OCCUPIED = "something is there";
const OTHER_MODE = "it has another mode there";
const NO_PARENT = "the directory that it lies in is not there";

const NAMES_OF_TYPES: Readonly<Record<number, string>> = {
	[FileType.reg]: "a file",
	[FileType.dir]: "a directory",
	[FileType.lnk]: "a symlink",
	[FileType.chr]: "a character device",
	[FileType.blk]: "a block device",
	[FileType.fifo]: "a fifo",
	[FileType.sock]: "a socket",
};

function seenOf(stat: Stat): Seen {
	return {
		type: stat.type,
		inode: `${stat.inoHi}.${stat.inoLo}`,
		size: stat.type === FileType.reg ? stat.size : 0,
		mtime: stat.type === FileType.dir ? "" : `${stat.mtimeSec}.${stat.mtimeNsec}`,
	};
}

export function isAsSeen(stat: Stat, seen: Seen): boolean {
	const now = seenOf(stat);
	return now.type === seen.type && now.inode === seen.inode && now.size === seen.size && now.mtime === seen.mtime;
}

/**
 * By the group of an object with several names, some of them told as added or changed: a name that is not told, or only for its attributes. The
 * whole tree is looked through where there are names that are not told.
 */
async function anchorsOf(opened: OpenedOverlay, changes: readonly Change[]): Promise<Map<string, string>> {
	const { overlay } = opened;
	const { engine } = overlay;
	const anchors = new Map<string, string>();
	const told = new Map<string, { readonly handle: Buffer; names: number; isPlaced: boolean }>();
	for (const { group, handle, kind, path } of changes) {
		if (group === null || handle === null) continue;
		const one = told.get(group) ?? { handle, names: 0, isPlaced: false };
		one.names++;
		if (kind === "metadata") anchors.set(group, path.toString("latin1"));
		else one.isPlaced = true;
		told.set(group, one);
	}
	const wanted = new Map<string, number>();
	const groups = new Map<string, string>();
	for (const [group, { handle, names, isPlaced }] of told) {
		if (!isPlaced || anchors.has(group)) continue;
		await inPasses(overlay, () => {
			const node = overlay.decode(handle);
			const count = linkCount(engine, node, statOf(engine, node));
			if (count <= names) return;
			wanted.set(node.key, count);
			groups.set(node.key, group);
		});
	}
	if (wanted.size === 0) return anchors;
	const known = new Set(changes.map(({ path }) => path.toString("latin1")));
	for (const { key, directory, name } of await namesOfObjects(opened, wanted)) {
		const path = pathBelow(directory, name).toString("latin1");
		const group = groups.get(key);
		if (group !== undefined && !known.has(path)) anchors.set(group, path);
	}
	return anchors;
}
