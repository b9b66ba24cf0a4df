// Whole file systems: their names, figures and uuids, private mounts of a tree, locks, and the umask.

import { ERRNO } from "./errno.ts";
import { arena, arenaAddress, arenaView, declare, PLACE, putPath, result } from "./libc.ts";
import { AT, MOUNT_ATTR, setMountAttributes } from "./mount.ts";
import { close, O, openAt } from "./open.ts";

const fstatfsCall = declare("fstatfs", "int", ["int", "pointer"]);
const ioctlCall = declare("ioctl", "int", ["int", "ulong", "pointer"]);
const flockCall = declare("flock", "int", ["int", "int"]);
const umaskCall = declare("umask", "uint", ["uint"]);
const openTreeCall = declare("syscall", "long", ["long", "int", "pointer", "uint"]);

/** f_type of statfs(2) for file systems that a user may name as a layer (linux/magic.h). */
export const FILE_SYSTEM_NAMES: ReadonlyMap<number, string> = new Map([
	[0xef53, "ext4"],
	[0x58465342, "xfs"],
	[0x9123683e, "btrfs"],
	[0x01021994, "tmpfs"],
	[0xf2f52010, "f2fs"],
	[0x73717368, "squashfs"],
	[0xe0f5e1e2, "erofs"],
	[0x4d44, "vfat"],
	[0x9660, "iso9660"],
	[0x794c7630, "overlay"],
	[0x65735546, "fuse"],
	[0x6969, "nfs"],
	[0x2fc12fc1, "zfs"],
	[0x2011bab0, "exfat"],
	[0x00c0ffee, "hostfs"],
	[0x858458f6, "ramfs"],
	[0x9fa0, "proc"],
	[0x62656572, "sysfs"],
	[0xff534d42, "cifs"],
	[0xfe534d42, "smb2"],
	[0x01021997, "9p"],
	[0x00c36400, "ceph"],
	[0x5346414f, "afs"],
	[0x7366746e, "ntfs3"],
	[0x15013346, "udf"],
	[0x28cd3d45, "cramfs"],
	[0x7275, "romfs"],
	[0xca451a4e, "bcachefs"],
	[0xf15f, "ecryptfs"],
	[0x63677270, "cgroup2"],
	[0x64626720, "debugfs"],
	[0x74726163, "tracefs"],
	[0x958458f6, "hugetlbfs"],
]);

/** Blocks in units of `blockBytes`. */
export interface FileSystemFigures {
	readonly magic: number;
	readonly blockBytes: number;
	readonly blocks: number;
	readonly freeBlocks: number;
	readonly availableBlocks: number;
	readonly files: number;
	readonly freeFiles: number;
}

function u64(place: number): number {
	return arenaView.getUint32(place + 4, true) * 0x100000000 + arenaView.getUint32(place, true);
}

/** statfs(2) of the file system of a descriptor (struct statfs of 64-bit Linux), or the negated error number. */
export function fileSystemFigures(fd: number): FileSystemFigures | number {
	const status = fstatfsCall(fd, arenaAddress + PLACE.statfs);
	if (status < 0) return result(status);
	const at = PLACE.statfs;
	return {
		magic: arenaView.getUint32(at, true),
		blockBytes: u64(at + 72) || u64(at + 8),
		blocks: u64(at + 16),
		freeBlocks: u64(at + 24),
		availableBlocks: u64(at + 32),
		files: u64(at + 40),
		freeFiles: u64(at + 48),
	};
}

const FS_IOC_GETFSUUID = 0x80111500;
const EXT4_IOC_GETFSUUID = 0x8008662c;
const XFS_IOC_FSGEOMETRY_V1 = 0x80705864;
const BTRFS_IOC_FS_INFO = 0x8400941f;
const BTRFS_FS_INFO_BYTES = 1024;
const XFS_GEOMETRY_UUID_AT = 64;
const UUID_BYTES = 16;

/** Runs an ioctl on `bytes` of the arena's value place and returns them. */
function ioctl(fd: number, request: number, bytes: number, head?: (place: number) => void): Buffer | number {
	arena.fill(0, PLACE.value, PLACE.value + bytes);
	head?.(PLACE.value);
	const status = result(ioctlCall(fd, request, arenaAddress + PLACE.value));
	return status < 0 ? status : Buffer.from(arena.subarray(PLACE.value, PLACE.value + bytes));
}

/**
 * The persistent uuid of a file system: 16 bytes, all zero where it has none, or the negated error number.
 * One ioctl for all from Linux 6.9 on; before it ext4, xfs and btrfs have their own. On btrfs always the id on disk,
 * since a second mount of a clone gets a temporary one elsewhere.
 */
export function fileSystemUuid(fd: number, name: string): Buffer | number {
	if (name === "btrfs") {
		const info = ioctl(fd, BTRFS_IOC_FS_INFO, BTRFS_FS_INFO_BYTES);
		// struct btrfs_ioctl_fs_info_args: max_id, num_devices, fsid
		return typeof info === "number" ? info : info.subarray(16, 16 + UUID_BYTES);
	}
	const generic = ioctl(fd, FS_IOC_GETFSUUID, 1 + UUID_BYTES);
	if (typeof generic !== "number") {
		const uuid = Buffer.alloc(UUID_BYTES);
		generic.copy(uuid, 0, 1, 1 + Math.min(generic[0], UUID_BYTES));
		return uuid;
	}
	if (generic !== -ERRNO.ENOTTY) return generic;
	if (name === "ext4") {
		const answer = ioctl(fd, EXT4_IOC_GETFSUUID, 8 + UUID_BYTES, (place) => arenaView.setUint32(place, UUID_BYTES, true));
		return typeof answer === "number" ? answer : answer.subarray(8);
	}
	if (name === "xfs") {
		const geometry = ioctl(fd, XFS_IOC_FSGEOMETRY_V1, 112);
		return typeof geometry === "number" ? geometry : geometry.subarray(XFS_GEOMETRY_UUID_AT, XFS_GEOMETRY_UUID_AT + UUID_BYTES);
	}
	return Buffer.alloc(UUID_BYTES);
}

const FS_IOC_GETFLAGS = 0x80086601;

/** The flags of chattr(1) (FS_*_FL of linux/fs.h) of a file or directory that is open for reading, or the negated error number. */
export function inodeFlags(fd: number): number {
	const flags = ioctl(fd, FS_IOC_GETFLAGS, 8);
	return typeof flags === "number" ? flags : flags.readInt32LE(0) & 0x7fffffff;
}

const SYS_OPEN_TREE = 428;
const OPEN_TREE_CLONE = 1;

/**
 * A private view of a directory tree without what is mounted inside it, where reading leaves no access times and, if it is read-only, the
 * kernel itself refuses every write. Mount points inside show what they cover. As overlayfs does for its layers (needs CAP_SYS_ADMIN).
 * A readable descriptor of the tree's root, or the negated error number.
 */
export function openPrivateTree(directory: number, readOnly: boolean): number {
	const tree = result(openTreeCall(SYS_OPEN_TREE, directory, putPath(PLACE.path, ""), OPEN_TREE_CLONE | O.cloexec | AT.emptyPath));
	if (tree < 0) return tree;
	const set = MOUNT_ATTR.noatime | (readOnly ? MOUNT_ATTR.rdonly : 0);
	const status = setMountAttributes(tree, "", AT.emptyPath, set, MOUNT_ATTR.anyAtime);
	const root = status < 0 ? status : openAt(tree, ".", O.rdonly | O.directory);
	close(tree);
	return root;
}

const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;

/** Takes an exclusive flock(2), or a shared one, or says -EWOULDBLOCK at once. It ends with the process, however it dies. */
export function tryLock(fd: number, isShared = false): number {
	return result(flockCall(fd, (isShared ? LOCK_SH : LOCK_EX) | LOCK_NB));
}

/** Sets the umask and returns the former one. */
export function setUmask(mask: number): number {
	return umaskCall(mask);
}
