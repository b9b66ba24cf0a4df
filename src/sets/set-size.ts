// How much room a set of changes takes on its disk.

import { namesOf } from "../linux/directory.ts";
import { close, O, openAt, openPath } from "../linux/open.ts";
import { Stat, statAt } from "../linux/stat.ts";
import { DirectoryCursor } from "../unpack/directory-cursor.ts";
import { FileType } from "../vfs/operations.ts";
import { tellProgress } from "../vfs/progress.ts";

const BLOCK_BYTES = 512;

/** Bytes on disk of all below a folder, each inode once; null: it is not there. What cannot be read, or goes meanwhile, is not counted. */
export function bytesBelow(folder: string): number | null {
	const root = openPath(folder, O.path | O.directory);
	if (root < 0) return null;
	const cursor = new DirectoryCursor(root);
	try {
		return cursor.fd < 0 ? null : count(cursor, new Set(), folder);
	} finally {
		cursor.close();
		close(root);
	}
}

/** Depth first, with the names that are left at each depth, so that no depth is too much. */
function count(cursor: DirectoryCursor, linked: Set<string>, folder: string): number {
	const stat = new Stat();
	let bytes = 0;
	let names = 0;
	const left: Buffer[][] = [listed(cursor)];
	while (left.length > 0) {
		const name = left[left.length - 1].pop();
		if (name === undefined) {
			left.pop();
			if (left.length > 0 && cursor.up() < 0) return bytes;
			continue;
		}
		tellProgress(`looking at ${folder}`, ++names, "files");
		if (statAt(cursor.fd, name, stat) < 0) continue;
		const isDirectory = stat.type === FileType.dir;
		if (!isDirectory && stat.nlink > 1) {
			const key = `${stat.inoHi}:${stat.inoLo}`;
			if (linked.has(key)) continue;
			linked.add(key);
		}
		bytes += stat.blocks * BLOCK_BYTES;
		if (isDirectory && cursor.down(name) === 0) left.push(listed(cursor));
	}
	return bytes;
}

function listed(cursor: DirectoryCursor): Buffer[] {
	const fd = openAt(cursor.fd, ".", O.rdonly | O.directory | O.noatime);
	if (fd < 0) return [];
	const names = namesOf(fd);
	close(fd);
	return typeof names === "number" ? [] : names;
}
