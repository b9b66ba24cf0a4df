// Puts right what a copy to another place or disk has changed in upper and work: portable ids, and index entries that were links.

import { join } from "node:path";
import { keyOf, lookOf, type PortableUpper } from "../../layer/portable-upper.ts";
import { hasLastingHandles } from "../../layer/unfit-file-system.ts";
import { walkTree } from "../../layer/walk-tree.ts";
import { type FileHandle, handleOf } from "../../linux/file-handle.ts";
import { linkDescriptor, renameName, unlinkName } from "../../linux/names.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { pathExists, readFileNamed } from "../../linux/read-file.ts";
import { fstat, Stat, statAt } from "../../linux/stat.ts";
import { showName } from "../../vfs/names.ts";
import { FileType } from "../../vfs/operations.ts";
import { isFound, must, unlessFull } from "../../vfs/system-errors.ts";
import { isWhiteoutInode } from "../format/whiteout.ts";
import type { Writable } from "../journal/writable.ts";
import { getOrigin } from "../work/marks.ts";
import { writeDurably } from "../work/registry.ts";

/** Where the layers of portable ids were when they were served last: their inodes. */
const PLACE_FILE = "place";

function placeOf({ layer, work }: Writable): string {
	const inode = (fd: number) => {
		const stat = new Stat();
		fstat(fd, stat);
		// one that is not to last would have every start look for a copy
		const handle = hasLastingHandles(layer.fileSystem.name) ? handleOf(fd) : -1;
		const name = typeof handle === "number" ? "" : `${handle.type}:${handle.bytes.toString("hex")}`;
		return `${stat.inoHi}:${stat.inoLo}:${name}`;
	};
	return `${inode(layer.root)} ${inode(work.own)}\n`;
}

export function notePlace(writable: Writable, folder: string): void {
	const path = join(folder, PLACE_FILE);
	const place = placeOf(writable);
	if (pathExists(path) && readFileNamed(path).toString() === place) return;
	unlessFull(() => writeDurably(path, Buffer.from(place)));
}

/** Whether upper and work are copies of what was served last, so that inode numbers, and perhaps links between the two, are others. */
export function isMoved(writable: Writable, folder: string): boolean {
	const path = join(folder, PLACE_FILE);
	return !pathExists(path) || readFileNamed(path).toString() !== placeOf(writable);
}

/** What a look through a copied upper has found. */
export interface MoveReport {
	readonly objects: number;
	/** Links from ids to their files that the copy did not keep, and that were made again. */
	readonly linked: number;
	/** Paths of objects whose id is lost: of symlinks and the like, where links were not kept. */
	readonly lost: readonly string[];
}

/**
 * Looks once through an upper that was copied with its work folder. Ids are in xattrs, which go along; what is found by inode numbers is noted
 * anew, and hard links between upper and work that the copy did not keep (it was made in two parts, say) are made again.
 */
export function relink(writable: Writable, progress: (directories: number) => void): MoveReport {
	const { layer, ids } = writable;
	if (ids === null) throw new Error("Only portable ids move");
	const report = { objects: 0, linked: 0, lost: [] as string[] };
	ids.noteInodes();
	const stat = new Stat();
	const lost: Lost[] = [];
	const known = new Set<string>();
	const root = { id: layer.rootHandle, path: "" };
	walkTree(
		layer,
		root,
		({ fd, state: above }, name): typeof root | null => {
			const child = must(openAt(fd, name, O.path | O.nofollow), "Cannot open an object of upper");
			try {
				must(fstat(child, stat), "Cannot read an object of upper");
				const path = `${above.path}/${showName(name)}`;
				if (!stat.sameDevice(layer.rootStat) || isWhiteoutInode(child, stat, layer.xattr.whiteout)) return null;
				if (stat.type === FileType.dir) {
					const id = ids.idOrNone(child);
					if (id !== null) return { id, path };
					report.lost.push(path);
					return null;
				}
				report.objects++;
				const outcome = ids.linkAgain(child);
				if (outcome === "linked") report.linked++;
				if (outcome === "lost") lost.push({ above: above.id, name, path, look: lookOf(child, stat) });
				else linkEntry(writable, child, stat);
				if (outcome === "kept" && stat.type !== FileType.reg) known.add(keyOf(ids.of(child) as FileHandle));
				return null;
			} finally {
				close(child);
			}
		},
		progress,
	);
	if (lost.length > 0) findLost(writable, ids, lost, ids.others(known), report);
	return report;
}

/** An object of upper that its id does not lead to any more, and that carries none. */
interface Lost {
	readonly above: FileHandle;
	readonly name: Buffer;
	readonly path: string;
	readonly look: string;
}

/**
 * A symlink, fifo or socket whose hard link was not kept has a copy behind its id: where just one of each looks like that, it is the one. The
 * others are new objects from now on.
 */
function findLost(
	writable: Writable,
	ids: PortableUpper,
	lost: readonly Lost[],
	others: readonly { readonly id: FileHandle; readonly look: string }[],
	report: { linked: number; readonly lost: string[] },
): void {
	const stat = new Stat();
	for (const { above, name, path, look } of lost) {
		const directory = ids.open(above, O.path | O.directory);
		const fd = directory < 0 ? directory : openAt(directory, name, O.path | O.nofollow);
		if (directory >= 0) close(directory);
		must(fd, "Cannot open an object of upper");
		must(fstat(fd, stat), "Cannot read an object of upper");
		const alike = others.filter((other) => other.look === look);
		const isOne = alike.length === 1 && lost.filter((other) => other.look === look).length === 1 && stat.type !== FileType.reg;
		if (isOne) {
			must(ids.linkLost(fd, alike[0].id), "Cannot link an object of upper");
			linkEntry(writable, fd, stat);
			report.linked++;
		} else {
			must(ids.assign(fd, ids.newId(false)), "Cannot give an object an id");
			report.lost.push(path);
		}
		close(fd);
	}
}

/** What was copied up is found by an entry of the index, which is a link to it. */
export function linkEntry(writable: Writable, fd: number, stat: Stat): void {
	const { index, work } = writable;
	const origin = getOrigin(writable, fd, stat.type);
	if (typeof origin === "number") return;
	const entry = new Stat();
	const name = origin.toString("hex");
	if (!isFound(statAt(index.fd, name, entry), "Cannot read an index entry") || entry.type === FileType.dir || entry.sameInode(stat)) return;
	const aside = work.temporaryName();
	must(linkDescriptor(fd, work.temporaries, aside), "Cannot link a file of upper");
	must(renameName(work.temporaries, aside, index.placeFor(name), name), "Cannot link a file of upper");
	unlinkName(work.temporaries, aside);
}
