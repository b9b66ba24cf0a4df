// A server's end of the socket to its keeper.

import { writeSync } from "node:fs";
import type { FuseDevice } from "../fuse/device.ts";
import { KEPT_BYTES } from "../fuse/kept-layout.ts";
import { receiveDescriptor } from "../linux/descriptor-passing.ts";
import { ERRNO, must } from "../linux/errno.ts";
import { close, setCloseOnExec } from "../linux/open.ts";
import { mapShared } from "../linux/shared-memory.ts";
import { type Watch, watchReadable } from "../linux/watch.ts";
import { deviceOfOurs } from "./mount-point.ts";
import type { ServerMessage, ServerOpened } from "./server-message.ts";
import { unmountElsewhere } from "./unmount-elsewhere.ts";

export class KeeperLink {
	/** The mount has ended, or the keeper has. */
	readonly ended: Promise<void>;
	readonly #socket: number;
	readonly #point: string;
	/** The device number of the mount; null where it cannot be seen from here. */
	#device: string | null = null;
	readonly #watch: Watch;
	#isClosed = false;
	readonly #received: number[] = [];
	#end: () => void = () => {};
	#onReceived: (descriptors: readonly number[] | null) => void = () => {};

	/** `socket`: what the keeper has put there. `point`: where the mount is to be, as `pointPath` gives it. */
	constructor(socket: number, point: string) {
		this.#point = point;
		this.#socket = socket;
		must(setCloseOnExec(socket, true), "Cannot use the socket to the keeper");
		this.ended = new Promise((resolve) => {
			this.#end = resolve;
		});
		this.#watch = watchReadable(socket, () => {
			const fd = receiveDescriptor(socket);
			if (fd === -ERRNO.EAGAIN || fd === -ERRNO.EINTR) return;
			if (fd >= 0) {
				this.#received.push(fd);
				if (this.#received.length === DESCRIPTORS) this.#onReceived(this.#received);
				return;
			}
			this.close();
			this.#onReceived(null);
			this.#end();
		});
	}

	/** Lets go of the keeper: this server will not serve. */
	close(): void {
		if (this.#isClosed) return;
		this.#isClosed = true;
		this.#watch.close();
		close(this.#socket);
	}

	/** Says that the layers are open, and waits for the mount. Null: there will be none, and the keeper has told the user why. */
	async device(opened: Omit<ServerOpened, "kind">): Promise<FuseDevice | null> {
		const received = new Promise<readonly number[] | null>((resolve) => {
			this.#onReceived = resolve;
		});
		this.#say({ kind: "opened", ...opened });
		const descriptors = await received;
		if (descriptors === null) return null;
		const [descriptor, memory] = descriptors;
		const kept = mapShared(memory, KEPT_BYTES);
		close(memory);
		this.#device = deviceOfOurs(this.#point);
		return { descriptor, kept: must(kept, "Cannot use the memory of the mount") };
	}

	/** Ends a mount whose keeper was killed, while this server still answers. */
	async endMount(): Promise<void> {
		if (this.#device !== null && deviceOfOurs(this.#point) === this.#device) await unmountElsewhere(this.#point, true);
	}

	/** The mount is served from now on. */
	ready(): void {
		this.#say({ kind: "ready" });
	}

	/** Asks the keeper to end the mount; `ended` follows. */
	stop(): void {
		this.#say({ kind: "stop" });
	}

	/** A keeper that is gone hears nothing; then `ended` follows too. */
	#say(message: ServerMessage): void {
		if (this.#isClosed) return;
		try {
			writeSync(this.#socket, `${JSON.stringify(message)}\n`);
		} catch {
			// it is gone
		}
	}
}

/** /dev/fuse and the memory. */
const DESCRIPTORS = 2;
