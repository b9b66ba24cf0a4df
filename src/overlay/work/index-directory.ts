// The index: from a lower object to its copy in upper.

import type { Layer } from "../../layer/layer.ts";
import { ERRNO } from "../../linux/errno.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { removeDirectory, unlinkName } from "../../linux/names.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { Stat } from "../../linux/stat.ts";
import { getXattr } from "../../linux/xattr.ts";
import { FileType } from "../../vfs/operations.ts";
import { must } from "../../vfs/system-errors.ts";
import { decodeRecord, encodeRecord } from "../format/identity.ts";
import { isWhiteoutInode } from "../format/whiteout.ts";
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
		const status = this.#upper.stat(fd, stat);
		if (status < 0) close(fd);
		must(status, "Cannot read an index entry");
		const { whiteoutXattr } = this.#work;
		if (isWhiteoutInode(fd, stat, whiteoutXattr)) {
			close(fd);
			return GONE;
		}
		if (stat.type !== FileType.dir) return { kind: "upper", fd, stat };
		return this.#followDirectory(fd);
	}

	/** An entry whose upper directory does not exist is left of a copy up that never ended: the object is still the lower one. */
	#followDirectory(entryFd: number): IndexAnswer {
		const value = getXattr(entryFd, this.#upper.xattr.upper);
		close(entryFd);
		if (typeof value === "number") return ABSENT;
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
		const found = this.#upper.handles.at(this.fd, entry);
		if (made === null || typeof found === "number" || found.type !== made.type || !found.bytes.equals(made.bytes)) return;
		if (unlinkName(this.fd, entry) === -ERRNO.EISDIR) removeDirectory(this.fd, entry);
	}
}
