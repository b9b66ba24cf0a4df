// The index: from a lower object to its copy in upper.

import type { Layer } from "../../layer/layer.ts";
import { ERRNO } from "../../linux/errno.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { removeDirectory, unlinkName } from "../../linux/names.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { Stat, statAt } from "../../linux/stat.ts";
import { getXattr } from "../../linux/xattr.ts";
import { FileType } from "../../vfs/operations.ts";
import { must, valueOrNone } from "../../vfs/system-errors.ts";
import { decodeRecord, encodeRecord } from "../format/identity.ts";
import { isWhiteoutInode } from "../format/whiteout.ts";
import { addEntries, EntryHashes } from "./entry-hashes.ts";
import type { WorkFolder } from "./work-folder.ts";

/** What an index says of a lower object. */
export type IndexAnswer =
	| { readonly kind: "absent" }
	| { readonly kind: "gone" }
	/** `fd` (O_PATH) is the caller's to close. */
	| { readonly kind: "upper"; readonly fd: number; readonly stat: Stat };

const ABSENT: IndexAnswer = { kind: "absent" };
const GONE: IndexAnswer = { kind: "gone" };

/** Names that are listed at once, which is one getdents64(2) and takes milliseconds; a longer index is listed by a thread. */
const LISTED_AT_ONCE = 1000;

/** Tests have the kernel asked even where the answer is known, and an error thrown where the two differ. */
export function verifyAbsences(isOn: boolean): void {
	isVerified = isOn;
}

let isVerified = false;

/**
 * `work/index` in the kernel's format: from a lower object to what became of it. An entry is named by the hex of the
 * lower object's record, and is a hard link to the upper inode, for a directory a directory with an `upper` xattr,
 * or a whiteout for what is gone.
 */
export class IndexDirectory {
	/** To look into it. Entries are made by `placeFor`. */
	readonly fd: number;
	readonly #upper: Layer;
	readonly #work: WorkFolder;
	/** The names of all entries, once the index has been listed; null: the kernel is asked. */
	#known: EntryHashes | null = null;
	/** Names noted since the listing began, until it has ended. */
	#noted: EntryHashes | null = null;
	/** Entries of copies up that were not made, which could not be removed: they count as absent, and are removed when they can be. */
	readonly #left = new Map<string, FileHandle>();
	/** The descriptor that is listed, with a position of its own. */
	#listing = -1;

	constructor(fd: number, upper: Layer, work: WorkFolder) {
		this.fd = fd;
		this.#upper = upper;
		this.#work = work;
	}

	/** The name of the entry of a lower object on a file system with this uuid. */
	entryName(uuid: Uint8Array, id: FileHandle): string {
		return encodeRecord(uuid, id, false).toString("hex");
	}

	/**
	 * Learns which entries there are, so that `ask` knows what is absent without a system call: from then on nobody but the owner of this object
	 * changes the index. `list` has a thread list a long one: the slots of its EntryHashes, or the negated error number.
	 *
	 * An entry that is there is known. Either it was there, under this name, from before the listing until its end: then the listing has it, as
	 * getdents(2) leaves out only what comes or goes meanwhile. Or it came since: then `noteEntry` was told before it came, and what was
	 * noted during the listing is added at its end. Nothing is taken out again, so an entry that comes back is known too.
	 */
	async learn(list: (fd: number) => Promise<Uint32Array | number>, listedAtOnce = LISTED_AT_ONCE): Promise<void> {
		if (this.#noted !== null || this.#known !== null) return;
		const noted = new EntryHashes();
		this.#noted = noted;
		this.#listing = openAt(this.fd, ".", O.rdonly | O.directory | O.noatime);
		try {
			const known = this.#listing < 0 ? null : await listNames(this.#listing, list, listedAtOnce);
			if (known === null) return;
			known.addAll(noted);
			if (!known.isFull) this.#known = known;
		} finally {
			this.#noted = null;
			this.endListing();
		}
	}

	/** Where no thread lists it any more. */
	endListing(): void {
		if (this.#listing >= 0) close(this.#listing);
		this.#listing = -1;
	}

	/** Whether it is known what is absent. */
	get isKnown(): boolean {
		return this.#known !== null;
	}

	/** To be told before an entry is made. */
	noteEntry(name: string | Uint8Array): void {
		this.#noted?.add(name);
		if (this.#known === null) return;
		this.#known.add(name);
		if (this.#known.isFull) this.#known = null;
	}

	/** The descriptor of the index, to make this entry in it. */
	placeFor(name: string): number {
		this.noteEntry(name);
		return this.fd;
	}

	/** False: there is no entry of this lower object. As `ask` would say, without making its name. */
	mayHave(uuid: Uint8Array, id: FileHandle): boolean {
		if (this.#known === null || this.#known.mayHaveRecord(uuid, id)) return true;
		if (isVerified) this.ask(this.entryName(uuid, id));
		return false;
	}

	/** Where the lower object of this entry is now. */
	ask(entry: string): IndexAnswer {
		if (this.#known !== null && !this.#known.mayHave(entry)) {
			if (isVerified && statAt(this.fd, entry, new Stat()) !== -ERRNO.ENOENT) throw new Error(`The index has ${entry}, and does not know`);
			return ABSENT;
		}
		if (this.#left.size > 0 && this.#isLeft(entry)) return ABSENT;
		const fd = openAt(this.fd, entry, O.path | O.nofollow);
		if (fd === -ERRNO.ENOENT) return ABSENT;
		must(fd, "Cannot open an index entry");
		const stat = new Stat();
		let isGone: boolean;
		try {
			must(this.#upper.stat(fd, stat), "Cannot read an index entry");
			isGone = isWhiteoutInode(fd, stat, this.#work.whiteoutXattr);
		} catch (error) {
			close(fd);
			throw error;
		}
		if (isGone) {
			close(fd);
			return GONE;
		}
		if (stat.type !== FileType.dir) return { kind: "upper", fd, stat };
		return this.#followDirectory(fd);
	}

	/** An entry whose upper directory does not exist is left of a copy up that never ended: the object is still the lower one. */
	#followDirectory(entryFd: number): IndexAnswer {
		const found = getXattr(entryFd, this.#upper.xattr.upper);
		close(entryFd);
		const value = valueOrNone(found, "Cannot read an index entry");
		if (value === null) return ABSENT;
		const handle = decodeRecord(value, this.#upper.fileSystem.uuid);
		if (handle === null) return ABSENT;
		const fd = this.#upper.handles.open(handle, O.path | O.nofollow);
		if (fd === -ERRNO.ESTALE) return ABSENT;
		must(fd, "Cannot open the directory of an index entry");
		const stat = new Stat();
		const status = this.#upper.stat(fd, stat);
		if (status < 0) close(fd);
		must(status, "Cannot read the directory of an index entry");
		return { kind: "upper", fd, stat };
	}

	/** Builds the entry of a directory in work: an empty directory that names the upper one. */
	buildDirectoryEntry(upper: FileHandle): string {
		const record = encodeRecord(this.#upper.fileSystem.uuid, upper, true);
		const temporary = this.#work.makeTemporaryDirectory(this.#upper.handles.isPortable ? 0o700 : 0);
		this.#work.setTemporaryXattr(temporary, this.#upper.xattr.upper, record);
		return temporary;
	}

	/** Takes back the entry `made` of a copy up that failed before it was published; what else has that name stays. */
	withdraw(entry: string, made: FileHandle | null): void {
		if (made === null) return;
		const found = this.#upper.handles.at(this.fd, entry);
		if (typeof found !== "number" && (found.type !== made.type || !found.bytes.equals(made.bytes))) return;
		const status = typeof found === "number" ? found : unlinkName(this.fd, entry);
		const isRemoved = status >= 0 || status === -ERRNO.ENOENT || (status === -ERRNO.EISDIR && removeDirectory(this.fd, entry) >= 0);
		if (!isRemoved) this.#left.set(entry, made);
	}

	/** Whether there is nothing but what could not be removed before. */
	#isLeft(entry: string): boolean {
		const made = this.#left.get(entry);
		if (made === undefined) return false;
		this.#left.delete(entry);
		this.withdraw(entry, made);
		return this.#left.has(entry);
	}
}

/** Null: they are too many, or the listing has failed, and nothing is known. */
async function listNames(
	fd: number,
	list: (fd: number) => Promise<Uint32Array | number>,
	listedAtOnce: number,
): Promise<EntryHashes | null> {
	const names = new EntryHashes();
	const isAll = addEntries(fd, names, listedAtOnce);
	if (isAll === true) return names;
	const slots = isAll === false ? await list(fd) : isAll;
	return typeof slots === "number" ? null : new EntryHashes(slots);
}
