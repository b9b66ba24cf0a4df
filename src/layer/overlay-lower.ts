// Decides whether a mounted kernel overlay may be a lower, and says what to do where it may not.

import { visitEntries } from "../linux/directory.ts";
import { ERRNO, errnoName, whyNot } from "../linux/errno.ts";
import { type FileHandle, handleOf, openByHandle } from "../linux/file-handle.ts";
import { FILE_SYSTEM_NAMES, fileSystemFigures } from "../linux/file-system.ts";
import { type Mount, mountOf, optionValue } from "../linux/mount-table.ts";
import { close, O, openAt, openPath } from "../linux/open.ts";
import { fstat, mountId, Stat, statAt } from "../linux/stat.ts";
import { showName } from "../vfs/names.ts";
import { tellProgress } from "../vfs/progress.ts";
import { isFound } from "../vfs/system-errors.ts";
import { xattrOrNone } from "../vfs/xattrs.ts";
import { LayerError } from "./layer-error.ts";
import { RECORD_HEADER_BYTES, recordIn } from "./origin-record.ts";

/**
 * When an overlay of the kernel may be a lower. What a Linux 6.18 does was tried with real mounts:
 *
 * - It gives file handles only with `nfs_export=on`, and they hold over a remount. Each holds the uuid and the handle of the real inode,
 *   so it is 24 bytes longer than the real one. A handle of the root of an overlay without an upper cannot be opened (ESTALE).
 * - Two overlays over one lower give equal handles for different objects. What tells them apart is the uuid of the overlay, which
 *   `uuid=on` keeps in an xattr of its upper's root; without one there is nothing that a later start could know it by.
 * - Inode numbers last where all layers are on one file system, or with `xino=on`. Else numbers of directories are counted up from 1
 *   as they are met, and change when the cache is dropped. On btrfs they are not unique, since each subvolume counts for itself.
 * - Taking the handle of a directory copies directories up, into the upper of that overlay, where the kernel could otherwise not find the
 *   way back: where its layer is not the topmost lower of the directory above it, and below merged directories that are not in the index. A
 *   mount that is read-only does not stop this. So only an overlay with one lower will do, and an upper that has never been changed
 *   without `nfs_export=on`: its directories are looked through at each start. A merged directory without `origin` gets that when it is met,
 *   which is a write too.
 *
 * Its layers are known from the mount table alone, by their paths.
 */
export function checkOverlayLower(directory: number, path: string): void {
	const refusal = (why: string) => new LayerError(`Cannot serve the lower ${path}: it lies in an overlay of the kernel, ${why}`);
	const mount = mountOf(directory);
	if (mount === null || mount.type !== "overlay")
		throw refusal("whose mount is not to be seen from here. Mount it in this mount namespace.");
	const lowers = lowersOf(mount);
	const upper = optionValue(mount, "upperdir");
	const work = optionValue(mount, "workdir");
	if (upper === null || work === null) {
		throw refusal(
			"one without an upper, which nothing distinguishes from others and whose root has no handle that can be opened. Name its layers " +
				"instead, each with --lower, from the topmost down.",
		);
	}
	if (!mount.options.includes("ro")) {
		throw refusal(
			`which is mounted read-write: handing out its handles would write to it. Mount it read-only (mount -o remount,ro ${mount.point}).`,
		);
	}
	if (optionValue(mount, "nfs_export") !== "on") {
		throw refusal("which gives no file handles. Mount it with index=on,nfs_export=on from its first day, or name its layers instead.");
	}
	if (lowers.length !== 1) {
		throw refusal(
			`one with ${lowers.length} lowers: the kernel copies directories up when it makes handles of them, also on a read-only mount. ` +
				"Unmount it and name its layers instead: its upper and each of its lowers with --lower, after `holdfast adopt`.",
		);
	}
	const layers = [upper, ...lowers];
	const relative = layers.find((layer) => !layer.startsWith("/"));
	if (relative !== undefined)
		throw refusal(`whose layer ${relative} was named by a path that is not absolute. Mount it with absolute paths.`);
	const opened: number[] = [];
	try {
		const open = (layer: string) => {
			const fd = openPath(layer, O.rdonly | O.directory | O.noatime);
			if (fd < 0)
				throw refusal(
					`whose layer ${layer} cannot be opened: ${whyNot(fd, layer)}. It must be reachable by the path that it was mounted with.`,
				);
			opened.push(fd);
			return fd;
		};
		const [upperFd, lowerFd] = [open(upper), open(lowers[0])];
		checkReal(mount, directory, [upperFd, lowerFd], refusal);
		const unindexed = findUnindexed(mount, upperFd, lowerFd, open(`${work}/index`), refusal);
		if (unindexed === null) return;
		throw refusal(
			`whose upper was changed while it was not mounted with nfs_export=on (${unindexed} is not in its index), so that the kernel would write ` +
				"to it for a handle. Unmount it and name its upper and lower instead, each with --lower, after `holdfast adopt`.",
		);
	} finally {
		for (const fd of opened) close(fd);
	}
}

type Refusal = (why: string) => LayerError;

/** File systems whose inode numbers and handles an overlay passes on such that they hold. */
const REAL_FILE_SYSTEMS = new Set(["ext4", "xfs", "tmpfs", "f2fs"]);

function checkReal(mount: Mount, directory: number, layers: readonly number[], refusal: Refusal): void {
	const stats = layers.map((fd) => {
		const stat = new Stat();
		fstat(fd, stat);
		return stat;
	});
	for (const fd of layers) {
		const figures = fileSystemFigures(fd);
		const name = typeof figures === "number" ? errnoName(figures) : (FILE_SYSTEM_NAMES.get(figures.magic) ?? "of an unknown type");
		if (REAL_FILE_SYSTEMS.has(name)) continue;
		throw refusal(
			`one of whose layers is on ${name}: ${
				name === "btrfs" ? "inode numbers of its subvolumes would meet in the overlay" : "its handles are not known to hold, or too long"
			}. Name its layers instead, or copy the tree to ext4, xfs, btrfs or tmpfs.`,
		);
	}
	const onOneDevice = stats.every((stat) => stat.sameDevice(stats[0]));
	if (!onOneDevice && optionValue(mount, "xino") !== "on") {
		throw refusal("whose layers are on two file systems, so that the inode numbers of directories change. Mount it with xino=on.");
	}
	if (!isUpperOf(mount, directory, layers[0])) {
		throw refusal("whose upper is not at the path that it was mounted with. Unmount it and mount it again.");
	}
}

/** Whether the handle of the overlay's root is that of its upper, as the kernel makes it. Where the root is not to be seen, the path is believed. */
function isUpperOf(mount: Mount, directory: number, upper: number): boolean {
	const top = mount.root === "/" ? openPath(mount.point, O.rdonly | O.directory) : -1;
	if (top < 0) return true;
	const isTop = mountId(top) === mountId(directory);
	const handle = handleOf(top);
	close(top);
	const real = handleOf(upper);
	if (!isTop || typeof handle === "number" || typeof real === "number") return true;
	return handle.bytes.subarray(HANDLE_RECORD_AT + RECORD_HEADER_BYTES).equals(real.bytes);
}

/** Of the legacy option a list, with `\:` for a colon in a name; else one option for each. Layers of data alone count too. */
function lowersOf(mount: Mount): string[] {
	const lowers: string[] = [];
	for (const option of mount.options) {
		const match = /^(lowerdir|lowerdir\+|datadir\+)=(.*)$/s.exec(option);
		if (match === null) continue;
		if (match[1] === "lowerdir") lowers.push(...match[2].split(/(?<!\\):/).map((lower) => lower.replace(/\\(.)/gs, "$1")));
		else lowers.push(match[2]);
	}
	return lowers;
}

/** The kernel's record of a real inode ("struct ovl_fb"), value of `origin`: the handle's type at 4, and the handle behind the header. */
const RECORD_TYPE_AT = 4;
/** Where the record begins in a handle of an overlay. */
const HANDLE_RECORD_AT = 3;
const OPAQUE_YES = 0x79;
const DIRECTORY = 4;

/** The path of a directory of upper that is merged with one of lower and not in the index; null when there is none. */
function findUnindexed(mount: Mount, upper: number, lower: number, index: number, refusal: Refusal): string | null {
	const prefix = mount.options.includes("userxattr") ? "user.overlay." : "trusted.overlay.";
	const stat = new Stat();
	const isIndexed = (origin: Buffer) => statAt(index, origin.toString("hex"), stat) === 0;
	const openOrigin = (origin: Buffer): number => {
		const handle: FileHandle = { type: origin[RECORD_TYPE_AT], bytes: origin.subarray(RECORD_HEADER_BYTES) };
		return origin.length > RECORD_HEADER_BYTES ? openByHandle(lower, handle, O.rdonly | O.directory | O.noatime) : -ERRNO.ESTALE;
	};
	let directories = 0;
	const visit = (directory: number, below: number, path: string): string | null => {
		tellProgress("looking through the upper of a mounted lower", ++directories, "directories");
		const names: Buffer[] = [];
		const status = visitEntries(directory, (name, type) => {
			if (type === DIRECTORY || type === 0) names.push(Buffer.from(name));
			return undefined;
		});
		if (typeof status === "number" && status < 0) throw refusal(`whose upper cannot be read: ${whyNot(status)}.`);
		for (const name of names) {
			const child = openAt(directory, name, O.rdonly | O.directory | O.nofollow | O.noatime);
			if (child === -ERRNO.ENOTDIR) continue;
			if (child < 0) throw refusal(`whose upper cannot be read: ${whyNot(child)}.`);
			let counterpart = -1;
			try {
				const at = `${path}/${showName(name)}`;
				const unread = `Cannot read the marks of ${at}`;
				const marked = xattrOrNone(child, `${prefix}origin`, unread);
				const origin = marked === null ? null : recordIn(marked);
				const opaque = xattrOrNone(child, `${prefix}opaque`, unread);
				if (opaque?.length === 1 && opaque[0] === OPAQUE_YES) {
					// hides what is below, and so is merged with nothing
				} else if (origin !== null && origin.length > 0) {
					if (!isIndexed(origin)) return at;
					counterpart = openOrigin(origin);
				} else if (below >= 0 && isFound(statAt(below, name, stat), unread) && stat.type === DIRECTORY) {
					return at;
				} else if (xattrOrNone(child, `${prefix}redirect`, unread) !== null) {
					return at;
				}
				const found = visit(child, counterpart, at);
				if (found !== null) return found;
			} finally {
				if (counterpart >= 0) close(counterpart);
				close(child);
			}
		}
		return null;
	};
	return visit(upper, lower, "");
}
