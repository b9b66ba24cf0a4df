// What a server prints while it serves: nobody who reads it, or does not, holds it up or ends it.

import { openOutput, writeAtOnce } from "../linux/output.ts";

/** Lines that wait for a reader who stalls; further ones are counted. */
const WAITING_BYTES_MAX = 64 * 1024;
const RETRY_MS = 500;

/** One of the server's own streams, by its descriptor: 1 or 2. */
export class ServerLog {
	readonly #fd: number;
	#waiting: Buffer[] = [];
	#waitingBytes = 0;
	#leftOut = 0;
	#timer: NodeJS.Timeout | undefined;

	constructor(fd: number) {
		this.#fd = openOutput(fd);
	}

	/** Takes lines. False: they are lost, because the stream was closed, or its disk is full. */
	write(text: string): boolean {
		const bytes = Buffer.from(text);
		if (this.#waitingBytes + bytes.length > WAITING_BYTES_MAX && this.#waitingBytes > 0) {
			this.#leftOut++;
			return true;
		}
		this.#waiting.push(bytes);
		this.#waitingBytes += bytes.length;
		return this.flush();
	}

	/** Writes what the reader takes at once. False: something is lost. */
	flush(): boolean {
		clearTimeout(this.#timer);
		for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
			const done = writeAtOnce(this.#fd, first);
			if (done < 0) {
				this.#waiting = [];
				this.#waitingBytes = 0;
				return false;
			}
			this.#waitingBytes -= done;
			if (done < first.length) {
				this.#waiting[0] = first.subarray(done);
				this.#timer = setTimeout(() => this.flush(), RETRY_MS).unref();
				return true;
			}
			this.#waiting.shift();
			if (this.#waiting.length === 0 && this.#leftOut > 0) this.#noteLeftOut();
		}
		return true;
	}

	#noteLeftOut(): void {
		const note = Buffer.from(`holdfast: ${this.#leftOut} messages were left out here, because nobody read them.\n`);
		this.#leftOut = 0;
		this.#waiting.push(note);
		this.#waitingBytes += note.length;
	}
}
