// Addresses that a server listens at: TCP, and Unix sockets.

import { existsSync, lstatSync, unlinkSync } from "node:fs";
import { connect, type Server } from "node:net";
import { dirname } from "node:path";
import { ERRNO, whyNot } from "../linux/errno.ts";
import { describeThrown } from "../vfs/system-errors.ts";

/** Where a server listens: a TCP address (IPv4 or IPv6; port 0 is any free one), or the path of a Unix socket. */
export type ListenAddress = { readonly host: string; readonly port: number } | { readonly path: string };

/** What sun_path holds on Linux (unix(7)), and libuv would cut a longer path to. */
export const SOCKET_PATH_BYTES_MAX = 107;

/** As people write it: 127.0.0.1:2049, [::1]:2049, or the path. */
export function formatListenAddress(address: ListenAddress): string {
	if ("path" in address) return address.path;
	return address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/** Makes `server` listen; gives the address it got. Throws an Error with a sentence for the user. */
export async function listenAt(server: Server, address: ListenAddress): Promise<ListenAddress> {
	if ("path" in address && Buffer.byteLength(address.path) > SOCKET_PATH_BYTES_MAX) {
		throw new Error(`Cannot listen at ${address.path}: the path of a Unix socket has at most ${SOCKET_PATH_BYTES_MAX} bytes.`);
	}
	try {
		await tryListen(server, address);
	} catch (error) {
		const code = (error as NodeJS.ErrnoException).code ?? "";
		if (code !== "EADDRINUSE" || !("path" in address)) throw new Error(explain(code, address, error as Error));
		await removeStaleSocket(address.path);
		await tryListen(server, address);
	}
	const bound = server.address();
	return bound !== null && typeof bound === "object" ? { host: bound.address, port: bound.port } : address;
}

function tryListen(server: Server, address: ListenAddress): Promise<void> {
	return new Promise((resolve, reject) => {
		server.once("error", reject);
		server.listen("path" in address ? { path: address.path } : { ...address, ipv6Only: address.host.includes(":") }, () => {
			server.off("error", reject);
			resolve();
		});
	});
}

function explain(code: string, address: ListenAddress, error: Error): string {
	const where = formatListenAddress(address);
	switch (code) {
		case "EADDRINUSE":
			return `Cannot listen at ${where}: another process does so already. Stop it, or listen at another port.`;
		case "EACCES":
			return "path" in address
				? `Cannot listen at ${where}: ${whyNoSocket(address.path)}.`
				: `Cannot listen at ${where}: ports below 1024 need root.`;
		case "EADDRNOTAVAIL":
		case "ENOTFOUND":
			return `Cannot listen at ${where}: this machine has no such address.`;
		default:
			return `Cannot listen at ${where}: ${describeThrown(error)}`;
	}
}

/** Node.js says so too where the folder is not there. */
function whyNoSocket(path: string): string {
	const folder = dirname(path);
	return existsSync(folder) ? whyNot(ERRNO.EACCES, folder) : whyNot(ERRNO.ENOENT, path);
}

/** A server that was killed leaves its socket's file behind, which refuses connections. Anything else is left alone. */
async function removeStaleSocket(path: string): Promise<void> {
	if (!lstatSync(path).isSocket()) throw new Error(`Cannot listen at ${path}: a file that is no socket is there.`);
	if (await isSocketInUse(path))
		throw new Error(`Cannot listen at ${path}: another process does so already. Stop it, or choose another path.`);
	unlinkSync(path);
}

export function isSocketInUse(path: string): Promise<boolean> {
	return new Promise((resolve) => {
		const probe = connect({ path });
		probe.once("connect", () => {
			probe.destroy();
			resolve(true);
		});
		// Only "refused" says that nobody has the socket open; a full queue, or no permission, says that somebody does.
		probe.once("error", (error: NodeJS.ErrnoException) => resolve(error.code !== "ECONNREFUSED"));
	});
}
