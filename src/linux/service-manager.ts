// What a service manager is told of the server: one datagram to its socket, as sd_notify(3) says.

import { ERRNO } from "./errno.ts";
import { arena, arenaAddress, declare, PLACE, result } from "./libc.ts";

const socketCall = declare("socket", "int", ["int", "int", "int"]);
const sendToCall = declare("sendto", "long", ["int", "pointer", "size_t", "int", "pointer", "uint"]);
const closeCall = declare("close", "int", ["int"]);

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
/** A manager that does not read must not hold the server up. */
const [MSG_DONTWAIT, MSG_NOSIGNAL] = [0x40, 0x4000];
/** sun_path of struct sockaddr_un. */
const NAME_BYTES_MAX = 108;
const MESSAGE_BYTES_MAX = 4096;

/**
 * Sends `message`, lines of NAME=VALUE, to the socket at `address`, the value of $NOTIFY_SOCKET: a path, or an abstract name behind "@". Returns
 * 0, or the negated error number: -EINVAL where the address or the message is none that can be sent.
 */
export function notifyAt(address: string, message: string): number {
	const name = Buffer.from(address);
	const text = Buffer.from(message);
	const isAbstract = address.startsWith("@");
	if ((!isAbstract && !address.startsWith("/")) || name.length < 2 || name.length >= NAME_BYTES_MAX) return -ERRNO.EINVAL;
	if (text.length === 0 || text.length > MESSAGE_BYTES_MAX) return -ERRNO.EINVAL;
	const fd = result(socketCall(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	if (fd < 0) return fd;
	arena.writeUInt16LE(AF_UNIX, PLACE.path);
	arena.set(name, PLACE.path + 2);
	if (isAbstract) arena[PLACE.path + 2] = 0;
	arena[PLACE.path + 2 + name.length] = 0;
	arena.set(text, PLACE.value);
	// an abstract name ends with the length of the address, a path with a NUL
	const length = 2 + name.length + (isAbstract ? 0 : 1);
	const sent = result(
		sendToCall(fd, arenaAddress + PLACE.value, text.length, MSG_DONTWAIT | MSG_NOSIGNAL, arenaAddress + PLACE.path, length),
	);
	closeCall(fd);
	return sent < 0 ? sent : 0;
}
