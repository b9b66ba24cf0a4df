// Questions to the kernel's tables of sockets and routes (netlink(7)): who owns a TCP socket of this host, and whether an address is one of its own.

import { ERRNO } from "./errno.ts";
import { arena, arenaAddress, declare, PLACE, result } from "./libc.ts";
import { close } from "./open.ts";

const socketCall = declare("socket", "int", ["int", "int", "int"]);
const sendCall = declare("send", "long", ["int", "pointer", "size_t", "int"]);
const recvCall = declare("recv", "long", ["int", "pointer", "size_t", "int"]);

const AF_NETLINK = 16;
const [SOCK_RAW, SOCK_CLOEXEC] = [3, 0x80000];
const [NETLINK_ROUTE, NETLINK_SOCK_DIAG] = [0, 4];
const MSG_DONTWAIT = 0x40;

/** struct nlmsghdr: u32 length, u16 type, u16 flags, u32 sequence, u32 port. */
const HEADER_BYTES = 16;
const NLM_F_REQUEST = 1;
const NLMSG_ERROR = 2;
const [SOCK_DIAG_BY_FAMILY, RTM_NEWROUTE, RTM_GETROUTE] = [20, 24, 26];
const ANSWER_BYTES = 8192;

const [AF_INET, AF_INET6] = [2, 10];
const IPPROTO_TCP = 6;
const RTA_DST = 1;
const RTN_LOCAL = 2;

/** Of one TCP socket, its own end first. Addresses are 4 bytes or 16. */
export interface SocketEnds {
	readonly address: Uint8Array;
	readonly port: number;
	readonly peerAddress: Uint8Array;
	readonly peerPort: number;
}

/**
 * States in which a TCP socket has a connection (net/tcp_states.h). LISTEN and SYN_SENT are sockets of somebody who is not, or not yet, at the
 * other end; TIME_WAIT has no owner any more.
 */
const CONNECTED: ReadonlySet<number> = new Set([1, 4, 5, 8, 9, 11]);

/**
 * The uid of the socket with these ends, as our user namespace knows it (65534 where it does not), or a negated error number: ENOENT
 * where this network namespace has no such socket with a connection, or where nobody holds it any more. Costs the same however many sockets there are.
 *
 * The kernel tells uid 0 of sockets that were closed and are still sending, and of those in TIME_WAIT: an inode number of 0 gives them away.
 */
export function ownerOfSocket({ address, port, peerAddress, peerPort }: SocketEnds): number {
	// struct inet_diag_req_v2: family, protocol, extensions, padding, u32 states; then struct inet_diag_sockid
	const at = PLACE.value + HEADER_BYTES;
	arena.fill(0, at, at + 56);
	arena[at] = address.length === 4 ? AF_INET : AF_INET6;
	arena[at + 1] = IPPROTO_TCP;
	arena.writeUInt32LE(0xffffffff, at + 4);
	arena.writeUInt16BE(port, at + 8);
	arena.writeUInt16BE(peerPort, at + 10);
	arena.set(address, at + 12);
	arena.set(peerAddress, at + 28);
	arena.fill(0xff, at + 48, at + 56); // INET_DIAG_NOCOOKIE
	const error = ask(NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, 56, { type: SOCK_DIAG_BY_FAMILY, bytes: 72 });
	if (error < 0) return error;
	// struct inet_diag_msg: family, state, timer, retransmits; struct inet_diag_sockid; u32 expires, rqueue, wqueue, uid, inode
	const state = arena[at + 1];
	const uid = arena.readUInt32LE(at + 64);
	const inode = arena.readUInt32LE(at + 68);
	return CONNECTED.has(state) && inode !== 0 ? uid : -ERRNO.ENOENT;
}

/** Whether packets to an address stay on this host: 1 or 0, or a negated error number, such as ENETUNREACH. Loopback addresses do. */
export function isOwnAddress(address: Uint8Array): number {
	// struct rtmsg: family, destination bits, source bits, tos, table, protocol, scope, type, u32 flags; then struct rtattr with the address
	const at = PLACE.value + HEADER_BYTES;
	arena.fill(0, at, at + 12);
	arena[at] = address.length === 4 ? AF_INET : AF_INET6;
	arena[at + 1] = address.length * 8;
	arena.writeUInt16LE(4 + address.length, at + 12);
	arena.writeUInt16LE(RTA_DST, at + 14);
	arena.set(address, at + 16);
	const error = ask(NETLINK_ROUTE, RTM_GETROUTE, 16 + address.length, { type: RTM_NEWROUTE, bytes: 12 });
	return error < 0 ? error : arena[at + 7] === RTN_LOCAL ? 1 : 0;
}

/**
 * Sends the question that lies behind the place of its header, and puts the answer, of a type and at least so many bytes, in its place. 0, or
 * a negated error number. A socket for each question, so that none is open in between and no answer is taken for another's.
 */
function ask(protocol: number, type: number, bytes: number, expected: { readonly type: number; readonly bytes: number }): number {
	const fd = result(socketCall(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
	if (fd < 0) return fd;
	try {
		const at = PLACE.value;
		arena.writeUInt32LE(HEADER_BYTES + bytes, at);
		arena.writeUInt16LE(type, at + 4);
		arena.writeUInt16LE(NLM_F_REQUEST, at + 6);
		arena.fill(0, at + 8, at + HEADER_BYTES);
		const sent = result(sendCall(fd, arenaAddress + at, HEADER_BYTES + bytes, 0));
		if (sent < 0) return sent;
		// the kernel answers before send(2) returns
		const got = result(recvCall(fd, arenaAddress + at, ANSWER_BYTES, MSG_DONTWAIT));
		if (got < 0) return got;
		const answer = arena.readUInt16LE(at + 4);
		if (answer === NLMSG_ERROR && got >= HEADER_BYTES + 4) return Math.min(arena.readInt32LE(at + HEADER_BYTES), -1);
		return answer === expected.type && got >= HEADER_BYTES + expected.bytes ? 0 : -ERRNO.EPROTO;
	} finally {
		close(fd);
	}
}
