// Keeps the ids that objects of lowers had before their export was rebound.

import { RecentMap } from "../collections/recent-map.ts";
import { ERRNO } from "../linux/errno.ts";
import type { FileHandle } from "../linux/file-handle.ts";
import type { Trail } from "./handle-provider.ts";
import { namesInPath } from "./path-search.ts";
import { checkIn, PORTABLE } from "./portable-id.ts";
import type { ReboundRow, ReboundRows } from "./rebound-rows.ts";

const KNOWN_MAX = 65_536;

/** The part of a lower with path ids that it takes to go on with the ids of before. */
export interface PathLower {
	pathIdOf(path: Buffer): FileHandle;
	openRow(row: ReboundRow, flags: number): number;
	trailOf(names: readonly Buffer[]): Trail;
	ofOwn(fd: number): FileHandle | number;
}

interface Known {
	readonly row: ReboundRow;
	/** Of its path, once asked for. */
	pathId: FileHandle | null;
}

/**
 * The lowers of a home whose objects had kernel handles before `holdfast rebind`, and keep them as ids wherever the layers are now: rows lead
 * from paths to those and back. Layers are numbered by their place in the home.
 */
export class Rebound {
	readonly #rows: ReboundRows;
	readonly #layers: readonly PathLower[];
	/** By id. */
	readonly #known = new RecentMap<string, Known>(KNOWN_MAX);

	constructor(rows: ReboundRows, layers: readonly PathLower[]) {
		this.#rows = rows;
		this.#layers = layers;
	}

	/** The id of an object with this path. */
	known(layer: PathLower, id: FileHandle): FileHandle {
		const row = this.#rows.byPath(this.#layers.indexOf(layer), id.bytes);
		// another object is in its place now, which the old handles do not name
		if (row === null || !row.check.equals(checkIn(id.bytes))) return id;
		this.#known.set(keyOf(row.handle), { row, pathId: id });
		return row.handle;
	}

	/** Of a directory of this layer; null: there is none of this id. */
	pathIdOf(layer: PathLower, handle: FileHandle): FileHandle | null {
		if (handle.type === PORTABLE.path) return handle;
		const known = this.#find(handle);
		if (known === null || this.#layers[known.row.layer] !== layer) return null;
		known.pathId ??= layer.pathIdOf(known.row.path);
		return known.pathId;
	}

	rowOf(handle: FileHandle): ReboundRow | null {
		return this.#find(handle)?.row ?? null;
	}

	open(handle: FileHandle, flags: number): number {
		const row = this.rowOf(handle);
		return row === null ? -ERRNO.ESTALE : this.#layers[row.layer].openRow(row, flags);
	}

	trail(handle: FileHandle): Trail | null {
		const row = this.rowOf(handle);
		return row === null ? null : this.#layers[row.layer].trailOf(namesInPath(row.path));
	}

	/** The id of an inode that may lie in another layer of the home. */
	ofSibling(layer: PathLower, fd: number): FileHandle | number {
		for (const other of this.#layers) {
			const id = other === layer ? -ERRNO.ESTALE : other.ofOwn(fd);
			if (typeof id !== "number") return id;
		}
		return -ERRNO.ESTALE;
	}

	#find(handle: FileHandle): Known | null {
		const key = keyOf(handle);
		const known = this.#known.get(key);
		if (known !== undefined) return known;
		const row = this.#rows.byHandle(handle);
		if (row === null) return null;
		const found = { row, pathId: null };
		this.#known.set(key, found);
		return found;
	}
}

function keyOf({ type, bytes }: FileHandle): string {
	return String.fromCharCode(type) + bytes.toString("latin1");
}
