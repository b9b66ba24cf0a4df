/** Mixed work by many connections: what requests wait, and the server's memory and descriptors before, during and after. Run by `npm run load -- mixed-work`. */

import { fork } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { repository } from "../support/requirements.ts";
import { type FileSystem, Scratch } from "../support/scratch.ts";
import { ServerProcess } from "../support/server-process.ts";
import type { MixedCommand, MixedResult } from "./mixed-client.ts";

export interface MixedWorkOptions {
	readonly fileSystem: FileSystem;
	readonly connections: number;
	readonly seconds: number;
	readonly seed: number;
}

/** Of the server. */
export interface Held {
	readonly mebibytes: number;
	readonly descriptors: number;
	readonly cpuSeconds: number;
}

export interface MixedWork extends MixedResult {
	readonly before: Held;
	/** The most of all seconds. */
	readonly during: Held;
	readonly after: Held;
}

/** When its clients have gone. */
const AFTER_MS = 5000;
const TICKS_PER_SECOND = 100;

function heldBy(pid: number): Held {
	const status = readFileSync(`/proc/${pid}/status`, "utf8");
	const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
	return {
		mebibytes: Number(/^VmRSS:\s*(\d+) kB/m.exec(status)?.[1]) / 1024,
		descriptors: readdirSync(`/proc/${pid}/fd`).length,
		cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND,
	};
}

export async function measureMixedWork({ fileSystem, connections, seconds, seed }: MixedWorkOptions): Promise<MixedWork> {
	const scratch = new Scratch();
	try {
		const base = scratch.mount(fileSystem, "disk", 4096);
		const folder = join(base, "lower/lower");
		mkdirSync(folder, { recursive: true });
		for (let i = 0; i < 1000; i++) writeFileSync(join(folder, `file-${i}`), "lower");
		const server = new ServerProcess({ lowers: [join(base, "lower")], upper: join(base, "upper") });
		scratch.beforeRemoval(() => server.kill());
		await server.start();
		const before = heldBy(server.pid);
		const client = fork(join(repository, "dist/test/load/mixed-client.js"), { execArgv: [] });
		scratch.beforeRemoval(() => client.kill());
		const told = () =>
			new Promise<unknown>((resolve, reject) => {
				client.once("message", resolve);
				client.once("exit", (code) => reject(new Error(`the client has ended with ${code}`)));
			});
		const settled = told();
		client.send({ port: server.port, connections, seconds, seed } satisfies MixedCommand);
		await settled;
		const ended = told() as Promise<MixedResult>;
		let during = heldBy(server.pid);
		const sampler = setInterval(() => {
			const now = heldBy(server.pid);
			during = {
				mebibytes: Math.max(during.mebibytes, now.mebibytes),
				descriptors: Math.max(during.descriptors, now.descriptors),
				cpuSeconds: now.cpuSeconds,
			};
		}, 1000);
		const result = await ended.finally(() => clearInterval(sampler));
		await sleep(AFTER_MS);
		const after = heldBy(server.pid);
		await server.terminate();
		return { ...result, before, during, after };
	} finally {
		await scratch.close();
	}
}
