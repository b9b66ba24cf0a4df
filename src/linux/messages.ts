// read(2) and write(2) on a descriptor that gives and takes whole messages, such as /dev/fuse or a socket of type SEQPACKET.

import { declare, result } from "./libc.ts";

const readCall = declare("read", "long", ["int", "pointer", "size_t"]);
const writeCall = declare("write", "long", ["int", "pointer", "size_t"]);

/** Bytes of the next message, read into memory at `address`; 0 where the other end is gone, or the negated error number. */
export function readMessage(fd: number, address: number, room: number): number {
	return result(readCall(fd, address, room));
}

/** Writes a message from memory at `address`. Its length, or the negated error number. */
export function writeMessage(fd: number, address: number, length: number): number {
	return result(writeCall(fd, address, length));
}
