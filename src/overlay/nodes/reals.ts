// Makes Reals of what was opened or looked up, and names them by records and file ids.

import type { Layer } from "../../layer/layer.ts";
import { Real, RealObjectError } from "../../layer/real.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import type { Stat } from "../../linux/stat.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { codeOf, failed, ofSystem } from "../../vfs/system-errors.ts";
import { encodeRecord } from "../format/identity.ts";

/** Whatever a real object's handle no longer opens is stale to the client. Errors of the system have their codes. */
export function asOverlayError(error: unknown): unknown {
	if (!(error instanceof RealObjectError)) return ofSystem(error);
	return new OverlayError(error.gone ? "stale" : codeOf(error.errno), error.message);
}

/** The Real of an open descriptor whose attributes are known. The descriptor stays the caller's. */
export function realOf(layer: Layer, fd: number, stat: Stat): Real {
	const handle = layer.handles.of(fd);
	if (typeof handle === "number") throw failed("Cannot take a file handle", handle);
	return realOfHandle(layer, handle, stat);
}

/** The Real of a name in a directory of a layer, whose attributes are known. `directory` is open on the parent. */
export function realOfName(parent: Real, directory: number, name: Uint8Array, stat: Stat): Real {
	const handle = parent.layer.handles.child(parent.handle, directory, name, stat);
	if (typeof handle === "number") throw failed("Cannot take a file handle", handle);
	return realOfHandle(parent.layer, handle, stat);
}

export function realOfHandle(layer: Layer, handle: FileHandle, stat: Stat): Real {
	if (!layer.isUpper) layer.handles.countNames(handle, stat);
	return new Real(layer, handle, stat.inoHi, stat.inoLo, !stat.sameDevice(layer.rootStat));
}

/** The record of a real object, which as the `origin` of a copy, as the name of an index entry and in our tables is its name. */
export function recordOf(real: Real): Buffer {
	return encodeRecord(real.layer.fileSystem.uuid, real.handle, real.layer.isUpper);
}

/** The real objects of the lowers alone. */
export function lowersOf({ reals }: { readonly reals: readonly Real[] }): Real[] {
	return reals.filter(({ layer }) => !layer.isUpper);
}

/** The file id of what was born as inode `ino` of a layer; for inode numbers of 2^48 and more see `hashedFileid`. */
export function plainFileid(space: number, inoHi: number, inoLo: number): { readonly hi: number; readonly lo: number } {
	return { hi: ((space << 16) | inoHi) >>> 0, lo: inoLo };
}

/** Whether the inode number leaves room for the number of its space. */
export function fitsFileid(inoHi: number): boolean {
	return inoHi < 0x10000;
}
