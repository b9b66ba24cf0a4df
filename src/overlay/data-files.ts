import type { Layer } from "../layer/layer.ts";
import { Real } from "../layer/real.ts";
import { changeTimes } from "../linux/attributes.ts";
import { ENODATA } from "../linux/errno.ts";
import { close, O, openAt, openBeneath, RESOLVE } from "../linux/open.ts";
import { fstat, Stat } from "../linux/stat.ts";
import { getXattr, removeXattr, setXattr } from "../linux/xattr.ts";
import { startCopy } from "./copy-up.ts";
import { type Engine, must, realOf, recordOf } from "./engine.ts";
import { OverlayError, Pending } from "./errors.ts";
import { decodeRecord } from "./identity.ts";
import { findInStack, redirectNames } from "./lookup.ts";
import type { Node } from "./node.ts";
import { RecordMap } from "./record-map.ts";
import { FileType } from "./types.ts";

/** The kernel ends at chains of layers; a longer one was not made by it. */
const CHAIN_MAX = 500;
const SLASH = 0x2f;

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
	get(engine: Engine, file: Real): Real | null | undefined {
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

	/** Records of the files of which something is known. */
	list(): Buffer[] {
		return this.#map.list();
	}

	delete(record: Buffer): void {
		this.#map.delete(record);
	}

	#open(engine: Engine, value: Buffer): Real | null {
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

export function isMetacopy(engine: Engine, fd: number): boolean {
	return typeof getXattr(fd, engine.xattr.metacopy) !== "number";
}

/** The real file that holds the data of a regular file: itself, or for a metacopy file one further down. OverlayError where that is lost. */
export function dataOf(engine: Engine, node: Node): Real {
	node.data ??= dataOfReal(engine, node.top);
	return node.data;
}

export function dataOfReal(engine: Engine, file: Real): Real {
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
export function keepData(engine: Engine, node: Node): void {
	if (node.type !== FileType.reg || !node.isUpper || !node.top.layer.mayHoldMetacopies) return;
	const data = dataOf(engine, node);
	if (data !== node.top && !engine.dataFiles.isOurs(node.top)) engine.dataFiles.set(node.top, data, true);
}

/** What `security.capability` was before a write took it away; put back when the data is complete. */
const CAPABILITY = "security.capability";

/** Makes an upper file hold its own data. Copied off the main thread: Pending until it is there. A crash leaves a metacopy file, to be begun again. */
export function ensureData(engine: Engine, node: Node): void {
	if (node.type !== FileType.reg || !node.isUpper || !node.top.layer.mayHoldMetacopies) return;
	const data = dataOf(engine, node);
	if (data === node.top) return;
	const job = node.copyUp;
	const fd = engine.descriptors.path(node.top);
	const kept = `${engine.xattr.identity}.capability`;
	if (job === null) {
		const stat = new Stat();
		must(fstat(fd, stat), "Cannot read an upper file");
		const capability = getXattr(fd, CAPABILITY);
		if (typeof capability !== "number") must(setXattr(fd, kept, capability), "Cannot keep the capabilities of a file");
		const from = must(data.layer.handles.open(data.handle, O.rdonly | O.noatime), "Cannot open a lower file");
		const to = node.top.layer.handles.open(node.top.handle, O.rdwr | O.nofollow);
		if (to < 0) close(from);
		throw new Pending(startCopy(engine, node, null, must(to, "Cannot open an upper file"), from, stat));
	}
	if (job.state === "running") throw new Pending(job.ready);
	node.copyUp = null;
	close(job.fd);
	node.stat = null;
	if (job.error !== null) throw job.error;
	const capability = getXattr(fd, kept);
	if (typeof capability !== "number") must(setXattr(fd, CAPABILITY, capability), "Cannot set the capabilities of a file");
	changeTimes(fd, { sec: job.before.atimeSec, nsec: job.before.atimeNsec }, { sec: job.before.mtimeSec, nsec: job.before.mtimeNsec });
	unmarkMetacopy(engine, fd);
	removeIfThere(fd, kept);
	node.data = node.top;
}

/** Makes it an ordinary file. The mark goes last: until then the next start begins again, and our note says where the data is. */
export function unmarkMetacopy(engine: Engine, fd: number): void {
	removeIfThere(fd, engine.xattr.redirect);
	removeIfThere(fd, engine.xattr.metacopy);
}

function removeIfThere(fd: number, name: string): void {
	const status = removeXattr(fd, name);
	if (status !== -ENODATA) must(status, `Cannot remove ${name}`);
}

/**
 * What a metacopy file takes its data from, by its path as the kernel does: `layer` is its own, `parents` are the parts of its
 * directory in the layers below, `fd` is the file. It may be a metacopy file again. Null when there is nothing.
 */
export function findData(engine: Engine, layer: Layer, parents: readonly Real[], name: Uint8Array, fd: number): Real | null {
	const redirect = getXattr(fd, engine.xattr.redirect);
	if (typeof redirect === "number") return regular(findInStack(engine, parents, name));
	const names = redirectNames(redirect);
	if (redirect[0] !== SLASH) return regular(findInStack(engine, parents, names[0]));
	const roots = engine.nodes.root.reals.slice(engine.layers.indexOf(layer) + 1);
	return followPath(engine, roots, names) ?? inDataLayers(engine, names);
}

function regular(found: { readonly reals: readonly Real[]; readonly stat: Stat } | null): Real | null {
	return found !== null && found.stat.type === FileType.reg ? found.reals[0] : null;
}

function followPath(engine: Engine, roots: readonly Real[], names: readonly Buffer[]): Real | null {
	let parents = roots;
	for (const name of names.slice(0, -1)) {
		const found = findInStack(engine, parents, name);
		if (found === null || found.stat.type !== FileType.dir) return null;
		parents = found.reals;
	}
	return regular(findInStack(engine, parents, names[names.length - 1]));
}

function inDataLayers(engine: Engine, names: readonly Buffer[]): Real | null {
	const stat = new Stat();
	for (const layer of engine.dataFiles.layers) {
		let fd = openAt(layer.root, ".", O.path | O.directory);
		for (const name of names) {
			if (fd < 0) break;
			const next = openBeneath(fd, name, O.path | O.nofollow, RESOLVE.beneath | RESOLVE.noSymlinks | RESOLVE.noXdev);
			close(fd);
			fd = next;
		}
		if (fd < 0) continue;
		try {
			must(fstat(fd, stat), "Cannot read a file of a data layer");
			if (stat.type === FileType.reg) return realOf(layer, fd, stat);
		} finally {
			close(fd);
		}
	}
	return null;
}
