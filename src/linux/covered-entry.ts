// Names that a mount of our own covers: whoever looks at one of them by its path asks this very process, and waits for ever.

import type { PathBytes } from "./libc.ts";

/** Which inode it is. */
export interface Inode {
	readonly inoHi: number;
	readonly inoLo: number;
	readonly devMajor: number;
	readonly devMinor: number;
}

/** A directory that a mount covers, by the directory that it lies in and its name there. */
interface CoveredEntry {
	readonly parent: Inode;
	readonly name: Buffer;
	/** Open on it, O_PATH, from before the mount. */
	readonly fd: number;
}

const entries: CoveredEntry[] = [];

/** From now on the name stands for the directory of the descriptor. */
export function coverEntry({ inoHi, inoLo, devMajor, devMinor }: Inode, name: Buffer, fd: number): void {
	entries.push({ parent: { inoHi, inoLo, devMajor, devMinor }, name, fd });
}

/** The descriptor of the covered directory that a name in a directory is, or -1. `is` tells whether a descriptor is of an inode, and is asked where that matters. */
export function coveredEntry(directory: number, name: PathBytes, is: (fd: number, inode: Inode) => boolean): number {
	for (const entry of entries) if (isSame(entry.name, name) && is(directory, entry.parent)) return entry.fd;
	return -1;
}

function isSame(name: Buffer, other: PathBytes): boolean {
	return typeof other === "string" ? name.equals(Buffer.from(other)) : name.equals(other);
}
