// Tells the kernel that what it knows is not so any more.

import { allocate } from "../linux/memory.ts";
import { writeMessage } from "../linux/messages.ts";
import { NOTIFY_INC_EPOCH, NOTIFY_INVAL_INODE, OUT_HEADER_BYTES } from "./protocol.ts";
import { FuseReply } from "./reply.ts";

/** Changes of others so close to each other are told at once. */
const DELAY_MILLISECONDS = 10;
/** The header, and struct fuse_notify_inval_inode_out. */
const MESSAGE_BYTES = OUT_HEADER_BYTES + 24;

/**
 * Messages that nobody has asked for. A thread that serves must never wait for the kernel, where whoever holds what it waits for may be waiting for
 * this server: so there are only those here that wait for nothing.
 */
export class Notifications {
	readonly #descriptor: number;
	readonly #message = new FuseReply(allocate(MESSAGE_BYTES));
	/** Node ids, whose listings are to be read anew. */
	readonly #directories = new Set<number>();
	#timer: NodeJS.Timeout | null = null;

	constructor(descriptor: number) {
		this.#descriptor = descriptor;
	}

	/**
	 * Something was changed that the kernel does not know: all names are looked up anew, which brings new attributes too. `directory`: the id of one whose
	 * listing is not what the kernel believes; 0: none.
	 */
	noteForeignChange(directory = 0): void {
		if (directory !== 0) this.#directories.add(directory);
		this.#timer ??= setTimeout(() => {
			this.#timer = null;
			this.#message.reset();
			this.#send(NOTIFY_INC_EPOCH);
			for (const id of this.#directories) this.#invalidate(id, 0);
			this.#directories.clear();
		}, DELAY_MILLISECONDS);
	}

	/** The attributes of an object are not what the kernel believes. Only for one that the request under way has open, or the kernel might wait for its end. */
	attributesChanged(id: number): void {
		// not its content: that would wait for pages that are being read
		this.#invalidate(id, -1);
	}

	/** From this offset on; negative: attributes alone. The pages of a directory are filled without waiting. */
	#invalidate(id: number, offset: number): void {
		const message = this.#message;
		message.reset();
		message.u64(0, id);
		message.number(offset);
		message.number(0);
		this.#send(NOTIFY_INVAL_INODE);
	}

	stop(): void {
		if (this.#timer !== null) clearTimeout(this.#timer);
		this.#timer = null;
	}

	/** It fails where the kernel knows nothing of it, or the mount is at its end. */
	#send(code: number): void {
		const length = this.#message.finish(0, 0, 0);
		this.#message.memory.bytes.writeInt32LE(code, 4);
		writeMessage(this.#descriptor, this.#message.memory.address, length);
	}
}
