// A map on disk between real objects.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { recordOrNone, writeRecord } from "../../layer/sealed-record.ts";
import { hasEntries, namesOf } from "../../linux/directory.ts";
import { ERRNO } from "../../linux/errno.ts";
import { unlinkName } from "../../linux/names.ts";
import { close, O, openPath } from "../../linux/open.ts";
import { attempt, failed, must } from "../../vfs/system-errors.ts";

/**
 * A table on disk from the record of a real object to that of another: a folder of symlinks, each named by the first in hex and with the
 * second for a target. What is absent costs one system call, and nothing where the table is empty.
 */
export class RecordMap {
	readonly #path: string;
	/** Negative as long as there is no folder. */
	#fd: number;
	#isEmpty = true;

	constructor(folder: string, name: string) {
		this.#path = join(folder, name);
		this.#fd = openPath(this.#path, O.rdonly | O.directory);
		if (this.#fd < 0 && this.#fd !== -ERRNO.ENOENT) throw failed(`Cannot open ${this.#path}`, this.#fd);
		if (this.#fd < 0) return;
		this.#isEmpty = must(hasEntries(this.#fd), `Cannot read ${this.#path}`) === 0;
	}

	get isEmpty(): boolean {
		return this.#isEmpty;
	}

	/** The record that this one leads to; empty where it is known to lead nowhere; null when nothing is known of it. */
	get(record: Buffer): Buffer | null {
		const text = this.#text(record);
		return text === null ? null : Buffer.from(text, "hex");
	}

	/** Whether `set` was told to mark the entry. */
	isMarked(record: Buffer): boolean {
		return this.#text(record)?.endsWith(MARK) ?? false;
	}

	#text(record: Buffer): string | null {
		return this.#isEmpty ? null : recordOrNone(this.#fd, record.toString("hex"), (text) => VALUE.test(text));
	}

	/** The records that have an entry. */
	list(): Buffer[] {
		if (this.#fd < 0) return [];
		const names = must(namesOf(this.#fd), `Cannot read ${this.#path}`).map((name) => name.toString("latin1"));
		return names.filter((name) => !name.endsWith(".new")).map((name) => Buffer.from(name, "hex"));
	}

	delete(record: Buffer): void {
		if (!this.#isEmpty) unlinkName(this.#fd, record.toString("hex"));
	}

	/** An empty `to` says that it leads nowhere. */
	set(from: Buffer, to: Buffer, isMarked = false): void {
		if (this.#fd < 0) {
			attempt(() => mkdirSync(this.#path, { recursive: true, mode: 0o700 }));
			this.#fd = must(openPath(this.#path, O.rdonly | O.directory), `Cannot open ${this.#path}`);
		}
		const text = (to.length === 0 ? NOWHERE : to.toString("hex")) + (isMarked ? MARK : "");
		must(writeRecord(this.#fd, from.toString("hex"), Buffer.from(text)), `Cannot write to ${this.#path}`);
		this.#isEmpty = false;
	}

	close(): void {
		if (this.#fd >= 0) close(this.#fd);
		this.#fd = -1;
	}
}

/** Behind the hex of a marked entry; `Buffer.from` ends before it. */
const MARK = "+";
const VALUE = /^(?:(?:[0-9a-f]{2})+|-)\+?$/;
/** No symlink may be empty; this is no hex. */
const NOWHERE = "-";
