// Tells the kernel that somebody else has changed what it knows.

import type { AddressedBytes } from "../linux/memory.ts";
import { writeMessage } from "../linux/messages.ts";
import { NOTIFY_INC_EPOCH, OUT_HEADER_BYTES } from "./protocol.ts";

/** Changes so close to each other are told at once. */
const DELAY_MILLISECONDS = 10;

/**
 * What another front end changes is told by one message that never waits in the kernel: all names are looked up anew, which brings new attributes too. A
 * kernel that does not know it believes what it has for as long as it was told to.
 */
export class ForeignChanges {
	readonly #descriptor: number;
	readonly #message: AddressedBytes;
	#timer: NodeJS.Timeout | null = null;

	/** `message`: memory for it. */
	constructor(descriptor: number, message: AddressedBytes) {
		this.#descriptor = descriptor;
		this.#message = message;
		message.bytes.writeUInt32LE(OUT_HEADER_BYTES, 0);
		message.bytes.writeInt32LE(NOTIFY_INC_EPOCH, 4);
	}

	note(): void {
		this.#timer ??= setTimeout(() => this.#tell(), DELAY_MILLISECONDS);
	}

	stop(): void {
		if (this.#timer !== null) clearTimeout(this.#timer);
		this.#timer = null;
	}

	#tell(): void {
		this.#timer = null;
		// it fails only where the mount is at its end
		writeMessage(this.#descriptor, this.#message.address, OUT_HEADER_BYTES);
	}
}
