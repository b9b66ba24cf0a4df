// Reads and judges the index.

import type { Layer } from "../../layer/layer.ts";
import { RECORD_HEADER_BYTES } from "../../layer/origin-record.ts";
import { namesOf } from "../../linux/directory.ts";
import { ERRNO } from "../../linux/errno.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { showName } from "../../vfs/names.ts";
import { FileType } from "../../vfs/operations.ts";
import { ifThere, must, unlessOfMachine } from "../../vfs/system-errors.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";
import { decodeRecord } from "../format/identity.ts";
import { isWhiteoutStat } from "../format/whiteout.ts";
import { getOrigin } from "../work/marks.ts";
import type { Check } from "./context.ts";
import type { Remedy } from "./findings.ts";
import { handle, inodeKey } from "./union.ts";

/** A lower inode that something refers to by its record. */
export interface LowerObject {
	/** A lower on its file system. */
	readonly layer: number;
	readonly handle: FileHandle;
	readonly key: string;
	readonly type: number;
	/** Names that it has, in layers and elsewhere. */
	readonly nlink: number;
	readonly inoHi: number;
	readonly inoLo: number;
}

/** What a record leads to. */
export type RecordAnswer = LowerObject | "malformed" | "foreign" | "gone";

const UUID_AT = 5;

/** The lower object of a record: value of `origin`, or name of an index entry. */
export function lowerOfRecord(lowers: readonly Layer[], record: Buffer): RecordAnswer {
	if (record.length <= RECORD_HEADER_BYTES) return "malformed";
	const uuid = record.subarray(UUID_AT, RECORD_HEADER_BYTES);
	const found = decodeRecord(record, uuid);
	if (found === null) return "malformed";
	const layer = lowers.findIndex((lower) => lower.fileSystem.uuid.equals(uuid));
	if (layer < 0) return "foreign";
	const fd = lowers[layer].handles.open(found, O.path | O.nofollow);
	if (fd === -ERRNO.ESTALE) return "gone";
	// what the file system cannot have given as a handle
	if (fd < 0) unlessOfMachine(fd, "Cannot open a lower object");
	if (fd < 0) return "malformed";
	const stat = new Stat();
	must(fstat(fd, stat), "Cannot read a lower object");
	close(fd);
	if (stat.nlink === 0) return "gone";
	const id = { type: found.type, bytes: Buffer.from(found.bytes) };
	return { layer, handle: id, key: inodeKey(stat), type: stat.type, nlink: stat.nlink, inoHi: stat.inoHi, inoLo: stat.inoLo };
}

/** An index entry that leads somewhere. */
export interface IndexEntry {
	readonly name: string;
	readonly kind: "tombstone" | "file" | "directory";
	readonly lower: LowerObject;
	/** Of the upper inode that it leads to; empty for a tombstone. */
	readonly key: string;
	/** Of that inode; null for a tombstone. */
	readonly upper: FileHandle | null;
	/** Links of the upper inode, with the one in the index. */
	readonly nlink: number;
	/** An upper directory: the walk came by it. */
	isSeen: boolean;
}

const NAME = /^(?:[0-9a-f]{2})+$/;

/** Reads the whole index, and reports the entries that lead nowhere; they are left out of the answer. */
export function readIndex(check: Check): Map<string, IndexEntry> {
	const entries = new Map<string, IndexEntry>();
	const { index, state } = check.layers;
	if (index < 0) return entries;
	for (const bytes of must(namesOf(index), "Cannot read the index")) {
		const name = bytes.toString("latin1");
		check.tell("index", entries.size);
		if (name.startsWith("#")) {
			// the kernel keeps a spare whiteout there
			if (state === "of holdfast" || !isWhiteoutAt(index, bytes)) leftoverInIndex(check, bytes);
			continue;
		}
		check.counts.indexEntries++;
		const entry = readEntry(check, bytes, name);
		if (entry !== null) entries.set(name, entry);
	}
	return entries;
}

function leftoverInIndex(check: Check, name: Buffer): void {
	check.note("leftover", `index/${showName(name)}`, "An interrupted change has left this in the index.", check.aside("index", name));
}

function isWhiteoutAt(directory: number, name: Buffer): boolean {
	const fd = openAt(directory, name, O.path | O.nofollow);
	const stat = new Stat();
	const is = fd >= 0 && fstat(fd, stat) === 0 && isWhiteoutStat(stat);
	if (fd >= 0) close(fd);
	return is;
}

function readEntry(check: Check, bytes: Buffer, name: string): IndexEntry | null {
	const path = `index/${showName(bytes)}`;
	const aside = check.aside("index", bytes);
	const lower = NAME.test(name) ? lowerOfRecord(check.layers.lowers, Buffer.from(name, "hex")) : "malformed";
	const fd = must(openAt(check.layers.index, bytes, O.path | O.nofollow), "Cannot open an index entry");
	try {
		const stat = new Stat();
		must(fstat(fd, stat), "Cannot read an index entry");
		const isTombstone = isWhiteoutStat(stat);
		if (isTombstone) check.counts.tombstones++;
		if (lower === "malformed") {
			check.error("index-name-invalid", path, "The name is not the record of a lower object in lower-case hex.", aside);
			return null;
		}
		if (lower === "foreign") {
			const message = "The entry is of an object on a file system that none of the lowers lies on.";
			check.error("index-foreign", path, message, check.ifProven(aside));
			return null;
		}
		if (lower === "gone") {
			const message = `The lower object of the entry is no longer there${isTombstone ? ", and so needs no mark that it is gone" : ""}.`;
			if (isTombstone) check.note("index-tombstone-stale", path, message, check.ifProven(check.drop("index", bytes)));
			else check.error("index-lower-gone", path, message, check.ifProven(aside));
			return null;
		}
		if (isTombstone) return { name, kind: "tombstone", lower, key: "", upper: null, nlink: 0, isSeen: false };
		if (stat.type === FileType.dir) return readDirectoryEntry(check, fd, name, path, lower, aside);
		return readFileEntry(check, fd, stat, name, path, lower, aside);
	} finally {
		close(fd);
	}
}

function readDirectoryEntry(check: Check, fd: number, name: string, path: string, lower: LowerObject, aside: Remedy): IndexEntry | null {
	const { upper, xattr } = check.layers;
	if (lower.type !== FileType.dir) {
		check.error("index-type-differs", path, "The entry is that of a directory, but the lower object is none.", aside);
		return null;
	}
	const value = xattrOrNone(fd, xattr.upper, "Cannot read an index entry");
	const id = value === null ? null : decodeRecord(value, upper.fileSystem.uuid);
	if (id === null) {
		check.error("index-upper-invalid", path, `The entry does not say which upper directory it leads to (xattr ${xattr.upper}).`, aside);
		return null;
	}
	const directory = ifThere(upper.handles.open(id, O.path | O.directory), "Cannot open the directory of an index entry");
	if (directory < 0) {
		check.error("index-upper-gone", path, "The upper directory that the entry leads to is no longer there.", aside);
		return null;
	}
	try {
		const stat = new Stat();
		must(fstat(directory, stat), "Cannot read a directory of upper");
		if (!isItsOrigin(check, directory, FileType.dir, name, path, aside)) return null;
		const ownId = handle(check.layers.upper, directory);
		return { name, kind: "directory", lower, key: inodeKey(stat), upper: ownId, nlink: stat.nlink, isSeen: false };
	} finally {
		close(directory);
	}
}

function readFileEntry(
	check: Check,
	fd: number,
	stat: Stat,
	name: string,
	path: string,
	lower: LowerObject,
	aside: Remedy,
): IndexEntry | null {
	if (lower.type !== stat.type) {
		check.error("index-type-differs", path, "The entry is of another type than the lower object.", aside);
		return null;
	}
	if (!isItsOrigin(check, fd, stat.type, name, path, aside)) return null;
	return { name, kind: "file", lower, key: inodeKey(stat), upper: handle(check.layers.upper, fd), nlink: stat.nlink, isSeen: false };
}

/** Whether the upper inode of an entry says itself that it was born as the entry's lower object; the kernel mounts no other index. */
function isItsOrigin(check: Check, fd: number, type: number, name: string, path: string, aside: Remedy): boolean {
	const { origin } = check.layers.xattr;
	const value = getOrigin({ layer: check.layers.upper, marks: check.layers.marks }, fd, type);
	const claim = typeof value === "number" ? "" : value.toString("hex");
	if (claim === name) return true;
	if (claim !== "") {
		check.error("index-names-another", path, `The entry leads to an object of upper that was born as ${claim}.`, aside);
		return false;
	}
	const id = handle(check.layers.upper, fd);
	check.error(
		"index-origin-missing",
		path,
		`The entry leads to an object of upper that does not say what it was born as (xattr ${origin}); the kernel refuses such an index.`,
		{ does: "writes the xattr, as the index has it", make: () => check.repairs.setXattr(id, origin, Buffer.from(name, "hex")) },
	);
	return true;
}
