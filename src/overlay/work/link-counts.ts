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

const RECORD = /^(\d{1,9})(?: ([A-Za-z0-9_-]+))?$/;

/** What is recorded of a lower file that has lost names. */
export interface NamesLeft {
	readonly count: number;
	/** As `encodeBase` has it, of when it lost the first one; null: it was not recorded. */
	readonly base: Buffer | null;
}

/** What the value of a record says; null: nobody has written it. */
export function parseNamesLeft(text: string): NamesLeft | null {
	const match = RECORD.exec(text);
	if (match === null) return null;
	return { count: Number.parseInt(match[1], 10), base: match[2] === undefined ? null : Buffer.from(match[2], "base64url") };
}

/**
 * Two small kinds of record in `work/holdfast`, each named by the index entry of its lower object and written by one
 * atomic call, a symlink whose target is the value:
 * - `links/`: names left of a lower file of several names that was never copied up, and behind a space in what version it was. An index whiteout cannot say it while
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
		return this.read(entry)?.count ?? null;
	}

	read(entry: string): NamesLeft | null {
		const text = recordOrNone(this.#counts, entry, (text) => RECORD.test(text));
		return text === null ? null : parseNamesLeft(text);
	}

	set(entry: string, count: number, base: Uint8Array | null): void {
		const text = base === null ? `${count}` : `${count} ${Buffer.from(base).toString("base64url")}`;
		must(writeRecord(this.#counts, entry, Buffer.from(text)), "Cannot write a link count");
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
