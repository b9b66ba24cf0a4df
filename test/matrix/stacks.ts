import type { Keeping } from "../crash/stage.ts";
import type { FileSystem } from "../support/scratch.ts";

export type DiskKind = Exclude<FileSystem, "root">;

/** Layers and the file systems that they lie on. A new stack is one entry of STACKS. */
export interface Stack {
	readonly name: string;
	/** How many. */
	readonly lowers: number;
	/** The file system of upper and work. */
	readonly upper: DiskKind;
	/** Of each lower, from the topmost down. */
	readonly disks: readonly DiskKind[];
	/** One of the lowers was an upper of the kernel's overlayfs, with redirects into those below it. */
	readonly hasRedirect: boolean;
	/** Which one. */
	readonly redirecting: number;
	/** Where ids come from. */
	readonly keeping: Keeping;
	/** Without `--fake-root`: an ordinary user has nobody's files but their own. */
	readonly isPlain: boolean;
	/** The lowers are images of this kind, or shown by a FUSE file system, with what was planted. */
	readonly image: ImageKind | null;
}

export type ImageKind = "squashfs" | "erofs" | "fuse";

const REDIRECTING = 1;

function stack(name: string, upper: DiskKind, disks: readonly DiskKind[], hasRedirect = false): Stack {
	return {
		name,
		lowers: disks.length,
		upper,
		disks,
		hasRedirect,
		redirecting: REDIRECTING,
		keeping: "kernel",
		isPlain: false,
		image: null,
	};
}

/** With portable handles, as root keeps an upper, or an ordinary user, who is one. */
function portable(keeping: "portable" | "ordinary", of: Stack, image: ImageKind | null = null): Stack {
	return { ...of, name: `${of.name}, ${keeping === "portable" ? "portable handles" : "ordinary user"}`, keeping, image };
}

/** As `portable`, of an ordinary user without `--fake-root`. */
function plain(of: Stack): Stack {
	return { ...portable("ordinary", of), name: `${of.name}, ordinary user without --fake-root`, isPlain: true };
}

const times = (count: number, disk: DiskKind) => Array.from({ length: count }, () => disk);

export const STACKS: readonly Stack[] = [
	stack("one lower, ext4", "ext4", ["ext4"]),
	stack("one lower, xfs", "xfs", ["xfs"]),
	stack("one lower, btrfs", "btrfs", ["btrfs"]),
	stack("one lower, tmpfs", "tmpfs", ["tmpfs"]),
	stack("three lowers, ext4", "ext4", times(3, "ext4")),
	stack("three lowers, upper on ext4, lowers on xfs, btrfs and tmpfs", "ext4", ["xfs", "btrfs", "tmpfs"]),
	stack("three lowers, upper on btrfs, lowers on btrfs, tmpfs and ext4", "btrfs", ["btrfs", "tmpfs", "ext4"]),
	stack("three lowers, upper on tmpfs, lowers on tmpfs, ext4 and xfs", "tmpfs", ["tmpfs", "ext4", "xfs"]),
	stack("five lowers with a redirect, ext4", "ext4", times(5, "ext4"), true),
	stack("five lowers with a redirect, upper on xfs, lowers on ext4 and btrfs", "xfs", ["btrfs", "ext4", "ext4", "btrfs", "ext4"], true),
];

/** The file system that layers are copied to: another one. */
export const copyDisk = (upper: DiskKind): DiskKind => (upper === "ext4" ? "tmpfs" : "ext4");

const FIVE = ["xfs", "ext4", "ext4", "btrfs", "tmpfs"] as const;

/** With portable handles. */
export const PORTABLE_STACKS: readonly Stack[] = [
	portable("portable", stack("one lower, ext4", "ext4", ["ext4"])),
	portable("portable", stack("three lowers, upper on xfs, lowers on xfs, btrfs and tmpfs", "xfs", ["xfs", "btrfs", "tmpfs"])),
	portable("portable", stack("five lowers with a redirect, ext4", "ext4", times(5, "ext4"), true)),
	portable("portable", stack("three lowers, squashfs images, upper on ext4", "ext4", times(3, "ext4")), "squashfs"),
	portable("ordinary", stack("one lower, ext4", "ext4", ["ext4"])),
	portable("ordinary", stack("one lower, xfs", "xfs", ["xfs"])),
	portable("ordinary", stack("one lower, btrfs", "btrfs", ["btrfs"])),
	portable("ordinary", stack("one lower, tmpfs", "tmpfs", ["tmpfs"])),
	portable("ordinary", stack("three lowers, ext4", "ext4", times(3, "ext4"))),
	portable("ordinary", stack("three lowers, upper on tmpfs, lowers on tmpfs, ext4 and xfs", "tmpfs", ["tmpfs", "ext4", "xfs"])),
	portable("ordinary", stack("five lowers with a redirect, upper on xfs, lowers on all", "xfs", FIVE, true)),
	portable("ordinary", stack("one lower, a squashfs image, upper on ext4", "ext4", ["ext4"]), "squashfs"),
	portable("ordinary", stack("three lowers, erofs images, upper on btrfs", "btrfs", times(3, "btrfs")), "erofs"),
	portable("ordinary", stack("one lower by FUSE, upper on tmpfs", "tmpfs", ["tmpfs"]), "fuse"),
	portable("ordinary", stack("three lowers by FUSE, upper on ext4", "ext4", times(3, "ext4")), "fuse"),
	plain(stack("one lower, ext4", "ext4", ["ext4"])),
	plain(stack("three lowers, upper on xfs, lowers on xfs, btrfs and tmpfs", "xfs", ["xfs", "btrfs", "tmpfs"])),
];
