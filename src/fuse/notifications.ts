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
	#timer: NodeJS.Timeout | null = null;

	constructor(descriptor: number) {
		this.#descriptor = descriptor;
	}

	/** Another front end has changed something: all names are looked up anew, which brings new attributes too. */
	noteForeignChange(): void {
		this.#timer ??= setTimeout(() => {
			this.#timer = null;
			this.#message.reset();
			this.#send(NOTIFY_INC_EPOCH);
		}, DELAY_MILLISECONDS);
	}

	/** The attributes of an object are not what the kernel believes. Only for one that the request under way has open, or the kernel might wait for its end. */
	attributesChanged(id: number): void {
		const message = this.#message;
		message.reset();
		message.u64(0, id);
		// not its content: that would wait for pages that are being read
		message.number(-1);
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
