// Reads, writes and cuts files of upper that do not have all of their data yet.

import type { AddressedBytes } from "../../linux/memory.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { FileType, type SetAttributes } from "../../vfs/operations.ts";
import { must } from "../../vfs/system-errors.ts";
import { dataOf, keepData, unmarkMetacopy } from "../data/data-files.ts";
import type { PartialFile } from "../data/partial-file.ts";
import type { Partials } from "../data/partials.ts";
import type { Engine } from "../engine/engine.ts";
import type { Node } from "../nodes/node.ts";
import { recordOf } from "../nodes/reals.ts";
import { readData } from "../threads/read-data.ts";
import { ensureData } from "./ensure-data.ts";

function isMetacopyNode(engine: Engine, node: Node): boolean {
	if (node.type !== FileType.reg || !node.isUpper || !node.top.layer.mayHoldMetacopies) return false;
	return dataOf(engine, node) !== node.top;
}

/**
 * Reads a file of upper that has not all of its data; -1: it has. Where the data of the lower is shorter than the file it goes on in
 * zeros: there is nothing else that it ever had.
 */
export function readMetacopy(engine: Engine, node: Node, offset: number, length: number, into: AddressedBytes, at: number): number {
	const partial = engine.partials?.of(node) ?? null;
	if (partial === null && dataOf(engine, node) === node.top) return -1;
	for (let count = 0; count < length; ) {
		const address = into.address + at + count;
		const got =
			partial === null
				? readData(engine, dataOf(engine, node), address, length - count, offset + count)
				: (engine.partials as Partials).read(partial, node.top, offset + count, length - count, address);
		if (got === 0) {
			into.bytes.fill(0, at + count, at + length);
			break;
		}
		count += got;
	}
	return length;
}

/** Makes an upper file ready for a write to it; null where it has all its data. Pending until the write may be made. */
export function prepareWrite(engine: Engine, node: Node, size: number, offset: number, length: number): PartialFile | null {
	const { partials } = engine;
	const known = partials?.of(node) ?? null;
	if (partials === null || (known === null && !isMetacopyNode(engine, node))) return null;
	const file = known ?? begin(engine, partials, node);
	if (file !== null) partials.prepareWrite(file, size, offset, length);
	return file;
}

/** Null: it has all its data now. */
function begin(engine: Engine, partials: Partials, node: Node): PartialFile | null {
	const data = dataOf(engine, node);
	const stat = new Stat();
	must(fstat(engine.descriptors.path(node.top), stat), "Cannot read an upper file");
	if (stat.size === 0) {
		forgetData(engine, node);
		return null;
	}
	if (stat.size >= partials.limits.bytesMin) return partials.begin(node.top, data, node);
	ensureData(engine, node);
	engine.dataFiles.delete(recordOf(node.top));
	return null;
}

/** A file that was cut off to nothing has nothing of the lower's any more. */
function forgetData(engine: Engine, node: Node): void {
	const fd = engine.descriptors.path(node.top);
	unmarkMetacopy(engine, fd);
	engine.dataFiles.delete(recordOf(node.top));
	node.data = node.top;
}

/** To be called before attributes are changed. Pending. */
export function preparePartial(engine: Engine, node: Node, size: number, change: SetAttributes): void {
	const { partials } = engine;
	if (partials === null || !node.isUpper) return;
	const known = partials.of(node);
	if (known !== null && (change.mtime !== undefined || change.atime !== undefined)) partials.prepareTimes(known);
	if (change.size === undefined || change.size === size) return;
	if (known !== null) partials.prepareSize(known, size, change.size);
	else if (change.size > size && isMetacopyNode(engine, node)) partials.prepareSize(beginToGrow(engine, partials, node), size, change.size);
	// to be smaller, a file without data needs none; but the kernel would go on to the end of the lower's
	else keepData(engine, node);
}

function beginToGrow(engine: Engine, partials: Partials, node: Node): PartialFile {
	return partials.begin(node.top, dataOf(engine, node), node);
}

/** To be called when attributes have been changed. */
export function notePartial(engine: Engine, node: Node, change: SetAttributes): void {
	const { partials } = engine;
	if (partials === null || !node.isUpper) return;
	const file = partials.of(node);
	if (file === null) return;
	if (change.size !== undefined) partials.noteSize(file, change.size);
	partials.noteChanged(file, change.size !== undefined || change.mtime !== undefined);
}
