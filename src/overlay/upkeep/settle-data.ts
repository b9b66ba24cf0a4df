// Completes all files that were copied up without some of their data.

import { Real } from "../../layer/real.ts";
import { ERRNO } from "../../linux/errno.ts";
import { readLink } from "../../linux/names.ts";
import { close, descriptorPath, O } from "../../linux/open.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { showName } from "../../vfs/names.ts";
import { must } from "../../vfs/system-errors.ts";
import { dataOfReal, isMetacopy } from "../data/data-files.ts";
import { PartialFile } from "../data/partial-file.ts";
import type { Partials } from "../data/partials.ts";
import { type Engine, writableOf } from "../engine/engine.ts";
import { decodeRecord, isOfUpper } from "../format/identity.ts";
import { recordOf } from "../nodes/reals.ts";
import type { Overlay } from "../operations/overlay.ts";
import { PartialRecords, runOf } from "../work/partial-record.ts";

export interface SettleReport {
	/** Files whose data was copied up, or (dry run) would be. */
	readonly files: number;
	readonly bytes: number;
	/** Files that could not be completed, and why. */
	readonly failures: readonly { readonly path: string; readonly message: string }[];
}

export interface SettleProgress {
	readonly files: number;
	readonly filesAll: number;
	readonly bytes: number;
}

/**
 * Completes all files that were copied up without their data, or with a part of it. What the kernel made so, and what it can find the data
 * of by itself, stays as it is. No request may be served meanwhile, but for a dry run, for which opening to inspect is enough.
 */
export async function settleData(
	overlay: Overlay,
	isDryRun: boolean,
	progress: (progress: SettleProgress) => void = () => {},
): Promise<SettleReport> {
	const { engine } = overlay;
	if (isDryRun) return unsettled(overlay);
	const partials = engine.partials as Partials;
	const failures: { path: string; message: string }[] = [];
	let files = 0;
	let bytes = 0;
	const due = filesToSettle(engine, (real) => partials.ofReal(real) !== null, true);
	for (const real of due) {
		overlay.beginPass();
		try {
			const partial = partials.ofReal(real);
			await partials.complete(partial ?? partials.begin(real, dataOfReal(engine, real), null), (count) => {
				bytes += count;
				progress({ files, filesAll: due.length, bytes });
			});
			files++;
		} catch (error) {
			if (!(error instanceof OverlayError)) throw error;
			failures.push({ path: pathOf(engine, real), message: error.message });
		}
		progress({ files, filesAll: due.length, bytes });
	}
	return { files, bytes, failures };
}

/** What `settleData` would do. Changes nothing, so a server may run meanwhile. */
function unsettled(overlay: Overlay): SettleReport {
	const { engine } = overlay;
	const { layer, work } = writableOf(engine);
	const records = new PartialRecords(work.ownPath, runOf(layer.path));
	try {
		const partial = new Set(records.names());
		const nameOf = (real: Real) => recordOf(real).toString("hex");
		const due = filesToSettle(engine, (real) => partial.has(nameOf(real)), false);
		let bytes = 0;
		for (const real of due) {
			overlay.beginPass();
			const found = partial.has(nameOf(real)) ? records.peek(nameOf(real)) : null;
			const size = sizeOf(engine, real);
			if (found === null) bytes += size;
			else {
				const header = { ...found.header, lowerEnd: Math.min(found.header.lowerEnd, size) };
				const { missing } = new PartialFile(real, nameOf(real), null, header, found.bits);
				bytes += Math.min(missing * header.granuleBytes, header.lowerEnd);
			}
		}
		return { files: due.length, bytes, failures: [] };
	} finally {
		records.close();
	}
}

/** `mayDrop`: entries of files that are complete or gone are removed. */
function filesToSettle(engine: Engine, isPartial: (real: Real) => boolean, mayDrop: boolean): Real[] {
	const { layer } = writableOf(engine);
	const found: Real[] = [];
	for (const record of engine.dataFiles.list()) {
		const handle = decodeRecord(record, layer.fileSystem.uuid);
		if (handle === null || !isOfUpper(record)) continue;
		const fd = layer.handles.open(handle, O.path | O.nofollow);
		if (fd === -ERRNO.ESTALE && mayDrop) engine.dataFiles.delete(record);
		if (fd < 0) continue;
		try {
			const stat = new Stat();
			must(fstat(fd, stat), "Cannot read an upper file");
			const copy = { type: handle.type, bytes: Buffer.from(handle.bytes) };
			const real = new Real(layer, copy, stat.inoHi, stat.inoLo, false);
			if (stat.nlink === 0 || !isMetacopy(engine, fd)) {
				if (mayDrop) engine.dataFiles.delete(record);
			} else if (engine.dataFiles.isOurs(real) || isPartial(real)) found.push(real);
		} finally {
			close(fd);
		}
	}
	return found;
}

function sizeOf(engine: Engine, real: Real): number {
	const stat = new Stat();
	must(fstat(engine.descriptors.path(real), stat), "Cannot read an upper file");
	return stat.size;
}

/** As the kernel remembers it: for messages only. */
function pathOf(engine: Engine, real: Real): string {
	return showName(readLink(-100, descriptorPath(engine.descriptors.path(real))) ?? Buffer.from("?"));
}
