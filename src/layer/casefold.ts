// Finds directories that ignore the case of names, which cannot be served.

import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync } from "node:fs";
import { inodeFlags } from "../linux/file-system.ts";
import { mountOf } from "../linux/mount-table.ts";
import { close, O, openAt } from "../linux/open.ts";
import { fstat, Stat } from "../linux/stat.ts";

/**
 * Directories in which "Name" and "NAME" are one (`chattr +F`). Names of an overlay are bytes: in such a directory a look-up would
 * match what a listing does not show, and a whiteout of one name would hide another. So they are not served.
 */
const FS_CASEFOLD_FL = 0x40000000;

/** For the user: why it is refused, and what to do. */
export const CASEFOLD_REASON =
	'it ignores the case of names (casefold), and names of an overlay are bytes. Copy it into a directory without that flag ("chattr -F" works on empty ones)';

/**
 * Whether a directory ignores case. Any descriptor of it will do. One open and one ioctl: ask only where the file system may have such
 * directories (`FileSystem.mayCasefold`), and only once for each directory.
 */
export function isCasefolded(directory: number, flagsOf: (fd: number) => number = inodeFlags): boolean {
	// FS_IOC_GETFLAGS takes no O_PATH
	const readable = openAt(directory, ".", O.rdonly | O.directory | O.noatime);
	if (readable < 0) return false;
	const flags = flagsOf(readable);
	close(readable);
	return flags >= 0 && (flags & FS_CASEFOLD_FL) !== 0;
}

/**
 * Whether a file system can have such directories at all. For most this is no: only ext4, f2fs and tmpfs know them, the kernel must have been built
 * for it, and the file system made or mounted for it. Where that cannot be learnt the answer is yes, which costs time and is never wrong.
 */
export function mayCasefold(directory: number, name: string): boolean {
	if (name === "tmpfs") return mountOf(directory)?.options.some((option) => option.startsWith("casefold")) ?? true;
	if (name !== "ext4" && name !== "f2fs") return false;
	if (existsSync(`/sys/fs/${name}/features`) && !existsSync(`/sys/fs/${name}/features/casefold`)) return false;
	if (name === "f2fs") return true;
	const device = blockDevice(directory);
	return device === null || (hasCasefoldFeature(device) ?? true);
}

/** The path of the device that a directory's file system is on, or null. */
function blockDevice(directory: number): string | null {
	const { devMajor, devMinor } = fstatOf(directory);
	try {
		const name = /^DEVNAME=(.*)$/m.exec(readFileSync(`/sys/dev/block/${devMajor}:${devMinor}/uevent`, "utf8"))?.[1];
		return name === undefined ? null : `/dev/${name}`;
	} catch {
		return null;
	}
}

function fstatOf(directory: number): Stat {
	const stat = new Stat();
	fstat(directory, stat);
	return stat;
}

const EXT4_SUPERBLOCK_AT = 1024;
const EXT4_SUPERBLOCK_BYTES = 1024;
const EXT4_MAGIC = 0xef53;
const EXT4_FEATURE_INCOMPAT_CASEFOLD = 0x20000;

/** What the superblock of an ext4 says, read from its device or image; null when there is none to be read. */
export function hasCasefoldFeature(device: string): boolean | null {
	const superblock = Buffer.alloc(EXT4_SUPERBLOCK_BYTES);
	let file: number;
	try {
		file = openSync(device, "r");
	} catch {
		return null;
	}
	try {
		const stat = fstatSync(file);
		if (!stat.isBlockDevice() && !stat.isFile()) return null;
		if (readSync(file, superblock, 0, superblock.length, EXT4_SUPERBLOCK_AT) < superblock.length) return null;
	} catch {
		return null;
	} finally {
		closeSync(file);
	}
	if (superblock.readUInt16LE(0x38) !== EXT4_MAGIC) return null;
	return (superblock.readUInt32LE(0x60) & EXT4_FEATURE_INCOMPAT_CASEFOLD) !== 0;
}
