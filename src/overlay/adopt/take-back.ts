// Takes an upper with portable ids back from the kernel: its origins and index entries name objects by the kernel's handles.

import type { Layer } from "../../layer/layer.ts";
import { UnfitError } from "../../layer/layer-error.ts";
import { recordIn } from "../../layer/origin-record.ts";
import type { PortableUpper } from "../../layer/portable-upper.ts";
import { statListed, walkTree } from "../../layer/walk-tree.ts";
import { namesOf } from "../../linux/directory.ts";
import { ERRNO } from "../../linux/errno.ts";
import { type FileHandle, handleAt } from "../../linux/file-handle.ts";
import { RENAME, removeDirectory, renameName, unlinkName } from "../../linux/names.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { Stat, statAt } from "../../linux/stat.ts";
import { getXattr, setXattr } from "../../linux/xattr.ts";
import { FileType } from "../../vfs/operations.ts";
import { must, unlessOfMachine } from "../../vfs/system-errors.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";
import { type Engine, identityOfRecord } from "../engine/engine.ts";
import { originMovedTo } from "../format/base-version.ts";
import { encodeRecord } from "../format/identity.ts";
import { isWhiteoutStat } from "../format/whiteout.ts";
import type { Writable } from "../journal/writable.ts";
import { moveToLostAndFound } from "../work/lost-and-found.ts";
import { kernelUuids, openKernelIndex, visitUpper } from "./kernel-records.ts";
import { linkEntry } from "./moved.ts";

/**
 * Writes what the kernel's records say as portable ones, before an adoption judges them, and links ids to their files again. What they name is
 * looked for by one walk over the lowers, by handles: an inode does not say where it lies. Can be repeated. `hasMoved`: upper lies on other inodes.
 */
export function takeBackRecords(
	engine: Engine,
	writable: Writable,
	hasMoved: boolean,
	progress: (layer: string, directories: number) => void,
): void {
	const { ids, layer } = writable;
	if (ids === null) return;
	const records: Records = new Map();
	const visitFiles = (visit: (fd: number, stat: Stat) => void) => {
		const visitFile = (fd: number, stat: Stat) => stat.type !== FileType.dir && visit(fd, stat);
		visitUpper(layer, visitFile, (directories) => progress(layer.path, directories));
	};
	takeIds(layer, ids, hasMoved);
	visitFiles((fd) => {
		const origin = getXattr(fd, layer.xattr.origin);
		const record = typeof origin === "number" ? null : recordIn(origin);
		if (record !== null && identityOfRecord(engine, record) === null) records.set(record.toString("hex"), null);
	});
	const theirs = openKernelIndex(writable, false);
	try {
		const entries = theirs === null ? [] : entriesIn(theirs);
		for (const entry of entries) records.set(entry, null);
		const uuids = records.size === 0 ? new Map() : uuidsOf(engine.layers);
		if (uuids.size === 0) return;
		findObjects(engine.layers, uuids, records, progress);
		const translate = (fd: number) => translateOrigin(writable, fd, records);
		visitFiles(translate);
		for (const entry of entries) takeEntry(writable, theirs as number, entry, records.get(entry) ?? null, translate);
		// the copy may have been made in two parts
		if (hasMoved) visitFiles((fd, stat) => linkEntry(writable, fd, stat));
	} finally {
		if (theirs !== null) close(theirs);
	}
}

/** Ids lead to their files again; copies that were made of these meanwhile have none. */
function takeIds(layer: Layer, ids: PortableUpper, hasMoved: boolean): void {
	// where Linux lets no attribute be set on some, ids are noted of these, and nothing was released
	if (layer.xattr.prefix.startsWith("user.")) return;
	if (ids.hasNotes && !hasMoved) visitUpper(layer, (fd) => must(ids.takeNoted(fd), "Cannot take an id back"));
	else visitUpper(layer, (fd) => ids.linkFree(fd));
}

/** The kernel keeps a spare whiteout too, under another kind of name. */
function entriesIn(index: number): string[] {
	const list = must(openAt(index, ".", O.rdonly | O.directory), "Cannot open the kernel's index");
	const names = namesOf(list);
	close(list);
	return must(names, "Cannot read the kernel's index")
		.map((name) => name.toString("latin1"))
		.filter((name) => /^([0-9a-f]{2})+$/.test(name));
}

/** Records of the kernel in hex, with the portable ones of the same objects as far as they were found. */
type Records = Map<string, Buffer | null>;

/** None where the kernel cannot have made any records, for want of handles. */
function uuidsOf(layers: readonly Layer[]): ReadonlyMap<Layer, Buffer> {
	try {
		return kernelUuids(layers);
	} catch (error) {
		if (error instanceof UnfitError) return new Map();
		throw error;
	}
}

/** All are found: the rest of a walk is for nothing. */
class Done extends Error {}

function findObjects(
	layers: readonly Layer[],
	uuids: ReadonlyMap<Layer, Buffer>,
	records: Records,
	progress: (layer: string, directories: number) => void,
): void {
	const stat = new Stat();
	const uuidTexts = new Set([...uuids.values()].map((uuid) => uuid.toString("hex")));
	let missing = [...records.keys()].filter((record) => uuidTexts.has(record.slice(10, 42))).length;
	for (const layer of layers) {
		const uuid = uuids.get(layer);
		if (layer.isUpper || uuid === undefined) continue;
		try {
			walkTree(
				layer,
				layer.rootHandle,
				(directory, name): FileHandle | null => {
					if (missing === 0) throw new Done();
					if (!statListed(layer, directory.path, directory.fd, name, stat)) return null;
					const isDirectory = stat.type === FileType.dir;
					const handle = handleAt(directory.fd, name);
					if (typeof handle === "number") unlessOfMachine(handle, "Cannot take a file handle");
					const record = typeof handle === "number" ? "" : encodeRecord(uuid, handle, false).toString("hex");
					const isWanted = records.get(record) === null;
					if (!isDirectory && !isWanted) return null;
					const id = layer.handles.child(directory.state, directory.fd, name, stat);
					if (typeof id === "number") {
						unlessOfMachine(id, "Cannot take the id of an object of a lower");
						return null;
					}
					if (isWanted) {
						records.set(record, encodeRecord(layer.fileSystem.uuid, id, false));
						missing--;
					}
					return isDirectory && stat.sameDevice(layer.rootStat) ? id : null;
				},
				(directories) => progress(layer.path, directories),
			);
		} catch (error) {
			if (!(error instanceof Done)) throw error;
		}
	}
}

function translateOrigin({ layer }: Writable, fd: number, records: Records): void {
	const origin = xattrOrNone(fd, layer.xattr.origin, "Cannot read what a file was copied up from");
	const record = origin === null ? null : (records.get(recordIn(origin).toString("hex")) ?? null);
	if (origin === null || record === null) return;
	must(setXattr(fd, layer.xattr.origin, originMovedTo(record, origin)), "Cannot say what a file was copied up from");
}

/** An entry of the kernel's index becomes one of ours. Entries of directories are made anew by the adoption. */
function takeEntry(writable: Writable, theirs: number, entry: string, record: Buffer | null, translate: (fd: number) => void): void {
	const { index, work, ids } = writable;
	const stat = new Stat();
	must(statAt(theirs, entry, stat), "Cannot read an entry of the kernel's index");
	if (stat.type === FileType.dir) {
		must(removeDirectory(theirs, entry), "Cannot remove an entry of the kernel's index");
		return;
	}
	const isWhiteout = isWhiteoutStat(stat);
	if (record === null) {
		// the object that it stands for is in no lower
		if (isWhiteout) must(unlinkName(theirs, entry), "Cannot remove an entry of the kernel's index");
		else moveToLostAndFound(work.own, theirs, entry, `index-${entry}`, "Cannot move an index entry away");
		return;
	}
	if (!isWhiteout) {
		const fd = must(openAt(theirs, entry, O.path | O.nofollow), "Cannot open an entry of the kernel's index");
		// what has no other name was not met in the tree
		if (ids !== null && ids.idOrNone(fd) === null) must(ids.takeNoted(fd), "Cannot take an id back");
		if (ids !== null && ids.idOrNone(fd) === null) must(ids.assign(fd, ids.newId(false)), "Cannot give an object its id");
		translate(fd);
		close(fd);
	}
	const name = record.toString("hex");
	const status = renameName(theirs, entry, index.placeFor(name), name, RENAME.noReplace);
	if (status === 0) return;
	if (status !== -ERRNO.EEXIST) must(status, "Cannot make an index entry");
	const other = new Stat();
	must(statAt(index.fd, name, other), "Cannot read an index entry");
	if (isWhiteout || other.sameInode(stat)) must(unlinkName(theirs, entry), "Cannot remove an entry of the kernel's index");
	else moveToLostAndFound(work.own, theirs, entry, `index-${entry}`, "Cannot move an index entry away");
}
