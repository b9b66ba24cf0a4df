// Runs the server's own code in idle time after the start, on an overlay in memory, so that the first clients find it compiled.

import { chmodSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { isRunning } from "../linux/processes.ts";
import { type OpenServer, openExports } from "./serve-exports.ts";
import { directoryName, emptyLower, fillLower, fillUpper, lowerNames, type User, WarmUpClient } from "./warm-up-calls.ts";
import { WarmUpSession } from "./warm-up-compounds.ts";
import { WarmUpMemory, WarmUpMount } from "./warm-up-mount.ts";

/** Memory as a file system; the first that is one is used. */
const PLACES = [process.env.XDG_RUNTIME_DIR, "/dev/shm", "/run", "/tmp"];
const TMPFS_MAGIC = 0x01021994;
const PREFIX = "holdfast-warm-up-";

/** Most of what warming up gains is gained by then. */
const ROUNDS = 18;
/** Nothing is done before a server has been idle for so long, without a client: one that is soon ended, or soon used, pays nothing. */
const IDLE_MS = 1000;
/** As long as calls of clients come, and so long behind the last one, nothing is done. */
const QUIET_MS = 100;
/** A server that is busy from the start warms up by itself. */
const PAUSES_MAX = 20;
/** One after the other, each on an overlay of its own. */
const SERVERS = 2;
/**
 * When V8 compiles, in Node.js 20: sooner on the last of the servers, when all that it has to know has been seen, and as it does by itself. Other
 * versions are left as they are.
 */
const HASTE = process.versions.v8.startsWith("11.")
	? {
			sooner: ["--interrupt-budget=16000", "--minimum-invocations-after-ic-update=50"],
			ordinary: ["--interrupt-budget=67584", "--minimum-invocations-after-ic-update=500"],
		}
	: { sooner: [], ordinary: [] };
/** Of each directory of a lower that a mount uses. */
const MOUNT_FILES = 32;
/** Each by a connection of its own: the user of this process, and one with several groups. */
const USERS: readonly User[] = [
	{ uid: process.getuid?.() ?? 0, gids: [process.getgid?.() ?? 0] },
	{ uid: 1000, gids: [1000, 1001, 1002] },
];

export interface WarmUp {
	/** Resolves when it is over, to whether it came to its end. */
	readonly done: Promise<boolean>;
	/** Ends it at once, and removes what it has made. */
	stop(): void;
}

export interface WarmUpOptions {
	readonly rounds?: number;
	readonly idleMs?: number;
}

/** Where there is no memory as a file system, or no overlay can be made in it, nothing happens. */
export function warmUp(served: OpenServer, { rounds = ROUNDS, idleMs = IDLE_MS }: WarmUpOptions = {}): WarmUp {
	const state: State = { isOver: false, remove: () => {}, collect: null, memory: null };
	const stop = () => {
		state.isOver = true;
		state.remove();
	};
	// what goes wrong on the scratch says nothing of the exports
	const done = run(served, state, rounds, idleMs)
		.catch(() => false)
		.finally(stop);
	return { done, stop };
}

interface State {
	isOver: boolean;
	remove: () => void;
	collect: Collect | null;
	/** Of mounts, where the server has some. */
	memory: WarmUpMemory | null;
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

async function run(served: OpenServer, state: State, rounds: number, idleMs: number): Promise<boolean> {
	if (!(await untilIdle(served, state, idleMs))) return false;
	state.collect = collector();
	const folder = scratchFolder();
	if (folder === null) return false;
	state.remove = () => rmSync(folder, { recursive: true, force: true });
	if (served.mounts.length > 0) state.memory = new WarmUpMemory();
	try {
		// what V8 takes for constant on the first it finds changed on the second, and it is never surprised by the server that clients use
		for (let number = 0; number < SERVERS; number++) {
			if (number === SERVERS - 1) for (const flag of HASTE.sooner) setFlagsFromString(flag);
			const place = join(folder, `${number}`);
			mkdirSync(place);
			if (!(await useScratch(served, state, place, Math.ceil(rounds / SERVERS)))) return false;
		}
		return true;
	} finally {
		for (const flag of HASTE.ordinary) setFlagsFromString(flag);
		state.memory?.close();
	}
}

/** One server with an overlay of its own in `place`, as clients use it; resolves to whether it came to the end. */
async function useScratch(served: OpenServer, state: State, place: string, rounds: number): Promise<boolean> {
	const isQuiet = () => untilQuiet(served, state);
	const [lower, upper, work, stateFolder] = ["lower", "upper", "work", "state"].map((name) => join(place, name));
	for (const path of [lower, upper]) mkdirSync(path);
	// for the client that is not root
	chmodSync(upper, 0o777);
	fillUpper(upper);
	const address = { path: join(place, "socket") };
	const isListening = served.server.addresses.length > 0;
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
		listen: isListening ? [address] : [],
		isMounted: state.memory !== null,
		versions: [3, 4],
		stateFolder,
		limits: { nodesMax: 256, descriptorsMax: 256 },
	});
	const clients: WarmUpClient[] = [];
	const sessions: WarmUpSession[] = [];
	const mount = state.memory === null ? null : new WarmUpMount();
	try {
		if (mount !== null && state.memory !== null) scratch.startFuse({ descriptor: mount.device, kept: state.memory.bytes });
		await scratch.listen();
		for (const user of isListening ? USERS : []) {
			const client = await WarmUpClient.mount(address.path, user);
			clients.push(client);
			sessions.push(await WarmUpSession.open(client.connection, `warm-up-${user.uid}`));
		}
		await mount?.init();
		const call = async (number: number) => {
			const at = number % clients.length;
			return (await clients[at].round(number, isQuiet)) && (await sessions[at].round(number, isQuiet));
		};
		const uses: ((number: number) => Promise<boolean>)[] = isListening ? [call] : [];
		if (mount !== null) uses.push((number) => mount.round(directoryName(number), lowerNames(MOUNT_FILES), isQuiet));
		for (let round = 0; round < rounds; round++) {
			for (const [i, use] of uses.entries()) {
				const number = i * rounds + round;
				// a lower must not be changed otherwise, and nobody has asked for this name yet
				fillLower(lower, number);
				if (!(await use(number))) return false;
				emptyLower(lower, number);
			}
			state.collect?.({ type: "minor" });
		}
		return true;
	} finally {
		for (const client of clients) client.close();
		scratch.server.destroy();
		await scratch.close();
		mount?.close();
		state.memory?.clear();
	}
}

/**
 * Resolves to whether to begin: when for a while no client has called and none is connected, because to open the scratch holds the thread for
 * longer than a call may.
 */
async function untilIdle(served: OpenServer, state: State, idleMs: number): Promise<boolean> {
	for (let pause = 0; pause < PAUSES_MAX && !state.isOver; pause++) {
		const calls = callsOf(served);
		await delay(idleMs, undefined, { ref: false });
		if (callsOf(served) === calls && served.server.connectionCount === 0 && !state.isOver) return true;
	}
	return false;
}

/** Calls of clients, and requests of mounts. */
function callsOf({ server, mounts }: OpenServer): number {
	return mounts.reduce((sum, { requests }) => sum + requests, server.calls);
}

/** Resolves to whether to go on: when no client has called for a while, or at once where none has since the last time. */
async function untilQuiet(served: OpenServer, state: State): Promise<boolean> {
	for (let pause = 0; pause < PAUSES_MAX && !state.isOver; pause++) {
		const calls = callsOf(served);
		await (pause === 0 ? new Promise((resolve) => setImmediate(resolve)) : delay(QUIET_MS, undefined, { ref: false }));
		if (callsOf(served) === calls && !state.isOver) return true;
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
