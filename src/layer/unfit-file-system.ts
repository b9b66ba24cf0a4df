/** Why layers on some file systems cannot be served, in words for the user. */

const COPY = "Copy the tree to ext4, xfs, btrfs or tmpfs";

/** Images that are made whole: an inode number means nothing in the next one. */
const IMAGES = new Set(["squashfs", "erofs", "iso9660", "udf", "cramfs", "romfs"]);
/** They have no inodes on disk. */
const WITHOUT_INODES = new Set(["vfat", "exfat", "ntfs3", "hostfs"]);
const NETWORK = new Set(["nfs", "cifs", "smb2", "9p", "ceph", "afs"]);
const PSEUDO = new Set(["proc", "sysfs", "cgroup2", "debugfs", "tracefs", "hugetlbfs"]);

/** No tree of files that stay, whatever the kind of handles. */
export function isMadeUp(kind: string): boolean {
	return PSEUDO.has(kind);
}

/** A half sentence behind "its file system (NAME) ", and what to do. `kind` is the name by its magic number, `name` what the mount table says. */
export function whyUnfit(kind: string, name: string, role: "lower" | "upper"): string {
	const [why, remedy] = reasonOf(kind);
	const place = role === "upper" ? "Choose an upper on ext4, xfs, btrfs or tmpfs." : remedy;
	return `its file system (${name}) ${why}. ${place}`;
}

const UNTIL_PORTABLE = "with portable handles (--handles portable) it can be served";

function reasonOf(kind: string): readonly [why: string, remedy: string] {
	if (IMAGES.has(kind)) {
		return [
			`keeps no generation numbers, so in an image that is made anew a handle would find another file; ${UNTIL_PORTABLE}`,
			`${COPY}.`,
		];
	}
	if (WITHOUT_INODES.has(kind)) {
		return [`makes inode numbers up while it is mounted, so a handle would not hold; ${UNTIL_PORTABLE}`, `${COPY}.`];
	}
	if (kind === "fuse") {
		return [
			`is run by a program in user space (FUSE), whose handles end when a file leaves its cache; ${UNTIL_PORTABLE}`,
			`Serve what lies behind it, or ${COPY.toLowerCase()}.`,
		];
	}
	if (NETWORK.has(kind)) {
		return [
			`lies on another host, which may change it, and whose handles are not known to hold; ${UNTIL_PORTABLE}`,
			`Run holdfast on that host, or ${COPY.toLowerCase()}.`,
		];
	}
	if (PSEUDO.has(kind)) return ["is made up by the kernel and holds no files that stay", "Name a tree of files."];
	if (kind === "overlay") return ["is an overlay of the kernel, which cannot hold the changes of another one", ""];
	return [`is not known to give handles that hold; ${UNTIL_PORTABLE}`, `${COPY}.`];
}
