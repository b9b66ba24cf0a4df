/** Many connections in a process of their own, each of which works in a folder of its own, one request after the other. Started by fork(). */

import { Nfs3Client as Client, type Nfs3Client, ok } from "../support/nfs3-client.ts";
import { generator } from "../support/random.ts";

export interface MixedCommand {
	readonly port: number;
	readonly connections: number;
	readonly seconds: number;
	readonly seed: number;
}

/** Of one kind of request. Milliseconds. */
export interface Latency {
	readonly count: number;
	readonly p50: number;
	readonly p99: number;
	readonly longest: number;
}

export interface MixedResult {
	/** By the name of the procedure; "all" of all. */
	readonly latencies: Readonly<Record<string, Latency>>;
	readonly failures: readonly string[];
}

const BLOCK = Buffer.alloc(4096, "m");
const FILES = 20;
/** Out of 100 requests. */
const SHARES: readonly (readonly [name: keyof typeof WORK, share: number])[] = [
	["GETATTR", 28],
	["LOOKUP", 14],
	["ACCESS", 8],
	["READ", 14],
	["WRITE", 10],
	["READDIRPLUS", 6],
	["CREATE", 5],
	["REMOVE", 5],
	["RENAME", 4],
	["SETATTR", 3],
	["COMMIT", 2],
	["FSSTAT", 1],
];

interface Place {
	readonly client: Nfs3Client;
	readonly root: Buffer;
	readonly lower: Buffer;
	readonly folder: Buffer;
	readonly files: Buffer[];
	readonly random: (below: number) => number;
	made: number;
	removed: number;
}

const any = ({ files, random }: Place) => files[random(files.length)] as Buffer;

const WORK = {
	GETATTR: (place: Place) => place.client.getattr(any(place)),
	LOOKUP: (place: Place) => place.client.lookup(place.lower, `file-${place.random(1000)}`),
	ACCESS: (place: Place) => place.client.access(any(place), 0x3f),
	READ: (place: Place) => place.client.read(any(place), 0n, BLOCK.length),
	WRITE: (place: Place) => place.client.write(any(place), BigInt(place.random(64)) * 4096n, BLOCK, 0),
	READDIRPLUS: (place: Place) => place.client.readdirplus(place.folder, 0n, Buffer.alloc(8), 8192, 8192),
	CREATE: (place: Place) => place.client.create(place.folder, `new-${place.made++}`, { guarded: { mode: 0o644 } }),
	REMOVE: async (place: Place) => {
		if (place.removed === place.made) await place.client.create(place.folder, `new-${place.made++}`, { guarded: { mode: 0o644 } });
		return place.client.remove(place.folder, `new-${place.removed++}`);
	},
	RENAME: async (place: Place) => {
		await place.client.rename(place.folder, "name", place.folder, "other");
		return place.client.rename(place.folder, "other", place.folder, "name");
	},
	SETATTR: (place: Place) => place.client.setattr(any(place), { mode: 0o600 | place.random(64) }),
	COMMIT: (place: Place) => place.client.commit(any(place)),
	FSSTAT: (place: Place) => place.client.fsstat(place.root),
};

function chosen(random: (below: number) => number): keyof typeof WORK {
	let left = random(100);
	for (const [name, share] of SHARES) {
		left -= share;
		if (left < 0) return name;
	}
	return "GETATTR";
}

async function settle(client: Nfs3Client, number: number, seed: number): Promise<Place> {
	const root = await client.root();
	const lower = await client.walk(root, "lower");
	const folder = await client.makeDirectory(root, `client-${number}`);
	const files: Buffer[] = [];
	for (let i = 0; i < FILES; i++) files.push(await client.createFile(folder, `file-${i}`, BLOCK));
	await client.createFile(folder, "name");
	return { client, root, lower, folder, files, random: generator(seed + number), made: 0, removed: 0 };
}

function latencyOf(waits: number[]): Latency {
	waits.sort((a, b) => a - b);
	const at = (q: number) => waits[Math.min(waits.length - 1, Math.floor(q * waits.length))] ?? 0;
	return { count: waits.length, p50: at(0.5), p99: at(0.99), longest: waits.at(-1) ?? 0 };
}

process.on("message", async ({ port, connections, seconds, seed }: MixedCommand) => {
	const clients = await Promise.all(Array.from({ length: connections }, () => Client.connect(port)));
	const places = await Promise.all(clients.map((client, number) => settle(client, number, seed)));
	process.send?.("settled");
	const waits = new Map<string, number[]>();
	const failures: string[] = [];
	const end = performance.now() + seconds * 1000;
	const work = async (place: Place) => {
		while (performance.now() < end) {
			const name = chosen(place.random);
			const begun = performance.now();
			try {
				await ok(WORK[name](place) as Promise<{ status: number }>, name);
			} catch (error) {
				failures.push((error as Error).message);
			}
			const took = performance.now() - begun;
			const known = waits.get(name) ?? [];
			known.push(took);
			waits.set(name, known);
		}
	};
	await Promise.all(places.map(work));
	for (const client of clients) client.close();
	const latencies: Record<string, Latency> = { all: latencyOf([...waits.values()].flat()) };
	for (const [name, known] of waits) latencies[name] = latencyOf(known);
	process.send?.({ latencies, failures } satisfies MixedResult);
});

process.on("disconnect", () => process.exit());
