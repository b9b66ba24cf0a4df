// Compares new images with the images that an export has, so that handles of unchanged files go on.

import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { closingAfter } from "../../collections/closing-after.ts";
import { type Layer, LayerOpener, openDirectory, TRUSTED_XATTRS, USER_XATTRS } from "../../layer/layer.ts";
import { LayerError } from "../../layer/layer-error.ts";
import { HeldLinkNames, hasLinkNames, KeptLinkNames, noteLinkNames } from "../../layer/link-names.ts";
import { recordIn } from "../../layer/origin-record.ts";
import { openInTree, pathBelow, SEPARATOR } from "../../layer/path-search.ts";
import { CHECK_BYTES, checkOfStat, HASH_BYTES, hashBelow, LOWER_ROOT } from "../../layer/portable-id.ts";
import { RebaseRows } from "../../layer/rebase-rows.ts";
import { listWhole, openToList, statListed, walkTree } from "../../layer/walk-tree.ts";
import { readInto } from "../../linux/data.ts";
import { whyNot } from "../../linux/errno.ts";
import { allocate } from "../../linux/memory.ts";
import { readLinkAt } from "../../linux/names.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { pathExists, readFileNamed } from "../../linux/read-file.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { getXattr } from "../../linux/xattr.ts";
import { showName } from "../../vfs/names.ts";
import { FileType } from "../../vfs/operations.ts";
import { tellProgress } from "../../vfs/progress.ts";
import { must } from "../../vfs/system-errors.ts";
import { decodeRecord } from "../format/identity.ts";
import { LOWERS_FILE, linkNamesFolder, rowsPath } from "../opening/export-folder.ts";
import { workOf } from "../opening/export-paths.ts";
import { forgetForms } from "../opening/layer-forms.ts";
import { treeName } from "../opening/layer-names.ts";
import { lockUpper } from "../opening/upper-lock.ts";
import { type Registry, readRegistry, writeRegistry } from "../work/registry.ts";

/** By what a file of the new image counts as unchanged. */
export type SameBy = "mtime+size" | "content";

export interface RebaseOptions {
	/** The stack as it is to be, and as it was, from the topmost down. */
	readonly lowers: readonly string[];
	readonly before: readonly string[];
	readonly upper: string;
	readonly work?: string | undefined;
	readonly sameBy: SameBy;
	/** Only compares: may run beside a server. */
	readonly isDryRun?: boolean;
}

/** Something of an image that is not what it was; paths begin at the root of their layer. */
export interface ImageChange {
	readonly lower: number;
	readonly path: string;
	readonly what: "changed" | "removed" | "added";
	/** Path of what in upper hides it from clients, or null. */
	readonly hiddenBy: string | null;
}

export interface RebaseReport {
	/** False: what was there is gone, and only attributes can tell what is the same. */
	readonly isCompared: boolean;
	readonly same: number;
	readonly changes: readonly ImageChange[];
}

/**
 * Puts other images in the place of an export's lowers. Handles of objects that are the same by path, type and `sameBy` go on, all others are
 * stale. What was there and what is there now are compared file by file; nothing is written to either. LayerError.
 */
export function rebase(options: RebaseOptions): RebaseReport {
	const folder = join(workOf(options.upper, options.work), "holdfast");
	const registry = readRegistry(folder);
	// what is not there is told as that
	if (registry === null) close(openDirectory(options.upper, "upper"));
	if (registry === null) throw new LayerError(`Cannot rebase ${options.upper}: it has not been served yet.`);
	if (registry.handles !== "portable") {
		throw new LayerError(
			`Cannot rebase ${options.upper}: its handles are the kernel's, which name inodes of the images that are there. Run holdfast rebind first.`,
		);
	}
	for (const name of ["data", "partial"]) {
		if (!pathExists(join(folder, name)) || readdirSync(join(folder, name)).length === 0) continue;
		throw new LayerError(
			`Cannot rebase ${options.upper}: some of its files have data in a lower that is not copied up yet. Run holdfast settle first.`,
		);
	}
	const count = registry.lowers.length;
	for (const [stack, option] of [
		[options.lowers, "--lower"],
		[options.before, "--was"],
	] as const) {
		if (stack.length !== count && (stack.length > 0 || option === "--lower"))
			throw new LayerError(`Cannot rebase ${options.upper}: it has ${count} lowers, and ${stack.length} were named with ${option}.`);
	}
	const xattr = registry.userXattrs ? USER_XATTRS : TRUSTED_XATTRS;
	const open = (path: string) => new LayerOpener(xattr, "portable").openLower(path);
	return closingAfter((keep) => {
		const named = options.before.map((path) => keep(open(path)));
		const now = options.lowers.map((path) => keep(open(path)));
		named.forEach((layer, i) => {
			if (treeName(layer) === registry.lowers[i].root) return;
			throw new LayerError(
				`Cannot rebase ${options.upper}: ${layer.path} is not the lower that was served (number ${i + 1} from the top).`,
			);
		});
		const upper = new LayerOpener(xattr, "portable").openUpper(options.upper, openDirectory(options.upper, "upper"));
		keep(upper);
		if (!options.isDryRun) keep(lockUpper({ path: options.upper, root: upper.root, folder }, "holdfast rebase")).keepFile();
		const before = named.length > 0 ? named : lastServed(folder, registry, now, (path) => keep(open(path)));
		if (before === null && options.sameBy === "content") {
			throw new LayerError(`Cannot rebase ${options.upper} by content: the image that was there is not found. Name it with --was.`);
		}
		const comparison = new Comparison(options, folder, registry);
		const lowers = now.map((layer, i) => (before === null ? comparison.trust(i, layer) : comparison.run(i, before[i], layer)));
		const report = { isCompared: before !== null, same: comparison.same, changes: comparison.hidden(upper) };
		if (options.isDryRun) return report;
		writeRegistry(folder, { ...registry, lowers });
		forgetForms(folder);
		comparison.removeOldRows();
		return report;
	});
}

/**
 * Lowers that were changed on purpose, by who has the upper locked, belong to the export from here on. Handles go on where path, type, size and time
 * are what they were. Handles of the kernel tell by themselves. LayerError.
 */
export function trustLowers(layers: Pick<RebaseOptions, "lowers" | "upper" | "work">): void {
	const folder = join(workOf(layers.upper, layers.work), "holdfast");
	const registry = readRegistry(folder);
	if (registry?.handles !== "portable") return;
	const opener = new LayerOpener(registry.userXattrs ? USER_XATTRS : TRUSTED_XATTRS, "portable");
	closingAfter((keep) => {
		const comparison = new Comparison({ ...layers, before: [], sameBy: "mtime+size" }, folder, registry);
		const lowers = layers.lowers.map((path, i) => comparison.trust(i, keep(opener.openLower(path))));
		writeRegistry(folder, { ...registry, lowers });
	});
	forgetForms(folder);
}

/** The lowers that were served last, if they are still there and some of them are to be replaced; else null. */
function lastServed(folder: string, registry: Registry, now: readonly Layer[], open: (path: string) => Layer): Layer[] | null {
	let before: Layer[];
	try {
		const paths: unknown = JSON.parse(readFileNamed(join(folder, LOWERS_FILE)).toString());
		if (!Array.isArray(paths) || paths.length !== now.length) return null;
		before = paths.map((path) => open(String(path)));
	} catch {
		return null;
	}
	const areAsServed = before.every((layer, i) => treeName(layer) === registry.lowers[i].root);
	const areReplaced = registry.lowers.length > 0 && before.every((layer, i) => layer.isRoot(now[i].rootStat));
	return areAsServed && !areReplaced ? before : null;
}

interface Pair {
	/** Directories by their paths; null where there is none. */
	readonly path: Buffer;
	readonly hash: Buffer;
	readonly isInOld: boolean;
	readonly isInNew: boolean;
}

const EMPTY = Buffer.alloc(0);

class Comparison {
	same = 0;
	readonly #changes: {
		readonly lower: number;
		readonly path: Buffer;
		readonly hash: string;
		readonly what: ImageChange["what"];
		readonly isDirectory: boolean;
	}[] = [];
	readonly #options: RebaseOptions;
	readonly #folder: string;
	readonly #registry: Registry;
	readonly #oldRows: string[] = [];
	readonly #homeUuids: (string | undefined)[];
	#entries = 0;

	constructor(options: RebaseOptions, folder: string, registry: Registry) {
		this.#options = options;
		this.#folder = folder;
		this.#registry = registry;
		this.#homeUuids = registry.lowers.map(({ home }) => registry.homes.find(({ number }) => number === home)?.uuid);
	}

	/** Takes one lower for what its attributes say. */
	trust(index: number, now: Layer): Registry["lowers"][number] {
		if (!this.#options.isDryRun) this.#renewLinkNames(linkNamesFolder(this.#folder, this.#homeUuids[index] ?? ""), null, now);
		return { ...this.#registry.lowers[index], root: treeName(now) };
	}

	/** Compares one lower with what it was; its record of now. */
	run(index: number, before: Layer, now: Layer): Registry["lowers"][number] {
		const record = this.#registry.lowers[index];
		const rebases = (record.rebases ?? 0) + 1;
		const target = rowsPath(this.#folder, record.home, rebases);
		const { isDryRun } = this.#options;
		if (!isDryRun) {
			rmSync(target, { recursive: true, force: true });
			mkdirSync(target, { recursive: true, mode: 0o700 });
		}
		const oldPath = record.rebases === undefined ? null : rowsPath(this.#folder, record.home, record.rebases);
		if (oldPath !== null) this.#oldRows.push(oldPath);
		const oldRows = oldPath !== null && pathExists(oldPath) ? new RebaseRows(oldPath) : null;
		const newRows = isDryRun ? null : new RebaseRows(target);
		try {
			const pending: Pair[] = [{ path: EMPTY, hash: LOWER_ROOT.bytes.subarray(0, HASH_BYTES), isInOld: true, isInNew: true }];
			for (let at = pending.pop(); at !== undefined; at = pending.pop()) this.#compare(index, before, now, at, pending, oldRows, newRows);
		} finally {
			oldRows?.close();
			newRows?.close();
		}
		if (!isDryRun) this.#renewLinkNames(linkNamesFolder(this.#folder, this.#homeUuids[index] ?? ""), before, now);
		return { ...record, root: treeName(now), rebases };
	}

	/** Files keep the names by which clients know them; what has had one name is known by that. */
	#renewLinkNames(folder: string, before: Layer | null, now: Layer): void {
		const [aside, old] = [`${folder}.rebased`, `${folder}.old`];
		if (!hasLinkNames(folder) && hasLinkNames(old)) renameSync(old, folder);
		const isKept = hasLinkNames(folder);
		if (!isKept && !this.#registry.linkNames) return;
		// where none were looked for no file of several names has a handle
		const known = isKept ? new KeptLinkNames(folder) : new HeldLinkNames(new Map());
		const stat = new Stat();
		try {
			noteLinkNames(
				now,
				aside,
				() => {},
				(path, hash) => {
					if (known.isOther(hash)) return false;
					if (before === null) return true;
					const fd = openInTree(before.root, path, O.path | O.nofollow);
					if (fd < 0) return false;
					const isThere = fstat(fd, stat) === 0 && stat.type !== FileType.dir;
					close(fd);
					return isThere;
				},
			);
		} finally {
			known.close();
		}
		rmSync(old, { recursive: true, force: true });
		if (isKept) renameSync(folder, old);
		renameSync(aside, folder);
		rmSync(old, { recursive: true, force: true });
	}

	#compare(
		index: number,
		before: Layer,
		now: Layer,
		at: Pair,
		pending: Pair[],
		oldRows: RebaseRows | null,
		newRows: RebaseRows | null,
	): void {
		const oldFd = at.isInOld ? openToList(before, at.path) : null;
		const newFd = at.isInNew ? openToList(now, at.path) : null;
		const names = new Map<string, Buffer>();
		if (oldFd !== null) for (const name of listWhole(before, at.path, oldFd)) names.set(name.toString("latin1"), name);
		if (newFd !== null) for (const name of listWhole(now, at.path, newFd)) names.set(name.toString("latin1"), name);
		const oldStat = new Stat();
		const newStat = new Stat();
		for (const name of names.values()) {
			tellProgress("comparing", ++this.#entries, "names");
			const path = pathBelow(at.path, name);
			const hash = hashBelow(at.hash, name);
			const wasThere = oldFd !== null && statListed(before, at.path, oldFd, name, oldStat);
			const isThere = newFd !== null && statListed(now, at.path, newFd, name, newStat);
			const wasDirectory = wasThere && oldStat.type === FileType.dir;
			const isDirectory = isThere && newStat.type === FileType.dir;
			if (wasDirectory || isDirectory) pending.push({ path, hash, isInOld: wasDirectory, isInNew: isDirectory });
			const note = (what: ImageChange["what"]) =>
				this.#changes.push({ lower: index, path, hash: hash.toString("latin1"), what, isDirectory: isThere ? isDirectory : wasDirectory });
			const hasType = wasThere && isThere && oldStat.type === newStat.type;
			const isSame = hasType && (isDirectory || this.#isSame(oldFd, newFd, name, oldStat, newStat));
			if (isSame) this.same++;
			else note(!wasThere ? "added" : isThere ? "changed" : "removed");
			if (!isThere || isDirectory) continue;
			const newCheck = checkOfStat(newStat);
			if (isSame) {
				const oldCheck = checkOfStat(oldStat);
				const shown = oldRows?.shown(hash, oldCheck) ?? oldCheck;
				if (!newCheck.equals(shown)) newRows?.add(hash, shown, newCheck);
			} else {
				// some image before may have had another file there with the attributes of this one
				newRows?.add(hash, randomBytes(CHECK_BYTES), newCheck);
			}
		}
		if (oldFd !== null) close(oldFd);
		if (newFd !== null) close(newFd);
	}

	#isSame(oldFd: number, newFd: number, name: Buffer, before: Stat, now: Stat): boolean {
		if (before.type === FileType.lnk) {
			if (this.#options.sameBy === "mtime+size" && !hasSameTime(before, now)) return false;
			const was = must(readLinkAt(oldFd, name), "Cannot read a symlink of the image that was served");
			return was.equals(must(readLinkAt(newFd, name), "Cannot read a symlink of the new image"));
		}
		if (before.type !== FileType.reg) return before.rdevMajor === now.rdevMajor && before.rdevMinor === now.rdevMinor;
		if (before.size !== now.size) return false;
		return this.#options.sameBy === "content" ? isSameContent(oldFd, newFd, name) : hasSameTime(before, now);
	}

	/** Looks through upper for what hides the changes: copies of what has changed, and names that stand before what was added. */
	hidden(upper: Layer): ImageChange[] {
		const hiders = this.#hidersIn(upper);
		return this.#changes.map(({ lower, path, hash, what, isDirectory }) => {
			const uuid = this.#homeUuids[lower] ?? "";
			const hiddenBy = hiders.copies.get(`${uuid}:${hash}`) ?? hiderOf(hiders, path, isDirectory);
			return { lower, path: `/${showName(path)}`, what, hiddenBy };
		});
	}

	#hidersIn(upper: Layer): Hiders {
		const hiders: Hiders = { copies: new Map(), objects: new Map(), directories: new Map(), ends: new Map(), moved: new Set() };
		const { xattr } = upper;
		const stat = new Stat();
		// `below`: by what path the content of a directory goes on in lowers
		walkTree(upper, { below: EMPTY as Buffer | null }, (directory, name) => {
			const { below } = directory.state;
			const path = pathBelow(directory.path, name);
			const child = openAt(directory.fd, name, O.path | O.nofollow);
			if (child < 0) throw new LayerError(`Cannot open ${upper.path}/${showName(path)}: ${whyNot(child)}.`);
			try {
				fstat(child, stat);
				const place = below === null ? null : pathBelow(below, name);
				const shown = `/${showName(path)}`;
				if (stat.type === FileType.dir) return { below: noteDirectory(hiders, upper, child, shown, below, place) };
				if (place !== null) hiders.objects.set(place.toString("latin1"), shown);
				const origin = getXattr(child, xattr.origin);
				for (const uuid of this.#homeUuids) {
					if (uuid === undefined || typeof origin === "number") continue;
					const id = decodeRecord(recordIn(origin), Buffer.from(uuid, "hex"));
					if (id !== null) hiders.copies.set(`${uuid}:${id.bytes.toString("latin1", 0, HASH_BYTES)}`, shown);
				}
				return null;
			} finally {
				close(child);
			}
		});
		return hiders;
	}

	/** They count no more: the registry names others. */
	removeOldRows(): void {
		for (const path of this.#oldRows) rmSync(path, { recursive: true, force: true });
	}
}

/** What in upper hides something of a lower, by its path there; `copies` by home and id. */
interface Hiders {
	/** Files that were copied up, by the uuid of the home and the first bytes of the id. */
	readonly copies: Map<string, string>;
	/** Names of anything but directories, whiteouts among it. */
	readonly objects: Map<string, string>;
	/** Directories, which hide what is none. */
	readonly directories: Map<string, string>;
	/** Directories that do not go on under this path: opaque, or moved here. */
	readonly ends: Map<string, string>;
	/** Paths of directories that clients see elsewhere. */
	readonly moved: Set<string>;
}

/** By what path the content of a directory of upper goes on in lowers; null: it does not. */
function noteDirectory(
	hiders: Hiders,
	{ xattr }: Layer,
	fd: number,
	shown: string,
	above: Buffer | null,
	place: Buffer | null,
): Buffer | null {
	const redirect = getXattr(fd, xattr.redirect);
	const opaque = getXattr(fd, xattr.opaque);
	const isOpaque = typeof opaque !== "number" && opaque.toString("latin1") === "y";
	if (place !== null) {
		hiders.directories.set(place.toString("latin1"), shown);
		if (isOpaque || typeof redirect !== "number") hiders.ends.set(place.toString("latin1"), shown);
	}
	if (isOpaque) return null;
	if (typeof redirect === "number") return place;
	const isAbsolute = redirect[0] === SEPARATOR[0];
	const target = isAbsolute ? redirect.subarray(1) : above === null ? null : pathBelow(above, redirect);
	if (target !== null) hiders.moved.add(target.toString("latin1"));
	return target;
}

/** What in upper has the place of a path, or of a directory above it. */
function hiderOf(hiders: Hiders, path: Buffer, isDirectory: boolean): string | null {
	const exact = isDirectory ? undefined : hiders.directories.get(path.toString("latin1"));
	if (exact !== undefined) return exact;
	for (let end = path.length; end > 0; end = path.lastIndexOf(SEPARATOR, end - 1)) {
		const name = path.toString("latin1", 0, end);
		if (hiders.moved.has(name)) return null;
		const hider = hiders.objects.get(name) ?? hiders.ends.get(name);
		if (hider !== undefined) return hider;
	}
	return null;
}

/** Archives often keep whole seconds only. */
function hasSameTime(one: Stat, other: Stat): boolean {
	if (one.mtimeSec !== other.mtimeSec) return false;
	return one.mtimeNsec === other.mtimeNsec || one.mtimeNsec === 0 || other.mtimeNsec === 0;
}

const BUFFER_BYTES = 1024 * 1024;

function isSameContent(oldFd: number, newFd: number, name: Buffer): boolean {
	const [a, b] = [openAt(oldFd, name, O.rdonly | O.nofollow | O.noatime), openAt(newFd, name, O.rdonly | O.nofollow | O.noatime)];
	try {
		if (a < 0 || b < 0) throw new LayerError(`Cannot read ${showName(name)} to compare it: ${whyNot(a < 0 ? a : b)}.`);
		const [bufferA, bufferB] = [allocate(BUFFER_BYTES), allocate(BUFFER_BYTES)];
		for (let at = 0; ; ) {
			const [countA, countB] = [readInto(a, bufferA.address, BUFFER_BYTES, at), readInto(b, bufferB.address, BUFFER_BYTES, at)];
			if (countA < 0 || countB < 0)
				throw new LayerError(`Cannot read ${showName(name)} to compare it: ${whyNot(Math.min(countA, countB))}.`);
			if (countA !== countB || !bufferA.bytes.subarray(0, countA).equals(bufferB.bytes.subarray(0, countB))) return false;
			if (countA === 0) return true;
			at += countA;
		}
	} finally {
		if (a >= 0) close(a);
		if (b >= 0) close(b);
	}
}
