// A client of NFS version 4.1 for tests: compounds, a session, and replies taken apart.

import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { NO_LOG } from "../claims/claim-log.ts";
import { Claims } from "../claims/claims.ts";
import { type ClaimLimits, DEFAULT_CLAIM_LIMITS } from "../claims/limits.ts";
import type { ClaimHooks, ClaimOperations } from "../claims/operations.ts";
import { NO_LIST } from "../claims/recovery-list.ts";
import { NFS_PROGRAM, NFS_VERSION_4, Op } from "../nfs4/protocol.ts";
import { type CallOptions, encodeCall, inFragments, type RpcClient, results, type XdrItem, xdr } from "../rpc/rpc-client.test-support.ts";
import { MemoryOverlay } from "../vfs/memory-overlay.test-support.ts";
import { XdrReader } from "../xdr/xdr-reader.ts";
import type { NfsServerOptions } from "./nfs-server.ts";
import { checkResults } from "./nfs4-results.test-support.ts";
import { startServer, type TestServer } from "./test-server.test-support.ts";

export const OK = 0;
const NO_FLAGS = 0;
export const ANONYMOUS = { raw: Buffer.alloc(16) };
export const CURRENT = { raw: xdr(1, 0, 0, 0) };
/** fattr4 that sets nothing. */
export const NO_ATTRIBUTES = { raw: xdr(0, 0) };
const SERVER_ID = Buffer.alloc(16, 7);

/** Claims that are kept in memory alone, under a clock of the test's. */
function claimsInMemory(limits: Partial<ClaimLimits>, leaseSeconds = 90): (hooks: ClaimHooks) => ClaimOperations {
	return (hooks) =>
		new Claims({
			serverId: SERVER_ID,
			boot: 1,
			leaseSeconds,
			limits: { ...DEFAULT_CLAIM_LIMITS, ...limits },
			hooks,
			log: NO_LOG,
			list: NO_LIST,
			isPersistent: false,
			listed: new Map(),
		});
}

/** Clients may open files before RECLAIM_COMPLETE, unless the limits say otherwise. */
export function startNfs4(
	t: TestContext,
	options: Partial<NfsServerOptions> = {},
	overlay = new MemoryOverlay(),
	limits: Partial<ClaimLimits> = { reclaimFirstSeconds: 0 },
): Promise<TestServer> {
	return startServer(t, { nfs4: { claims: claimsInMemory(limits) }, ...options }, overlay);
}

/** An operation: its number and arguments. */
export type Step = readonly [number: number, ...args: XdrItem[]];

export const ROOT_STEP: Step = [Op.putrootfh];

export function compoundArgs(steps: readonly Step[], tag = "", minor = 1): Buffer {
	return xdr(tag, minor, steps.length, { raw: Buffer.concat(steps.map((step) => xdr(...step))) });
}

export function compoundCall(steps: readonly Step[], options: Partial<CallOptions> = {}): CallOptions {
	return { program: NFS_PROGRAM, version: NFS_VERSION_4, procedure: 1, args: compoundArgs(steps), ...options };
}

/** A reply of COMPOUND up to its results, which follow in the reader. */
export interface CompoundReply {
	readonly status: number;
	readonly tag: string;
	readonly count: number;
	readonly reader: XdrReader;
}

export function readCompound(reader: XdrReader): CompoundReply {
	const status = reader.u32();
	const tag = Buffer.from(reader.opaque(1024)).toString();
	return { status, tag, count: reader.u32(), reader };
}

/** Number and status of the next result. */
export function next(reader: XdrReader): [number: number, status: number] {
	return [reader.u32(), reader.u32()];
}

/** Passes results that have nothing behind the status; all of them must be these operations, and done. */
export function pass(reader: XdrReader, ...numbers: readonly number[]): void {
	for (const number of numbers) assert.deepEqual(next(reader), [number, OK]);
}

export function stateidOf(reader: XdrReader): { raw: Buffer } {
	const at = reader.fixed(16);
	return { raw: Buffer.from(reader.bytes.subarray(at, at + 16)) };
}

export function bytesOf(reader: XdrReader, length?: number): Buffer {
	if (length === undefined) return Buffer.from(reader.opaque(2 ** 21));
	const at = reader.fixed(length);
	return Buffer.from(reader.bytes.subarray(at, at + length));
}

export function u64(reader: XdrReader): bigint {
	return (BigInt(reader.u32()) << 32n) + BigInt(reader.u32());
}

/** change_info4. */
export function changeInfo(reader: XdrReader): { atomic: boolean; before: bigint; after: bigint } {
	return { atomic: reader.bool(), before: u64(reader), after: u64(reader) };
}

export function bitmap(...numbers: readonly number[]): { raw: Buffer } {
	const words = [0, 0, 0];
	for (const number of numbers) words[number >>> 5] = (words[number >>> 5] | (1 << (number & 31))) >>> 0;
	return { raw: xdr(3, ...words) };
}

export function readBits(reader: XdrReader): number[] {
	const numbers: number[] = [];
	const count = reader.u32();
	for (let index = 0; index < count; index++) {
		const word = reader.u32();
		for (let bit = 0; bit < 32; bit++) if ((word & (1 << bit)) !== 0) numbers.push(index * 32 + bit);
	}
	return numbers;
}

/** fattr4 from values in the order of their numbers. */
export function fattr(...values: readonly (readonly [number: number, value: XdrItem])[]): { raw: Buffer } {
	const mask = bitmap(...values.map(([number]) => number));
	return { raw: Buffer.concat([mask.raw, xdr(xdr(...values.map(([, value]) => value)))]) };
}

export const CHANNEL = [0, 1_049_620, 1_049_480, 7584, 32, 64, 0] as const;
export const BACK_CHANNEL = [0, 4096, 4096, 0, 2, 16, 0] as const;
export const CALLBACK_PROGRAM = 0x40000000;

export interface SessionOptions {
	readonly owner?: string;
	readonly verifier?: string;
	readonly channel?: readonly number[];
	readonly flags?: number;
}

/** A client with one session on one connection, by one slot. */
export class Nfs4Client {
	readonly rpc: RpcClient;
	clientId: Buffer = Buffer.alloc(8);
	session: Buffer = Buffer.alloc(16);
	sequence = 0;
	slot = 0;
	options: Partial<CallOptions> = {};

	constructor(rpc: RpcClient) {
		this.rpc = rpc;
		rpc.separatesCalls = true;
	}

	static async connect(server: TestServer, options: SessionOptions = {}): Promise<Nfs4Client> {
		const client = new Nfs4Client(await server.connect());
		await client.exchangeId(options);
		await client.createSession(options);
		return client;
	}

	/** Any compound, as it is. */
	async send(steps: readonly Step[], options: Partial<CallOptions> = {}): Promise<CompoundReply> {
		const reply = results(await this.rpc.call(compoundCall(steps, { ...this.options, ...options })));
		checkResults(new XdrReader().reset(reply.bytes, reply.view, reply.position, reply.end));
		return readCompound(reply);
	}

	async exchangeId({ owner = "a client", verifier = "verifier" }: SessionOptions = {}): Promise<void> {
		const { reader, status } = await this.send([[Op.exchangeId, { raw: Buffer.from(verifier) }, owner, NO_FLAGS, 0, 0]]);
		assert.equal(status, OK);
		pass(reader, Op.exchangeId);
		this.clientId = bytesOf(reader, 8);
		this.sequence = reader.u32();
	}

	async createSession({ channel = CHANNEL, flags = 0 }: SessionOptions = {}): Promise<void> {
		const { reader, status } = await this.send([
			[Op.createSession, { raw: this.clientId }, this.sequence, flags, ...channel, ...BACK_CHANNEL, CALLBACK_PROGRAM, 1, 0],
		]);
		assert.equal(status, OK);
		pass(reader, Op.createSession);
		this.session = bytesOf(reader, 16);
		this.sequence = 0;
	}

	sequenceStep(keeps = false): Step {
		return [Op.sequence, { raw: this.session }, this.sequence, this.slot, this.slot, keeps];
	}

	/** A compound in the session. The reader stands behind the result of SEQUENCE. */
	async run(...steps: readonly Step[]): Promise<CompoundReply> {
		this.sequence++;
		const reply = await this.send([this.sequenceStep(), ...steps]);
		passSequence(reply.reader);
		return reply;
	}

	/** The statuses of all operations behind SEQUENCE where each has nothing behind its status, but perhaps the last. */
	async statuses(...steps: readonly Step[]): Promise<number[]> {
		const { reader, count } = await this.run(...steps);
		return Array.from({ length: count - 1 }, () => next(reader)[1]);
	}

	/** The status of the compound. */
	async status(...steps: readonly Step[]): Promise<number> {
		return (await this.run(...steps)).status;
	}

	/** The compound as bytes on the wire. */
	record(xid: number, steps: readonly Step[]): Buffer {
		return inFragments(encodeCall(compoundCall(steps, { xid, ...this.options })));
	}
}

export function passSequence(reader: XdrReader): { flags: number } {
	pass(reader, Op.sequence);
	reader.fixed(16 + 16);
	return { flags: reader.u32() };
}
