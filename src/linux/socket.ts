// send(2) on a socket that Node holds.

import { declare, result } from "./libc.ts";

const sendCall = declare("send", "long", ["int", "pointer", "size_t", "int"]);

/** send(2): never wait; an error instead of SIGPIPE; more follows at once. */
const [MSG_DONTWAIT, MSG_NOSIGNAL, MSG_MORE] = [0x40, 0x4000, 0x8000];

/** Bytes that a socket has taken at once of memory at `address`, or the negated error number. With `more` it may wait for the next ones to fill a packet. */
export function sendFrom(fd: number, address: number, length: number, more: boolean): number {
	return result(sendCall(fd, address, length, more ? MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE : MSG_DONTWAIT | MSG_NOSIGNAL));
}
