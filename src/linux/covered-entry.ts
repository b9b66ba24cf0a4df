// Names that a mount of our own covers: whoever looks at one of them by its path asks this very process, and waits for ever.

import type { PathBytes } from "./libc.ts";

/** A directory that a mount covers, by the directory that it lies in and its name there. */
interface CoveredEntry {
	readonly inoHi: number;
	readonly inoLo: number;
	readonly devMajor: number;
	readonly devMinor: number;
	readonly name: Buffer;
	/** Open on it, O_PATH, from before the mount. */
	readonly fd: number;
}

const entries: CoveredEntry[] = [];

/** From now on the name stands for the directory of the descriptor. */
export function coverEntry(parent: Omit<CoveredEntry, "name" | "fd">, name: Buffer, fd: number): void {
	const { inoHi, inoLo, devMajor, devMinor } = parent;
	entries.push({ inoHi, inoLo, devMajor, devMinor, name, fd });
}

/** The descriptor of a covered directory where the name may be one; `identify` tells which directory it is looked up in, and is asked where that matters. */
export function coveredEntry(name: PathBytes, identify: () => Omit<CoveredEntry, "name" | "fd"> | null): number {
	for (const entry of entries) {
		if (!isSame(entry.name, name)) continue;
		const parent = identify();
		if (
			parent !== null &&
			parent.inoLo === entry.inoLo &&
			parent.inoHi === entry.inoHi &&
			parent.devMinor === entry.devMinor &&
			parent.devMajor === entry.devMajor
		) {
			return entry.fd;
		}
	}
	return -1;
}

function isSame(name: Buffer, other: PathBytes): boolean {
	return typeof other === "string" ? name.equals(Buffer.from(other)) : name.equals(other);
}
