// Who is at the other end of a connection, as far as this host can tell.

import { readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { parseAddress } from "../exports/network.ts";
import { ERRNO } from "../linux/errno.ts";
import { isOwnAddress, ownerOfSocket } from "../linux/netlink.ts";
import { isConnectionOver, unixPeerUser } from "../linux/socket.ts";
import { type Peer, STRANGER } from "../rpc/caller.ts";

/** All who come over Unix sockets are one client: this host. */
const UNIX_PEER = "unix";
const ROOT = 0;
/** Below it ports are root's (IPPORT_RESERVED). */
const RESERVED_PORTS = 1024;
const PORT_START = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
const OVERFLOW_UID = "/proc/sys/kernel/overflowuid";
const UID_MAP = "/proc/self/uid_map";
const ALL_USERS = "0 0 4294967295";

/** The user that a process runs as. */
export interface ProcessUser {
	/** The effective uid. */
	readonly uid: number;
	/** Root of the host, and not of a user namespace. */
	readonly isSuperuser: boolean;
	/** Users that our user namespace does not know look like ourselves: nobody can be recognised by their uid. */
	readonly isAmbiguous: boolean;
}

export function processUser(): ProcessUser {
	const uid = process.geteuid?.() ?? -1;
	// a kernel without user namespaces has no such file
	const hasAllUsers = /^\s*0\s+0\s+4294967295\s*$/.test(read(UID_MAP, ALL_USERS) ?? "");
	const unknown = read(OVERFLOW_UID, String(uid));
	return { uid, isSuperuser: uid === ROOT && hasAllUsers, isAmbiguous: !hasAllUsers && (unknown === null || uid === Number(unknown)) };
}

/** Why whose a connection is could never be told: an error number, negated, or a sentence's part; null: it can. `overTcp`: it may be a TCP one. */
export function ownersError(overTcp: boolean): number | string | null {
	if (processUser().isAmbiguous) return "our user namespace does not know us, nor who else is there";
	if (!overTcp) return null;
	const address = Uint8Array.of(127, 0, 0, 1);
	const error = ownerOfSocket({ address, port: 0, peerAddress: address, peerPort: 0 });
	return error === -ERRNO.ENOENT ? null : error;
}

/** Who has connected; null: they are gone. Whose the other end is, is asked only if `asksOwner`: then a few system calls are made. */
export function peerOf(socket: Socket, isUnix: boolean, user: ProcessUser, asksOwner: boolean): Peer | null {
	const { _handle: handle } = socket as Socket & { _handle?: { readonly fd?: number } | null };
	const fd = handle?.fd ?? -1;
	if (isUnix) return unixPeer(unixPeerUser(fd), user);
	const { remoteAddress, remotePort, localAddress, localPort } = socket;
	if (remoteAddress === undefined || remotePort === undefined || localAddress === undefined || localPort === undefined) return null;
	const address = withoutMapping(remoteAddress);
	const [remote, local] = [parseAddress(remoteAddress), parseAddress(localAddress)];
	if (remote === null || local === null) return { ...STRANGER, address };
	const isReserved = remotePort < RESERVED_PORTS;
	if (!isReserved && !asksOwner) return { address, isPrivileged: false, isOtherUser: true };
	// where that cannot be told it is taken for one of ours: then it has to have an owner
	if (isOwnAddress(remote) === 0) return { address, isPrivileged: isReserved, isOtherUser: false };
	const isRootsPort = isReserved && remotePort < unprivilegedPorts();
	let owner = -1;
	if (asksOwner || !isRootsPort) owner = ownerOfSocket({ address: remote, port: remotePort, peerAddress: local, peerPort: localPort });
	// had the connection ended before that look, another socket could have had its addresses and ports since
	if (owner >= 0 && isConnectionOver(fd)) owner = -1;
	return { address, isPrivileged: isRootsPort || (isReserved && owner === ROOT), isOtherUser: !isOurs(owner, user) };
}

function unixPeer(owner: number, user: ProcessUser): Peer {
	const isOtherUser = !isOurs(owner, user);
	return { address: UNIX_PEER, isPrivileged: !isOtherUser, isOtherUser };
}

/** Root may act as anybody without our help. */
function isOurs(owner: number, { uid, isAmbiguous }: ProcessUser): boolean {
	return !isAmbiguous && (owner === uid || owner === ROOT);
}

/** One form for IPv4 over either family. */
function withoutMapping(address: string): string {
	return /^::ffff:([\d.]+)$/i.exec(address)?.[1] ?? address;
}

/** Where the ports begin that any user of this host may take. Read each time, since it can be changed. Before Linux 4.11 it could not. */
function unprivilegedPorts(): number {
	return Number(read(PORT_START, String(RESERVED_PORTS)) ?? 0);
}

/** `absent` where there is no such file, null where it cannot be read. */
function read(path: string, absent: string): string | null {
	try {
		return readFileSync(path, "utf8");
	} catch (error) {
		return (error as NodeJS.ErrnoException).code === "ENOENT" ? absent : null;
	}
}
