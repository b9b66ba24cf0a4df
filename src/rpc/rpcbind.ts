// Registers programs with rpcbind (RFC 1833).

import { connect, type NetConnectOpts, type Socket } from "node:net";
import { XdrReader } from "../xdr/xdr-reader.ts";
import { XdrWriter } from "../xdr/xdr-writer.ts";
import { AcceptStatus, MessageType, ReplyStatus, RPC_VERSION } from "./rpc-message.ts";

/** RFC 1833 section 2.2.1. */
const RPCBIND_PROGRAM = 100000;
const RPCBIND_VERSION = 4;
const RpcbindProcedure = { set: 1, unset: 2 } as const;

const TIMEOUT_MS = 2000;
const REPLY_BYTES_MAX = 4096;
const OWNER = "holdfast";

/** Where rpcbind listens: on Linux it trusts its Unix socket with the caller's own uid. */
export const RPCBIND_ADDRESSES: readonly NetConnectOpts[] = [{ path: "/run/rpcbind.sock" }, { host: "127.0.0.1", port: 111 }];

/** One program version that can be reached at a TCP address. */
export interface RpcbindMapping {
	readonly program: number;
	readonly version: number;
	readonly networkId: "tcp" | "tcp6";
	readonly host: string;
	readonly port: number;
}

/** Makes rpcbind answer with these mappings, instead of any that a server before left. Throws an Error that says what failed. */
export async function registerWithRpcbind(mappings: readonly RpcbindMapping[], addresses = RPCBIND_ADDRESSES): Promise<void> {
	await withRpcbind(addresses, async (call) => {
		for (const mapping of mappings) {
			await call(RpcbindProcedure.unset, mapping);
			if (await call(RpcbindProcedure.set, mapping)) continue;
			throw new Error(`rpcbind refused program ${mapping.program} version ${mapping.version} for ${mapping.networkId}`);
		}
	});
}

/** Takes the mappings back. */
export async function unregisterFromRpcbind(mappings: readonly RpcbindMapping[], addresses = RPCBIND_ADDRESSES): Promise<void> {
	await withRpcbind(addresses, async (call) => {
		for (const mapping of mappings) await call(RpcbindProcedure.unset, mapping);
	});
}

type RpcbindCall = (procedure: number, mapping: RpcbindMapping) => Promise<boolean>;

async function withRpcbind(addresses: readonly NetConnectOpts[], work: (call: RpcbindCall) => Promise<void>): Promise<void> {
	const socket = await connectToFirst(addresses);
	const replies = recordsOf(socket);
	let xid = (Math.random() * 0x7fffffff) | 0;
	try {
		await work(async (procedure, mapping) => {
			xid++;
			socket.write(encodeCall(xid, procedure, mapping));
			const { value } = await replies.next();
			if (value === undefined) throw new Error("rpcbind closed the connection");
			return decodeBoolReply(value, xid);
		});
	} finally {
		socket.destroy();
	}
}

async function connectToFirst(addresses: readonly NetConnectOpts[]): Promise<Socket> {
	let failure: Error | undefined;
	for (const address of addresses) {
		try {
			return await connected(address);
		} catch (error) {
			failure = error as Error;
		}
	}
	throw new Error(`No rpcbind is running here (${failure?.message})`);
}

function connected(address: NetConnectOpts): Promise<Socket> {
	return new Promise((resolve, reject) => {
		const socket = connect(address);
		socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error("rpcbind does not answer")));
		socket.once("error", reject);
		socket.once("connect", () => resolve(socket));
	});
}

/** The records that arrive; ends with the connection. */
async function* recordsOf(socket: Socket): AsyncGenerator<Buffer, undefined> {
	let bytes = Buffer.alloc(0);
	for await (const chunk of socket) {
		bytes = Buffer.concat([bytes, chunk]);
		if (bytes.length > REPLY_BYTES_MAX) throw new Error("rpcbind sent more than an answer");
		while (bytes.length >= 4) {
			const end = 4 + (bytes.readUInt32BE(0) & 0x7fffffff);
			if (bytes.length < end) break;
			yield bytes.subarray(4, end);
			bytes = bytes.subarray(end);
		}
	}
	return undefined;
}

function encodeCall(xid: number, procedure: number, mapping: RpcbindMapping): Buffer {
	const call = XdrWriter.growing();
	call.u32(0);
	for (const word of [xid, MessageType.call, RPC_VERSION, RPCBIND_PROGRAM, RPCBIND_VERSION, procedure, 0, 0, 0, 0]) call.u32(word);
	call.u32(mapping.program);
	call.u32(mapping.version);
	call.opaque(Buffer.from(mapping.networkId));
	call.opaque(Buffer.from(universalAddress(mapping.host, mapping.port)));
	call.opaque(Buffer.from(OWNER));
	call.patchU32(0, 0x80000000 + call.position - 4);
	return call.copyFrom(0);
}

/** RFC 5665 section 5.2.3: the address, then the two bytes of the port. */
function universalAddress(host: string, port: number): string {
	return `${host}.${port >> 8}.${port & 255}`;
}

function decodeBoolReply(bytes: Buffer, xid: number): boolean {
	const reader = XdrReader.over(bytes);
	if (reader.u32() !== xid || reader.u32() !== MessageType.reply) throw new Error("rpcbind answered something else");
	if (reader.u32() !== ReplyStatus.accepted) throw new Error("rpcbind denied the call");
	reader.u32();
	reader.opaque(400);
	const status = reader.u32();
	if (status !== AcceptStatus.success) throw new Error(`rpcbind answered with status ${status}`);
	return reader.bool();
}
