import type { Layer } from "../layer/layer.ts";
import { ERRNO } from "../linux/errno.ts";
import { type FileHandle, openByHandle } from "../linux/file-handle.ts";
import { linkDescriptor, RENAME, removeDirectory, renameName, unlinkName } from "../linux/names.ts";
import { close, O, openAt } from "../linux/open.ts";
import { fstat, Stat } from "../linux/stat.ts";
import { getXattr } from "../linux/xattr.ts";
import { failed, must, XATTR } from "./engine.ts";
import { decodeRecord, encodeRecord } from "./identity.ts";
import { FileType } from "./types.ts";
import { isWhiteoutStat } from "./whiteout.ts";
import type { WorkFolder } from "./work-folder.ts";

/** What an index says of a lower object. */
export type IndexAnswer =
	| { readonly kind: "absent" }
	| { readonly kind: "gone" }
	/** `fd` (O_PATH) is the caller's to close. */
	| { readonly kind: "upper"; readonly fd: number; readonly stat: Stat };

const ABSENT: IndexAnswer = { kind: "absent" };
const GONE: IndexAnswer = { kind: "gone" };

/**
 * `work/index` in the kernel's format: from a lower object to what became of it. An entry is named by the hex of the
 * lower object's record, and is a hard link to the upper inode, for a directory a directory with an `upper` xattr,
 * or a whiteout for what is gone.
 */
export class IndexDirectory {
	readonly fd: number;
	readonly #upper: Layer;
	readonly #work: WorkFolder;

	constructor(fd: number, upper: Layer, work: WorkFolder) {
		this.fd = fd;
		this.#upper = upper;
		this.#work = work;
	}

	/** The name of the entry of a lower object on a file system with this uuid. */
	entryName(uuid: Uint8Array, id: FileHandle): string {
		return encodeRecord(uuid, id, false).toString("hex");
	}

	/** Where the lower object of this entry is now. */
	ask(entry: string): IndexAnswer {
		const fd = openAt(this.fd, entry, O.path | O.nofollow);
		if (fd === -ERRNO.ENOENT) return ABSENT;
		must(fd, "Cannot open an index entry");
		const stat = new Stat();
		must(fstat(fd, stat), "Cannot read an index entry");
		if (isWhiteoutStat(stat)) {
			close(fd);
			return GONE;
		}
		if (stat.type !== FileType.dir) return { kind: "upper", fd, stat };
		return this.#followDirectory(fd);
	}

	/** An entry whose upper directory does not exist is left of a copy up that never ended: the object is still the lower one. */
	#followDirectory(entryFd: number): IndexAnswer {
		const value = getXattr(entryFd, XATTR.upper);
		close(entryFd);
		if (typeof value === "number") return ABSENT;
		const handle = decodeRecord(value, this.#upper.fileSystem.uuid);
		if (handle === null) return ABSENT;
		const fd = openByHandle(this.#upper.root, handle, O.path | O.nofollow);
		if (fd === -ERRNO.ESTALE) return ABSENT;
		must(fd, "Cannot open the directory of an index entry");
		const stat = new Stat();
		must(fstat(fd, stat), "Cannot read the directory of an index entry");
		return { kind: "upper", fd, stat };
	}

	/** Makes the upper inode behind the descriptor what the lower object has become. */
	enterLink(entry: string, upperFd: number): void {
		must(linkDescriptor(upperFd, this.fd, entry), "Cannot enter a copied up object into the index");
	}

	/** Moves a finished copy that has no name in upper from work into the index. */
	enterUnnamed(entry: string, temporary: string): void {
		must(renameName(this.#work.temporaries, temporary, this.fd, entry, RENAME.noReplace), "Cannot enter a copied up object into the index");
	}

	/** As enterLink, for a directory: an entry left of a copy up that never ended is replaced. */
	enterDirectory(entry: string, upper: FileHandle): void {
		const record = encodeRecord(this.#upper.fileSystem.uuid, upper, true);
		const temporary = this.#work.makeTemporaryDirectory(0);
		this.#work.setTemporaryXattr(temporary, XATTR.upper, record);
		must(renameName(this.#work.temporaries, temporary, this.fd, entry), "Cannot enter a directory into the index");
	}

	/** Takes back the entry of a copy up that failed before it was published. */
	withdraw(entry: string): void {
		if (unlinkName(this.fd, entry) === -ERRNO.EISDIR) removeDirectory(this.fd, entry);
	}

	/** The object is gone, for as long as its lower is in the stack. */
	enterWhiteout(entry: string): void {
		if (this.#work.placeWhiteout(this.fd, entry)) return;
		const temporary = this.#work.makeWhiteout();
		const status = renameName(this.#work.temporaries, temporary, this.fd, entry);
		if (status === -ERRNO.EISDIR) {
			must(renameName(this.#work.temporaries, temporary, this.fd, entry, RENAME.exchange), "Cannot enter a whiteout into the index");
			must(removeDirectory(this.#work.temporaries, temporary), "Cannot remove an index entry");
			return;
		}
		if (status < 0) {
			unlinkName(this.#work.temporaries, temporary);
			throw failed("Cannot enter a whiteout into the index", status);
		}
	}
}
