// Turns an export with kernel handles into one with portable handles that keeps them.

import { mkdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type Layer, USER_XATTRS } from "../../layer/layer.ts";
import { LayerError } from "../../layer/layer-error.ts";
import { pathBelow } from "../../layer/path-search.ts";
import { checkOfStat, HASH_BYTES, hashBelow, LOWER_ROOT } from "../../layer/portable-id.ts";
import { PortableUpper, UPPER_ROOT } from "../../layer/portable-upper.ts";
import { ReboundWriter } from "../../layer/rebound-rows.ts";
import { statListed, walkTree } from "../../layer/walk-tree.ts";
import { namesOf } from "../../linux/directory.ts";
import { ERRNO, whyNot } from "../../linux/errno.ts";
import { type FileHandle, handleAt, handleOf } from "../../linux/file-handle.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { pathExists } from "../../linux/read-file.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { FileType } from "../../vfs/operations.ts";
import { must, unlessOfMachine } from "../../vfs/system-errors.ts";
import { notePlace } from "../adopt/moved.ts";
import type { Engine } from "../engine/engine.ts";
import { isWhiteoutInode } from "../format/whiteout.ts";
import type { Writable } from "../journal/writable.ts";
import { REBINDING_FILE, reboundFolder } from "../opening/export-folder.ts";
import { indexPath } from "../opening/export-paths.ts";
import { rootName, treeName } from "../opening/layer-names.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { noteTrees, readOnlyFolder } from "../opening/read-only-folder.ts";
import { flushFolder, type Registry, writeDurably, writeRegistry } from "../work/registry.ts";

/** What was written so that handles go on without the kernel's. */
export interface RebindReport {
	/** Rows, one for each name in the lowers. */
	readonly lowerNames: number;
	readonly upperObjects: number;
}

/**
 * Makes an export with kernel handles one with portable handles: all that it has now keeps the handles that clients hold, wherever its layers are
 * copied to. The overlay must have been opened for it, or to inspect it for a dry run, and is closed. May be run again after a crash. LayerError.
 */
export async function rebind(
	{ overlay, registry, folder, work }: OpenedOverlay,
	stateFolder: string,
	isDryRun = false,
): Promise<RebindReport> {
	const { engine } = overlay;
	const { writable } = engine;
	if (isDryRun) {
		const report = countHandles(engine);
		await overlay.close();
		return report;
	}
	writable?.journal.endLastChange();
	writeDurably(join(folder, REBINDING_FILE), Buffer.from("\n"));
	let lowerNames = 0;
	for (const home of engine.homes.values()) {
		if (home.isUpper) continue;
		const target = reboundFolder(folder, home.number);
		rmSync(target, { recursive: true, force: true });
		mkdirSync(target, { recursive: true, mode: 0o700 });
		const writer = new ReboundWriter(target);
		for (const [place, layer] of home.layers.entries()) lowerNames += noteLower(layer, place, writer);
		writer.finish();
	}
	const upperObjects = writable === null ? 0 : noteUpper(engine, writable);
	if (writable !== null) notePlace(writable, folder);
	const lowers = engine.layers.filter(({ isUpper }) => !isUpper);
	const bound: Registry = {
		...registry,
		handles: "portable",
		handlesWhy: "made portable by holdfast rebind",
		rebound: writable?.layer.fileSystem.uuid.toString("hex") ?? "0".repeat(32),
		lowers: registry.lowers.map((record, i) => ({ ...record, root: treeName(lowers[i]) })),
		upper: registry.upper === null ? null : { ...registry.upper, root: rootName(UPPER_ROOT) },
		...(lowers[0].xattr === USER_XATTRS ? { userXattrs: true } : {}),
	};
	await overlay.close();
	if (work !== null) {
		const [theirs, ours] = [indexPath(work, false), indexPath(work, true)];
		renameSync(theirs, ours);
		flushFolder(folder);
	}
	writeRegistry(folder, bound);
	rmSync(join(folder, REBINDING_FILE));
	flushFolder(folder);
	if (work === null) {
		const place = readOnlyFolder(
			stateFolder,
			bound.lowers.map(({ root }) => root),
			lowers.map(({ path }) => path),
		);
		if (pathExists(place))
			throw new LayerError(`Cannot keep the state of this export in ${place}: there is another one's. Move that away.`);
		renameSync(folder, place);
		noteTrees(
			place,
			lowers.map(({ path }) => path),
		);
	}
	return { lowerNames, upperObjects };
}

/** What `rebind` would note, counted in the same walks. */
function countHandles(engine: Engine): RebindReport {
	let lowerNames = 0;
	let upperObjects = 0;
	for (const { isUpper, layers } of engine.homes.values()) {
		if (!isUpper) for (const layer of layers) lowerNames += noteLower(layer, 0, null);
	}
	const { writable } = engine;
	if (writable === null) return { lowerNames, upperObjects };
	const stat = new Stat();
	walkTree(writable.layer, null as unknown, (directory, name) => {
		const fd = openAt(directory.fd, name, O.path | O.nofollow);
		if (fd < 0) return null;
		const isObject = fstat(fd, stat) === 0 && typeof handleOf(fd) !== "number" && !isWhiteoutInode(fd, stat, engine.xattr.whiteout);
		close(fd);
		if (isObject) upperObjects++;
		return isObject && stat.type === FileType.dir ? "" : null;
	});
	return { lowerNames, upperObjects: upperObjects + writable.linkCounts.list("unnamed").length };
}

/** How many names there are. `writer`: null for who only counts. */
function noteLower(layer: Layer, place: number, writer: ReboundWriter | null): number {
	const stat = new Stat();
	let names = 0;
	walkTree(layer, LOWER_ROOT.bytes.subarray(0, HASH_BYTES), (directory, name) => {
		const handle = statListed(layer, directory.path, directory.fd, name, stat) ? handleAt(directory.fd, name) : -ERRNO.ENOENT;
		// what has no handle had none before either
		if (typeof handle === "number") unlessOfMachine(handle, "Cannot take a file handle");
		if (typeof handle === "number") return null;
		const path = pathBelow(directory.path, name);
		const hash = hashBelow(directory.state, name);
		const isForeign = !stat.sameDevice(layer.rootStat);
		const { nlink, inoHi, inoLo } = stat;
		const birth = { space: isForeign ? 0 : layer.space, inoHi, inoLo };
		writer?.add({ layer: place, hash, handle, check: checkOfStat(stat), nlink, birth, path });
		names++;
		return stat.type === FileType.dir && !isForeign ? hash : null;
	});
	return names;
}

/** Every inode of upper keeps its kernel handle as its id. The number of them. */
function noteUpper(engine: Engine, writable: Writable): number {
	const { layer, work, index } = writable;
	const ids = new PortableUpper(layer.root, work.own, layer.xattr, layer.fileSystem.name);
	const stat = new Stat();
	let count = 0;
	const open = (directory: number, name: Buffer | string, flags: number) => {
		const fd = openAt(directory, name, flags);
		if (fd < 0) throw new LayerError(`Cannot read an object of ${layer.path}: ${whyNot(fd)}.`);
		return fd;
	};
	const adopt = (fd: number, handle: FileHandle, isDirectory: boolean) => {
		const status = ids.adoptHandle(fd, handle, isDirectory, { space: layer.space, inoHi: stat.inoHi, inoLo: stat.inoLo });
		if (status < 0) throw new LayerError(`Cannot note the handle of an object of ${layer.path}: ${whyNot(status)}.`);
		count++;
	};
	try {
		walkTree(layer, UPPER_ROOT, (directory, name): FileHandle | null => {
			const fd = open(directory.fd, name, O.path | O.nofollow);
			try {
				must(fstat(fd, stat), "Cannot read an object of upper");
				const handle = handleOf(fd);
				// what has no handle had none before either
				if (typeof handle === "number") unlessOfMachine(handle, "Cannot take a file handle");
				if (typeof handle === "number" || isWhiteoutInode(fd, stat, engine.xattr.whiteout)) return null;
				const isDirectory = stat.type === FileType.dir;
				adopt(fd, handle, isDirectory);
				if (!isDirectory) return null;
				const status = ids.place(handle, directory.state, name);
				if (status < 0) throw new LayerError(`Cannot note where a directory of ${layer.path} is: ${whyNot(status)}.`);
				return handle;
			} finally {
				close(fd);
			}
		});
		// files that were copied up through a handle alone
		for (const name of must(namesOf(index.fd), "Cannot read the index")) {
			const fd = open(index.fd, name, O.path | O.nofollow);
			must(fstat(fd, stat), "Cannot read an index entry");
			const handle = handleOf(fd);
			if (typeof handle === "number") unlessOfMachine(handle, "Cannot take a file handle");
			const isFile = stat.type !== FileType.dir && !isWhiteoutInode(fd, stat, engine.xattr.whiteout);
			if (isFile && typeof handle !== "number" && ids.idOrNone(fd) === null) adopt(fd, handle, false);
			close(fd);
		}
	} finally {
		ids.close();
	}
	return count;
}
