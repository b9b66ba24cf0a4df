// Records which names in a lower lead to one file, for ids that are made of paths.

import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { errnoName } from "../linux/errno.ts";
import { makeSymlink, readLink } from "../linux/names.ts";
import { close, O, openPath } from "../linux/open.ts";
import { Stat } from "../linux/stat.ts";
import { LayerError } from "./layer-error.ts";
import { namesInPath, pathBelow } from "./path-search.ts";
import { HASH_BYTES, hashBelow, LOWER_ROOT } from "./portable-id.ts";
import { statListed, type WalkedTree, walkTree } from "./walk-tree.ts";

/** S_IFDIR >> 12. */
const DIRECTORY = 4;
/** What fits into the target of a symlink beside the count. */
const PATH_BYTES_MAX = 4000;

/** A file of a lower that has several names there: the names of the byte-wise least path of them, and how many there are. */
export interface LinkedFile {
	readonly path: readonly Buffer[];
	readonly names: number;
}

/**
 * Which names of a lower lead to one file, where ids are paths: a folder with a symlink for each such name, named by the first bytes of its id
 * in hex, with the count and the least path for a target. Made by a walk before the first handle is given, and never changed.
 */
export class LinkNames {
	readonly #fd: number;

	constructor(folder: string) {
		this.#fd = openPath(folder, O.rdonly | O.directory);
		if (this.#fd < 0) throw new LayerError(`Cannot open ${folder}: ${errnoName(this.#fd)}.`);
	}

	/** Null: no other name leads to the same file. */
	get(id: Buffer): LinkedFile | null {
		const text = readLink(this.#fd, id.toString("hex", 0, HASH_BYTES));
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

	close(): void {
		close(this.#fd);
	}
}

function hashOf(path: readonly Buffer[]): Buffer {
	return path.reduce((above, name) => hashBelow(above, name), LOWER_ROOT.bytes.subarray(0, HASH_BYTES));
}

export function hasLinkNames(folder: string): boolean {
	return existsSync(folder);
}

/**
 * Walks a lower and notes its files of several names in a folder that is there when all are. The number of those files. `isPreferred`: a name
 * by which clients know a file already, from the image that was here before; it takes precedence over the least one. LayerError: a part of the
 * lower cannot be read, or the folder not be written; the folder is not there then.
 */
export function noteLinkNames(
	lower: WalkedTree,
	folder: string,
	progress: (directories: number) => void,
	isPreferred: (path: Buffer, hash: Buffer) => boolean = () => false,
): number {
	const aside = `${folder}.new`;
	rmSync(aside, { recursive: true, force: true });
	mkdirSync(aside, { recursive: true, mode: 0o700 });
	const found = new Map<string, { readonly path: Buffer; readonly hash: Buffer }[]>();
	const stat = new Stat();
	walkTree(
		lower,
		LOWER_ROOT.bytes,
		(directory, name) => {
			if (!statListed(lower, directory.path, directory.fd, name, stat)) return null;
			const isDirectory = stat.type === DIRECTORY;
			if (!isDirectory && stat.nlink === 1) return null;
			const path = pathBelow(directory.path, name);
			const hash = hashBelow(directory.state, name);
			if (isDirectory) return hash;
			if (path.length <= PATH_BYTES_MAX) {
				const key = `${stat.devMajor}:${stat.devMinor}:${stat.inoHi}:${stat.inoLo}`;
				const places = found.get(key);
				if (places === undefined) found.set(key, [{ path, hash }]);
				else places.push({ path, hash });
			}
			return null;
		},
		progress,
	);
	const list = openPath(aside, O.rdonly | O.directory);
	let files = 0;
	for (const places of found.values()) {
		if (places.length === 1) continue;
		files++;
		const preferred = places.filter(({ path, hash }) => isPreferred(path, hash));
		const least = (preferred.length > 0 ? preferred : places).reduce((one, other) =>
			Buffer.compare(other.path, one.path) < 0 ? other : one,
		);
		const target = Buffer.concat([Buffer.from(`${places.length}:`), least.path]);
		for (const { hash } of places) {
			const status = makeSymlink(target, list, hash.toString("hex"));
			if (status >= 0) continue;
			close(list);
			throw new LayerError(`Cannot write to ${aside}: ${errnoName(status)}.`);
		}
	}
	close(list);
	renameSync(aside, folder);
	return files;
}
