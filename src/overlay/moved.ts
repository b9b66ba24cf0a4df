import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { visitEntries } from "../linux/directory.ts";
import { type FileHandle, handleOf } from "../linux/file-handle.ts";
import { linkDescriptor, renameName, unlinkName } from "../linux/names.ts";
import { close, O, openAt } from "../linux/open.ts";
import { fstat, Stat, statAt } from "../linux/stat.ts";
import { getXattr } from "../linux/xattr.ts";
import { must, type Writable } from "./engine.ts";
import { writeDurably } from "./registry.ts";
import { giveId } from "./steps.ts";
import { FileType } from "./types.ts";
import { isWhiteoutStat, isXattrWhiteout } from "./whiteout.ts";

/** Where the layers of portable ids were when they were served last: their inodes. */
const PLACE_FILE = "place";

function placeOf({ layer, work }: Writable): string {
	const inode = (fd: number) => {
		const stat = new Stat();
		fstat(fd, stat);
		const handle = handleOf(fd);
		const name = typeof handle === "number" ? "" : `${handle.type}:${handle.bytes.toString("hex")}`;
		return `${stat.inoHi}:${stat.inoLo}:${name}`;
	};
	return `${inode(layer.root)} ${inode(work.own)}\n`;
}

export function notePlace(writable: Writable, folder: string): void {
	writeDurably(join(folder, PLACE_FILE), Buffer.from(placeOf(writable)));
}

/** Whether upper and work are copies of those that were served last, so that inode numbers, and perhaps links between the two, are others. */
export function isMoved(writable: Writable, folder: string): boolean {
	const path = join(folder, PLACE_FILE);
	return !existsSync(path) || readFileSync(path, "utf8") !== placeOf(writable);
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
 * With `givesNew` what has no id gets one: an upper that was made elsewhere.
 */
export function relink(writable: Writable, progress: (directories: number) => void, givesNew = false): MoveReport {
	const { layer, ids, index, work } = writable;
	if (ids === null) throw new Error("Only portable ids move");
	const report = { objects: 0, linked: 0, lost: [] as string[] };
	ids.noteInodes();
	const stat = new Stat();
	const entry = new Stat();
	const pending: { readonly id: FileHandle; readonly path: string }[] = [{ id: layer.rootHandle, path: "" }];
	let directories = 0;
	for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
		progress(++directories);
		const fd = must(ids.open(at.id, O.rdonly | O.directory | O.noatime), "Cannot open a directory of upper");
		const names: Buffer[] = [];
		visitEntries(fd, (name) => {
			names.push(Buffer.from(name));
			return undefined;
		});
		for (const name of names) {
			const child = openAt(fd, name, O.path | O.nofollow);
			if (child < 0) continue;
			must(fstat(child, stat), "Cannot read an object of upper");
			const path = `${at.path}/${name.toString()}`;
			const isWhiteout = isAnyWhiteout(child, stat, layer.xattr.whiteout);
			if (stat.type === FileType.dir) {
				let id = ids.of(child);
				if (typeof id === "number" && givesNew) {
					id = ids.newId(true);
					giveOwnerAccess(writable, child, stat);
					giveId(writable, id, child, at.id, name);
				}
				if (typeof id === "number") report.lost.push(path);
				else pending.push({ id, path });
			} else if (!isWhiteout) {
				report.objects++;
				let outcome = ids.linkAgain(child);
				if (outcome === "lost" && givesNew) {
					giveOwnerAccess(writable, child, stat);
					giveId(writable, ids.newId(false), child, at.id, name);
					outcome = "linked";
				}
				if (outcome === "lost") report.lost.push(path);
				if (outcome === "linked") report.linked++;
				const origin = getXattr(child, layer.xattr.origin);
				const isInIndex = typeof origin !== "number" && statAt(index.fd, origin.toString("hex"), entry) === 0;
				if (isInIndex && entry.type !== FileType.dir && !entry.sameInode(stat)) {
					const aside = work.temporaryName();
					must(linkDescriptor(child, work.temporaries, aside), "Cannot link a file of upper");
					must(renameName(work.temporaries, aside, index.fd, origin.toString("hex")), "Cannot link a file of upper");
					unlinkName(work.temporaries, aside);
				}
			}
			close(child);
		}
		close(fd);
	}
	return report;
}

/** What an ordinary user may not mark as it is. */
function giveOwnerAccess({ layer }: Writable, fd: number, stat: Stat): void {
	if (layer.rights.isKept)
		must(layer.rights.change(fd, stat.type, { mode: stat.mode & 0o7777 }), "Cannot give the owner access to an object of upper");
}

/** Whether an object of upper is a whiteout of either form, wherever it stands. */
export function isAnyWhiteout(fd: number, stat: Stat, xattr: string): boolean {
	return isWhiteoutStat(stat) || isXattrWhiteout(fd, stat, xattr);
}
