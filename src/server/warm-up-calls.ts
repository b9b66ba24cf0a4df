// The client that warms a server up: calls as the Linux client makes them, on files of its own.

import { once } from "node:events";
import { chmodSync, closeSync, mkdirSync, openSync, rmSync, writeFileSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { join } from "node:path";
import { MOUNT_PROGRAM, MOUNT_VERSION_3 } from "../mount3/protocol.ts";
import { NFS_PROGRAM, NFS_VERSION_3 } from "../nfs3/protocol.ts";

/** Calls that are sent at once: a millisecond or two of work. */
const BATCH = 16;
/** In each directory of the lower: as many as the code of listings needs, and how many of them are changed. */
const LOWER_FILES = 48;
const LOWER_CHANGED = 4;
const DATA_BYTES = 1000;
/** To each new file. What a WRITE alone runs is compiled late by fewer. */
const WRITES = 8;
/** More of them than the server remembers (`nodesMax`), so that each round looks all of them up. */
const LISTED = "listed";
const LISTED_FILES = 320;
/** Numbers of calls are any of 32 bits, as a real client makes them. */
const XID_STEP = 0x9e3779b1;

const PROCEDURE = {
	getattr: 1,
	setattr: 2,
	lookup: 3,
	access: 4,
	read: 6,
	write: 7,
	create: 8,
	mkdir: 9,
	remove: 12,
	rmdir: 13,
	rename: 14,
	readdirplus: 17,
	fsstat: 18,
	fsinfo: 19,
	pathconf: 20,
};
const MNT = 1;

/** Arguments of calls of one procedure. */
type Batch = readonly [procedure: number, calls: readonly (readonly Buffer[])[]];

export interface User {
	readonly uid: number;
	readonly gids: readonly number[];
}

/** What a round finds: a directory with files, and the first of them are anybody's to write. */
export function fillLower(lower: string, round: number): void {
	const folder = join(lower, directoryName(round));
	mkdirSync(folder);
	chmodSync(folder, 0o777);
	for (const name of lowerNames(LOWER_FILES)) writeFileSync(join(folder, name), name);
	for (const name of lowerNames(LOWER_CHANGED)) chmodSync(join(folder, name), 0o666);
}

/** What every round finds in upper: so many files that a page of them is made in several passes, as a large directory is. */
export function fillUpper(upper: string): void {
	const folder = join(upper, LISTED);
	mkdirSync(folder);
	chmodSync(folder, 0o777);
	for (let i = 0; i < LISTED_FILES; i++) closeSync(openSync(join(folder, `listed-${i}`), "w", 0o666));
}

/** After the round: to remove all at the end would hold the thread for long. */
export function emptyLower(lower: string, round: number): void {
	rmSync(join(lower, directoryName(round)), { recursive: true });
}

export const directoryName = (round: number): string => `directory-${round}`;
export const lowerNames = (count: number): string[] => Array.from({ length: count }, (_, i) => `lower-${i}`);

/** One connection, with the root of what it has mounted. */
export class WarmUpClient {
	readonly connection: Connection;
	readonly #root: Buffer;

	private constructor(connection: Connection, root: Buffer) {
		this.connection = connection;
		this.#root = root;
	}

	static async mount(path: string, user: User): Promise<WarmUpClient> {
		const connection = await connect(path, user);
		try {
			const [mounted] = await connection.call([MNT, [[opaque(Buffer.from("/"))]]], MOUNT_PROGRAM);
			const root = opaque(handleAt(mounted, 28));
			for (const procedure of [0, PROCEDURE.fsinfo, PROCEDURE.pathconf, PROCEDURE.fsstat, PROCEDURE.getattr])
				await connection.call([procedure, [procedure === 0 ? [] : [root]]]);
			return new WarmUpClient(connection, root);
		} catch (error) {
			connection.socket.destroy();
			throw error;
		}
	}

	close(): void {
		this.connection.socket.destroy();
	}

	/**
	 * Walks a directory that `fillLower` has made, makes files there and in a new one, looks them up, writes, changes, reads, renames and
	 * removes them. Before each batch of calls it asks whether to go on; resolves to whether it came to the end.
	 */
	async round(number: number, goesOn: () => Promise<boolean>): Promise<boolean> {
		const lower = await this.#handles([PROCEDURE.lookup, [[this.#root, name(directoryName(number))]]]);
		const made = await this.#handles([PROCEDURE.mkdir, [[this.#root, name(`made-${number}`), attributes({ mode: 0o755 })]]]);
		const below = await this.#handles([PROCEDURE.lookup, lowerNames(LOWER_CHANGED).map((one) => [lower[0], name(one)])]);
		const listed = await this.#handles([PROCEDURE.lookup, [[this.#root, name(LISTED)]]]);
		return (
			(await this.#send([[PROCEDURE.readdirplus, [[listed[0], words(0, 0, 0, 0, 65_536, 262_144)]]]], goesOn)) &&
			(await this.#send(useLower(lower[0], below), goesOn)) &&
			(await this.#useNew(lower[0], number, goesOn)) &&
			(await this.#useNew(made[0], number, goesOn)) &&
			(await this.#send(removeLower(lower[0]), goesOn)) &&
			(await this.#send([[PROCEDURE.rmdir, [[this.#root, name(`made-${number}`)]]]], goesOn))
		);
	}

	async #useNew(directory: Buffer, round: number, goesOn: () => Promise<boolean>): Promise<boolean> {
		const names = Array.from({ length: BATCH / 2 }, (_, i) => name(`file-${round}-${i}`));
		if (!(await this.#send([[PROCEDURE.lookup, names.map((one) => [directory, one])]], goesOn)) || !(await goesOn())) return false;
		// by halves as most programs make files, and as those do that are to be the only ones
		const how = (i: number) => (i % 2 === 0 ? [words(0), attributes({ mode: 0o644 })] : [words(2, i, round)]);
		const files = await this.#handles([PROCEDURE.create, names.map((one, i) => [directory, one, ...how(i)])]);
		return this.#send(useFiles(directory, names, files, round), goesOn);
	}

	async #handles(batch: Batch): Promise<Buffer[]> {
		const isMade = batch[0] !== PROCEDURE.lookup;
		const replies = await this.connection.call(batch);
		return replies.map((reply) => opaque(handleAt(reply, isMade ? 32 : 28)));
	}

	async #send(batches: readonly Batch[], goesOn: () => Promise<boolean>): Promise<boolean> {
		for (const batch of batches) {
			if (!(await goesOn())) return false;
			await this.connection.call(batch);
		}
		return true;
	}
}

function useFiles(directory: Buffer, names: readonly Buffer[], files: readonly Buffer[], round: number): Batch[] {
	const others = names.map((_, i) => name(`other-${round}-${i}`));
	const renamed = names.length / 4;
	const each = (arguments_: (file: Buffer) => Buffer[]) => files.map(arguments_);
	return [
		[PROCEDURE.setattr, each((file) => [file, attributes({ mode: 0o640 }), words(0)])],
		...Array.from({ length: WRITES }, (_, i): Batch => [PROCEDURE.write, each((file) => [file, ...data(i * DATA_BYTES, DATA_BYTES)])]),
		[PROCEDURE.setattr, each((file) => [file, attributes({ seconds: 1_700_000_000 + round }), words(0)])],
		[PROCEDURE.access, each((file) => [file, words(0x1f)])],
		[PROCEDURE.getattr, each((file) => [file])],
		[PROCEDURE.read, each((file) => [file, words(0, 0, 4096)])],
		[PROCEDURE.lookup, names.map((one) => [directory, one])],
		[PROCEDURE.lookup, others.map((one) => [directory, one])],
		[PROCEDURE.rename, names.slice(0, renamed).map((one, i) => [directory, one, directory, others[i]])],
		[PROCEDURE.readdirplus, [[directory, words(0, 0, 0, 0, 512, 4096)]]],
		[PROCEDURE.remove, names.map((one, i) => [directory, i < renamed ? others[i] : one])],
	];
}

/** The first of the files is only looked at. */
function useLower(directory: Buffer, [kept, ...changed]: readonly Buffer[]): Batch[] {
	return [
		[PROCEDURE.readdirplus, [[directory, words(0, 0, 0, 0, 4096, 16_384)]]],
		[PROCEDURE.access, [directory, kept].map((file) => [file, words(0x1f)])],
		[PROCEDURE.read, [[kept, words(0, 0, 4096)]]],
		[PROCEDURE.getattr, [directory, kept, ...changed].map((file) => [file])],
		// emptied first, as most programs do that write a file anew: content would be copied up by a thread, which takes much memory
		[PROCEDURE.setattr, changed.map((file) => [file, attributes({ size: 0 }), words(0)])],
		[PROCEDURE.write, changed.map((file) => [file, ...data(0, DATA_BYTES)])],
	];
}

function removeLower(directory: Buffer): Batch[] {
	return [[PROCEDURE.remove, lowerNames(LOWER_CHANGED).map((one) => [directory, name(one)])]];
}

const CONTENT = Buffer.alloc(DATA_BYTES, 1);

/** Offset, count, "unstable" and data of a WRITE. */
function data(offset: number, length: number): Buffer[] {
	return [words(0, offset, length, 0), opaque(CONTENT.subarray(0, length))];
}

/** sattr3 (RFC 1813 section 2.6); both times by the client's clock. */
function attributes({ mode, size, seconds }: { readonly mode?: number; readonly size?: number; readonly seconds?: number }): Buffer {
	const time = seconds === undefined ? [0] : [2, seconds, 123_456_789];
	return words(...(mode === undefined ? [0] : [1, mode]), 0, 0, ...(size === undefined ? [0] : [1, 0, size]), ...time, ...time);
}

export interface Connection {
	readonly socket: Socket;
	/** Sends calls at once, and resolves to their replies, in the order of the calls. */
	call(batch: Batch, program?: number, version?: number): Promise<Buffer[]>;
}

async function connect(path: string, user: User): Promise<Connection> {
	const socket = createConnection(path);
	await once(socket, "connect");
	const credential = credentialOf(user);
	let xid = XID_STEP;
	let received = Buffer.alloc(0);
	let waiting: { readonly count: number; readonly replies: Map<number, Buffer>; readonly resolve: () => void } | null = null;
	socket.on("data", (chunk) => {
		received = Buffer.concat([received, chunk]);
		while (received.length >= 4) {
			const end = 4 + (received.readUInt32BE(0) & 0x7fffffff);
			if (received.length < end) return;
			waiting?.replies.set(received.readUInt32BE(4), received.subarray(4, end));
			received = received.subarray(end);
			if (waiting !== null && waiting.replies.size === waiting.count) waiting.resolve();
		}
	});
	const failed = new Promise<never>((_, reject) => {
		socket.on("error", reject);
		socket.on("close", () => reject(new Error("the connection is closed")));
	});
	failed.catch(() => {});
	return {
		socket,
		async call([procedure, batch], program = NFS_PROGRAM, version = program === NFS_PROGRAM ? NFS_VERSION_3 : MOUNT_VERSION_3) {
			const xids = batch.map(() => {
				xid = (xid + XID_STEP) >>> 0;
				return xid;
			});
			const replies = new Map<number, Buffer>();
			const all = new Promise<void>((resolve) => {
				waiting = { count: batch.length, replies, resolve };
			});
			socket.write(Buffer.concat(batch.map((parts, i) => recordOf(words(xids[i], 0, 2, program, version, procedure), credential, parts))));
			await Promise.race([all, failed]);
			return xids.map((one) => replies.get(one) as Buffer);
		},
	};
}

/** AUTH_SYS (RFC 5531 appendix A), and the verifier behind it. */
function credentialOf({ uid, gids }: User): Buffer {
	const body = Buffer.concat([words(0), opaque(Buffer.from("localhost")), words(uid, gids[0] ?? 0, gids.length, ...gids)]);
	return Buffer.concat([words(1), opaque(body), words(0, 0)]);
}

/** A call (RFC 5531 section 9) as one record. */
function recordOf(header: Buffer, credential: Buffer, parts: readonly Buffer[]): Buffer {
	const record = Buffer.concat([words(0), header, credential, ...parts]);
	record.writeUInt32BE(0x80000000 + record.length - 4, 0);
	return record;
}

export function words(...values: number[]): Buffer {
	const bytes = Buffer.alloc(4 * values.length);
	for (const [i, value] of values.entries()) bytes.writeUInt32BE(value, 4 * i);
	return bytes;
}

export function opaque(value: Uint8Array): Buffer {
	const bytes = Buffer.alloc(4 + ((value.length + 3) & ~3));
	bytes.writeUInt32BE(value.length, 0);
	bytes.set(value, 4);
	return bytes;
}

export function name(text: string): Buffer {
	return opaque(Buffer.from(text));
}

/** The handle in a reply whose status, behind a header of 24 bytes, is that of a success. */
function handleAt(reply: Buffer, at: number): Buffer {
	if (reply.readUInt32BE(24) !== 0) throw new Error(`A call was answered with ${reply.readUInt32BE(24)}`);
	return reply.subarray(at + 4, at + 4 + reply.readUInt32BE(at));
}
