// Writes to what somebody else reads, as a pipe or a terminal, without waiting for the reader.

import { fstatSync } from "node:fs";
import { isatty } from "node:tty";
import { ERRNO } from "./errno.ts";
import { arena, arenaAddress, declare, PLACE, result } from "./libc.ts";
import { descriptorPath, O, openPath } from "./open.ts";

const pollCall = declare("poll", "int", ["pointer", "ulong", "int"]);
const writeCall = declare("write", "long", ["int", "const uint8_t *", "size_t"]);

const POLLOUT = 0x4;
/** PIPE_BUF: a pipe that has room takes so much at once (pipe(7)). */
const CHUNK_BYTES = 4096;

/**
 * The descriptor by which to write to `fd` at once. A pipe or a terminal is opened anew, since O_NONBLOCK on the descriptor itself would be seen by
 * all who share it; where that is not allowed it is `fd`.
 */
export function openOutput(fd: number): number {
	let isReopened = isatty(fd);
	try {
		isReopened ||= fstatSync(fd).isFIFO();
	} catch {
		// it is not open: to write to it says so
	}
	const own = isReopened ? openPath(descriptorPath(fd), O.wronly | O.nonblock | O.noctty) : -1;
	return own < 0 ? fd : own;
}

/** How many of these bytes were taken at once: none where the reader stalls. Or the negated error number. */
export function writeAtOnce(fd: number, bytes: Uint8Array): number {
	let done = 0;
	while (done < bytes.length) {
		const status = hasRoom(fd) ? result(writeCall(fd, bytes.subarray(done), Math.min(bytes.length - done, CHUNK_BYTES))) : -ERRNO.EAGAIN;
		if (status < 0) return done > 0 || status === -ERRNO.EAGAIN ? done : status;
		done += status;
	}
	return done;
}

/** Whether write(2) returns at once, with an error perhaps. */
function hasRoom(fd: number): boolean {
	// struct pollfd: int fd, short events, short revents
	arena.writeInt32LE(fd, PLACE.value);
	arena.writeInt16LE(POLLOUT, PLACE.value + 4);
	arena.writeInt16LE(0, PLACE.value + 6);
	return pollCall(arenaAddress + PLACE.value, 1, 0) > 0;
}
