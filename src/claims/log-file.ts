// One file of the log: bytes are put behind it, and room is kept so that they can be.

import { allocateRange, FALLOCATE, truncateFile, writeFrom } from "../linux/data.ts";
import { ERRNO } from "../linux/errno.ts";
import { close } from "../linux/open.ts";

/** Room is asked for in pieces of this. */
const ROOM_BYTES = 1024 * 1024;

export class LogFile {
	readonly fd: number;
	#size: number;
	/** Up to where the file system has set room aside, as far as is known. */
	#roomEnd: number;
	#canReserve = true;

	constructor(fd: number, size: number) {
		this.fd = fd;
		this.#size = size;
		this.#roomEnd = size;
	}

	get size(): number {
		return this.#size;
	}

	/** All of it, or the negated error number and nothing. */
	append(bytes: Uint8Array): number {
		const written = writeFrom(this.fd, bytes, this.#size);
		if (written === bytes.length) {
			this.#size += written;
			return written;
		}
		if (written > 0) {
			truncateFile(this.fd, this.#size);
			this.#roomEnd = this.#size;
		}
		return written < 0 ? written : -ERRNO.ENOSPC;
	}

	/** Sets room aside for so many bytes more; 0, or the negated error number. Where the file system sets none aside, it is tried as it comes. */
	reserve(bytes: number): number {
		const end = this.#size + bytes;
		if (end <= this.#roomEnd || !this.#canReserve) return 0;
		const length = Math.ceil((end - this.#roomEnd) / ROOM_BYTES) * ROOM_BYTES;
		const status = allocateRange(this.fd, FALLOCATE.keepSize, this.#roomEnd, length);
		if (status === -ERRNO.EOPNOTSUPP) this.#canReserve = false;
		else if (status < 0) return status;
		else this.#roomEnd += length;
		return 0;
	}

	/** What stands behind is no record. */
	cut(size: number): void {
		truncateFile(this.fd, size);
		this.#size = size;
		this.#roomEnd = size;
	}

	close(): void {
		close(this.fd);
	}
}
