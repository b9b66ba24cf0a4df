// Reads a log in pieces: a start keeps no more of it in memory than one.

import { fstatSync, readSync } from "node:fs";
import { close } from "../linux/open.ts";
import { RECORD_BYTES_MAX } from "./record-codec.ts";

const PIECE_BYTES = 256 * 1024;
/** Behind the beginning of a record there are so many, or the end: a record never ends where the piece does by chance. */
const AHEAD_BYTES = RECORD_BYTES_MAX + 1;

export class LogReader {
	readonly size: number;
	/** Always the same memory. */
	readonly memory = Buffer.allocUnsafeSlow(PIECE_BYTES + AHEAD_BYTES);
	readonly #fd: number;
	/** Where the piece begins in the file. */
	#start = 0;
	#piece = this.memory.subarray(0, 0);

	/** The descriptor is closed by `close`. */
	constructor(fd: number) {
		this.#fd = fd;
		this.size = fstatSync(fd).size;
	}

	/** What was read last, up to its end. */
	get piece(): Buffer {
		return this.#piece;
	}

	/** Goes to a record at this place of the file, and gives its place in the piece. */
	seek(at: number): number {
		const end = this.#start + this.#piece.length;
		if (at < this.#start || (at + AHEAD_BYTES > end && end < this.size)) this.#read(at);
		return at - this.#start;
	}

	#read(at: number): void {
		let filled = 0;
		while (filled < this.memory.length) {
			const count = readSync(this.#fd, this.memory, filled, this.memory.length - filled, at + filled);
			if (count === 0) break;
			filled += count;
		}
		this.#start = at;
		this.#piece = this.memory.subarray(0, Math.min(filled, this.size - at));
	}

	close(): void {
		close(this.#fd);
	}
}
