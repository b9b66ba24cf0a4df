// What file systems lack for layers to be served from them, in words for the user.

const COPY = "copy the tree to ext4, xfs, btrfs or tmpfs";

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

/** Whether the kernel's handle of an inode is the same in another mount; what FUSE and network file systems give may be of one mount alone. */
export function hasLastingHandles(kind: string): boolean {
	return kind !== "fuse" && !NETWORK.has(kind);
}

/** What is wrong with a file system for kernel handles, without a full stop, and what to do in whole sentences. */
export interface Unfitness {
	readonly fact: string;
	readonly remedy: string;
}

/** `kind` is the name by its magic number, `name` what the mount table says. */
export function whyUnfit(kind: string, name: string, role: "lower" | "upper"): Unfitness {
	const { fact, remedy } = reasonOf(kind);
	return { fact: `its file system (${name}) ${fact}`, remedy: role === "upper" ? "Choose an upper on ext4, xfs, btrfs or tmpfs." : remedy };
}

const PORTABLE = "With portable handles (--handles portable) it can be served.";

function reasonOf(kind: string): Unfitness {
	if (IMAGES.has(kind)) {
		return {
			fact: "keeps no generation numbers, so in an image that is made anew a handle would find another file",
			remedy: `${PORTABLE} Else ${COPY}.`,
		};
	}
	if (WITHOUT_INODES.has(kind)) {
		return { fact: "makes inode numbers up while it is mounted, so a handle would not hold", remedy: `${PORTABLE} Else ${COPY}.` };
	}
	if (kind === "fuse") {
		return {
			fact: "is run by a program in user space (FUSE), whose handles end when a file leaves its cache",
			remedy: `${PORTABLE} Else serve what lies behind it, or ${COPY}.`,
		};
	}
	if (NETWORK.has(kind)) {
		return {
			fact: "lies on another host, which may change it, and whose handles are not known to hold",
			remedy: `${PORTABLE} Else run holdfast on that host, or ${COPY}.`,
		};
	}
	if (PSEUDO.has(kind)) return { fact: "is made up by the kernel and holds no files that stay", remedy: "Name a tree of files." };
	if (kind === "overlay") return { fact: "is an overlay of the kernel, which cannot hold the changes of another one", remedy: "" };
	return { fact: "is not known to give handles that hold", remedy: `${PORTABLE} Else ${COPY}.` };
}
