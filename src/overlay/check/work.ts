// Judges the work folder apart from the index.

import { closeSync, readFileSync } from "node:fs";
import { readRecord } from "../../layer/sealed-record.ts";
import { namesOf } from "../../linux/directory.ts";
import { ERRNO, EUCLEAN } from "../../linux/errno.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { readLinkAt } from "../../linux/names.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { Stat, statAt } from "../../linux/stat.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { showName } from "../../vfs/names.ts";
import { FileType } from "../../vfs/operations.ts";
import { attempt, ifThere, isFound, must, valueOrNone } from "../../vfs/system-errors.ts";
import { isWhiteoutStat } from "../format/whiteout.ts";
import { orphanName, parseOrphanName } from "../work/held-objects.ts";
import { parseNamesLeft } from "../work/link-counts.ts";
import { redirectIn } from "../work/long-redirects.ts";
import { type Check, namesOfFolder } from "./context.ts";
import { type IndexEntry, type LowerObject, lowerOfRecord } from "./index.ts";

const LONG_REDIRECTS = "long-redirects";
const ORPHANS = "orphans";

const UNREAD = "Cannot read the folder of orphans";

/** What a file of long redirects says of an upper directory, or null. */
export function longRedirectOf(check: Check, id: FileHandle): Buffer | null {
	const name = `${id.type}-${id.bytes.toString("hex")}`;
	if (!check.longRedirects.has(name)) return null;
	const path = `work/holdfast/${LONG_REDIRECTS}/${name}`;
	const fd = ifThere(openAt(check.layers.own, `${LONG_REDIRECTS}/${name}`, O.rdonly), `Cannot open ${path}`);
	if (fd < 0) return null;
	try {
		return redirectIn(
			path,
			attempt(() => readFileSync(fd)),
		);
	} catch (error) {
		if (!(error instanceof OverlayError)) throw error;
		check.error("record-damaged", path, `${error.message}. Restore it from a backup.`);
		return null;
	} finally {
		closeSync(fd);
	}
}

/** A record of how many names are left of a lower file that was not copied up. */
export interface LinkRecord {
	readonly entry: string;
	readonly lower: LowerObject;
	/** Null where it cannot be understood. */
	readonly count: number | null;
}

/** Judges the work folder but for the index. The records of link counts are judged further by what is to be seen. */
export function examineWork(check: Check, index: ReadonlyMap<string, IndexEntry>): LinkRecord[] {
	examineIncompatible(check);
	// what a server builds at this moment is no leftover
	if (!check.layers.isLive) {
		examineLeftovers(check);
		examineOrphans(check, index);
	}
	examineLongRedirects(check);
	examineUnnamed(check, index);
	return readLinkRecords(check, index);
}

function examineIncompatible(check: Check): void {
	for (const name of check.layers.incompatible) {
		const path = `work/work/incompat/${showName(Buffer.from(name))}`;
		const message =
			name === "volatile"
				? "The overlay was mounted as volatile: a crash may have lost data. Look at upper; if all is there, remove this folder."
				: "Another program says here that work is in a state of its own. Let it finish, or make sure that it never will and remove this.";
		check.error("work-incompatible", path, message);
	}
}

function examineLeftovers(check: Check): void {
	const { temporaries, own } = check.layers;
	if (temporaries >= 0) {
		for (const name of must(namesOf(temporaries), "Cannot read work")) {
			if (name.toString("latin1") !== "incompat") leftover(check, temporaries, "work", name);
		}
	}
	for (const folder of ["", "links", "unnamed", "redirects", "data"]) {
		for (const name of namesOfFolder(own, folder === "" ? "." : folder)) {
			const text = name.toString("latin1");
			const isAside = text.endsWith(".new") || (folder === "" && /^registry\.\d+$/.test(text));
			if (!isAside) continue;
			leftover(check, -1, folder === "" ? "holdfast" : `holdfast/${folder}`, name);
		}
	}
}

/** Objects that were held open when they lost their last name may lie there: the next start keeps or removes them. */
function examineOrphans(check: Check, index: ReadonlyMap<string, IndexEntry>): void {
	const folder = folderOf(check, ORPHANS);
	if (folder < 0) return;
	const stat = new Stat();
	for (const name of must(namesOf(folder), UNREAD)) {
		const parsed = parseOrphanName(name);
		const isThere = parsed !== null && isFound(statAt(folder, orphanName(parsed.key), stat), UNREAD);
		const isRight = parsed?.isMark
			? !isThere && index.get(valueOrNone(readLinkAt(folder, name), UNREAD)?.toString("latin1") ?? "")?.kind === "tombstone"
			: isThere && stat.type !== FileType.dir;
		if (!isRight) leftover(check, -1, `holdfast/${ORPHANS}`, name);
	}
	close(folder);
}

/** A folder of `work/holdfast`; negative: there is none. */
function folderOf({ layers: { own } }: Check, name: string): number {
	return own < 0 ? -1 : ifThere(openAt(own, name, O.rdonly | O.directory), `Cannot open work/holdfast/${name}`);
}

/** `fd`: where it may be a whiteout; else negative. */
function leftover(check: Check, fd: number, folder: string, name: Buffer): void {
	const stat = new Stat();
	const isWhiteout = fd >= 0 && statAt(fd, name, stat) === 0 && isWhiteoutStat(stat);
	// the kernel keeps a spare one there
	if (isWhiteout && !check.isOurs) return;
	const remedy = isWhiteout ? check.drop(folder, name) : check.aside(folder, name);
	check.note("leftover", `work/${folder}/${showName(name)}`, "An interrupted change has left this.", remedy);
}

function examineLongRedirects(check: Check): void {
	const { upper } = check.layers;
	for (const name of check.longRedirects) {
		const match = /^(\d+)-((?:[0-9a-f]{2})+)$/.exec(name);
		const id = match === null ? null : { type: Number.parseInt(match[1], 10), bytes: Buffer.from(match[2], "hex") };
		const fd = id === null ? -1 : ifThere(upper.handles.open(id, O.path | O.directory), "Cannot open a directory of upper");
		if (fd >= 0) {
			close(fd);
			continue;
		}
		const bytes = Buffer.from(name, "latin1");
		const path = `work/holdfast/${LONG_REDIRECTS}/${showName(bytes)}`;
		const message = "The redirect is of a directory that is no longer there.";
		check.note("long-redirect-stale", path, message, check.aside(`holdfast/${LONG_REDIRECTS}`, bytes));
	}
}

function examineUnnamed(check: Check, index: ReadonlyMap<string, IndexEntry>): void {
	for (const name of namesOfFolder(check.layers.own, "unnamed")) {
		const entry = name.toString("latin1");
		if (entry.endsWith(".new") || index.get(entry)?.kind === "file") continue;
		const path = `work/holdfast/unnamed/${showName(name)}`;
		const message = "The note says that only the index holds a file, but the index does not have it.";
		check.note("unnamed-record-stale", path, message, check.aside("holdfast/unnamed", name));
	}
}

function readLinkRecords(check: Check, index: ReadonlyMap<string, IndexEntry>): LinkRecord[] {
	const records: LinkRecord[] = [];
	const folder = folderOf(check, "links");
	if (folder < 0) return records;
	for (const name of must(namesOf(folder), "Cannot read the link counts")) {
		const entry = name.toString("latin1");
		if (entry.endsWith(".new")) continue;
		const path = `work/holdfast/links/${showName(name)}`;
		const aside = check.aside("holdfast/links", name);
		const lower = lowerOfRecord(check.layers.lowers, Buffer.from(entry, "hex"));
		const kept = readRecord(folder, entry);
		if (typeof kept === "number" && kept !== -EUCLEAN && kept !== -ERRNO.ENOENT) must(kept, `Cannot read ${path}`);
		const text = typeof kept === "number" ? "" : kept.toString("latin1");
		const left = parseNamesLeft(text);
		const count = left === null || left.count === 0 ? null : left.count;
		if (typeof lower === "string") {
			const message = "The number of names that are left is recorded of a lower file that is no longer there.";
			check.error("link-record-stale", path, message, lower === "malformed" ? aside : check.ifProven(aside));
		} else if (index.has(entry)) {
			const message = "The number of names that are left is recorded of a file that the index knows, which counts for itself.";
			check.note("link-record-stale", path, message, aside);
		} else if (count !== null && count > lower.nlink) {
			const message = `The recorded number of names that are left is higher than the ${lower.nlink} that the lower file has.`;
			check.error("link-record-wrong", path, message, aside);
		} else records.push({ entry, lower, count });
	}
	close(folder);
	return records;
}
