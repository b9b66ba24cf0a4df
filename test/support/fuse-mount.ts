// A mount of `holdfast mount` or `serve --mount`, in the mount namespace of the test.

import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { repository } from "./requirements.ts";
import type { Scratch } from "./scratch.ts";
import { diesWithParent } from "./server-process.ts";

const main = join(repository, "dist/src/cli/main.js");

export class FuseMount {
	readonly keeper: ChildProcess;
	/** Everything that keeper and servers have printed. */
	stdout = "";
	stderr = "";
	readonly #closed: Promise<unknown[]>;

	constructor(args: readonly string[]) {
		const command = [process.execPath, main, ...args];
		this.keeper = spawn(...diesWithParent(command), { stdio: ["ignore", "pipe", "pipe"], cwd: "/" });
		this.keeper.stdout?.setEncoding("utf8").on("data", (text: string) => {
			this.stdout += text;
		});
		this.keeper.stderr?.setEncoding("utf8").on("data", (text: string) => {
			this.stderr += text;
		});
		this.#closed = once(this.keeper, "close");
	}

	/** Resolves when the mount is served, or throws what was said instead. */
	async ready(): Promise<void> {
		await this.until(() => /^ready /m.test(this.stdout));
	}

	async until(isSo: () => boolean): Promise<void> {
		while (!isSo()) {
			if (this.keeper.exitCode !== null || this.keeper.signalCode !== null) throw new Error(`the mount has ended: ${this.stderr}`);
			await new Promise((resolve) => setTimeout(resolve, 10));
		}
	}

	/** The server that runs now; null between two of them. */
	get server(): number | null {
		return serverOf(this.keeper.pid as number);
	}

	/** Kills the server that runs, and resolves when another one has its place. */
	async killServer(): Promise<void> {
		let before: number | null = null;
		await this.until(() => {
			before = this.server;
			return before !== null;
		});
		process.kill(before as unknown as number, "SIGKILL");
		await this.until(() => this.server !== null && this.server !== before);
	}

	/** Resolves with the exit status when keeper and server are gone. */
	async ended(): Promise<number | null> {
		const [code] = await this.#closed;
		return code as number | null;
	}
}

/** A mount that is ended before the folder goes in which its layers lie. */
export async function startMount(made: Scratch, args: readonly string[]): Promise<FuseMount> {
	const mount = new FuseMount(args);
	made.beforeRemoval(async () => {
		const server = mount.server;
		mount.keeper.kill("SIGKILL");
		if (server !== null) kill(server);
		await mount.ended();
	});
	await mount.ready();
	return mount;
}

/** The processes that a process has started. */
function childrenOf(pid: number): number[] {
	const path = `/proc/${pid}/task/${pid}/children`;
	if (!existsSync(path)) return [];
	return readFileSync(path, "utf8")
		.split(" ")
		.map(Number)
		.filter((child) => child > 0);
}

/** The server that a keeper has at the moment; null: it has none. */
export function serverOf(keeper: number): number | null {
	return childrenOf(keeper).find((child) => nameOf(child)?.startsWith("node")) ?? null;
}

/** Null: it has ended. */
function nameOf(pid: number): string | null {
	try {
		return readFileSync(`/proc/${pid}/comm`, "utf8").trim();
	} catch {
		return null;
	}
}

function kill(pid: number): void {
	try {
		process.kill(pid, "SIGKILL");
	} catch {
		// it has ended
	}
}

/** The type of what is mounted at a path; null: nothing is. Asked of the mount table, since who is mounted there may not answer. */
export function mountedAt(point: string): string | null {
	const lines = readFileSync("/proc/self/mounts", "utf8").split("\n");
	return lines.findLast((line) => line.split(" ")[1]?.replaceAll("\\040", " ") === point)?.split(" ")[2] ?? null;
}

/** A program on the mount, in a process of its own: this one must not wait for a server that it is to kill. */
export function run(command: string, cwd = "/"): string {
	return execFileSync("sh", ["-ec", command], { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** The same, while this process goes on. Throws what it has said where it fails. */
export async function runBeside(command: string, cwd = "/"): Promise<string> {
	const child = spawn("sh", ["-ec", command], { cwd, stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, LC_ALL: "C" } });
	let [stdout, stderr] = ["", ""];
	child.stdout.setEncoding("utf8").on("data", (text: string) => {
		stdout += text;
	});
	child.stderr.setEncoding("utf8").on("data", (text: string) => {
		stderr += text;
	});
	const [code] = await once(child, "close");
	assert.equal(code, 0, `${command}: ${stderr}`);
	return stdout;
}
