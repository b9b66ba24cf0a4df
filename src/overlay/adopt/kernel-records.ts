// What the kernel's overlayfs knows the objects of a portable export by: uuids and handles, and the index of work.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type Layer, LayerOpener, openDirectory, TRUSTED_XATTRS } from "../../layer/layer.ts";
import { walkTree } from "../../layer/walk-tree.ts";
import { ERRNO } from "../../linux/errno.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { FileType } from "../../vfs/operations.ts";
import { must } from "../../vfs/system-errors.ts";
import { isWhiteoutInode } from "../format/whiteout.ts";
import type { Writable } from "../journal/writable.ts";

/** The uuids by which the kernel's records name the file systems of layers. UnfitError: the kernel cannot tell the objects of one by handles. */
export function kernelUuids(layers: readonly Layer[]): ReadonlyMap<Layer, Buffer> {
	const opener = new LayerOpener(TRUSTED_XATTRS, "kernel");
	const uuids = new Map<Layer, Buffer>();
	for (const layer of layers) {
		const { path, isUpper } = layer;
		const opened = isUpper ? opener.openUpper(path, openDirectory(path, "upper")) : opener.openLower(path);
		uuids.set(layer, opened.fileSystem.uuid);
		opened.close();
	}
	return uuids;
}

/** The index that the kernel looks into, on the mount of the other one, so that names can be moved between them. Null: there is none. */
export function openKernelIndex({ work }: Writable, mayMake: true): number;
export function openKernelIndex({ work }: Writable, mayMake: false): number | null;
export function openKernelIndex({ work }: Writable, mayMake: boolean): number | null {
	if (mayMake) mkdirSync(join(work.ownPath, "../index"), { recursive: true, mode: 0o700 });
	const fd = openAt(work.own, "../index", O.rdonly | O.directory | O.nofollow);
	return fd === -ERRNO.ENOENT && !mayMake ? null : must(fd, "Cannot open the kernel's index");
}

/** Visits all that an upper (or another folder of it) holds but whiteouts, directories too. The descriptor, O_PATH, is closed afterwards. */
export function visitUpper(
	layer: Layer,
	visit: (fd: number, stat: Stat) => void,
	progress: (directories: number) => void = () => {},
	root = layer.root,
): void {
	const stat = new Stat();
	walkTree(
		{ root, path: layer.path, isUpper: true },
		true,
		(directory, name) => {
			const fd = must(openAt(directory.fd, name, O.path | O.nofollow), "Cannot open an object of upper");
			try {
				must(fstat(fd, stat), "Cannot read an object of upper");
				if (!stat.sameDevice(layer.rootStat) || isWhiteoutInode(fd, stat, layer.xattr.whiteout)) return null;
				const isDirectory = stat.type === FileType.dir;
				visit(fd, stat);
				return isDirectory ? true : null;
			} finally {
				close(fd);
			}
		},
		progress,
	);
}
