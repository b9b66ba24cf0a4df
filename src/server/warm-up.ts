// Runs the server's own code in idle time after the start, on an overlay in memory, so that the first clients find it compiled.

import { once } from "node:events";
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statfsSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { NFS_PROGRAM, NFS_VERSION_3 } from "../nfs3/protocol.ts";
import { type OpenServer, openExports } from "./serve-exports.ts";

/** Memory as a file system; the first that is one is used. */
const PLACES = [process.env.XDG_RUNTIME_DIR, "/dev/shm", "/run", "/tmp"];
const TMPFS_MAGIC = 0x01021994;
const PREFIX = "holdfast-warm-up-";

/** Most of what warming up gains is gained by then. */
const ROUNDS = 30;
/** Calls that are sent at once: a millisecond or two of work. */
const BATCH = 16;
/** Nothing is done before a server has been idle for so long, without a client: one that is soon ended, or soon used, pays nothing. */
const IDLE_MS = 1000;
/** As long as calls of clients come, and so long behind the last one, nothing is done. */
const QUIET_MS = 100;
/** A server that is busy from the start warms up by itself. */
const PAUSES_MAX = 20;
const DATA_BYTES = 1000;

const PROCEDURE = { getattr: 1, setattr: 2, lookup: 3, access: 4, read: 6, write: 7, create: 8, remove: 12, rename: 14, readdirplus: 17 };

export interface WarmUp {
	/** Resolves when it is over, in whatever way. */
	readonly done: Promise<void>;
	/** Ends it at once, and removes what it has made. */
	stop(): void;
}

export interface WarmUpOptions {
	readonly rounds?: number;
	readonly idleMs?: number;
}

/** Where there is no memory as a file system, or no overlay can be made in it, nothing happens. */
export function warmUp(served: OpenServer, { rounds = ROUNDS, idleMs = IDLE_MS }: WarmUpOptions = {}): WarmUp {
	const state: State = { isOver: false, remove: () => {}, collect: null };
	const stop = () => {
		state.isOver = true;
		state.remove();
	};
	// what goes wrong on the scratch says nothing of the exports
	const done = run(served, state, rounds, idleMs)
		.catch(() => {})
		.then(stop);
	return { done, stop };
}

interface State {
	isOver: boolean;
	remove: () => void;
	collect: Collect | null;
}

type Collect = (options: { readonly type: "minor" }) => void;

/**
 * The garbage collector on demand; null where this V8 does not give it away. Collected after each round, what rounds leave takes a megabyte of
 * memory and not the whole of the young generation, which a server that nobody uses would keep.
 */
function collector(): Collect | null {
	try {
		setFlagsFromString("--expose-gc");
		return runInNewContext("gc") as Collect;
	} catch {
		return null;
	}
}

async function run(served: OpenServer, state: State, rounds: number, idleMs: number): Promise<void> {
	if (!(await untilIdle(served, state, idleMs))) return;
	state.collect = collector();
	const isQuiet = () => untilQuiet(served, state);
	const folder = scratchFolder();
	if (folder === null) return;
	state.remove = () => rmSync(folder, { recursive: true, force: true });
	const [lower, upper, work, stateFolder] = ["lower", "upper", "work", "state"].map((name) => join(folder, name));
	for (const path of [lower, upper]) mkdirSync(path);
	const address = { path: join(folder, "socket") };
	const { handles } = served.exports[0].opened;
	const scratch = await openExports({
		// its socket is in a folder that nobody else can search
		exports: [
			{
				name: "/",
				layers: { lowers: [lower], upper, work, stateFolder, isSync: false, handles: handles.kind },
				insecure: true,
				allowOther: true,
			},
		],
		listen: [address],
		stateFolder,
		limits: { nodesMax: 1024, descriptorsMax: 256 },
	});
	try {
		await scratch.listen();
		const client = await connect(address.path);
		try {
			for (let round = 0; round < rounds && (await isQuiet()); round++) {
				await oneRound(client, scratch.exports[0].opened.overlay.root.handle, round, isQuiet);
				state.collect?.({ type: "minor" });
			}
		} finally {
			client.socket.destroy();
		}
	} finally {
		scratch.server.destroy();
		await scratch.close();
	}
}

/**
 * Resolves to whether to begin: when for a while no client has called and none is connected, because to open the scratch holds the thread for
 * longer than a call may.
 */
async function untilIdle({ server }: OpenServer, state: State, idleMs: number): Promise<boolean> {
	for (let pause = 0; pause < PAUSES_MAX && !state.isOver; pause++) {
		const { calls } = server;
		await delay(idleMs, undefined, { ref: false });
		if (server.calls === calls && server.connectionCount === 0 && !state.isOver) return true;
	}
	return false;
}

/** Resolves to whether to go on: when no client has called for a while, or at once where none has since the last time. */
async function untilQuiet({ server }: OpenServer, state: State): Promise<boolean> {
	for (let pause = 0; pause < PAUSES_MAX && !state.isOver; pause++) {
		const { calls } = server;
		await (pause === 0 ? new Promise((resolve) => setImmediate(resolve)) : delay(QUIET_MS, undefined, { ref: false }));
		if (server.calls === calls && !state.isOver) return true;
	}
	return false;
}

/** A new folder of our own in memory; null: there is none. What earlier processes left that were killed is removed. */
function scratchFolder(): string | null {
	for (const place of PLACES) {
		try {
			if (place === undefined || statfsSync(place).type !== TMPFS_MAGIC) continue;
			removeLeftovers(place);
			return mkdtempSync(join(place, `${PREFIX}${process.pid}-`));
		} catch {
			// another place may do
		}
	}
	return null;
}

function removeLeftovers(place: string): void {
	for (const name of readdirSync(place)) {
		const pid = name.startsWith(PREFIX) ? Number.parseInt(name.slice(PREFIX.length), 10) : Number.NaN;
		if (!(pid > 0) || isRunning(pid) || lstatSync(join(place, name)).uid !== process.getuid?.()) continue;
		rmSync(join(place, name), { recursive: true, force: true });
	}
}

function isRunning(pid: number): boolean {
	try {
		process.kill(pid, 0);
		return true;
	} catch (error) {
		return (error as NodeJS.ErrnoException).code === "EPERM";
	}
}

/** Makes, looks up, writes, changes, reads and removes a batch of files, each call as the Linux client makes it. */
async function oneRound(client: Client, root: Buffer, round: number, isQuiet: () => Promise<boolean>): Promise<void> {
	const names = Array.from({ length: BATCH }, (_, i) => opaque(Buffer.from(`file-${round}-${i}`)));
	const others = names.map((_, i) => opaque(Buffer.from(`other-${round}-${i}`)));
	const directory = opaque(root);
	const made = await client.call(
		PROCEDURE.create,
		names.map((name) => [directory, name, words(0, 1, 0o644, 0, 0, 0, 0, 0)]),
	);
	const handles = made.map((reply) => opaque(handleOf(reply)));
	const data = opaque(Buffer.alloc(DATA_BYTES, 1));
	const each = (arguments_: (handle: Buffer) => Buffer[]) => handles.map(arguments_);
	const calls: readonly [number, Buffer[][]][] = [
		[PROCEDURE.lookup, names.map((name) => [directory, name])],
		[PROCEDURE.write, each((handle) => [handle, words(0, 0, DATA_BYTES, 0), data])],
		[PROCEDURE.setattr, each((handle) => [handle, words(1, 0o640, 0, 0, 0, 0, 0, 0)])],
		[PROCEDURE.setattr, each((handle) => [handle, words(0, 0, 0, 0, 2, 1_700_000_000, 0, 2, 1_700_000_000, 0, 0)])],
		[PROCEDURE.access, each((handle) => [handle, words(0x1f)])],
		[PROCEDURE.getattr, each((handle) => [handle])],
		[PROCEDURE.read, each((handle) => [handle, words(0, 0, 4096)])],
		[PROCEDURE.lookup, others.map((name) => [directory, name])],
		[PROCEDURE.rename, names.slice(0, 4).map((name, i) => [directory, name, directory, others[i]])],
		[PROCEDURE.readdirplus, [[directory, words(0, 0, 0, 0, 512, 4096)]]],
		[PROCEDURE.remove, names.map((name, i) => [directory, i < 4 ? others[i] : name])],
	];
	for (const [procedure, batch] of calls) {
		if (!(await isQuiet())) return;
		await client.call(procedure, batch);
	}
}

interface Client {
	readonly socket: Socket;
	/** Sends calls at once, and resolves to their replies, in the order of the calls. */
	call(procedure: number, batch: readonly (readonly Buffer[])[]): Promise<Buffer[]>;
}

async function connect(path: string): Promise<Client> {
	const socket = createConnection(path);
	await once(socket, "connect");
	let xid = 0;
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
		async call(procedure, batch) {
			const first = xid + 1;
			const replies = new Map<number, Buffer>();
			const all = new Promise<void>((resolve) => {
				waiting = { count: batch.length, replies, resolve };
			});
			socket.write(Buffer.concat(batch.map((parts) => recordOf(++xid, procedure, parts))));
			await Promise.race([all, failed]);
			return batch.map((_, i) => replies.get(first + i) as Buffer);
		},
	};
}

/** A call with AUTH_SYS credentials of this process (RFC 5531 section 9, appendix A), as one record. */
function recordOf(xid: number, procedure: number, parts: readonly Buffer[]): Buffer {
	const [uid, gid] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
	const header = words(0, xid, 0, 2, NFS_PROGRAM, NFS_VERSION_3, procedure, 1, 20, 0, 0, uid, gid, 0, 0, 0);
	const record = Buffer.concat([header, ...parts]);
	record.writeUInt32BE(0x80000000 + record.length - 4, 0);
	return record;
}

function words(...values: number[]): Buffer {
	const bytes = Buffer.alloc(4 * values.length);
	for (const [i, value] of values.entries()) bytes.writeUInt32BE(value, 4 * i);
	return bytes;
}

function opaque(value: Uint8Array): Buffer {
	const bytes = Buffer.alloc(4 + ((value.length + 3) & ~3));
	bytes.writeUInt32BE(value.length, 0);
	bytes.set(value, 4);
	return bytes;
}

/** Of what a CREATE has made: behind the header of the reply and the status. */
function handleOf(reply: Buffer): Buffer {
	if (reply.readUInt32BE(24) !== 0 || reply.readUInt32BE(28) !== 1) throw new Error("nothing was made");
	return reply.subarray(36, 36 + reply.readUInt32BE(32));
}
