// send(2) and poll(2) on a socket that Node holds.

import { arena, arenaAddress, declare, PLACE, result } from "./libc.ts";

const sendCall = declare("send", "long", ["int", "pointer", "size_t", "int"]);
const pollCall = declare("poll", "int", ["pointer", "ulong", "int"]);

/** send(2): never wait; an error instead of SIGPIPE; more follows at once. */
const [MSG_DONTWAIT, MSG_NOSIGNAL, MSG_MORE] = [0x40, 0x4000, 0x8000];

/** Bytes that a socket has taken at once of memory at `address`, or the negated error number. With `more` it may wait for the next ones to fill a packet. */
export function sendFrom(fd: number, address: number, length: number, more: boolean): number {
	return result(sendCall(fd, address, length, more ? MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE : MSG_DONTWAIT | MSG_NOSIGNAL));
}

const [POLLERR, POLLHUP, POLLRDHUP] = [0x8, 0x10, 0x2000];

/**
 * Whether the peer of a socket has ended its side or is gone, as far as this host has heard, also behind bytes that were not read yet. False
 * where poll(2) fails.
 */
export function hasPeerLeft(fd: number): boolean {
	// struct pollfd: int fd, short events, short revents
	arena.writeInt32LE(fd, PLACE.value);
	arena.writeInt16LE(POLLRDHUP, PLACE.value + 4);
	arena.writeInt16LE(0, PLACE.value + 6);
	if (pollCall(arenaAddress + PLACE.value, 1, 0) <= 0) return false;
	return (arena.readInt16LE(PLACE.value + 6) & (POLLERR | POLLHUP | POLLRDHUP)) !== 0;
}
