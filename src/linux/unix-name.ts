// Abstract Unix socket names, as locks that no disk keeps.

import { arena, arenaAddress, declare, PLACE, result } from "./libc.ts";

const socketCall = declare("socket", "int", ["int", "int", "int"]);
const bindCall = declare("bind", "int", ["int", "pointer", "uint"]);

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
/** sun_path of struct sockaddr_un. */
const NAME_BYTES_MAX = 107;

/**
 * Takes an abstract name (unix(7)), which one process of this network namespace can have, for as long as the descriptor is open; nothing is
 * left on any disk. The descriptor, or the negated error number (-EADDRINUSE: another one has it).
 */
export function takeAbstractName(name: string): number {
	const bytes = Buffer.from(name);
	if (bytes.length > NAME_BYTES_MAX) throw new RangeError("The name of a socket is too long");
	const fd = result(socketCall(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	if (fd < 0) return fd;
	arena.writeUInt16LE(AF_UNIX, PLACE.path);
	arena[PLACE.path + 2] = 0;
	arena.set(bytes, PLACE.path + 3);
	const status = result(bindCall(fd, arenaAddress + PLACE.path, 3 + bytes.length));
	if (status === 0) return fd;
	closeCall(fd);
	return status;
}

const closeCall = declare("close", "int", ["int"]);
