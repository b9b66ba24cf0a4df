/**
 * How long a cached GETATTR waits at worst beside what keeps the kernel, or many requests, busy: cuts and removals of files of many extents,
 * directories full of whiteouts, changes that wait, pages of a huge directory. Run by `npm run load -- hold-ups`.
 */

import { fork } from "node:child_process";
import { closeSync, mkdirSync, openSync, readdirSync, writeFileSync } from "node:fs";
import { setPriority } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { ProbeCommand, Waits } from "../slow-disk/getattr-probe.ts";
import { type Nfs3Client, ok } from "../support/nfs3-client.ts";
import { repository } from "../support/requirements.ts";
import { type FileSystem, Scratch } from "../support/scratch.ts";
import { ServerProcess } from "../support/server-process.ts";

export interface HoldUpsOptions {
	readonly fileSystem: FileSystem;
	readonly extents: number;
	readonly whiteouts: number;
	readonly entries: number;
	readonly waiting: number;
}

/** One case: what the probe saw beside it. Milliseconds. */
export interface HoldUp {
	readonly name: string;
	readonly took: number;
	readonly waits: Waits;
}

const BLOCK = 4096;
/** Each may have 512 requests waiting. */
const CONNECTIONS = 128;
const LOAD_NICENESS = 15;

class Probe {
	readonly #process = fork(join(repository, "dist/test/slow-disk/getattr-probe.js"), { execArgv: [] });

	readonly #ended = new Promise<never>((_, reject) => {
		this.#process.once("exit", (code) => reject(new Error(`the probe has ended with ${code}`)));
	});

	constructor() {
		this.#ended.catch(() => {});
	}

	#ask(command: ProbeCommand): Promise<unknown> {
		const told = new Promise((resolve) => this.#process.once("message", resolve));
		this.#process.send(command);
		return Promise.race([told, this.#ended]);
	}

	async connect(port: number, serverPid: number, handles: readonly Buffer[]): Promise<void> {
		await this.#ask({ connect: { port, serverPid, slowDevice: -1, handles: handles.map((handle) => handle.toString("hex")) } });
	}

	async during(work: () => Promise<unknown>): Promise<{ readonly took: number; readonly waits: Waits }> {
		await this.#ask("begin");
		const begun = performance.now();
		await work();
		const took = performance.now() - begun;
		await sleep(50);
		return { took, waits: (await this.#ask("end")) as Waits };
	}

	close(): void {
		this.#process.disconnect();
	}
}

function fill(folder: string, count: number): void {
	mkdirSync(folder, { recursive: true });
	for (let i = 0; i < count; i++) closeSync(openSync(join(folder, `name-${i}`), "w"));
}

async function inParallel(count: number, width: number, act: (i: number) => Promise<unknown>): Promise<void> {
	let next = 0;
	const worker = async () => {
		while (next < count) await act(next++);
	};
	await Promise.all(Array.from({ length: Math.min(width, count) }, worker));
}

/** A file whose every block is an extent of its own. */
async function makeLarge(client: Nfs3Client, root: Buffer, name: string, extents: number): Promise<Buffer> {
	const file = await client.createFile(root, name);
	const block = Buffer.alloc(BLOCK, "x");
	await inParallel(extents, 32, (i) => ok(client.write(file, BigInt(i * 2 * BLOCK), block, 0), "WRITE"));
	await ok(client.commit(file), "COMMIT");
	return file;
}

/** Runs all cases, one after the other, and tells of each when it is done. */
export async function measureHoldUps(options: HoldUpsOptions, told: (holdUp: HoldUp) => void): Promise<void> {
	const scratch = new Scratch();
	const clients: Nfs3Client[] = [];
	try {
		const base = scratch.mount(options.fileSystem, "disk", 8192);
		const lower = join(base, "lower");
		for (const name of ["whited", "whited-2"]) fill(join(lower, name), options.whiteouts);
		fill(join(lower, "huge"), options.entries);
		for (let i = 0; i < 16; i++) writeFileSync(join(lower, `cached-${i}`), "cached");
		const server = new ServerProcess({ lowers: [lower], upper: join(base, "upper") });
		scratch.beforeRemoval(() => server.kill());
		await server.start();
		const connect = async () => {
			const client = await server.client();
			clients.push(client);
			return client;
		};
		const client = await connect();
		const root = await client.root();
		const handles = await Promise.all(Array.from({ length: 16 }, (_, i) => client.walk(root, `cached-${i}`)));
		const probe = new Probe();
		scratch.beforeRemoval(() => probe.close());
		await probe.connect(server.port, server.pid, handles);
		// what makes the load is not to keep the server and the probe from a processor
		setPriority(LOAD_NICENESS);
		const trash = join(base, "upper.work/holdfast/trash");
		const emptied = async () => {
			while (readdirSync(trash).length > 0) await sleep(20);
		};
		const measure = async (name: string, work: () => Promise<unknown>) => told({ name, ...(await probe.during(work)) });
		const { extents, whiteouts } = options;
		await measure("nothing", () => sleep(3000));
		const many = `a file of ${extents.toLocaleString("en")} extents`;
		const file = await makeLarge(client, root, "cut-1", extents);
		await measure(`SETATTR that cuts ${many}`, () => ok(client.setattr(file, { size: 0n }), "SETATTR"));
		await makeLarge(client, root, "cut-2", extents);
		await measure(`CREATE over ${many}`, () => ok(client.create(root, "cut-2", { unchecked: { size: 0n } }), "CREATE"));
		await makeLarge(client, root, "removed", extents);
		await measure(`REMOVE of ${many}`, async () => {
			await ok(client.remove(root, "removed"), "REMOVE");
			await emptied();
		});
		await makeLarge(client, root, "replaced", extents);
		await client.createFile(root, "small");
		await measure(`RENAME over ${many}`, async () => {
			await ok(client.rename(root, "small", root, "replaced"), "RENAME");
			await emptied();
		});
		for (const name of ["whited", "whited-2"]) {
			const folder = await client.walk(root, name);
			await inParallel(whiteouts, 32, (i) => ok(client.remove(folder, `name-${i}`), "REMOVE"));
		}
		const full = `a directory of ${whiteouts.toLocaleString("en")} whiteouts`;
		await measure(`RMDIR of ${full}`, async () => {
			await ok(client.rmdir(root, "whited"), "RMDIR");
			await emptied();
		});
		await ok(client.mkdir(root, "instead"), "MKDIR");
		await measure(`RENAME over ${full}`, async () => {
			await ok(client.rename(root, "instead", root, "whited-2"), "RENAME");
			await emptied();
		});
		const cut = await makeLarge(client, root, "cut", extents);
		const others: Nfs3Client[] = [];
		for (let i = 0; i < CONNECTIONS; i++) others.push(await connect());
		await measure(`${options.waiting.toLocaleString("en")} changes that wait for the cut of ${many}`, async () => {
			const cutting = ok(client.setattr(cut, { size: 0n }), "SETATTR");
			await inParallel(options.waiting, options.waiting, (i) =>
				ok(others[i % CONNECTIONS].setattr(cut, { mode: 0o600 | (i % 8) }), "SETATTR"),
			);
			await cutting;
		});
		const huge = await client.walk(root, "huge");
		const listed = `a directory of ${options.entries.toLocaleString("en")}`;
		let cookie = 0n;
		const page = async () => {
			const reply = await ok(client.readdirplus(huge, cookie, Buffer.alloc(8), 65536, 65536), "READDIRPLUS");
			cookie = reply.entries.at(-1)?.cookie ?? 0n;
		};
		await measure(`the first page of ${listed}`, page);
		await measure(`100 more pages of ${listed}`, async () => {
			for (let i = 0; i < 100; i++) await page();
		});
		await server.terminate();
	} finally {
		for (const client of clients) client.close();
		await scratch.close();
	}
}
