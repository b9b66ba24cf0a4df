// One pass of a check: the layers, the findings, and the counts.

import { namesOf } from "../../linux/directory.ts";
import { ERRNO } from "../../linux/errno.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { ifThere, must } from "../../vfs/system-errors.ts";
import { type FindingKind, Findings, type Remedy } from "./findings.ts";
import type { CheckedLayers, CheckOptions } from "./layers.ts";
import { Repairs } from "./repair.ts";
import { LowerUnion, MergedDirectories } from "./union.ts";

/** What one pass has looked at. */
export interface CheckCounts {
	directories: number;
	/** Anything else with a name in upper; a file of several names counts for each. */
	files: number;
	whiteouts: number;
	indexEntries: number;
	/** Index entries that say that their object is gone. */
	tombstones: number;
	/** Objects of upper that were copied up. */
	copiedUp: number;
}

/** The names in a folder of `work/holdfast`; none where it does not exist. */
export function namesOfFolder(own: number, folder: string): Buffer[] {
	const fd = own < 0 ? -ERRNO.ENOENT : ifThere(openAt(own, folder, O.rdonly | O.directory), `Cannot open work/holdfast/${folder}`);
	if (fd < 0) return [];
	const names = namesOf(fd);
	close(fd);
	return must(names, `Cannot read work/holdfast/${folder}`);
}

/** One pass over an upper, its index and its work folder. */
export class Check {
	readonly layers: CheckedLayers;
	readonly repairs: Repairs;
	readonly union: LowerUnion;
	readonly places: MergedDirectories;
	readonly findings = new Findings();
	readonly counts: CheckCounts = { directories: 0, files: 0, whiteouts: 0, indexEntries: 0, tombstones: 0, copiedUp: 0 };
	/** The upper was made with these lowers: what they do not have is gone, and not just elsewhere. */
	readonly isProven: boolean;
	/** Nothing is repaired over layers that our registry knows to be other ones, where all that is right looks wrong. */
	readonly mayRepair: boolean;
	/** Files of `work/holdfast/long-redirects`, named by the handles of their directories. */
	readonly longRedirects: ReadonlySet<string>;
	readonly #progress: NonNullable<CheckOptions["progress"]>;

	constructor(layers: CheckedLayers, isProven: boolean, progress: CheckOptions["progress"]) {
		this.layers = layers;
		this.repairs = new Repairs(layers);
		this.union = new LowerUnion(layers.lowers, layers.xattr);
		this.places = new MergedDirectories(this.union, layers.upper);
		this.isProven = isProven;
		this.mayRepair = isProven || (layers.registry === null && layers.registryFailure === null);
		this.longRedirects = new Set(namesOfFolder(layers.own, "long-redirects").map((name) => name.toString("latin1")));
		this.#progress = progress ?? (() => {});
	}

	/** Served by us since its first serve, so that everything copied up is in the index, with an identity. */
	get isOurs(): boolean {
		return this.layers.state === "of holdfast";
	}

	tell(stage: string, count: number): void {
		this.#progress(stage, count);
	}

	/** `remedy`: null where it takes a person. */
	error(kind: FindingKind, path: string, message: string, remedy: Remedy | null = null): void {
		this.findings.add({ kind, severity: "error", path, message, remedy: this.mayRepair ? remedy : null });
	}

	note(kind: FindingKind, path: string, message: string, remedy: Remedy | null = null): void {
		this.findings.add({ kind, severity: "note", path, message, remedy: this.mayRepair ? remedy : null });
	}

	/** Moves what lies in a folder of work to lost+found. */
	aside(folder: string, name: Buffer): Remedy {
		return { does: "moves it to work/holdfast/lost+found", make: () => this.repairs.moveAside(folder, name) };
	}

	/** Removes a whiteout of work. */
	drop(folder: string, name: Buffer): Remedy {
		return { does: "removes it", make: () => this.repairs.dropWhiteout(folder, name) };
	}

	/** A whiteout in a directory of upper; a person's work where upper has no such directory. */
	whiteout(directory: { readonly handle: FileHandle } | null, name: Uint8Array): Remedy | null {
		if (directory === null) return null;
		return { does: "makes the whiteout", make: () => this.repairs.makeWhiteout(directory.handle, name) };
	}

	/** A remedy that would be wrong if the lowers were not the right ones. */
	ifProven(remedy: Remedy): Remedy | null {
		return this.isProven ? remedy : null;
	}
}
