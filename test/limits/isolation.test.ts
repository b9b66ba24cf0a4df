import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, fork } from "node:child_process";
import { once } from "node:events";
import {
	closeSync,
	fsyncSync,
	lstatSync,
	mkdirSync,
	openSync,
	readFileSync,
	rmSync,
	statfsSync,
	statSync,
	symlinkSync,
	writeFileSync,
	writeSync,
} from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { ProbeCommand, Waits } from "../slow-disk/getattr-probe.ts";
import { type Attributes3, type Entry3, type Nfs3Client, Nfs3Status, ok, Stable, statusName } from "../support/nfs3-client.ts";
import { full, needs, repository, volume } from "../support/requirements.ts";
import { type Scratch, scratch } from "../support/scratch.ts";
import { type ServerProcess, startServer } from "../support/server-process.ts";
import { cannotMountSlowDisk, dropCaches, SlowDisk } from "../support/slow-disk.ts";

const TIMES_MAX = 3;
/** What is shorter than this is noise. */
const BASELINE_MILLISECONDS_MIN = 1;
/** As if a request came each millisecond, so that one long wait counts for what it is. Schedulers disturb this figure more. */
const BASELINE_OF_ALL_TIME_MILLISECONDS_MIN = 20;
/** Other programs use the machine too: the best of so many counts. */
const ATTEMPTS = full ? 6 : 1;
const BASELINE_MILLISECONDS = full ? 2000 : 50;
const LOAD_MILLISECONDS = volume(1000, 4000);
/** How long the copying is watched. */
const COPY_MILLISECONDS_MAX = volume(1000, 10_000, 180_000);
const SLOW_MILLISECONDS = 100;
const ASKED_MIN = 30;
const REPEATED_AFTER_MILLISECONDS = 30;
const HANGING_MILLISECONDS = volume(500, 4000);
/** What does not touch the disk that hangs must be done long before it goes on. */
const UNTOUCHED_MILLISECONDS_MAX = 2000;
/** Of the main thread, in the time of one measurement. */
const SLOW_CALLS_MAX = 2;

const MEBIBYTE = 1 << 20;
/** Of each client that reads or writes much: disks are to be waited for, not processors. */
const MEBIBYTES_PER_SECOND = 50;
const WARM_FILES = 64;
const COLD_FILES = 4;
const COLD_MEBIBYTES = volume(80, 256);
const BIG_MEBIBYTES = volume(128, 1024, 10 * 1024);
const SLOW_DIRECTORIES = 40;
const SLOW_FILES = 50;
const SLOW_LARGE = 4;
const SLOW_LARGE_BYTES = 8 * MEBIBYTE;
const SLOW_READ_BYTES = 65536;
/** Kinds of changes, of which each needs a directory of its own. */
const CHANGES = 11;
const CHANGED_DIRECTORIES = 4 * CHANGES;
/** Files on the slow disk that are in all caches when it becomes slow. */
const SLOW_WARM_FILES = 8;
/** Connections that ask for what lies on the slow disk, each for one thing at a time. */
const SLOW_CLIENTS = 6;

/** What the slow disk holds, by path from its top. */
interface Held {
	readonly mode: number;
	readonly uid: number;
	readonly gid: number;
	readonly size: bigint;
	readonly mtime: { readonly sec: number; readonly nsec: number };
	readonly isDirectory: boolean;
}

test(`what is asked of a slow disk is right, others are answered while it hangs${full ? ", and cached requests stay fast" : ""}`, {
	skip: needs("root") || cannotMountSlowDisk(),
}, async (t) => {
	const rig = await Rig.make(scratch(t));
	const situations = volume([COPY_UP, SLOW_DISK, HANGING_DISK], [COLD_READS, COPY_UP, COMMITS, SLOW_DISK, HANGING_DISK]);
	for (const situation of situations) await beside(t, rig, situation);
	// threads look for objects in another way
	rig.handles = "portable";
	for (const situation of volume([HANGING_DISK], [COLD_READS, SLOW_DISK, HANGING_DISK])) await beside(t, rig, situation);
});

/** What other clients do, and wait for. */
interface Situation {
	readonly name: string;
	readonly load: Load;
}

const COLD_READS: Situation = {
	name: "while others read files that are in no cache",
	load: async (stand) => {
		const before = stand.bytesFromDisk();
		const readers = [0, 1].map((number) => stand.readCold(number, LOAD_MILLISECONDS));
		const bytes = (await Promise.all(readers)).reduce((sum, read) => sum + read);
		return { note: `${Math.round(bytes / MEBIBYTE)} MiB read, ${Math.round((stand.bytesFromDisk() - before) / MEBIBYTE)} from the disk` };
	},
};

const COPY_UP: Situation = {
	name: `while a file of ${BIG_MEBIBYTES} MiB is copied up`,
	load: async (stand, rig) => {
		const begun = performance.now();
		const written = rig.bytesWritten();
		const client = await stand.client();
		const file = stand.handle("fast/big");
		await ok(
			patiently(() => client.write(file, 0n, Buffer.from("changed"))),
			"WRITE that copies up",
		);
		const answered = performance.now() - begun;
		// the server may answer before all is copied
		const copied = () => rig.bytesWritten() - written;
		while (copied() < BIG_MEBIBYTES * MEBIBYTE && performance.now() < begun + COPY_MILLISECONDS_MAX) await sleep(100);
		return {
			note: `answered after ${Math.round(answered)} ms, ${Math.round(copied() / MEBIBYTE)} MiB copied after ${Math.round(performance.now() - begun)}`,
		};
	},
};

const COMMITS: Situation = {
	name: "while others write much and commit it",
	load: async (stand) => {
		const writers = [0, 1].map((number) => stand.writeAndCommit(number, LOAD_MILLISECONDS));
		const bytes = (await Promise.all(writers)).reduce((sum, written) => sum + written);
		return { note: `${Math.round(bytes / MEBIBYTE)} MiB written` };
	},
};

const SLOW_DISK: Situation = {
	name: `while others ask for what lies on a disk that takes ${SLOW_MILLISECONDS} ms for each call`,
	load: async (stand, rig) => {
		await rig.disk.setDelay(SLOW_MILLISECONDS);
		const { calls } = await rig.disk.state();
		const until = performance.now() + LOAD_MILLISECONDS;
		let asked = 0;
		const clients = Array.from({ length: SLOW_CLIENTS }, async (_, number) => {
			for (let turn = number; performance.now() < until || asked < ASKED_MIN; turn += SLOW_CLIENTS) {
				await stand.askSlow(turn);
				asked++;
			}
		});
		const changers = [0, 1].map(async (number) => {
			for (let turn = number; turn < CHANGED_DIRECTORIES && performance.now() < until; turn += 2) {
				await stand.changeSlow(turn);
				asked++;
			}
		});
		await Promise.all([...clients, ...changers]);
		const reads = (await rig.disk.state()).calls - calls;
		assert.ok(reads > 0, "the disk was not read");
		return { note: `${asked} requests answered, ${reads} reads of the disk`, check: () => stand.checkChanges() };
	},
};

const HANGING_DISK: Situation = {
	name: `while a disk hangs for ${HANGING_MILLISECONDS} ms with requests in it`,
	load: async (stand, rig) => {
		await rig.disk.setDelay("hang");
		const begun = performance.now();
		let answered = 0;
		const hanging = [
			...Array.from({ length: 12 }, (_, turn) => stand.askSlow(turn)),
			...Array.from({ length: CHANGES }, (_, turn) => stand.changeSlow(turn)),
		].map((asked) => asked.then(() => answered++));
		const all = Promise.all(hanging);
		all.catch(() => {});
		await sleep(200);
		const untouched = stand.askUntouched();
		untouched.catch(() => {});
		// else they would wait for a disk that never answers
		const others = await untouched;
		await sleep(HANGING_MILLISECONDS - (performance.now() - begun));
		while ((await rig.disk.state()).waiting === 0) await sleep(50);
		const { waiting } = await rig.disk.state();
		const answeredMeanwhile = answered;
		await rig.disk.setDelay(0);
		await all;
		for (const [what, milliseconds] of others) {
			if (milliseconds > UNTOUCHED_MILLISECONDS_MAX) stand.faults.push(`${what} took ${Math.round(milliseconds)} ms`);
		}
		return {
			note: `${waiting} reads hung, ${answeredMeanwhile} of ${hanging.length} requests were answered meanwhile; ${others
				.map(([what, milliseconds]) => `${what} ${Math.round(milliseconds)} ms`)
				.join(", ")}`,
			check: () => stand.checkChanges(),
		};
	},
};

function beside(t: TestContext, rig: Rig, { name, load }: Situation): Promise<void> {
	return t.test(`${name}${rig.handles === "portable" ? ", with portable handles" : ""}`, (t) => compare(t, rig, load));
}

/** Of requests that are sent twice: servers remember them over restarts. */
let lastXid = 0x0100_0000;

/** `check` comes when nothing is measured any more. */
type Load = (stand: Stand, rig: Rig) => Promise<{ readonly note: string; readonly check?: () => Promise<void> }>;

/** Runs the load on a server whose caches are cold, until the probe does not notice it, or `ATTEMPTS` times. Wrong answers fail at once. */
async function compare(t: TestContext, rig: Rig, load: Load): Promise<void> {
	const failures: string[] = [];
	for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
		const stand = await rig.serve();
		try {
			const without = await rig.probe.measure(() => sleep(BASELINE_MILLISECONDS));
			let done: Awaited<ReturnType<Load>> | undefined;
			const under = await rig.probe.measure(async () => {
				done = await load(stand, rig);
			});
			await rig.disk.setDelay(0);
			await done?.check?.();
			const limit = TIMES_MAX * Math.max(without.p99, BASELINE_MILLISECONDS_MIN);
			const limitOfAllTime = TIMES_MAX * Math.max(without.p99OfAllTime, BASELINE_OF_ALL_TIME_MILLISECONDS_MIN);
			t.diagnostic(`without: ${describe(without)}`);
			t.diagnostic(`under load: ${describe(under)}; ${done?.note}`);
			t.diagnostic(`the server's main thread while a cached GETATTR waited: ${describePlaces(under.seenIn)}`);
			assert.deepEqual(stand.wrong, [], "answers");
			const slowCalls = under.slowCalls.map(({ place, milliseconds }) => `${place} for ${Math.round(milliseconds)} ms`);
			if (slowCalls.length > 0) t.diagnostic(`the main thread waited for the slow disk in ${slowCalls.join(", ")}`);
			if (!full) return;
			// the kernel may have dropped what it was asked for a moment before
			if (slowCalls.length > SLOW_CALLS_MAX) stand.faults.push(`${slowCalls.length} calls of the main thread waited for the slow disk`);
			if (under.p99 > limit) stand.faults.push(`p99 ${under.p99.toFixed(2)} ms, which was to be at most ${limit.toFixed(2)}`);
			if (under.p99OfAllTime > limitOfAllTime) {
				stand.faults.push(`p99 of all time ${under.p99OfAllTime.toFixed(2)} ms, which was to be at most ${limitOfAllTime.toFixed(2)}`);
			}
			if (stand.faults.length === 0) return;
			failures.push(`attempt ${attempt}: ${stand.faults.join(", ")}`);
		} finally {
			await rig.disk.setDelay(0);
			await stand.close();
		}
	}
	assert.fail(failures.join("; "));
}

/** Where it was seen most often first, with numbers in names as stars. */
function describePlaces(seenIn: Waits["seenIn"]): string {
	const places = new Map<string, number>();
	for (const [place, times] of Object.entries(seenIn)) {
		const kind = place.replace(/-\d+/g, "-*");
		places.set(kind, (places.get(kind) ?? 0) + times);
	}
	const sorted = [...places].sort((a, b) => b[1] - a[1]).slice(0, 8);
	return sorted.map(([place, times]) => `${times} times in ${place}`).join(", ") || "never seen";
}

function describe(waits: Waits): string {
	const { count, p50, p99, p99OfAllTime, longest, longestAt, longestRan, longestWaitedToRun } = waits;
	const scheduled = `the main thread ran ${longestRan.toFixed(0)} and waited to run ${longestWaitedToRun.toFixed(0)} of them`;
	return `${count} GETATTR, p50 ${p50.toFixed(2)}, p99 ${p99.toFixed(2)} (of all time ${p99OfAllTime.toFixed(2)}), longest ${longest.toFixed(1)} ms at ${longestAt.toFixed(0)}, ${scheduled}`;
}

/** Again while the server says that it takes longer. */
async function patiently<T extends { readonly status: number }>(request: () => Promise<T>): Promise<T> {
	for (;;) {
		const reply = await request();
		if (reply.status !== Nfs3Status.jukebox) return reply;
		await sleep(100);
	}
}

async function pace(begun: number, bytes: number): Promise<void> {
	const ahead = begun + (1000 * bytes) / (MEBIBYTES_PER_SECOND * MEBIBYTE) - performance.now();
	if (ahead > 0) await sleep(ahead);
}

/** What two answers to one request have in common: not attributes, which may be left out, and which a WRITE that is done twice changes. */
function essence(reply: object): object {
	return Object.fromEntries(
		Object.entries(reply)
			.filter(([field]) => !["attributes", "directory", "wcc", "fromWcc", "toWcc"].includes(field))
			.map(([field, value]) =>
				field === "entries" ? [field, value.map(({ name, fileid }: Entry3) => ({ name, fileid }))] : [field, value],
			),
	);
}

class Rig {
	readonly made: Scratch;
	readonly disk: SlowDisk;
	readonly probe: Probe;
	readonly held: ReadonlyMap<string, Held>;
	readonly fast: string;
	handles: "kernel" | "portable" = "kernel";
	#uppers = 0;

	private constructor(made: Scratch, disk: SlowDisk, held: ReadonlyMap<string, Held>, fast: string) {
		this.made = made;
		this.disk = disk;
		this.held = held;
		this.fast = fast;
		this.probe = new Probe(made);
	}

	static async make(made: Scratch): Promise<Rig> {
		const megabytes = 2 * BIG_MEBIBYTES + COLD_FILES * COLD_MEBIBYTES + 4096;
		const free = Number(statfsSync(made.path).bavail) * Number(statfsSync(made.path).bsize);
		assert.ok(free > megabytes * MEBIBYTE, `${megabytes} MiB are needed in ${made.path}`);
		const fast = made.mount("ext4", "fast", megabytes);
		fillFast(join(fast, "lower/fast"));
		const held = new Map<string, Held>();
		const disk = await SlowDisk.make(made, "slow", 200, (at) => fillSlow(at, held));
		return new Rig(made, disk, held, fast);
	}

	/** A server with an upper that has nothing yet. All of its handles are known; only what the probe asks for is in a cache. */
	async serve(): Promise<Stand> {
		const number = ++this.#uppers;
		const upper = join(this.fast, `upper-${number}`);
		const work = join(this.fast, `work-${number}`);
		const server = await startServer(this.made, {
			lowers: [join(this.fast, "lower"), this.disk.path],
			upper,
			work,
			args: ["--async", "--handles", this.handles],
		});
		// a server whose threads hang in the disk could not be ended
		this.made.beforeRemoval(() => this.disk.setDelay(0));
		const client = await server.client();
		const root = await client.root();
		const handles = new Map([...(await client.tree(root))].map(([path, { handle }]) => [path, handle]));
		client.close();
		await server.restart();
		await this.forget();
		dropCaches();
		const warm = Array.from({ length: WARM_FILES }, (_, number) => (handles.get(`fast/warm-${number}`) as Buffer).toString("hex"));
		await this.probe.connect({ port: server.port, serverPid: server.pid, slowDevice: statSync(this.disk.path).dev, handles: warm });
		const again = await server.client();
		// a directory may be merged: whether the slow disk has it too is asked once
		await ok(again.lookup(handles.get("fast") as Buffer, "warm-0"), "LOOKUP that is to be cached");
		for (let number = 0; number < SLOW_WARM_FILES; number++) {
			await ok(again.getattr(handles.get(`slow/warm-${number}`) as Buffer), "GETATTR that is to be cached");
		}
		again.close();
		return new Stand(this, server, handles, async () => {
			await server.terminate();
			rmSync(upper, { recursive: true });
			rmSync(work, { recursive: true });
		});
	}

	/** By the space that is taken: not everything that is copied has a name. */
	bytesWritten(): number {
		const { blocks, bfree, bsize } = statfsSync(this.fast);
		return (blocks - bfree) * bsize;
	}

	/** The big and the cold files leave the caches, those of the loop device's file too. */
	async forget(): Promise<void> {
		const files = Array.from({ length: COLD_FILES }, (_, number) => join(this.fast, `lower/fast/cold-${number}`));
		for (const file of [...files, join(this.fast, "lower/fast/big"), join(this.made.path, "fast.img")]) {
			execFileSync("dd", [`if=${file}`, "iflag=nocache", "count=0"], { stdio: "ignore" });
		}
	}
}

/** The client that is not to notice anything. */
class Probe {
	readonly #process: ChildProcess;

	constructor(made: Scratch) {
		this.#process = fork(join(repository, "dist/test/slow-disk/getattr-probe.js"), { execArgv: [] });
		made.beforeRemoval(() => this.#process.kill("SIGKILL"));
	}

	async connect(to: Extract<ProbeCommand, { connect: unknown }>["connect"]): Promise<void> {
		await this.#ask({ connect: to });
	}

	async measure(during: () => Promise<unknown>): Promise<Waits> {
		await this.#ask("begin");
		try {
			await during();
		} catch (error) {
			await this.#ask("end");
			throw error;
		}
		return (await this.#ask("end")) as Waits;
	}

	async #ask(command: ProbeCommand): Promise<unknown> {
		const ended = new AbortController();
		const end = () => ended.abort(new Error("the probe has ended"));
		this.#process.once("close", end);
		const answer = once(this.#process, "message", { signal: ended.signal });
		this.#process.send(command);
		try {
			return (await answer)[0];
		} finally {
			this.#process.off("close", end);
		}
	}
}

/** A server and what the other clients do with it. */
class Stand {
	/** What took too long. */
	readonly faults: string[] = [];
	/** Answers that are not what they must be, and that came when nobody waited for them any more. */
	readonly wrong: string[] = [];
	readonly #rig: Rig;
	readonly #server: ServerProcess;
	readonly #handles: ReadonlyMap<string, Buffer>;
	readonly #end: () => Promise<void>;
	readonly #clients: Nfs3Client[] = [];
	readonly #idle: (readonly [Nfs3Client, Nfs3Client])[] = [];
	readonly #changes: (() => Promise<void>)[] = [];

	constructor(rig: Rig, server: ServerProcess, handles: ReadonlyMap<string, Buffer>, end: () => Promise<void>) {
		this.#rig = rig;
		this.#server = server;
		this.#handles = handles;
		this.#end = end;
	}

	async close(): Promise<void> {
		for (const client of this.#clients) client.close();
		await this.#end();
	}

	handle(path: string): Buffer {
		const found = this.#handles.get(path);
		assert.ok(found, path);
		return found;
	}

	/** Read by the server, in all of its threads. */
	bytesFromDisk(): number {
		return Number(/^read_bytes: (\d+)/m.exec(readFileSync(`/proc/${this.#server.pid}/io`, "utf8"))?.[1]);
	}

	async client(): Promise<Nfs3Client> {
		const client = await this.#server.client();
		// answers that come twice are compared, whatever they say
		client.waitsOnJukebox = false;
		this.#clients.push(client);
		return client;
	}

	/** Bytes that were read. */
	async readCold(number: number, milliseconds: number): Promise<number> {
		const client = await this.client();
		const begun = performance.now();
		const until = begun + milliseconds;
		let bytes = 0;
		for (let file = number; performance.now() < until; file = (file + 2) % COLD_FILES) {
			if (bytes >= (COLD_FILES / 2) * COLD_MEBIBYTES * MEBIBYTE) await this.#rig.forget();
			const handle = this.handle(`fast/cold-${file}`);
			for (let at = 0; at < COLD_MEBIBYTES * MEBIBYTE && performance.now() < until; at += MEBIBYTE) {
				const { data } = await ok(
					patiently(() => client.read(handle, BigInt(at), MEBIBYTE)),
					"cold READ",
				);
				assert.equal(data.length, MEBIBYTE);
				assert.equal(data.readUInt32BE(0), at / MEBIBYTE, "content of a cold READ");
				bytes += data.length;
				await pace(begun, bytes);
			}
		}
		return bytes;
	}

	/** Bytes that were written. */
	async writeAndCommit(number: number, milliseconds: number): Promise<number> {
		const client = await this.client();
		const file = await client.createFile(this.handle("fast"), `written-${number}`);
		const data = Buffer.alloc(MEBIBYTE, "written");
		const begun = performance.now();
		const until = begun + milliseconds;
		let bytes = 0;
		while (performance.now() < until) {
			for (let i = 0; i < 64 && performance.now() < until; i++) {
				await ok(
					patiently(() => client.write(file, BigInt((bytes / MEBIBYTE) % 512) * BigInt(MEBIBYTE), data, Stable.unstable)),
					"WRITE",
				);
				bytes += data.length;
				await pace(begun, bytes);
			}
			await ok(
				patiently(() => client.commit(file)),
				"COMMIT",
			);
		}
		return bytes;
	}

	/** Sends a request, and the same once more by another connection while it waits. Both answers must be the same. */
	async #twice<T extends { readonly status: number }>(what: string, request: (client: Nfs3Client) => Promise<T>): Promise<T> {
		const pair = this.#idle.pop() ?? ([await this.client(), await this.client()] as const);
		const xid = ++lastXid;
		for (const client of pair) client.rpc.nextXid = () => xid;
		const first = request(pair[0]);
		await Promise.race([first, sleep(REPEATED_AFTER_MILLISECONDS)]);
		const [one, other] = await Promise.all([first, request(pair[1])]);
		this.#idle.push(pair);
		this.#compare(`${what}, once more by another connection`, one, other);
		return one;
	}

	/** Sends a change, leaves the connection while it waits, and sends it once more by another one. It must be done once. */
	async #comeBack<T extends { readonly status: number }>(what: string, request: (client: Nfs3Client) => Promise<T>): Promise<T> {
		const [left, next] = [await this.client(), await this.client()];
		const xid = ++lastXid;
		for (const client of [left, next]) client.rpc.nextXid = () => xid;
		const first = request(left).catch(() => null);
		await Promise.race([first, sleep(REPEATED_AFTER_MILLISECONDS)]);
		left.close();
		if (!left.rpc.closed) await once(left.rpc.socket, "close");
		const answer = await request(next);
		next.close();
		const known = await first;
		if (known !== null) this.#compare(`${what}, once more after the connection was left`, known, answer);
		return answer;
	}

	#compare<T extends { readonly status: number }>(what: string, one: T, other: T): void {
		if (one.status === Nfs3Status.jukebox || other.status === Nfs3Status.jukebox) return;
		try {
			assert.deepEqual(essence(other), essence(one));
		} catch (error) {
			this.wrong.push(`${what}: ${(error as Error).message}`);
		}
	}

	/** One question about the slow disk, another one each turn, whose answer must be what it holds. */
	async askSlow(turn: number): Promise<void> {
		const directory = `slow/dir-${(turn * 7) % SLOW_DIRECTORIES}`;
		const file = `file-${(turn * 11) % SLOW_FILES}`;
		const path = `${directory}/${file}`;
		const ask = <T extends { readonly status: number }>(what: string, request: (client: Nfs3Client) => Promise<T>) =>
			ok(
				patiently(() => this.#twice(`${what} of ${path}`, request)),
				`${what} of ${path}`,
			);
		if (turn % 5 === 0) {
			const found = await ask("LOOKUP", (client) => client.lookup(this.handle(directory), file));
			assert.deepEqual(found.handle, this.handle(path), `handle of ${path}`);
			if (found.attributes) this.#checkAttributes(path, found.attributes);
		} else if (turn % 5 === 1) {
			this.#checkAttributes(path, (await ask("GETATTR", (client) => client.getattr(this.handle(path)))).attributes);
		} else if (turn % 5 === 2) {
			const { data, eof } = await ask("READ", (client) => client.read(this.handle(path), 0n, SLOW_READ_BYTES));
			assert.ok(eof && data.equals(smallContent(path)), `content of ${path}`);
		} else if (turn % 5 === 3) {
			const { entries, eof } = await ask("READDIRPLUS", (client) =>
				client.readdirplus(this.handle(directory), 0n, Buffer.alloc(8), MEBIBYTE, MEBIBYTE),
			);
			assert.ok(eof, `${directory} in one page`);
			const expected = [".", "..", ...Array.from({ length: SLOW_FILES }, (_, number) => `file-${number}`)].sort();
			assert.deepEqual(entries.map(({ name }) => name).sort(), expected, `names in ${directory}`);
			for (const { name, handle, attributes } of entries) {
				if (name === "." || name === "..") continue;
				if (handle) assert.deepEqual(handle, this.handle(`${directory}/${name}`), `handle of ${directory}/${name}`);
				if (attributes) this.#checkAttributes(`${directory}/${name}`, attributes);
			}
		} else {
			const large = `slow/large-${turn % SLOW_LARGE}`;
			const at = (turn * SLOW_READ_BYTES * 3) % SLOW_LARGE_BYTES;
			const { data } = await ask("READ", (client) => client.read(this.handle(large), BigInt(at), SLOW_READ_BYTES));
			assert.ok(data.equals(largeContent(large).subarray(at, at + SLOW_READ_BYTES)), `content of ${large} at ${at}`);
		}
	}

	#checkAttributes(path: string, found: Attributes3): void {
		const held = this.#rig.held.get(path);
		assert.ok(held, path);
		const { mode, uid, gid, mtime } = found;
		assert.deepEqual(
			{ mode, uid, gid, mtime },
			{ mode: held.mode, uid: held.uid, gid: held.gid, mtime: held.mtime },
			`attributes of ${path}`,
		);
		if (!held.isDirectory) assert.equal(found.size, held.size, `size of ${path}`);
	}

	/** One change, each turn in a directory that no other turn touches. It must be done once, though it is asked for twice. */
	async changeSlow(turn: number): Promise<void> {
		const path = `slow/changed-${turn % CHANGED_DIRECTORIES}`;
		const directory = this.handle(path);
		const file = this.handle(`${path}/file`);
		const change = <T extends { readonly status: number }>(what: string, request: (client: Nfs3Client) => Promise<T>) =>
			ok(
				patiently(() => this.#comeBack(`${what} in ${path}`, request)),
				`${what} in ${path}`,
			);
		/** Of two clients that want the same, one gets it. */
		const rival = async <T extends { readonly status: number }>(
			what: string,
			loses: number,
			request: (client: Nfs3Client) => Promise<T>,
		) => {
			const rivals = [await this.client(), await this.client()];
			const answers = await Promise.all(rivals.map((client) => patiently(() => request(client))));
			const statuses = answers.map(({ status }) => statusName(status)).sort();
			assert.deepEqual(statuses, ["ok", statusName(loses)].sort(), `${what} in ${path} by two clients`);
		};
		const names = (...expected: string[]) =>
			this.#changes.push(async () => {
				const found = (await (await this.client()).listPlus(directory, { dots: false })).map(({ name }) => name).sort();
				assert.deepEqual(found, expected.sort(), `names in ${path}`);
			});
		const attributes = async () => (await this.client()).attributesOf(file);
		switch (turn % CHANGES) {
			case 0:
				await change("CREATE", (client) => client.create(directory, "new", { guarded: { mode: 0o644 } }));
				names("file", "link", "new");
				break;
			case 1:
				await change("REMOVE", (client) => client.remove(directory, "file"));
				names("link");
				break;
			case 2:
				await change("RENAME", (client) => client.rename(directory, "file", directory, "moved"));
				names("link", "moved");
				break;
			case 3:
				await change("SETATTR", (client) => client.setattr(file, { mode: 0o600 }));
				names("file", "link");
				this.#changes.push(async () => assert.equal((await attributes()).mode, 0o600));
				break;
			case 4:
				await change("WRITE", (client) => client.write(file, 3n, Buffer.from("CHANGED")));
				this.#changes.push(async () => {
					const content = smallContent(`${path}/file`);
					content.write("CHANGED", 3);
					assert.ok((await (await this.client()).readFile(file)).equals(content), `content of ${path}/file`);
				});
				break;
			case 5:
				await change("MKDIR", (client) => client.mkdir(directory, "new"));
				names("file", "link", "new");
				break;
			case 6:
				await change("LINK", (client) => client.link(file, directory, "new"));
				names("file", "link", "new");
				this.#changes.push(async () => assert.equal((await attributes()).nlink, 2));
				break;
			case 7:
				await change("SYMLINK", (client) => client.symlink(directory, "new", "target"));
				names("file", "link", "new");
				break;
			case 8:
				await rival("CREATE", Nfs3Status.exist, (client) => client.create(directory, "new", { guarded: { mode: 0o644 } }));
				names("file", "link", "new");
				break;
			case 9:
				await rival("REMOVE", Nfs3Status.noent, (client) => client.remove(directory, "link"));
				names("file");
				break;
			default:
				await Promise.all([
					change("CREATE", (client) => client.create(directory, "new", { unchecked: { mode: 0o644 } })),
					change("REMOVE", (client) => client.remove(directory, "link")),
					change("RENAME", (client) => client.rename(directory, "file", directory, "moved")),
				]);
				names("moved", "new");
		}
	}

	async checkChanges(): Promise<void> {
		for (const check of this.#changes) await check();
	}

	/** Requests of a client that has nothing on the slow disk, and how long each took. */
	async askUntouched(): Promise<[what: string, milliseconds: number][]> {
		const took: [string, number][] = [];
		const timed = async <T extends { readonly status: number }>(what: string, request: () => Promise<T>) => {
			const begun = performance.now();
			const reply = await ok(patiently(request), what);
			took.push([what, performance.now() - begun]);
			return reply;
		};
		const fast = this.handle("fast");
		const waiting = this.#clients[0];
		waiting.rpc.nextXid = () => ++lastXid;
		const clients = await Promise.all(Array.from({ length: 5 }, () => this.client()));
		await Promise.all([
			timed("cached GETATTR by a connection that waits", () => waiting.getattr(this.handle("fast/warm-0"))),
			timed("cached GETATTR of what lies on that disk", () => clients[0].getattr(this.handle("slow/warm-0"))),
			timed("LOOKUP", () => clients[1].lookup(fast, "cold-1")),
			timed("cold READ", () => clients[2].read(this.handle("fast/cold-1"), BigInt(64 * MEBIBYTE), MEBIBYTE)),
			timed("SETATTR that copies up", () => clients[3].setattr(this.handle("fast/warm-1"), { mode: 0o600 })),
			timed("CREATE", () => clients[4].create(fast, "untouched", { unchecked: { mode: 0o644 } })).then(async ({ handle }) => {
				assert.ok(handle);
				await timed("WRITE", () => clients[4].write(handle, 0n, Buffer.alloc(65536), Stable.unstable));
				await timed("COMMIT", () => clients[4].commit(handle));
			}),
		]);
		return took;
	}
}

function fillFast(at: string): void {
	mkdirSync(at, { recursive: true });
	for (let number = 0; number < WARM_FILES; number++) writeFileSync(join(at, `warm-${number}`), `warm ${number}`);
	const fill = (path: string, mebibytes: number) => {
		const file = openSync(path, "w");
		const data = Buffer.alloc(MEBIBYTE, "not sparse ");
		for (let number = 0; number < mebibytes; number++) {
			data.writeUInt32BE(number);
			writeSync(file, data);
		}
		// only what is written leaves the caches
		fsyncSync(file);
		closeSync(file);
	};
	for (let number = 0; number < COLD_FILES; number++) fill(join(at, `cold-${number}`), COLD_MEBIBYTES);
	fill(join(at, "big"), BIG_MEBIBYTES);
}

function fillSlow(at: string, held: Map<string, Held>): void {
	const note = (path: string) => {
		const stat = lstatSync(join(at, path), { bigint: true });
		held.set(path, {
			mode: Number(stat.mode & 0o7777n),
			uid: Number(stat.uid),
			gid: Number(stat.gid),
			size: stat.size,
			mtime: { sec: Number(stat.mtimeNs / 1_000_000_000n), nsec: Number(stat.mtimeNs % 1_000_000_000n) },
			isDirectory: stat.isDirectory(),
		});
	};
	const file = (path: string, content: Buffer) => {
		writeFileSync(join(at, path), content, { mode: 0o640 });
		note(path);
	};
	mkdirSync(join(at, "slow"));
	for (let directory = 0; directory < SLOW_DIRECTORIES; directory++) {
		mkdirSync(join(at, `slow/dir-${directory}`));
		for (let number = 0; number < SLOW_FILES; number++) {
			const path = `slow/dir-${directory}/file-${number}`;
			file(path, smallContent(path));
		}
	}
	for (let directory = 0; directory < CHANGED_DIRECTORIES; directory++) {
		const path = `slow/changed-${directory}`;
		mkdirSync(join(at, path));
		file(`${path}/file`, smallContent(`${path}/file`));
		symlinkSync("file", join(at, `${path}/link`));
	}
	for (let number = 0; number < SLOW_WARM_FILES; number++) file(`slow/warm-${number}`, smallContent(`slow/warm-${number}`));
	for (let number = 0; number < SLOW_LARGE; number++) file(`slow/large-${number}`, largeContent(`slow/large-${number}`));
}

function smallContent(path: string): Buffer {
	return Buffer.from(`${path}\n`.repeat(20 + (path.length % 7) * 40));
}

function largeContent(path: string): Buffer {
	const content = Buffer.alloc(SLOW_LARGE_BYTES, path);
	for (let at = 0; at < content.length; at += 4096) content.writeUInt32BE(at, at);
	return content;
}
