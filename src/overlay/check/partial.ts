// Judges the records of files without, or with a part of, their data.

import { closeSync, readSync } from "node:fs";
import { readRecord } from "../../layer/sealed-record.ts";
import { ERRNO, EUCLEAN } from "../../linux/errno.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { showName } from "../../vfs/names.ts";
import { FileType } from "../../vfs/operations.ts";
import { ifThere, must } from "../../vfs/system-errors.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";
import { decodeRecord, encodeRecord, isOfUpper } from "../format/identity.ts";
import { isSoundRecord } from "../work/partial-record.ts";
import { type Check, namesOfFolder } from "./context.ts";
import type { Remedy } from "./findings.ts";
import { lowerOfRecord } from "./index.ts";

const HEX = /^(?:[0-9a-f]{2})+$/;

/** Where the data of an upper file without data is, as our own record says: null: it says nothing; false: it is not there. */
export function notedData(check: Check, file: FileHandle): boolean | null {
	const value = textOf(check, "data", nameOf(check, file));
	if (value === null) return null;
	const lower = lowerOfRecord([...check.layers.lowers, ...check.layers.dataLowers], Buffer.from(value, "hex"));
	return typeof lower !== "string" && lower.type === FileType.reg;
}

/** Notes that the data is where the file was copied up from, or null where that is not there. */
export function noteOrigin(check: Check, file: FileHandle, origin: Buffer | null): Remedy | null {
	if (origin === null) return null;
	const lower = lowerOfRecord(check.layers.lowers, origin);
	if (typeof lower === "string" || lower.type !== FileType.reg) return null;
	const name = nameOf(check, file);
	const make = () => {
		check.repairs.makeFolder("data");
		// marked as ours: see RecordMap
		check.repairs.writeRecord("holdfast/data", name, `${origin.toString("hex")}+`);
	};
	return { does: "notes that it is in the lower file", make };
}

function nameOf(check: Check, file: FileHandle): string {
	return encodeRecord(check.layers.upper.fileSystem.uuid, file, true).toString("hex");
}

function textOf(check: Check, folder: string, name: string): string | null {
	const { own } = check.layers;
	const fd = own < 0 ? -ERRNO.ENOENT : ifThere(openAt(own, folder, O.rdonly | O.directory), `Cannot open work/holdfast/${folder}`);
	if (fd < 0) return null;
	const value = readRecord(fd, name);
	close(fd);
	// of a damaged one is told where records are looked through
	return value === -ERRNO.ENOENT || value === -EUCLEAN
		? null
		: must(value, `Cannot read a record of work/holdfast/${folder}`).toString("latin1");
}

/** Records of files that have no or only a part of their data: the next start drops the useless ones, and they harm nobody. */
export function examinePartial(check: Check): void {
	if (!check.isOurs) return;
	for (const folder of ["data", "partial"] as const) {
		for (const name of namesOfFolder(check.layers.own, folder)) {
			const text = name.toString("latin1");
			// of a lower that once was an upper, or left behind
			const isUpper = HEX.test(text) && isOfUpper(Buffer.from(text, "hex"));
			if (folder === "data" && !isUpper) continue;
			const wrong = isUpper ? whatIsWrong(check, folder, text) : "cannot be understood";
			if (wrong === null) continue;
			const path = `work/holdfast/${folder}/${showName(name)}`;
			const kind = folder === "data" ? "data-record-stale" : "partial-record-stale";
			check.note(kind, path, `The record of a file that has not all of its data ${wrong}.`, check.aside(`holdfast/${folder}`, name));
		}
	}
}

function whatIsWrong(check: Check, folder: "data" | "partial", name: string): string | null {
	const { upper, own, xattr } = check.layers;
	const id = decodeRecord(Buffer.from(name, "hex"), upper.fileSystem.uuid);
	if (id === null) return "cannot be understood";
	const fd = ifThere(upper.handles.open(id, O.path | O.nofollow), "Cannot open a file of upper");
	if (fd < 0) return "is of one that is no longer there";
	const stat = new Stat();
	let hasData: boolean;
	try {
		must(fstat(fd, stat), "Cannot read a file of upper");
		hasData = xattrOrNone(fd, xattr.metacopy, "Cannot read where the data of a file is") === null;
	} finally {
		close(fd);
	}
	if (stat.nlink === 0) return "is of one that is no longer there";
	if (hasData) return "is of one that has it";
	if (folder === "data") return null;
	const file = ifThere(openAt(own, `partial/${name}`, O.rdonly | O.nofollow | O.noatime), "Cannot open the record of a partial file");
	if (file < 0) return null;
	const header = Buffer.alloc(4096);
	const length = readSync(file, header, 0, header.length, 0);
	closeSync(file);
	return isSoundRecord(header.subarray(0, length)) ? null : "is damaged, or was never written whole: what was written to it is not known";
}
