// The work folder: temporary names, orphans, and their removal.

import { namesOf } from "../../linux/directory.ts";
import { ERRNO } from "../../linux/errno.ts";
import { linkName, makeDirectory, makeFile, makeNode, RENAME, removeDirectory, renameName, unlinkName } from "../../linux/names.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { Stat, statAt } from "../../linux/stat.ts";
import { setXattr } from "../../linux/xattr.ts";
import { FileType } from "../../vfs/operations.ts";
import { must } from "../../vfs/system-errors.ts";
import { FREED_BYTES_MIN, TRASH, Trash } from "./trash.ts";

const S_IFCHR = 0o020000;
const WHITEOUT_NAME = "whiteout";
const ORPHANS = "orphans";

/**
 * The work folder of an upper: `work/` holds what is being built (flat, cleaned at start, as the kernel does), `holdfast/` what is ours.
 */
export class WorkFolder {
	/** Descriptor of `work/work`. */
	readonly temporaries: number;
	/** Descriptor of `work/holdfast`. */
	readonly own: number;
	/** Path of `work/holdfast`, for what is read and written once. */
	readonly ownPath: string;
	/** Descriptor of `work/holdfast/orphans`: objects without a name that somebody holds open. */
	readonly orphans: number;
	readonly trash: Trash;
	/** Told the descriptor of what is removed from here for good. */
	onRemoval: ((fd: number) => void) | null = null;
	/** The xattr that makes an empty file a whiteout, which goes wherever a user copies it; null: character devices. */
	whiteoutXattr: string | null = null;
	/** Ends with this: nobody else writes here as long as it is held. */
	lock: { close(): void } | null = null;
	#next = 0;
	readonly #turns = new Set<NodeJS.Immediate>();

	constructor(temporaries: number, own: number, ownPath: string) {
		this.temporaries = temporaries;
		this.own = own;
		this.ownPath = ownPath;
		const status = makeDirectory(own, ORPHANS, 0o700);
		if (status !== -ERRNO.EEXIST) must(status, "Cannot make the folder of orphans");
		this.orphans = must(openAt(own, ORPHANS, O.rdonly | O.directory), "Cannot open the folder of orphans");
		this.trash = new Trash(own);
		// a recovery makes new names beside names that the interrupted change still needs
		for (const name of leftIn(temporaries)) {
			const number = /^#([0-9a-f]+)$/.exec(name.toString("latin1"))?.[1];
			if (number !== undefined) this.#next = Math.max(this.#next, Number.parseInt(number, 16) + 1);
		}
	}

	/** A name in `work/work` that nothing has. */
	temporaryName(): string {
		return `#${(this.#next++).toString(16)}`;
	}

	makeTemporaryDirectory(mode: number): string {
		const name = this.temporaryName();
		must(makeDirectory(this.temporaries, name, mode), "Cannot make a directory in work");
		return name;
	}

	setTemporaryXattr(temporary: string, xattr: string, value: Uint8Array): void {
		const fd = must(openAt(this.temporaries, temporary, O.path | O.nofollow), "Cannot open an object in work");
		const status = setXattr(fd, xattr, value);
		close(fd);
		must(status, `Cannot set ${xattr}`);
	}

	/** A whiteout in `work/work`; all share one inode until the file system allows it no more links. */
	makeWhiteout(): string {
		const name = this.temporaryName();
		let status = linkName(this.own, WHITEOUT_NAME, this.temporaries, name);
		if (status === -ERRNO.ENOENT || status === -ERRNO.EMLINK) {
			this.#makeWhiteoutInode(name);
			status = this.#share(name);
		}
		must(status, "Cannot make a whiteout");
		return name;
	}

	/** Has the inode ready that whiteouts are links of, so that one fails for lack of space before anything is changed. */
	prepareWhiteout(): void {
		if (statAt(this.own, WHITEOUT_NAME, new Stat()) === 0) return;
		must(unlinkName(this.temporaries, this.makeWhiteout()), "Cannot make a whiteout");
	}

	#makeWhiteoutInode(name: string): void {
		if (this.whiteoutXattr === null) {
			must(makeNode(this.temporaries, name, S_IFCHR, 0, 0), "Cannot make a whiteout");
			return;
		}
		const fd = must(makeFile(this.temporaries, name, 0o600), "Cannot make a whiteout");
		const status = setXattr(fd, this.whiteoutXattr, Buffer.from("y"));
		close(fd);
		must(status, "Cannot make a whiteout");
	}

	/** Puts a whiteout under a name that nothing has yet; false when something has it. */
	placeWhiteout(directory: number, name: Uint8Array | string): boolean {
		let status = linkName(this.own, WHITEOUT_NAME, directory, name);
		if (status === -ERRNO.ENOENT || status === -ERRNO.EMLINK) {
			const temporary = this.makeWhiteout();
			status = renameName(this.temporaries, temporary, directory, name, RENAME.noReplace);
			if (status < 0) unlinkName(this.temporaries, temporary);
		}
		if (status === -ERRNO.EEXIST) return false;
		must(status, "Cannot make a whiteout");
		return true;
	}

	/** Links later whiteouts to this fresh one. */
	#share(name: string): number {
		const spare = this.temporaryName();
		const status = linkName(this.temporaries, name, this.temporaries, spare);
		if (status < 0) return status;
		return renameName(this.temporaries, spare, this.own, WHITEOUT_NAME);
	}

	/** Removes a temporary and, should it be a directory, the flat content that a replaced upper directory can have. */
	discard(temporary: string): void {
		this.#removeLeft(this.temporaries, temporary);
	}

	/** Removes what an earlier run was building, but for what is still needed. */
	clean(needed: ReadonlySet<string> = NOTHING): void {
		for (const name of leftIn(this.temporaries)) if (!needed.has(name.toString())) this.#removeLeft(this.temporaries, name);
	}

	/** Removes the trash with its folder: an upper that is handed back has none. */
	removeTrash(): void {
		removeTree(this.own, TRASH);
	}

	/** The same, little by little between other work: nothing that is made from now on has one of these names. */
	cleanInBackground(needed: ReadonlySet<string> = NOTHING): void {
		const names = leftIn(this.temporaries).filter((name) => !needed.has(name.toString()));
		this.inBackground(() => {
			for (const name of names.splice(-CLEANED_AT_ONCE)) this.#removeLeft(this.temporaries, name);
			return names.length > 0;
		});
	}

	/** Does some work in each turn, until it says that nothing is left or this is closed. */
	inBackground(work: () => boolean): void {
		const go = () => {
			this.#turns.delete(turn);
			if (work()) turn = this.#later(go);
		};
		let turn = this.#later(go);
	}

	#later(go: () => void): NodeJS.Immediate {
		const turn = setImmediate(go).unref();
		this.#turns.add(turn);
		return turn;
	}

	/** Removes what no server has put among the orphans. */
	removeLeftOrphan(name: Buffer): void {
		this.#removeLeft(this.orphans, name);
	}

	#removeLeft(folder: number, name: Buffer | string): void {
		this.#tell(folder, name);
		if (this.trash.isOpen && statAt(folder, name, removed) === 0) {
			const bytes = removed.blocks * 512;
			const isLong = removed.type === FileType.dir ? removed.size > QUICK_DIRECTORY_BYTES : bytes > FREED_BYTES_MIN;
			if (isLong && this.trash.take(folder, name, removed.nlink === 1 ? bytes : 0)) return;
		}
		if (unlinkName(folder, name) < 0) removeTree(folder, name);
	}

	#tell(folder: number, name: Buffer | string): void {
		if (this.onRemoval === null) return;
		const fd = openAt(folder, name, O.path | O.nofollow);
		if (fd < 0) return;
		this.onRemoval(fd);
		close(fd);
	}

	close(): void {
		for (const turn of this.#turns) clearImmediate(turn);
		close(this.temporaries);
		close(this.own);
		close(this.orphans);
		this.trash.close();
		this.lock?.close();
	}
}

const NOTHING: ReadonlySet<string> = new Set();
const removed = new Stat();
/** A directory of this size (st_size) has at most some hundred names. */
const QUICK_DIRECTORY_BYTES = 4096;

/** Leftovers that are removed in one turn. */
const CLEANED_AT_ONCE = 32;

/** Names in a folder of work, without what is the kernel's. */
function leftIn(folder: number): Buffer[] {
	const directory = must(openAt(folder, ".", O.rdonly | O.directory), "Cannot open work");
	const names = namesOf(directory);
	close(directory);
	return must(names, "Cannot read work").filter((name) => name.toString("latin1") !== "incompat");
}

/** Removes a directory of work with all that is in it. Only ever used on what the overlay no longer shows. */
function removeTree(directory: number, name: Buffer | string): void {
	const fd = openAt(directory, name, O.rdonly | O.directory | O.nofollow);
	if (fd < 0) return;
	const children = namesOf(fd);
	// what cannot be listed is not empty, and stays for the next start
	if (typeof children !== "number") for (const child of children) if (unlinkName(fd, child) < 0) removeTree(fd, child);
	close(fd);
	removeDirectory(directory, name);
}
