// The changes that repairs are made of.

import { writeRecord } from "../../layer/sealed-record.ts";
import { ERRNO } from "../../linux/errno.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { linkDescriptor, makeDirectory, makeNode, RENAME, renameName, unlinkName } from "../../linux/names.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { fstat, Stat, statAt } from "../../linux/stat.ts";
import { removeXattr, setXattr } from "../../linux/xattr.ts";
import { must } from "../../vfs/system-errors.ts";
import { encodeRecord } from "../format/identity.ts";
import { isWhiteoutStat } from "../format/whiteout.ts";
import { LOST_AND_FOUND } from "../work/lost-and-found.ts";
import { setMark } from "../work/marks.ts";
import type { CheckedLayers } from "./layers.ts";

const S_IFCHR = 0o020000;
const OWN = "holdfast";
/** So that the number before it still fits into a name. */
const NAME_BYTES_MAX = 240;

/** A folder of work, by its path there. */
export type WorkPath = string;

/**
 * The changes that repairs are made of. Each is one system call, or may be made again from its start after a crash. Nothing that may be
 * data is removed: it goes to `work/holdfast/lost+found`.
 */
export class Repairs {
	readonly #layers: CheckedLayers;

	constructor(layers: CheckedLayers) {
		this.#layers = layers;
	}

	/** Moves what lies in a folder of work aside. */
	moveAside(folder: WorkPath, name: Buffer): void {
		this.#inFolder(folder, (from) => {
			this.#numbered(name, (to, free) => renameName(from, name, to, free, RENAME.noReplace));
		});
	}

	/** Removes a whiteout of work, which says nothing any more. */
	dropWhiteout(folder: WorkPath, name: Buffer): void {
		this.#inFolder(folder, (from) => {
			const stat = new Stat();
			must(statAt(from, name, stat), "Cannot read a whiteout");
			if (isWhiteoutStat(stat)) must(unlinkName(from, name), "Cannot remove a whiteout");
		});
	}

	/** Lets an index entry say that its object is gone, and moves what it led to aside, at once. */
	bury(entry: string): void {
		this.#inFolder("index", (index) => {
			this.#numbered(Buffer.from(entry), (to, free) => {
				const status = makeNode(to, free, S_IFCHR, 0, 0);
				if (status < 0) return status;
				const exchanged = renameName(to, free, index, entry, RENAME.exchange);
				if (exchanged < 0) unlinkName(to, free);
				return exchanged;
			});
		});
	}

	/** A whiteout under a name of an upper directory that has nothing there. */
	makeWhiteout(directory: FileHandle, name: Uint8Array): void {
		this.#inUpper(directory, (fd) => must(makeNode(fd, name, S_IFCHR, 0, 0), "Cannot make a whiteout"));
	}

	setXattr(inode: FileHandle, name: string, value: Uint8Array): void {
		const { upper, marks } = this.#layers;
		this.#inUpper(inode, (fd) => must(setMark({ layer: upper, marks }, fd, name, value), `Cannot set ${name}`));
	}

	removeXattr(inode: FileHandle, name: string): void {
		this.#inUpper(inode, (fd) => must(removeXattr(fd, name), `Cannot remove ${name}`));
	}

	/** Enters an upper file that is not in the index, with the difference of its link counts set before it counts. */
	indexFile(inode: FileHandle, entry: string, nlink: string | null): void {
		const { upper, marks, xattr } = this.#layers;
		this.#inFolder("index", (index) => {
			this.#inUpper(inode, (fd) => {
				if (nlink !== null) must(setMark({ layer: upper, marks }, fd, xattr.nlink, Buffer.from(nlink)), "Cannot set a link count");
				must(linkDescriptor(fd, index, entry), "Cannot make an index entry");
			});
		});
	}

	/** Enters an upper directory that is not in the index. */
	indexDirectory(inode: FileHandle, entry: string): void {
		const { upper, xattr } = this.#layers;
		this.#inFolder("index", (index) => {
			this.#inFolder("work", (temporaries) => {
				const name = `#check-${process.pid}`;
				must(makeDirectory(temporaries, name, 0), "Cannot make an index entry");
				const fd = must(openAt(temporaries, name, O.path | O.nofollow), "Cannot open an index entry");
				const status = setXattr(fd, xattr.upper, encodeRecord(upper.fileSystem.uuid, inode, true));
				close(fd);
				must(status, "Cannot write an index entry");
				must(renameName(temporaries, name, index, entry, RENAME.noReplace), "Cannot make an index entry");
			});
		});
	}

	/** A folder of `work/holdfast`. */
	makeFolder(name: string): void {
		this.#inFolder(OWN, (fd) => {
			const status = makeDirectory(fd, name, 0o700);
			if (status !== -ERRNO.EEXIST) must(status, `Cannot make the folder ${name}`);
		});
	}

	/** Writes a record that is a symlink. */
	writeRecord(folder: WorkPath, name: string, value: string): void {
		this.#inFolder(folder, (fd) => {
			must(writeRecord(fd, name, Buffer.from(value)), "Cannot write a record");
		});
	}

	/** Tries names of lost+found until one is free; `act` says -EEXIST of one that is not. */
	#numbered(name: Buffer, act: (folder: number, free: Buffer) => number): void {
		this.#makeOwnFolder();
		this.#inFolder(`${OWN}/${LOST_AND_FOUND}`, (folder) => {
			for (let number = 1; ; number++) {
				const status = act(folder, Buffer.concat([Buffer.from(`${number}-`), name.subarray(0, NAME_BYTES_MAX)]));
				if (status === -ERRNO.EEXIST) continue;
				must(status, `Cannot move to ${LOST_AND_FOUND}`);
				return;
			}
		});
	}

	#makeOwnFolder(): void {
		for (const [folder, name] of [
			["", OWN],
			[OWN, LOST_AND_FOUND],
		]) {
			this.#inFolder(folder, (fd) => {
				const status = makeDirectory(fd, name, 0o700);
				if (status !== -ERRNO.EEXIST) must(status, `Cannot make the folder ${name}`);
			});
		}
	}

	#inFolder(folder: WorkPath, act: (fd: number) => void): void {
		const fd = must(openAt(this.#layers.work, folder === "" ? "." : folder, O.rdonly | O.directory), `Cannot open work/${folder}`);
		try {
			act(fd);
		} finally {
			close(fd);
		}
	}

	#inUpper(inode: FileHandle, act: (fd: number) => void): void {
		const fd = must(this.#layers.upper.handles.open(inode, O.path | O.nofollow), "Cannot open an object of upper");
		try {
			must(fstat(fd, new Stat()), "Cannot read an object of upper");
			act(fd);
		} finally {
			close(fd);
		}
	}
}
