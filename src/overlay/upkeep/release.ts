// Makes an upper what the kernel's overlayfs expects, and gives it back.

import { rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type Layer, openDirectory, USER_XATTRS } from "../../layer/layer.ts";
import { syncFileSystem } from "../../linux/data.ts";
import { visitEntries } from "../../linux/directory.ts";
import { unlinkName } from "../../linux/names.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { fstat, Stat, statAt } from "../../linux/stat.ts";
import { removeXattr } from "../../linux/xattr.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { FileType } from "../../vfs/operations.ts";
import { tellProgress } from "../../vfs/progress.ts";
import { must } from "../../vfs/system-errors.ts";
import { ensureNamed, ensureUpper } from "../copy-up/copy-up.ts";
import { type Engine, entryOf, identityOfRecord, rootNode, writableOf } from "../engine/engine.ts";
import { isWhiteoutStat } from "../format/whiteout.ts";
import { DirectoryCursor } from "../listing/listing.ts";
import { loadNode } from "../lookup/by-handle.ts";
import { upperEntry } from "../lookup/stack-search.ts";
import type { Node } from "../nodes/node.ts";
import { beginAdoption, endAdoption, MARKER, markerFolder } from "../opening/ownership.ts";
import type { Overlay } from "../operations/overlay.ts";
import { inPasses } from "../operations/until-ready.ts";
import { flushFolder } from "../work/registry.ts";
import { kernelFormOf } from "./kernel-form.ts";
import { type SettleProgress, settleData } from "./settle-data.ts";

/** What release has done, or (`isDryRun`) would do. */
export interface ReleaseReport {
	/** Files that only the index held and that got their name. */
	readonly named: number;
	/** Files that only the index held and whose names are all gone from sight: they stay in the index. */
	readonly nameless: number;
	/** Lower files of several names copied up because some were removed: the kernel keeps the count nowhere else. */
	readonly copied: number;
	readonly copiedBytes: number;
	/** Files that were copied up without their data, or with a part of it, completed: the kernel knows nothing of our records. */
	readonly settled: number;
	readonly settledBytes: number;
}

/**
 * Makes an upper what the kernel's overlayfs expects, and removes the marker that keeps the kernel from mounting it, last.
 * No request may be served meanwhile. `forgets`: nothing of handles is kept, and whoever takes the upper over again begins anew.
 */
export async function release(
	overlay: Overlay,
	work: string,
	isDryRun: boolean,
	progress?: (progress: SettleProgress) => void,
	forgets = false,
): Promise<ReleaseReport> {
	const { engine } = overlay;
	const form = writableOf(engine).ids === null ? null : await closingWhenRefused(overlay, () => kernelFormOf(engine));
	if (writableOf(engine).longRedirects.hasAny) {
		throw new OverlayError(
			"inval",
			"Some directories were moved from paths too long for the kernel to be told (work/holdfast/long-redirects). " +
				"Serve once more, move what is in them to new directories, and remove those files",
		);
	}
	const counts = await writeCounts(overlay, isDryRun);
	const names = isDryRun ? { named: writableOf(engine).linkCounts.list("unnamed").length, nameless: 0 } : await giveNames(overlay);
	const settled = await settleData(overlay, isDryRun, progress);
	if (settled.failures.length > 0) {
		const { path, message } = settled.failures[0];
		throw new OverlayError("io", `The data of ${settled.failures.length} files could not be copied up; of ${path}: ${message}`);
	}
	if (!isDryRun) hideFromKernel(engine);
	if (!isDryRun) writableOf(engine).work.removeTrash();
	if (!isDryRun && form !== null) {
		// until the end a start would have to take it back
		beginAdoption(join(work, "holdfast"), "again");
		form.write(forgets);
		must(syncFileSystem(writableOf(engine).index.fd), "Cannot flush the file system of upper");
	}
	const { layer } = writableOf(engine);
	await overlay.close();
	if (!isDryRun) {
		rmdirSync(join(markerFolder(work), MARKER));
		// the kernel knows no empty incompat folder either
		rmdirSync(markerFolder(work));
		flushFolder(join(work, "work"));
		if (form !== null) endAdoption(join(work, "holdfast"));
		if (forgets) forget(work, layer);
	}
	return { ...names, ...counts, settled: settled.files, settledBytes: settled.bytes };
}

/** What holdfast keeps of an upper goes, its keys among it. */
function forget(work: string, { path, xattr }: Layer): void {
	const root = openDirectory(path, "upper");
	const status = removeXattr(root, xattr.identity);
	close(root);
	must(status, "Cannot remove our mark on the root of upper");
	rmSync(join(work, "holdfast"), { recursive: true });
}

async function closingWhenRefused<T>(overlay: Overlay, ask: () => T): Promise<T> {
	try {
		return ask();
	} catch (error) {
		await overlay.close();
		throw error;
	}
}

/**
 * With `userxattr` symlinks and devices cannot say what they were copied up from, and the kernel refuses to mount an index that holds such
 * an entry. What they are is kept in `work/holdfast/marks`, from which the next adoption makes the entry again.
 */
function hideFromKernel(engine: Engine): void {
	if (engine.xattr !== USER_XATTRS) return;
	const { index } = writableOf(engine);
	const list = must(openAt(index.fd, ".", O.rdonly | O.directory), "Cannot open the index");
	const stat = new Stat();
	const status = visitEntries(list, (name, type) => {
		if (type === FileType.dir || type === FileType.reg || statAt(index.fd, name, stat) < 0) return undefined;
		// what has no other name would be lost
		if (isWhiteoutStat(stat) || stat.type === FileType.dir || stat.type === FileType.reg || stat.nlink === 1) return undefined;
		must(unlinkName(index.fd, name), "Cannot remove an index entry");
		return undefined;
	});
	close(list);
	must(status, "Cannot read the index");
}

function nodeOfEntry(engine: Engine, entry: string): Node | null {
	const identity = identityOfRecord(engine, Buffer.from(entry, "hex"));
	if (identity === null) return null;
	try {
		return loadNode(engine, identity);
	} catch (error) {
		if (error instanceof OverlayError && error.code === "stale") return null;
		throw error;
	}
}

/** Names that were removed of a lower file count in the kernel only once the file is in the index. */
async function writeCounts(overlay: Overlay, isDryRun: boolean): Promise<{ copied: number; copiedBytes: number }> {
	const { engine } = overlay;
	let copied = 0;
	let copiedBytes = 0;
	for (const entry of writableOf(engine).linkCounts.list("counts")) {
		await inPasses(overlay, () => {
			const node = nodeOfEntry(engine, entry);
			if (node === null || node.isUpper) return;
			if (!isDryRun) ensureUpper(engine, node);
			const stat = new Stat();
			must(fstat(engine.descriptors.path(node.top), stat), "Cannot read a file");
			copied++;
			copiedBytes += stat.size;
			tellProgress("copying up what has lost names", copied, "files");
		});
	}
	return { copied, copiedBytes };
}

/** Looks through the tree for the names of files that were copied up through a handle alone. */
async function giveNames(overlay: Overlay): Promise<{ named: number; nameless: number }> {
	const { engine } = overlay;
	const wanted = new Set(writableOf(engine).linkCounts.list("unnamed"));
	let named = 0;
	let looked = 0;
	const directories: Buffer[] = wanted.size === 0 ? [] : [rootNode(engine).handle];
	while (directories.length > 0 && wanted.size > 0) {
		const handle = directories.pop() as Buffer;
		tellProgress("looking for names", ++looked, "directories");
		await inPasses(overlay, () => {
			const directory = overlay.decode(handle);
			const found: { readonly name: Buffer; readonly node: Node }[] = [];
			const below: Buffer[] = [];
			const cursor = new DirectoryCursor(engine, overlay.listings, directory, directory, 0, 2);
			while (cursor.next()) {
				const node = cursor.object();
				if (node === null) continue;
				if (node.type === FileType.dir) below.push(node.handle);
				const entry = node.isIndexed ? entryOf(engine, node) : null;
				// a name that upper has is not the missing one
				const isMissing = entry !== null && wanted.has(entry) && upperEntry(engine, directory, cursor.name) !== "object";
				if (isMissing) found.push({ name: Buffer.from(cursor.name), node });
			}
			for (const { name, node } of found) {
				ensureUpper(engine, directory);
				ensureNamed(engine, node, directory, name);
				wanted.delete(entryOf(engine, node) as string);
				named++;
			}
			directories.push(...below);
		});
	}
	return { named, nameless: wanted.size };
}
