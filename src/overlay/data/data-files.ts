// Finds the real file that holds the data of a metacopy file, from the notes in `work/holdfast/data`.

import type { Layer, OverlayXattrs } from "../../layer/layer.ts";
import { type DescriptorCache, Real } from "../../layer/real.ts";
import { ENODATA } from "../../linux/errno.ts";
import { close, O } from "../../linux/open.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { removeXattr } from "../../linux/xattr.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { FileType } from "../../vfs/operations.ts";
import { must } from "../../vfs/system-errors.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";
import { decodeRecord } from "../format/identity.ts";
import type { Node } from "../nodes/node.ts";
import { recordOf } from "../nodes/reals.ts";
import { RecordMap } from "../work/record-map.ts";

/** The kernel ends at chains of layers; a longer one was not made by it. */
const CHAIN_MAX = 500;

/**
 * Where the data of metacopy files is: regular files of an upper, or of a lower that was one, with attributes but without content. The kernel
 * finds it by the file's path; a handle has none, so adoption notes it once, in `work/holdfast/data`.
 */
export class DataFiles {
	readonly #map: RecordMap;
	/** Layers that only hold data, from the topmost down: found by absolute redirects, never seen in the tree (`::` of the kernel). */
	readonly layers: readonly Layer[];

	constructor(folder: string, layers: readonly Layer[]) {
		this.#map = new RecordMap(folder, "data");
		this.layers = layers;
	}

	get isEmpty(): boolean {
		return this.#map.isEmpty;
	}

	/** Undefined: nothing is known; null: there is no data. */
	get(engine: Pick<DataContext, "layers">, file: Real): Real | null | undefined {
		const value = this.#map.get(recordOf(file));
		if (value === null) return undefined;
		return value.length === 0 ? null : this.#open(engine, value);
	}

	/** `isOurs`: nobody else would find the data, so that it must be copied before the upper is given back. */
	set(file: Real, data: Real | null, isOurs = false): void {
		this.#map.set(recordOf(file), data === null ? Buffer.alloc(0) : recordOf(data), isOurs);
	}

	isOurs(file: Real): boolean {
		return this.#map.isMarked(recordOf(file));
	}

	/** Records of the files that have an entry. */
	list(): Buffer[] {
		return this.#map.list();
	}

	delete(record: Buffer): void {
		this.#map.delete(record);
	}

	#open(engine: Pick<DataContext, "layers">, value: Buffer): Real | null {
		for (const layer of [...engine.layers, ...this.layers]) {
			if (layer.isUpper) continue;
			const handle = decodeRecord(value, layer.fileSystem.uuid);
			if (handle === null) continue;
			const fd = layer.handles.open(handle, O.path | O.nofollow);
			if (fd < 0) return null;
			const stat = new Stat();
			const status = fstat(fd, stat);
			close(fd);
			if (status < 0 || stat.type !== FileType.reg || stat.nlink === 0) return null;
			const copy = { type: handle.type, bytes: Buffer.from(handle.bytes) };
			return new Real(layer, copy, stat.inoHi, stat.inoLo, false);
		}
		return null;
	}

	close(): void {
		this.#map.close();
	}
}

/** The part of an engine that it takes to find the data of a file. */
export interface DataContext {
	readonly layers: readonly Layer[];
	readonly xattr: OverlayXattrs;
	readonly descriptors: DescriptorCache;
	readonly dataFiles: DataFiles;
}

export function isMetacopy(engine: Pick<DataContext, "xattr">, fd: number): boolean {
	return xattrOrNone(fd, engine.xattr.metacopy, "Cannot read where the data of a file is") !== null;
}

/** The real file that holds the data of a regular file: itself, or for a metacopy file one further down. OverlayError where that is lost. */
export function dataOf(engine: DataContext, node: Node): Real {
	node.data ??= dataOfReal(engine, node.top);
	return node.data;
}

export function dataOfReal(engine: DataContext, file: Real): Real {
	let data = file;
	if (!data.layer.mayHoldMetacopies) return data;
	for (let i = 0; isMetacopy(engine, engine.descriptors.path(data)); i++) {
		const next = engine.dataFiles.get(engine, data);
		if (next === undefined) {
			throw new OverlayError(
				"io",
				`A file of ${data.layer.path} has its data in another layer (metacopy), and nobody has looked where: run holdfast adopt`,
			);
		}
		if (next === null || i === CHAIN_MAX) {
			throw new OverlayError("io", `A file of ${data.layer.path} has its data in another layer (metacopy), and it is not there`);
		}
		data = next;
		if (!data.layer.mayHoldMetacopies) break;
	}
	return data;
}

/** A metacopy file gets or changes a name: the kernel finds its data by that, and we by our note. */
export function keepData(engine: DataContext, node: Node): void {
	if (node.type !== FileType.reg || !node.isUpper || !node.top.layer.mayHoldMetacopies) return;
	const data = dataOf(engine, node);
	if (data !== node.top && !engine.dataFiles.isOurs(node.top)) engine.dataFiles.set(node.top, data, true);
}

/** Makes it an ordinary file. The mark goes last: until then the next start begins again, and our note says where the data is. */
export function unmarkMetacopy(engine: Pick<DataContext, "xattr">, fd: number): void {
	removeIfThere(fd, engine.xattr.redirect);
	removeIfThere(fd, engine.xattr.metacopy);
}

export function removeIfThere(fd: number, name: string): void {
	const status = removeXattr(fd, name);
	if (status !== -ENODATA) must(status, `Cannot remove ${name}`);
}
