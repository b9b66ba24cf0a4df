/** Clients that come as other users, from chosen ports and addresses, and from other network namespaces. */

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { Nfs3Client } from "./nfs3-client.ts";
import { sbinPath } from "./requirements.ts";
import { type AuthSys, RpcConnection } from "./rpc-connection.ts";
import type { Scratch } from "./scratch.ts";

export interface From {
	/** The user who makes the socket: an effective uid of this process for as long as that takes. */
	readonly uid?: number;
	/** From a port below 1024. */
	readonly isReserved?: boolean;
	readonly localAddress?: string;
	readonly credentials?: AuthSys;
}

/** The test must be root's to be another user, or to have a port below 1024. */
export async function clientFrom(scratch: Scratch, to: string | { host: string; port: number }, from: From = {}): Promise<Nfs3Client> {
	const { uid = 0, isReserved = false, localAddress, credentials } = from;
	const address = typeof to === "string" || localAddress === undefined ? to : { ...to, localAddress };
	const rpc = isReserved && typeof address !== "string" ? await fromReserved(address) : await connectAs(address, uid);
	scratch.beforeRemoval(() => rpc.close());
	return new Nfs3Client(rpc, credentials);
}

async function connectAs(address: Parameters<typeof RpcConnection.connect>[0], uid: number): Promise<RpcConnection> {
	if (uid !== 0) process.seteuid?.(uid);
	try {
		return await RpcConnection.connect(address);
	} finally {
		if (uid !== 0) process.seteuid?.(0);
	}
}

/** An address of this host that no other process connects from: a port of it is free again as soon as its connection is closed. */
export const OWN_ADDRESS = `127.1.${(process.pid >> 8) & 0xff}.${process.pid & 0xff}`;

let nextReserved = 1023;

async function fromReserved(address: { host: string; port: number }): Promise<RpcConnection> {
	for (let tries = 0; tries < 400; tries++) {
		const localPort = nextReserved;
		nextReserved = nextReserved > 620 ? nextReserved - 1 : 1023;
		try {
			return await RpcConnection.connect({ ...address, localPort });
		} catch (error) {
			const { code } = error as NodeJS.ErrnoException;
			if (code !== "EADDRINUSE" && code !== "EADDRNOTAVAIL") throw error;
		}
	}
	throw new Error("no port below 1024 is free");
}

export interface NetworkNamespace {
	/** What runs a command in it. */
	readonly within: readonly string[];
	/** Its address, on a link to this host. */
	readonly address: string;
	/** Addresses that this host has on that link. */
	readonly outside: readonly string[];
}

let namespaces = 0;

/** A network namespace with a link to this one, for as long as the scratch folder is there. */
export async function networkNamespace(scratch: Scratch): Promise<NetworkNamespace> {
	const holder = spawn("unshare", ["-n", "sh", "-c", "echo; exec sleep infinity"], { stdio: ["ignore", "pipe", "inherit"] });
	scratch.beforeRemoval(() => void holder.kill("SIGKILL"));
	await once(holder.stdout, "data");
	const within = ["nsenter", `--net=/proc/${holder.pid}/ns/net`, "--"];
	const run = (...command: string[]) => execFileSync(command[0] as string, command.slice(1), { env: { ...process.env, PATH: sbinPath() } });
	// the kernel takes its time to remove a namespace, with the link to it
	const [out, inside] = [`hfo${process.pid}x${++namespaces}`, `hfi${process.pid}x${namespaces}`];
	// of the network for benchmarks (RFC 2544), which nobody routes
	const third = (process.pid * 16 + namespaces) % 512;
	const network = `198.${18 + (third >> 8)}.${third & 255}`;
	const outside = [1, 3, 4, 5].map((host) => `${network}.${host}`);
	run("ip", "link", "add", out, "type", "veth", "peer", "name", inside, "netns", String(holder.pid));
	for (const address of outside) run("ip", "address", "add", `${address}/24`, "dev", out);
	run("ip", "link", "set", out, "up");
	run(...within, "ip", "address", "add", `${network}.2/24`, "dev", inside);
	for (const link of ["lo", inside]) run(...within, "ip", "link", "set", link, "up");
	return { within, address: `${network}.2`, outside };
}
