// send(2), poll(2) and SO_PEERCRED on a socket that Node holds.

import { ERRNO } from "./errno.ts";
import { arena, arenaAddress, declare, PLACE, result } from "./libc.ts";

const sendCall = declare("send", "long", ["int", "pointer", "size_t", "int"]);
const getsockoptCall = declare("getsockopt", "int", ["int", "int", "int", "pointer", "pointer"]);
const pollCall = declare("poll", "int", ["pointer", "ulong", "int"]);

/** send(2): never wait; an error instead of SIGPIPE; more follows at once. */
const [MSG_DONTWAIT, MSG_NOSIGNAL, MSG_MORE] = [0x40, 0x4000, 0x8000];

/** Bytes that a socket has taken at once of memory at `address`, or the negated error number. With `more` it may wait for the next ones to fill a packet. */
export function sendFrom(fd: number, address: number, length: number, more: boolean): number {
	return result(sendCall(fd, address, length, more ? MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE : MSG_DONTWAIT | MSG_NOSIGNAL));
}

const [POLLERR, POLLHUP, POLLNVAL, POLLRDHUP] = [0x8, 0x10, 0x20, 0x2000];

/**
 * Whether the peer of a socket has ended its side or is gone, as far as this host has heard, also behind bytes that were not read yet. False
 * where poll(2) fails.
 */
export function hasPeerLeft(fd: number): boolean {
	return (polled(fd) & (POLLERR | POLLHUP | POLLRDHUP)) !== 0;
}

/** Whether nothing is left of a connection: it was reset, or both sides have ended. Another one may have its addresses and ports then. */
export function isConnectionOver(fd: number): boolean {
	return (polled(fd) & (POLLERR | POLLHUP | POLLNVAL)) !== 0;
}

/** The events of a socket that has anything to say but data; 0 where poll(2) fails. */
function polled(fd: number): number {
	// struct pollfd: int fd, short events, short revents
	arena.writeInt32LE(fd, PLACE.value);
	arena.writeInt16LE(POLLRDHUP, PLACE.value + 4);
	arena.writeInt16LE(0, PLACE.value + 6);
	if (pollCall(arenaAddress + PLACE.value, 1, 0) <= 0) return 0;
	return arena.readInt16LE(PLACE.value + 6);
}

const [SOL_SOCKET, SO_PEERCRED] = [1, 17];

/** The effective uid of the process that connected a Unix socket, as our user namespace knows it (65534 where it does not), or a negated error number. */
export function unixPeerUser(fd: number): number {
	// socklen_t; struct ucred: pid, uid, gid
	arena.writeUInt32LE(12, PLACE.value);
	const error = result(getsockoptCall(fd, SOL_SOCKET, SO_PEERCRED, arenaAddress + PLACE.value + 8, arenaAddress + PLACE.value));
	if (error < 0) return error;
	const [pid, uid] = [arena.readInt32LE(PLACE.value + 8), arena.readUInt32LE(PLACE.value + 12)];
	// of a socket that is no Unix socket, or whose peer nobody connected
	return pid === 0 && uid === 0xffffffff ? -ERRNO.ENOTCONN : uid;
}
