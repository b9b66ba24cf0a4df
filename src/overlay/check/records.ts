// Looks for damaged records in the folders of work whose records are symlinks.

import { readRecord } from "../../layer/sealed-record.ts";
import { namesOf } from "../../linux/directory.ts";
import { ERRNO, EUCLEAN } from "../../linux/errno.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { showName } from "../../vfs/names.ts";
import { must } from "../../vfs/system-errors.ts";
import type { Check } from "./context.ts";

/** Folders of `work/holdfast` with such records, and what can be done where nobody else mends one. */
const FOLDERS: Readonly<Record<string, string>> = {
	links: "Restore it from a backup, or move it away: the file then has as many links as in its lower.",
	data: "Restore it from a backup, or move it away and run holdfast adopt.",
	directories: "Restore it from a backup.",
	inodes: "Restore it from a backup.",
	bases: "Restore it from a backup, or move it away: then it is unknown whether the base of what was removed has changed.",
	marks: "Restore it from a backup, or move it away and run holdfast adopt.",
	redirects: "Restore it from a backup, or move it away and run holdfast adopt.",
	cuts: "Restore it from a backup. Without it the file that was being cut has its old size, or is cut.",
};
/** Folders of such folders. */
const NESTED: Readonly<Record<string, string>> = {
	"link-names": "Restore it from a backup, or move its folder away: the next start finds the names again.",
	rebases: "Restore it from a backup.",
};

export interface DamagedRecord {
	/** In `work/holdfast`. */
	readonly folder: string;
	readonly name: string;
	/** From `work` on, for people. */
	readonly path: string;
	/** What a person can do where nothing else tells what it said. */
	readonly advice: string;
}

/** `own`: a descriptor of `work/holdfast`. Reads each record once. */
export function damagedRecords(own: number): DamagedRecord[] {
	const found: DamagedRecord[] = [];
	if (own < 0) return found;
	for (const [folder, advice] of Object.entries(FOLDERS)) lookThrough(own, folder, advice, found);
	for (const [above, advice] of Object.entries(NESTED)) {
		for (const name of namesIn(own, above, () => null)) lookThrough(own, `${above}/${name}`, advice, found);
	}
	return found;
}

function lookThrough(own: number, folder: string, advice: string, found: DamagedRecord[]): void {
	namesIn(own, folder, (fd, name) => {
		const value = readRecord(fd, name);
		// a server that runs may have removed it
		if (typeof value !== "number" || value === -ERRNO.ENOENT) return;
		if (value !== -EUCLEAN) must(value, `Cannot read a record of work/holdfast/${folder}`);
		found.push({ folder, name, path: `work/holdfast/${folder}/${showName(Buffer.from(name))}`, advice });
	});
}

/** Tells of the damaged records of an export with kernel handles. */
export function examineRecords(check: Check): void {
	for (const { folder, name, path, advice } of damagedRecords(check.layers.own)) {
		// told with what else is known of them
		if (folder === "links") continue;
		// adoption notes it again, and so does the finding of the file that has no data then
		const remedy = folder === "data" ? check.aside(`holdfast/${folder}`, Buffer.from(name)) : null;
		check.error("record-damaged", path, damaged(advice), remedy);
	}
}

/** Of the xattr `origin`. */
export const BASE_DAMAGED =
	"What is recorded of the lower object that was copied up here is damaged: nobody can tell whether that has changed since.";

export function damaged(advice: string): string {
	return `The record is damaged, and what it says is not answered. ${advice}`;
}

/** All names of a folder but the unfinished ones; none where it does not exist. */
function namesIn(own: number, folder: string, visit: (fd: number, name: string) => void): string[] {
	const fd = openAt(own, folder, O.rdonly | O.directory | O.noatime);
	if (fd === -ERRNO.ENOENT || fd === -ERRNO.ENOTDIR) return [];
	must(fd, `Cannot open work/holdfast/${folder}`);
	try {
		const names = must(namesOf(fd), `Cannot read work/holdfast/${folder}`).map((name) => name.toString("latin1"));
		const whole = names.filter((name) => !name.endsWith(".new"));
		for (const name of whole) visit(fd, name);
		return whole;
	} finally {
		close(fd);
	}
}
