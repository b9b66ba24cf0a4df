// Tells when a descriptor that is no file of Node's has something to read, by the event loop.

import { koffi } from "./koffi.ts";

export interface Watch {
	/** Not told any more. It may begin again. */
	pause(): void;
	resume(): void;
	/** For good; before the descriptor is closed. */
	close(): void;
}

/**
 * Calls `onReadable` whenever a descriptor has something to read or its other end is gone, as often as that is so, until it is closed. Like a
 * socket of Node's it keeps the process alive.
 */
export function watchReadable(fd: number, onReadable: () => void): Watch {
	const options = { readable: true, disconnect: true };
	const handle = koffi.node.poll(fd, options, onReadable);
	return {
		pause: () => handle.stop(),
		resume: () => handle.start(options, onReadable),
		close: () => {
			handle.stop();
			handle.close();
		},
	};
}
