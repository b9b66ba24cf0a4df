// Whether an object of the overlay differs from what the base has in its place: in content, or in owner, mode and attributes alone.

import type { Real } from "../../layer/real.ts";
import { readInto } from "../../linux/data.ts";
import { type AddressedBytes, allocate } from "../../linux/memory.ts";
import { readLinkAt } from "../../linux/names.ts";
import { Stat } from "../../linux/stat.ts";
import { Pending } from "../../vfs/errors.ts";
import { FileType } from "../../vfs/operations.ts";
import { must } from "../../vfs/system-errors.ts";
import { dataOfReal } from "../data/data-files.ts";
import type { Engine } from "../engine/engine.ts";
import { nextTurn } from "../engine/turns.ts";
import { statOf } from "../lookup/stat.ts";
import { identityKey, type Node } from "../nodes/node.ts";
import { recordOf } from "../nodes/reals.ts";
import { shownValues } from "../operations/extended-attributes.ts";

/** What differs, the most of it. */
export type Difference = "none" | "metadata" | "content";

export interface CompareOptions {
	/** Whether files of one size and different times are read. */
	readonly isExact: boolean;
	/** Names of the records of files that are copied up in part, where no server of ours has them in memory. */
	readonly partial: ReadonlySet<string>;
	/** How far two files were found equal whose reading goes on in a later turn. */
	readonly reading: { key: string; offset: number };
}

/** Attributes of what the base has, as clients would see them. */
export function statOfBase(engine: Engine, base: Real): Stat {
	const stat = new Stat();
	must(base.layer.stat(engine.descriptors.path(base), stat), "Cannot read attributes in a layer");
	return stat;
}

/** Compares two objects of one type. What a directory holds is not looked at. */
export function compareObjects(engine: Engine, node: Node, base: Real, baseStat: Stat, options: CompareOptions): Difference {
	// an untouched one, or one whose data and attributes are still those
	if (node.top.key === base.key) return "none";
	const stat = statOf(engine, node);
	if (node.type === FileType.reg && isOtherContent(engine, node, stat, base, baseStat, options)) return "content";
	if (node.type === FileType.lnk && !linkTarget(engine, node.top).equals(linkTarget(engine, base))) return "content";
	const isDevice = node.type === FileType.chr || node.type === FileType.blk;
	if (isDevice && (stat.rdevMajor !== baseStat.rdevMajor || stat.rdevMinor !== baseStat.rdevMinor)) return "content";
	if (stat.uid !== baseStat.uid || stat.gid !== baseStat.gid) return "metadata";
	if (node.type !== FileType.lnk && (stat.mode & 0o7777) !== (baseStat.mode & 0o7777)) return "metadata";
	return attributesKey(engine, node.top) === attributesKey(engine, base) ? "none" : "metadata";
}

function isOtherContent(
	engine: Engine,
	node: Node,
	stat: Stat,
	base: Real,
	baseStat: Stat,
	{ isExact, partial, reading }: CompareOptions,
): boolean {
	if (stat.size !== baseStat.size) return true;
	const isPartial = engine.partials === null ? partial.has(recordOf(node.top).toString("hex")) : engine.partials.of(node) !== null;
	if (isPartial) return true;
	const data = dataOfReal(engine, node.top);
	const baseData = dataOfReal(engine, base);
	if (data.key === baseData.key) return false;
	const isOfSameTime = hasSameTime(stat, baseStat);
	if (isOfSameTime && node.key === identityKey(base.layer.home, base.handle)) return false;
	// another file may have that time too, of a clock that is coarse or set back
	return !(isExact || isOfSameTime) || !isSameData(engine, data, baseData, reading);
}

export function hasSameTime(one: Stat, other: Stat): boolean {
	return one.mtimeSec === other.mtimeSec && one.mtimeNsec === other.mtimeNsec;
}

const CHUNK_BYTES = 256 * 1024;
/** Of each of two files that are compared: a few ms where they are in memory. */
const BYTES_PER_TURN = 16 * CHUNK_BYTES;
let chunks: readonly [AddressedBytes, AddressedBytes] | null = null;

/** Throws Pending where it is more than a turn's work: `reading` tells the next pass where to go on. */
function isSameData(engine: Engine, one: Real, other: Real, reading: CompareOptions["reading"]): boolean {
	const key = `${one.key} ${other.key}`;
	const start = reading.key === key ? reading.offset : 0;
	for (let offset = start; ; offset += CHUNK_BYTES) {
		if (offset >= start + BYTES_PER_TURN) {
			Object.assign(reading, { key, offset });
			throw new Pending(nextTurn());
		}
		const count = compareChunk(engine.descriptors.data(one, false), engine.descriptors.data(other, false), offset);
		if (count === CHUNK_BYTES) continue;
		reading.key = "";
		return count >= 0;
	}
}

export function linkTarget(engine: Engine, real: Real): Buffer {
	return must(readLinkAt(engine.descriptors.path(real), ""), "Cannot read a symlink");
}

/** All extended attributes that clients can see, in one text. */
function attributesKey(engine: Engine, real: Real): string {
	const pairs = shownValues(engine, engine.descriptors.path(real)).map(
		({ name, value }) => `${name.toString("hex")}=${value.toString("hex")}`,
	);
	return pairs.sort().join(" ");
}

/** Whether two files hold the same bytes; read to their end, or to where they differ. OverlayError. */
export function isSameContent(one: number, other: number): boolean {
	for (let offset = 0; ; offset += CHUNK_BYTES) {
		const count = compareChunk(one, other, offset);
		if (count < CHUNK_BYTES) return count >= 0;
	}
}

/** How many bytes at an offset are the same in both, at most a chunk and less at their end; -1: they differ. */
function compareChunk(one: number, other: number, offset: number): number {
	chunks ??= [allocate(CHUNK_BYTES), allocate(CHUNK_BYTES)];
	const [a, b] = chunks;
	const count = must(readInto(one, a.address, CHUNK_BYTES, offset), "Cannot read a file");
	const otherCount = must(readInto(other, b.address, CHUNK_BYTES, offset), "Cannot read a file");
	return count === otherCount && a.bytes.subarray(0, count).equals(b.bytes.subarray(0, count)) ? count : -1;
}
