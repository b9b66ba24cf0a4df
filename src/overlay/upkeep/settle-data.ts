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
import type { Partials } from "../data/partials.ts";
import { type Engine, writableOf } from "../engine/engine.ts";
import { decodeRecord, isOfUpper } from "../format/identity.ts";
import type { Overlay } from "../operations/overlay.ts";

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
 * of by itself, stays as it is. No request may be served meanwhile.
 */
export async function settleData(
	overlay: Overlay,
	isDryRun: boolean,
	progress: (progress: SettleProgress) => void = () => {},
): Promise<SettleReport> {
	const { engine } = overlay;
	const partials = engine.partials as Partials;
	const failures: { path: string; message: string }[] = [];
	let files = 0;
	let bytes = 0;
	const due = filesToSettle(engine);
	for (const real of due) {
		overlay.beginPass();
		try {
			const partial = partials.ofReal(real);
			if (isDryRun) {
				bytes += partial === null ? sizeOf(engine, real) : Math.min(partial.missing * partial.granuleBytes, partial.lowerEnd);
			} else {
				await partials.complete(partial ?? partials.begin(real, dataOfReal(engine, real), null), (count) => {
					bytes += count;
					progress({ files, filesAll: due.length, bytes });
				});
			}
			files++;
		} catch (error) {
			if (!(error instanceof OverlayError)) throw error;
			failures.push({ path: pathOf(engine, real), message: error.message });
		}
		progress({ files, filesAll: due.length, bytes });
	}
	return { files, bytes, failures };
}

function filesToSettle(engine: Engine): Real[] {
	const { layer } = writableOf(engine);
	const found: Real[] = [];
	for (const record of engine.dataFiles.list()) {
		const handle = decodeRecord(record, layer.fileSystem.uuid);
		if (handle === null || !isOfUpper(record)) continue;
		const fd = layer.handles.open(handle, O.path | O.nofollow);
		if (fd === -ERRNO.ESTALE) engine.dataFiles.delete(record);
		if (fd < 0) continue;
		try {
			const stat = new Stat();
			must(fstat(fd, stat), "Cannot read an upper file");
			const copy = { type: handle.type, bytes: Buffer.from(handle.bytes) };
			const real = new Real(layer, copy, stat.inoHi, stat.inoLo, false);
			if (stat.nlink === 0 || !isMetacopy(engine, fd)) engine.dataFiles.delete(record);
			else if (engine.dataFiles.isOurs(real) || engine.partials?.ofReal(real)) found.push(real);
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
