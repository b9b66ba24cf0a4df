// The trash folder of a work folder: what was removed for good, and takes the kernel long to free.

import { namesOf } from "../../linux/directory.ts";
import { ERRNO } from "../../linux/errno.ts";
import { linkDescriptor, makeDirectory, renameName, unlinkName } from "../../linux/names.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { Stat, statAt } from "../../linux/stat.ts";
import { Pending } from "../../vfs/errors.ts";
import { FileType } from "../../vfs/operations.ts";

/** Of `work/holdfast`. */
export const TRASH = "trash";

/** Entries at a time: then whoever would bring another one waits. */
export const TRASH_MAX = 4096;
/** What frees no more than this is always quick: 16 extents of 4 KiB. */
export const FREED_BYTES_MIN = 64 * 1024;
const NAME = /^[0-9a-f]{1,12}$/;
/** Entries that one job is told of. */
const NAMES_AT_ONCE = 64;
/** Before what could not be removed is tried again. */
const RETRY_MS = 30_000;

/** How many of these entries were removed, the first ones; or the negated error number, where the first one cannot be. */
export type EmptyTrash = (folder: number, names: readonly string[]) => Promise<number>;

interface Entry {
	readonly name: string;
	readonly bytes: number;
	/** Identity key of an object that clients knew; null: nobody did. */
	readonly key: string | null;
}

/**
 * `work/holdfast/trash`: further names of inodes that are about to lose their last one, and directories that hold nothing but whiteouts. To bring
 * something there is one system call. A thread removes it; what a server leaves there the next one removes. Nothing in here is anybody's: an entry
 * may be removed at any moment, whatever else has become of the change that brought it.
 */
export class Trash {
	/** Negative where there was no room for the folder: then nothing is taken. */
	readonly folder: number;
	/** Takes what comes; only where a thread will empty it. */
	isOpen = false;
	#next = 0;
	readonly #entries: Entry[] = [];
	/** Of the objects among them: the kernel opens these by their handles as long as they are there. */
	readonly #keys = new Set<string>();
	#bytes = 0;
	/** Entries brought and gone since the start. */
	#brought = 0;
	#gone = 0;
	#empty: EmptyTrash | null = null;
	#isRunning = false;
	/** An entry could not be removed: nobody waits for the others until that was tried again. */
	#isStuck = false;
	#retry: NodeJS.Timeout | null = null;
	#isClosed = false;
	readonly #waiting: { readonly at: number; readonly resolve: () => void }[] = [];

	/** `own`: descriptor of `work/holdfast`. */
	constructor(own: number) {
		const status = makeDirectory(own, TRASH, 0o700);
		this.folder = status < 0 && status !== -ERRNO.EEXIST ? -1 : openAt(own, TRASH, O.rdonly | O.directory | O.nofollow);
		this.#left();
	}

	/** Bytes that will be free when all is removed. */
	get bytes(): number {
		return this.#bytes;
	}

	get size(): number {
		return this.#entries.length;
	}

	/** Whether an object is here, and so nobody's any more. */
	holds(key: string): boolean {
		return this.#keys.size > 0 && this.#keys.has(key);
	}

	/** A name for an entry that is about to be brought; null: do without. Pending while there are too many. */
	admit(): string | null {
		if (!this.isOpen || this.folder < 0 || this.#isStuck) return null;
		if (this.#entries.length >= TRASH_MAX) throw new Pending(this.#goneAt(this.#gone + 1));
		return (this.#next++).toString(16);
	}

	/** Gives an inode this name too. 0, or the negated error number, which is no failure: then the caller's thread frees it. */
	link(fd: number, name: string): number {
		return linkDescriptor(fd, this.folder, name);
	}

	unlink(name: string): void {
		unlinkName(this.folder, name);
	}

	/** Moves an entry of a folder of work here. False: it is still there. */
	take(folder: number, from: string | Buffer, bytes: number, key: string | null = null): boolean {
		const name = !this.isOpen || this.folder < 0 || this.#isStuck ? null : (this.#next++).toString(16);
		if (name === null || renameName(folder, from, this.folder, name) < 0) return false;
		this.bring(name, bytes, key);
		return true;
	}

	/** An entry is here for good: `bytes` that will be free without it. */
	bring(name: string, bytes: number, key: string | null): void {
		this.#add({ name, bytes, key });
		this.#run();
	}

	#add(entry: Entry): void {
		this.#entries.push(entry);
		if (entry.key !== null) this.#keys.add(entry.key);
		this.#bytes += entry.bytes;
		this.#brought++;
	}

	/** Resolves when all that is here now has gone; null: there is nothing that will go. */
	emptied(): Promise<void> | null {
		if (this.#entries.length === 0 || this.#empty === null || this.#isStuck || this.#isClosed) return null;
		return this.#goneAt(this.#brought);
	}

	/** Learns what an earlier run has left. `keyAt`: the identity key of an inode by its name in a folder; null: clients do not know it by its inode. */
	load(keyAt: (folder: number, name: string) => string | null): void {
		const known = new Set(this.#entries.map(({ name }) => name));
		const stat = new Stat();
		for (const name of this.#left()) {
			if (known.has(name) || statAt(this.folder, name, stat) < 0) continue;
			// with another name it is alive, and an interrupted change was not completed
			const isGone = stat.type === FileType.dir || stat.nlink === 1;
			this.#add({ name, bytes: stat.nlink === 1 ? stat.blocks * 512 : 0, key: isGone ? keyAt(this.folder, name) : null });
		}
	}

	/** From now on what is here is removed. */
	start(empty: EmptyTrash): void {
		this.#empty = empty;
		// behind the start
		setImmediate(() => this.#run());
	}

	close(): void {
		this.#isClosed = true;
		this.isOpen = false;
		if (this.#retry !== null) clearTimeout(this.#retry);
		this.#release(Number.POSITIVE_INFINITY);
		if (this.folder >= 0) close(this.folder);
	}

	/** What lies here; new names come behind that. */
	#left(): string[] {
		const found = this.folder < 0 ? [] : namesOf(this.folder);
		// what cannot be listed now the next start finds
		const names = typeof found === "number" ? [] : found.map((name) => name.toString("latin1"));
		for (const name of names) if (NAME.test(name)) this.#next = Math.max(this.#next, Number.parseInt(name, 16) + 1);
		return names;
	}

	#goneAt(at: number): Promise<void> {
		return new Promise((resolve) => this.#waiting.push({ at, resolve }));
	}

	#run(): void {
		if (this.#isRunning || this.#isStuck || this.#isClosed || this.#empty === null || this.#entries.length === 0) return;
		this.#isRunning = true;
		const names = this.#entries.slice(0, NAMES_AT_ONCE).map(({ name }) => name);
		this.#empty(this.folder, names).then(
			(removed) => this.#took(removed),
			() => this.#took(-ERRNO.EIO),
		);
	}

	#took(removed: number): void {
		this.#isRunning = false;
		if (this.#isClosed) return;
		if (removed < 0) {
			this.#isStuck = true;
			// the others are not to wait behind this one
			const first = this.#entries.shift();
			if (first !== undefined) this.#entries.push(first);
			this.#release(Number.POSITIVE_INFINITY);
			this.#retry = setTimeout(() => {
				this.#isStuck = false;
				this.#run();
			}, RETRY_MS).unref();
			return;
		}
		for (const { bytes, key } of this.#entries.splice(0, removed)) {
			this.#bytes -= bytes;
			if (key !== null) this.#keys.delete(key);
		}
		this.#gone += removed;
		this.#release(this.#gone);
		this.#run();
	}

	#release(gone: number): void {
		for (let i = this.#waiting.length - 1; i >= 0; i--) {
			if (this.#waiting[i].at > gone) continue;
			const [{ resolve }] = this.#waiting.splice(i, 1);
			resolve();
		}
	}
}
