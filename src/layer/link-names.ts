// Records which names in a lower lead to one file, for ids that are made of paths.

import { mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { syncFile } from "../linux/data.ts";
import { ERRNO, whyNot } from "../linux/errno.ts";
import { makeSymlink } from "../linux/names.ts";
import { close, O, openPath } from "../linux/open.ts";
import { isRunning } from "../linux/processes.ts";
import { pathExists } from "../linux/read-file.ts";
import { Stat } from "../linux/stat.ts";
import { LayerError } from "./layer-error.ts";
import { namesInPath, pathBelow } from "./path-search.ts";
import { HASH_BYTES, hashBelow, LOWER_ROOT } from "./portable-id.ts";
import { recordOrNone, seal } from "./sealed-record.ts";
import { statListed, type WalkedTree, walkTree } from "./walk-tree.ts";

/** S_IFDIR >> 12. */
const DIRECTORY = 4;
/** What fits into the target of a symlink beside the count. */
const PATH_BYTES_MAX = 4000;
/** Files whose further names are looked for at a time: 50 MB. Where a lower has more, it is walked again for the others. */
const UNFINISHED_MAX = 200_000;

/** A file of a lower that has several names there: the names of the byte-wise least path of them, and how many there are. */
export interface LinkedFile {
	readonly path: readonly Buffer[];
	readonly names: number;
}

/** Which names of a lower lead to one file, where ids are paths. Found by one walk, and never changed. */
export abstract class LinkNames {
	/** By the first bytes of a name's id, in hex: the count, a colon and the least path. */
	protected abstract text(key: string): Buffer | null;

	abstract close(): void;

	/** Null: no other name leads to the same file. */
	get(id: Buffer): LinkedFile | null {
		const text = this.text(id.toString("hex", 0, HASH_BYTES));
		const colon = text?.indexOf(0x3a) ?? -1;
		if (text === null || colon < 1) return null;
		const names = Number.parseInt(text.toString("latin1", 0, colon), 10);
		return Number.isInteger(names) && names > 0 ? { path: namesInPath(text.subarray(colon + 1)), names } : null;
	}

	/** Whether the file of an id, which has several names, is known by another of them. */
	isOther(id: Buffer): boolean {
		const linked = this.get(id);
		return linked !== null && !hashOf(linked.path).equals(id.subarray(0, HASH_BYTES));
	}
}

/** Kept in a folder with a symlink for each such name. */
export class KeptLinkNames extends LinkNames {
	readonly #fd: number;

	constructor(folder: string) {
		super();
		this.#fd = openPath(folder, O.rdonly | O.directory);
		if (this.#fd < 0) throw new LayerError(`Cannot open ${folder}: ${whyNot(this.#fd, folder)}.`);
	}

	protected override text(key: string): Buffer | null {
		const text = recordOrNone(this.#fd, key, (text) => /^[1-9]\d*:./s.test(text));
		return text === null ? null : Buffer.from(text, "latin1");
	}

	override close(): void {
		close(this.#fd);
	}
}

/** In memory, for who may not keep them. */
export class HeldLinkNames extends LinkNames {
	readonly #rows: ReadonlyMap<string, Uint8Array>;

	constructor(rows: ReadonlyMap<string, Uint8Array>) {
		super();
		this.#rows = rows;
	}

	protected override text(key: string): Buffer | null {
		const row = this.#rows.get(key);
		return row === undefined ? null : Buffer.from(row);
	}

	override close(): void {}
}

function hashOf(path: readonly Buffer[]): Buffer {
	return path.reduce((above, name) => hashBelow(above, name), LOWER_ROOT.bytes.subarray(0, HASH_BYTES));
}

export function hasLinkNames(folder: string): boolean {
	return pathExists(folder);
}

/** What a walk for names of one file has found. */
export interface FoundLinkNames {
	/** Files of several names. */
	readonly files: number;
	/** What could not be kept in the folder; null: it is there. */
	readonly held: ReadonlyMap<string, Uint8Array> | null;
}

/** Takes the rows of `LinkNames` as they are found. False: it has this one, for the same may come twice. */
type Sink = (key: string, text: Buffer) => boolean;

/** The folder cannot be written to. */
class CannotKeep extends Error {}

/**
 * Walks a lower once for its files of several names. They are kept in a folder that is there when all are; where it is null, or cannot be written,
 * they are held in memory. LayerError: a part of the lower cannot be read.
 */
export function findLinkNames(
	lower: WalkedTree,
	folder: string | null,
	progress: (directories: number) => void,
	unfinishedMax = UNFINISHED_MAX,
): FoundLinkNames {
	try {
		if (folder !== null) return { files: keepLinkNames(lower, folder, progress, () => false, unfinishedMax), held: null };
	} catch (error) {
		if (!(error instanceof CannotKeep)) throw error;
	}
	const held = new Map<string, Uint8Array>();
	const files = walkForLinks(
		lower,
		progress,
		() => false,
		unfinishedMax,
		(key, text) => {
			const isNew = !held.has(key);
			held.set(key, text);
			return isNew;
		},
	);
	return { files, held };
}

export function openLinkNames(folder: string, { held }: FoundLinkNames): LinkNames {
	return held === null ? new KeptLinkNames(folder) : new HeldLinkNames(held);
}

/**
 * As findLinkNames, into the folder or not at all. `isPreferred`: a name by which clients know a file already, from the image that was here before;
 * it takes precedence over the least one. LayerError: a part of the lower cannot be read, or the folder not be written; it is not there then.
 */
export function noteLinkNames(
	lower: WalkedTree,
	folder: string,
	progress: (directories: number) => void,
	isPreferred: (path: Buffer, hash: Buffer) => boolean = () => false,
): number {
	try {
		return keepLinkNames(lower, folder, progress, isPreferred, UNFINISHED_MAX);
	} catch (error) {
		throw error instanceof CannotKeep ? new LayerError(`${error.message}.`) : error;
	}
}

function keepLinkNames(
	lower: WalkedTree,
	folder: string,
	progress: (directories: number) => void,
	isPreferred: (path: Buffer, hash: Buffer) => boolean,
	unfinishedMax: number,
): number {
	const aside = `${folder}.${process.pid}.new`;
	let list = -1;
	try {
		list = openAside(folder, aside);
		const files = walkForLinks(lower, progress, isPreferred, unfinishedMax, (key, text) => {
			const status = makeSymlink(seal(key, text), list, key);
			if (status < 0 && status !== -ERRNO.EEXIST) throw new CannotKeep(`Cannot write to ${aside}: ${whyNot(status, aside)}`);
			return status === 0;
		});
		const status = syncFile(list);
		if (status < 0) throw new CannotKeep(`Cannot flush ${aside}: ${whyNot(status, aside)}`);
		publish(aside, folder);
		return files;
	} finally {
		if (list >= 0) close(list);
		if (pathExists(aside)) rmSync(aside, { recursive: true, force: true });
	}
}

/** Makes the folder that is written first. What walks that were interrupted have left goes; another server of a read-only export may be at the same one. */
function openAside(folder: string, aside: string): number {
	try {
		mkdirSync(dirname(folder), { recursive: true, mode: 0o700 });
		for (const name of readdirSync(dirname(folder))) {
			const pid = name.startsWith(basename(folder)) ? /\.(\d+)\.new$/.exec(name)?.[1] : undefined;
			if (name === `${basename(folder)}.new` || (pid !== undefined && !isRunning(Number(pid))))
				rmSync(join(dirname(folder), name), { recursive: true, force: true });
		}
		rmSync(aside, { recursive: true, force: true });
		mkdirSync(aside, { mode: 0o700 });
	} catch (error) {
		throw new CannotKeep(`Cannot make ${aside}: ${whyNot((error as NodeJS.ErrnoException).errno ?? 0, aside)}`);
	}
	const list = openPath(aside, O.rdonly | O.directory);
	if (list < 0) throw new CannotKeep(`Cannot open ${aside}: ${whyNot(list, aside)}`);
	return list;
}

function publish(aside: string, folder: string): void {
	try {
		renameSync(aside, folder);
	} catch (error) {
		// what another server found is the same
		if (!hasLinkNames(folder))
			throw new CannotKeep(`Cannot make ${folder}: ${whyNot((error as NodeJS.ErrnoException).errno ?? 0, folder)}`);
	}
}

interface Place {
	readonly path: Buffer;
	readonly hash: Buffer;
}

/** Inodes of one of so many classes, for the walk of a lower that has too many for one. */
interface Part {
	readonly count: number;
	readonly number: number;
}

/** The number of files of several names that a lower has. What has all its names is given away at once, so that memory is for the others only. */
function walkForLinks(
	lower: WalkedTree,
	progress: (directories: number) => void,
	isPreferred: (path: Buffer, hash: Buffer) => boolean,
	unfinishedMax: number,
	sink: Sink,
): number {
	const parts: Part[] = [{ count: 1, number: 0 }];
	const give = (places: readonly Place[]) => {
		const preferred = places.filter(({ path, hash }) => isPreferred(path, hash));
		const least = (preferred.length > 0 ? preferred : places).reduce((one, other) =>
			Buffer.compare(other.path, one.path) < 0 ? other : one,
		);
		const text = Buffer.concat([Buffer.from(`${places.length}:`), least.path]);
		let isNew = false;
		for (const { hash } of places) isNew = sink(hash.toString("hex"), text);
		if (isNew) files++;
	};
	let files = 0;
	let directoriesBefore = 0;
	let directoriesNow = 0;
	for (let part = parts.pop(); part !== undefined; part = parts.pop()) {
		const unfinished = new Map<string, Place[]>();
		let at: Part = part;
		walkNames(
			lower,
			(directories) => {
				directoriesNow = directories;
				progress(directoriesBefore + directories);
			},
			(stat, path, hash) => {
				if (classOf(stat) % at.count !== at.number) return;
				const key = `${stat.inoHi}:${stat.inoLo}:${stat.devMajor}:${stat.devMinor}`;
				const places = unfinished.get(key) ?? [];
				places.push({ path, hash });
				if (places.length === stat.nlink) {
					give(places);
					unfinished.delete(key);
				} else unfinished.set(key, places);
				if (unfinished.size <= unfinishedMax) return;
				at = { count: at.count * 2, number: at.number };
				parts.push({ count: at.count, number: at.number + at.count / 2 });
				for (const other of unfinished.keys()) if (classOf(inodeOf(other)) % at.count !== at.number) unfinished.delete(other);
			},
		);
		directoriesBefore += directoriesNow;
		for (const places of unfinished.values()) if (places.length > 1) give(places);
	}
	return files;
}

/** Visits the names of files with several. */
function walkNames(
	lower: WalkedTree,
	progress: (directories: number) => void,
	visit: (stat: Stat, path: Buffer, hash: Buffer) => void,
): void {
	const stat = new Stat();
	walkTree(
		lower,
		LOWER_ROOT.bytes,
		(directory, name) => {
			if (!statListed(lower, directory.path, directory.fd, name, stat)) return null;
			const isDirectory = stat.type === DIRECTORY;
			if (!isDirectory && stat.nlink === 1) return null;
			const hash = hashBelow(directory.state, name);
			if (isDirectory) return hash;
			const path = pathBelow(directory.path, name);
			if (path.length <= PATH_BYTES_MAX) visit(stat, path, hash);
			return null;
		},
		progress,
	);
}

function classOf({ inoHi, inoLo }: { readonly inoHi: number; readonly inoLo: number }): number {
	return Math.imul(inoLo ^ Math.imul(inoHi, 0x85ebca6b), 0x9e3779b1) >>> 12;
}

function inodeOf(key: string): { readonly inoHi: number; readonly inoLo: number } {
	const [inoHi, inoLo] = key.split(":", 2).map(Number);
	return { inoHi, inoLo };
}
