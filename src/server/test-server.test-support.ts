// A server over an overlay in memory, and calls to it, for tests.

import type { TestContext } from "node:test";
import { allocate } from "../linux/memory.ts";
import { NFS_PROGRAM, NFS_VERSION_3 } from "../nfs3/protocol.ts";
import { type CallOptions, encodeCall, inFragments, RpcClient, results, type XdrItem, xdr } from "../rpc/rpc-client.test-support.ts";
import { MemoryOverlay } from "../vfs/memory-overlay.test-support.ts";
import type { OverlayObject } from "../vfs/operations.ts";
import type { XdrReader } from "../xdr/xdr-reader.ts";
import { NfsServer, type NfsServerOptions } from "./nfs-server.ts";

export const ROOT = { uid: 0, gid: 0, gids: [] };

/** Procedures of RFC 1813 by number. */
export const Nfs = {
	null: 0,
	getattr: 1,
	setattr: 2,
	lookup: 3,
	access: 4,
	readlink: 5,
	read: 6,
	write: 7,
	create: 8,
	mkdir: 9,
	symlink: 10,
	mknod: 11,
	remove: 12,
	rmdir: 13,
	rename: 14,
	link: 15,
	readdir: 16,
	readdirplus: 17,
	fsstat: 18,
	fsinfo: 19,
	pathconf: 20,
	commit: 21,
} as const;

/** sattr3 that sets nothing. */
export const NO_CHANGE = xdr(0, 0, 0, 0, 0, 0);

export interface TestServer {
	readonly overlay: MemoryOverlay;
	readonly server: NfsServer;
	readonly port: number;
	/** A connection that is closed with the test. */
	connect(): Promise<RpcClient>;
	/** A file with this content in the root. */
	file(name: string, content: string | Uint8Array): OverlayObject;
}

export async function startServer(
	t: TestContext,
	options: Partial<NfsServerOptions> = {},
	overlay = new MemoryOverlay(),
): Promise<TestServer> {
	const server = new NfsServer({
		exports: [{ name: "/", overlay }],
		listen: [{ host: "127.0.0.1", port: 0 }],
		allocate,
		...options,
	});
	await server.listen();
	const clients: RpcClient[] = [];
	t.after(() => {
		for (const client of clients) client.close();
		server.destroy();
	});
	const [address] = server.addresses;
	const port = "port" in address ? address.port : 0;
	return {
		overlay,
		server,
		port,
		async connect() {
			const client = await RpcClient.connect({ host: "127.0.0.1", port });
			clients.push(client);
			return client;
		},
		file(name, content) {
			const object = overlay.create(overlay.root, Buffer.from(name), ROOT, { mode: "guarded", attributes: {} }).object;
			overlay.write(object, ROOT, 0, Buffer.from(content));
			return object;
		},
	};
}

export function nfsCall(procedure: number, args: readonly XdrItem[] = [], options: Partial<CallOptions> = {}): CallOptions {
	return { program: NFS_PROGRAM, version: NFS_VERSION_3, procedure, args: xdr(...args), ...options };
}

/** The call as bytes on the wire, in one fragment. */
export function nfsRecord(xid: number, procedure: number, args: readonly XdrItem[], options: Partial<CallOptions> = {}): Buffer {
	return inFragments(encodeCall(nfsCall(procedure, args, { xid, ...options })));
}

/** Runs an NFS procedure and gives its results, the status first. */
export async function nfs(
	client: RpcClient,
	procedure: number,
	args: readonly XdrItem[],
	options: Partial<CallOptions> = {},
): Promise<XdrReader> {
	return results(await client.call(nfsCall(procedure, args, options)));
}

/** Reads post_op_attr; the size and fileid, or null. */
export function postAttributes(reader: XdrReader): { type: number; mode: number; size: number; fileid: number } | null {
	return reader.bool() ? attributes(reader) : null;
}

/** Reads fattr3. */
export function attributes(reader: XdrReader): { type: number; mode: number; size: number; fileid: number } {
	const [type, mode] = [reader.u32(), reader.u32()];
	reader.fixed(12);
	const size = reader.u32() * 2 ** 32 + reader.u32();
	reader.fixed(8 + 8 + 8 + 4);
	const fileid = reader.u32();
	reader.fixed(24);
	return { type, mode, size, fileid };
}

/** Reads wcc_data; the size before and after. */
export function wccData(reader: XdrReader): { before: number | null; after: number | null } {
	let before: number | null = null;
	if (reader.bool()) {
		before = reader.u32() * 2 ** 32 + reader.u32();
		reader.fixed(16);
	}
	return { before, after: postAttributes(reader)?.size ?? null };
}

export function bytes(reader: XdrReader): Buffer {
	return Buffer.from(reader.opaque(2 ** 21));
}

/** A promise and the function that resolves it. */
export function gate(): { opened: Promise<void>; open: () => void } {
	let open = (): void => {};
	const opened = new Promise<void>((resolve) => {
		open = resolve;
	});
	return { opened, open };
}

export async function until(condition: () => boolean): Promise<void> {
	while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}
