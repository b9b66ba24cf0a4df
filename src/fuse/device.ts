// What a mount hands to the server that serves it.

import type { AddressedBytes } from "../linux/memory.ts";

export interface FuseDevice {
	/** /dev/fuse of a mount. */
	readonly descriptor: number;
	/** Memory of KEPT_BYTES that outlives this process; null: the mount ends with it. */
	readonly kept: AddressedBytes | null;
}
