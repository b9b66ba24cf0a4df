// Unix sockets by which one process hands an open descriptor to another: socketpair(2), and SCM_RIGHTS of unix(7).

import { ERRNO } from "./errno.ts";
import { arena, arenaAddress, arenaView, declare, PLACE, result } from "./libc.ts";

const socketpairCall = declare("socketpair", "int", ["int", "int", "int", "pointer"]);
const sendmsgCall = declare("sendmsg", "long", ["int", "pointer", "int"]);
const recvmsgCall = declare("recvmsg", "long", ["int", "pointer", "int"]);

const [AF_UNIX, SOCK_CLOEXEC, SOL_SOCKET, SCM_RIGHTS] = [1, 0o2000000, 1, 1];
const TYPES = { stream: 1, seqpacket: 5 } as const;
const [MSG_DONTWAIT, MSG_NOSIGNAL, MSG_CMSG_CLOEXEC] = [0x40, 0x4000, 0x40000000];

/** Two Unix sockets that are connected to each other, close-on-exec, or the negated error number. */
export function socketPair(type: keyof typeof TYPES): readonly [number, number] | number {
	const status = result(socketpairCall(AF_UNIX, TYPES[type] | SOCK_CLOEXEC, 0, arenaAddress + PLACE.value));
	return status < 0 ? status : [arena.readInt32LE(PLACE.value), arena.readInt32LE(PLACE.value + 4)];
}

/** Offsets from the place of the value: struct msghdr, struct iovec, one byte of data, and control data with one struct cmsghdr. */
const [IOV_AT, DATA_AT, CONTROL_AT] = [64, 80, 96];
/** CMSG_SPACE(sizeof(int)); of it CMSG_LEN is what counts. */
const [CONTROL_BYTES, CMSG_BYTES] = [24, 20];

/** A message of one byte with room for one descriptor beside it. */
function putMessage(): number {
	const at = PLACE.value;
	arena.fill(0, at, at + CONTROL_AT + CONTROL_BYTES);
	// msg_name, msg_namelen, msg_iov, msg_iovlen, msg_control, msg_controllen, msg_flags
	putAddress(at + 16, arenaAddress + at + IOV_AT);
	arenaView.setUint32(at + 24, 1, true);
	putAddress(at + 32, arenaAddress + at + CONTROL_AT);
	arenaView.setUint32(at + 40, CONTROL_BYTES, true);
	putAddress(at + IOV_AT, arenaAddress + at + DATA_AT);
	arenaView.setUint32(at + IOV_AT + 8, 1, true);
	return arenaAddress + at;
}

function putAddress(place: number, address: number): void {
	arenaView.setUint32(place, address >>> 0, true);
	arenaView.setUint32(place + 4, Math.floor(address / 0x100000000), true);
}

/** Sends a descriptor beside one byte. 0, or the negated error number. */
export function sendDescriptor(socket: number, fd: number): number {
	const message = putMessage();
	const at = PLACE.value + CONTROL_AT;
	// cmsg_len, cmsg_level, cmsg_type, then the descriptor
	arenaView.setUint32(at, CMSG_BYTES, true);
	arenaView.setInt32(at + 8, SOL_SOCKET, true);
	arenaView.setInt32(at + 12, SCM_RIGHTS, true);
	arenaView.setInt32(at + 16, fd, true);
	const sent = result(sendmsgCall(socket, message, MSG_NOSIGNAL));
	return sent < 0 ? sent : 0;
}

/**
 * The descriptor that the peer has sent beside one byte, close-on-exec. Never waits. Or a negated error number: -EAGAIN where nothing has
 * come yet, -ENOTCONN where the peer has closed, -EBADMSG where a byte came without a descriptor.
 */
export function receiveDescriptor(socket: number): number {
	const got = result(recvmsgCall(socket, putMessage(), MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
	if (got < 0) return got;
	const at = PLACE.value + CONTROL_AT;
	const isOne =
		arenaView.getUint32(PLACE.value + 40, true) >= CMSG_BYTES &&
		arenaView.getUint32(at, true) === CMSG_BYTES &&
		arenaView.getInt32(at + 8, true) === SOL_SOCKET &&
		arenaView.getInt32(at + 12, true) === SCM_RIGHTS;
	if (isOne) return arenaView.getInt32(at + 16, true);
	return got === 0 ? -ERRNO.ENOTCONN : -ERRNO.EBADMSG;
}
