// Records of how many names of a lower file were removed, and how many names of a copy lie in the index alone.

import { recordOrNone, writeRecord } from "../../layer/sealed-record.ts";
import { hasEntries, namesOf } from "../../linux/directory.ts";
import { ERRNO } from "../../linux/errno.ts";
import { makeDirectory, makeSymlink, unlinkName } from "../../linux/names.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { Stat, statAt } from "../../linux/stat.ts";
import { isFound, must } from "../../vfs/system-errors.ts";

const COUNTS = "links";
const UNNAMED = "unnamed";

const stat = new Stat();

const COUNT = /^\d{1,9}$/;

/**
 * Two small kinds of record in `work/holdfast`, each named by the index entry of its lower object and written by one
 * atomic call, a symlink whose target is the value:
 * - `links/`: names left of a lower file of several names that was never copied up. An index whiteout cannot say it while
 *   another name lives, and copying the file only to count its names would fill the disk when a tree of hard links is deleted.
 * - `unnamed/`: a file that was copied up through a handle whose names nobody knew, so that only the index holds it.
 */
export class LinkCounts {
	readonly #counts: number;
	readonly #unnamed: number;
	#unnamedCount: number;

	constructor(ownFolder: number) {
		this.#counts = openFolder(ownFolder, COUNTS);
		this.#unnamed = openFolder(ownFolder, UNNAMED);
		// not a count, but enough to know whether look-ups of files with one name must ask the index at all
		this.#unnamedCount = isEmpty(this.#unnamed) ? 0 : Number.POSITIVE_INFINITY;
	}

	/** The number of names left, or null when none was removed yet. */
	get(entry: string): number | null {
		const text = recordOrNone(this.#counts, entry, (text) => COUNT.test(text));
		return text === null ? null : Number.parseInt(text, 10);
	}

	set(entry: string, count: number): void {
		must(writeRecord(this.#counts, entry, Buffer.from(String(count))), "Cannot write a link count");
	}

	delete(entry: string): void {
		const status = unlinkName(this.#counts, entry);
		if (status !== -ERRNO.ENOENT) must(status, "Cannot remove a link count");
	}

	/** Whether some file is in the index alone. */
	get hasUnnamed(): boolean {
		return this.#unnamedCount > 0;
	}

	isUnnamed(entry: string): boolean {
		return this.hasUnnamed && isFound(statAt(this.#unnamed, entry, stat), "Cannot read a record of work");
	}

	noteUnnamed(entry: string): void {
		const status = makeSymlink("1", this.#unnamed, entry);
		if (status === -ERRNO.EEXIST) return;
		must(status, "Cannot note an unnamed copy up");
		this.#unnamedCount++;
	}

	noteNamed(entry: string): void {
		if (!this.hasUnnamed) return;
		const status = unlinkName(this.#unnamed, entry);
		if (status === -ERRNO.ENOENT) return;
		must(status, "Cannot note a name");
		this.#unnamedCount--;
		if (this.#unnamedCount !== 0 && isEmpty(this.#unnamed)) this.#unnamedCount = 0;
	}

	/** All entries of one kind, for release. */
	list(kind: "counts" | "unnamed"): string[] {
		const names = must(namesOf(kind === "counts" ? this.#counts : this.#unnamed), "Cannot read the link counts");
		return names.map((name) => name.toString("latin1")).filter((name) => !name.endsWith(".new"));
	}

	close(): void {
		close(this.#counts);
		close(this.#unnamed);
	}
}

function openFolder(own: number, name: string): number {
	const status = makeDirectory(own, name, 0o700);
	if (status !== -ERRNO.EEXIST) must(status, `Cannot make the folder ${name}`);
	return must(openAt(own, name, O.rdonly | O.directory), `Cannot open the folder ${name}`);
}

function isEmpty(folder: number): boolean {
	return must(hasEntries(folder), "Cannot read the link counts") === 0;
}
