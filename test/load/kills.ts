/**
 * SIGKILL at random moments of a server under load, also while it starts, and while its disk is full. After each start every change that was
 * acknowledged is looked for. Run by `npm run load -- kills` and `npm run load -- full-disks`.
 */

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Actor } from "../crash/actor.ts";
import { plantFolder } from "../crash/actors.ts";
import { CompoundChanges } from "../crash/compound-changes.ts";
import { ResendingConnection } from "../crash/resending-connection.ts";
import { Nfs3Client, ok } from "../support/nfs3-client.ts";
import { generator } from "../support/random.ts";
import type { RpcConnection } from "../support/rpc-connection.ts";
import { type FileSystem, Scratch } from "../support/scratch.ts";
import { layerArguments, runHoldfast, ServerProcess } from "../support/server-process.ts";
import { type Fullness, MEGABYTES, SmallDisk } from "./small-disk.ts";

export interface KillsOptions {
	readonly fileSystem: FileSystem;
	readonly handles: "kernel" | "portable";
	readonly seconds: number;
	readonly seed: number;
	readonly connections: number;
	/** The disk is small, and full most of the time. */
	readonly isFull: boolean;
	/** Changes come by this version of NFS. */
	readonly version: "3" | "4";
	/** Whether answers wait for the disk: a kill takes nothing either way. */
	readonly isSync: boolean;
}

export interface Kills {
	kills: number;
	/** Of these, before the server was ready. */
	killsOfStarts: number;
	/** Starts on a disk without room, by how full it was. */
	readonly startsWhenFull: Record<string, number>;
	requests: number;
	acknowledged: number;
	resent: number;
	/** Checks of the folder of one actor with all that it was ever acknowledged. */
	checks: number;
	/** Refused for want of room, by procedure. */
	readonly refused: Record<string, number>;
	/** Starts that had no room to complete an interrupted change: clients wait for its objects until there is. */
	postponed: number;
	/** Made before a kill, and answered afterwards as if they had not been, by procedure. */
	readonly unkept: Record<string, number>;
	/** REMOVEs on a full disk behind which there was room for a WRITE. */
	freed: number;
	readonly failures: string[];
}

const LARGE_BYTES = (1 << 20) + 4096;
const KEPT_BYTES = 512 << 10;
const KEPT_FILES = 4;
const WRITTEN_BYTES = 64 << 10;
/** A REMOVE may leave to a thread what it frees. */
const FREEING_MS = 30_000;
/** Of what the server may say. */
const POSTPONED = "a change that was interrupted is completed when there is room";
const EXPECTED = [
	POSTPONED,
	"for files of several names",
	"Files of several names in",
	"The log of what clients have open cannot be written",
];
const UNDER_LOAD_MS = 900;
const STARTING_MS = 600;

class Campaign {
	readonly result: Kills = {
		kills: 0,
		killsOfStarts: 0,
		startsWhenFull: {},
		requests: 0,
		acknowledged: 0,
		resent: 0,
		checks: 0,
		refused: {},
		postponed: 0,
		unkept: {},
		freed: 0,
		failures: [],
	};
	readonly #options: KillsOptions;
	readonly #random: (below: number) => number;
	readonly #disk: SmallDisk | null;
	readonly #lowers: readonly string[];
	readonly #base: string;
	readonly #layers: readonly string[];
	readonly #server: ServerProcess;
	#connections: ResendingConnection[] = [];
	#actors: Actor[] = [];
	#fullness: Fullness = "room";
	#kept: Buffer | null = null;
	#keptNames: string[] = [];
	#openGate: () => void = () => {};
	#isOver = false;
	#broken: Error | null = null;

	constructor(scratch: Scratch, options: KillsOptions) {
		this.#options = options;
		this.#random = generator(options.seed);
		const below = scratch.mount("ext4", "lowers", 256);
		this.#lowers = ["top", "bottom"].map((name) => join(below, name));
		this.#plant(join(below, "outside"));
		this.#disk = options.isFull ? new SmallDisk(scratch, options.fileSystem) : null;
		this.#base = this.#disk?.path ?? scratch.mount(options.fileSystem, "disk", Math.max(1024, MEGABYTES[options.fileSystem]));
		const upper = join(this.#base, "upper");
		mkdirSync(upper);
		const more = ["--state-dir", join(this.#base, "state"), "--handles", options.handles];
		this.#layers = [...layerArguments({ lowers: this.#lowers, upper }), ...more];
		this.#server = new ServerProcess({ lowers: this.#lowers, upper, args: [options.isSync ? "--sync" : "--async", ...more] });
		scratch.beforeRemoval(() => this.#server.kill());
		scratch.beforeRemoval(() => {
			for (const connection of this.#connections) connection.close();
		});
	}

	#plant(outside: string): void {
		mkdirSync(outside);
		for (let i = 0; i < this.#options.connections; i++) {
			plantFolder(this.#lowers, outside, `actor${i}`);
			writeFileSync(join(this.#lowers[0], `actor${i}/n11`), Buffer.alloc(LARGE_BYTES, `large ${i} `));
		}
	}

	async run(): Promise<void> {
		await this.#server.start();
		await this.#settle();
		this.#disk?.load();
		const work = this.#actors.map(async (actor) => {
			while (!this.#isOver && this.#broken === null) await actor.step();
		});
		const all = Promise.all(work).catch((error) => {
			this.#broken = error;
		});
		const end = performance.now() + this.#options.seconds * 1000;
		while (performance.now() < end && this.#broken === null) await this.#cycle();
		this.#isOver = true;
		this.#disk?.become("room", this.#random);
		await all;
		if (this.#broken !== null) throw this.#broken;
		await this.#finish();
	}

	async #settle(): Promise<void> {
		const { connections, seed, isFull, version } = this.#options;
		const random = generator(seed + 1);
		this.#connections = Array.from({ length: connections }, () => new ResendingConnection(this.#server.port, random(2 ** 32)));
		const root = await this.#observe((client) => client.root());
		this.#actors = await Promise.all(
			this.#connections.map(async (connection, number) => {
				const client = new Nfs3Client(connection as unknown as RpcConnection);
				const actorSeed = random(2 ** 32);
				const common = { mayBeFull: isFull, writeBytesMax: isFull ? 128 << 10 : 32 << 10, hasUnstable: true };
				const compounds = version === "4" ? await new CompoundChanges(connection, random).connect(`actor ${number}`) : null;
				const options = compounds === null ? common : { ...common, changes: compounds, kindsExist: true };
				const actor = new Actor(client, actorSeed, options);
				await actor.learn(await client.walk(root, `actor${number}`));
				return actor;
			}),
		);
		if (!isFull) return;
		this.#kept = await this.#observe((client) => client.makeDirectory(root, "kept"));
		await this.#keep();
	}

	async #observe<T>(look: (client: Nfs3Client) => Promise<T>): Promise<T> {
		const client = await this.#server.client();
		try {
			return await look(client);
		} finally {
			client.close();
		}
	}

	/** Files whose removal will make room. */
	async #keep(): Promise<void> {
		await this.#observe(async (client) => {
			while (this.#keptNames.length < KEPT_FILES) {
				const name = `kept-${this.result.kills}-${this.#keptNames.length}`;
				await client.createFile(this.#kept as Buffer, name, Buffer.alloc(KEPT_BYTES, name));
				this.#keptNames.push(name);
			}
		});
	}

	async #cycle(): Promise<void> {
		if (this.#disk !== null) {
			const { fullnesses } = this.#disk;
			this.#fullness = fullnesses[this.#random(fullnesses.length)];
			this.#disk.become(this.#fullness, this.#random);
		}
		// some before it has warmed up, most in full swing
		await sleep(this.#random(4) === 0 ? this.#random(150) : 150 + this.#random(UNDER_LOAD_MS));
		this.#closeGate();
		await this.#server.kill();
		this.result.kills++;
		while (this.#random(4) === 0) await this.#killStart();
		await this.#start();
		await this.#check();
		if (this.#fullness !== "room") await this.#makeRoom();
		this.#openGate();
	}

	#closeGate(): void {
		const gate = new Promise<void>((resolve) => {
			this.#openGate = resolve;
		});
		for (const connection of this.#connections) connection.gate = gate;
	}

	async #killStart(): Promise<void> {
		const started = this.#server.start().then(
			() => null,
			(error: Error) => error,
		);
		await sleep(this.#random(STARTING_MS));
		await this.#server.kill();
		const error = await started;
		if (error !== null && !/ended with SIGKILL/.test(error.message)) this.#fail(error);
		this.result.kills++;
		this.result.killsOfStarts++;
	}

	async #start(): Promise<void> {
		const told = this.#server.stderr.length;
		try {
			await this.#server.start();
			if (this.#fullness !== "room") this.result.startsWhenFull[this.#fullness] = (this.result.startsWhenFull[this.#fullness] ?? 0) + 1;
			if (!this.#server.stderr.slice(told).includes(POSTPONED)) return;
			this.result.postponed++;
			this.#fullness = "room";
			this.#disk?.become("room", this.#random);
		} catch (error) {
			this.#fail(error as Error);
			if (this.#disk === null) throw error;
			// others may yet be found
			this.#fullness = "room";
			this.#disk.become("room", this.#random);
			await this.#server.start();
		}
	}

	#fail(error: Error): void {
		const { fileSystem, handles } = this.#options;
		this.result.failures.push(`${fileSystem}, ${handles} handles, ${this.#fullness}: ${error.message}`);
	}

	/** One after the other, so that the machine is left to the server. */
	async #check(): Promise<void> {
		await this.#observe(async (client) => {
			for (const actor of this.#actors) await actor.check(client);
			this.result.checks += this.#actors.length;
		});
	}

	/** What a client removes makes room, whatever the disk lacked. */
	async #makeRoom(): Promise<void> {
		const name = this.#keptNames.pop();
		const folder = this.#kept as Buffer;
		if (name === undefined) return;
		await this.#observe(async (client) => {
			await ok(client.remove(folder, name), `REMOVE with ${this.#fullness} left`);
			const until = performance.now() + FREEING_MS;
			for (;;) {
				const made = await client.create(folder, `new-${this.result.kills}`);
				const written = made.status === 0 ? await client.write(made.handle as Buffer, 0n, Buffer.alloc(WRITTEN_BYTES, "w")) : made;
				if (written.status === 0) break;
				assert.ok(performance.now() < until, `no room for a WRITE behind a REMOVE with ${this.#fullness} left: status ${written.status}`);
				await sleep(100);
			}
			await ok(client.remove(folder, `new-${this.result.kills}`), "REMOVE");
		}).catch((error) => this.#fail(error));
		this.result.freed++;
		if (this.#keptNames.length > 0) return;
		this.#fullness = "room";
		this.#disk?.become("room", this.#random);
		await this.#keep();
	}

	async #finish(): Promise<void> {
		await this.#check();
		await this.#server.terminate();
		const { code, stdout, stderr } = runHoldfast(["check", ...this.#layers]);
		if (code !== 0) this.#fail(new Error(`holdfast check ends with ${code}: ${stdout}${stderr}`));
		await this.#server.start();
		await this.#check();
		await this.#server.terminate();
		const said = new Set(this.#server.stderr.trim().split("\n"));
		const unexpected = [...said].filter((line) => line !== "" && !EXPECTED.some((part) => line.includes(part)));
		if (unexpected.length > 0) this.#fail(new Error(`the server said: ${unexpected.join("\n")}`));
	}

	/** Whatever has become of it. */
	count(): void {
		const { result } = this;
		for (const connection of this.#connections) result.resent += connection.resent;
		for (const actor of this.#actors) {
			result.requests += actor.requests;
			result.acknowledged += actor.acknowledged;
			for (const [name, count] of Object.entries(actor.refused)) result.refused[name] = (result.refused[name] ?? 0) + count;
			for (const [name, count] of Object.entries(actor.unkept)) result.unkept[name] = (result.unkept[name] ?? 0) + count;
		}
	}
}

export async function runKills(options: KillsOptions): Promise<Kills> {
	const scratch = new Scratch();
	let campaign: Campaign | undefined;
	try {
		campaign = new Campaign(scratch, options);
		await campaign.run();
	} catch (error) {
		if (campaign === undefined) throw error;
		campaign.result.failures.push(`${options.fileSystem}, ${options.handles} handles: ${(error as Error).stack}`);
	} finally {
		campaign?.count();
		await scratch.close();
	}
	return campaign.result;
}
