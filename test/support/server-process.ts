import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Nfs3Client } from "./nfs3-client.ts";
import { HANG_MILLISECONDS, missing, repository } from "./requirements.ts";
import type { AuthSys } from "./rpc-connection.ts";
import type { Scratch } from "./scratch.ts";

export interface ServerOptions {
	/** A single tree, in the short form `serve DIR`. */
	readonly directory?: string;
	readonly lowers?: readonly string[];
	readonly upper?: string;
	readonly work?: string;
	/** Further arguments, `--root-squash` for instance. */
	readonly args?: readonly string[];
	readonly env?: Readonly<Record<string, string>>;
	/** Kept over restarts; 0, the default, lets the system choose once. */
	readonly port?: number;
	/** A command that runs the program, "unshare -U" for instance. */
	readonly within?: readonly string[];
	/** Runs ./holdfast instead of the compiled program. */
	readonly launcher?: string;
	/** With the defaults of the program: root's server takes calls from ports below 1024 only. Otherwise from all ports, as those of tests are. */
	readonly isSecure?: boolean;
	/** Who it runs as, without any privilege (see `ordinaryUser`); the layers must be this user's. */
	readonly user?: OrdinaryUser;
	/** A module that is loaded before the program, and may be sent messages (`tell`). */
	readonly preload?: string;
}

/** A user who may do nothing but what everybody may. */
export interface OrdinaryUser {
	readonly uid: number;
	readonly gid: number;
	/** The compiled program, where this user can read it. */
	readonly main: string;
}

/** What takes longer hangs; a machine that is merely busy comes nowhere near. */
const READY_MILLISECONDS = HANG_MILLISECONDS;
const STOP_MILLISECONDS = HANG_MILLISECONDS;
const main = join(repository, "dist/src/cli/main.js");

/** A server in a process of its own. Its port stays the same over `restart()`. */
export class ServerProcess {
	readonly #options: ServerOptions;
	#child: ChildProcess | undefined;
	#exit: Promise<{ code: number | null; signal: NodeJS.Signals | null }> | undefined;
	#port: number;
	/** Everything that it printed, over all its lives. */
	stdout = "";
	stderr = "";

	constructor(options: ServerOptions) {
		this.#options = options;
		this.#port = options.port ?? 0;
	}

	get port(): number {
		return this.#port;
	}

	get pid(): number {
		assert.ok(this.#child?.pid, "the server does not run");
		return this.#child.pid;
	}

	get running(): boolean {
		return this.#child !== undefined;
	}

	/** Resolves when clients may come. */
	async start(): Promise<void> {
		assert.equal(this.#child, undefined, "the server runs already");
		const { launcher, env, user, within = [], preload } = this.#options;
		const before = preload === undefined ? [] : ["--import", preload];
		const program = launcher ? [launcher] : [process.execPath, ...before, user?.main ?? main];
		const command = [...within, ...program, ...serveArguments(this.#options, this.#port)];
		const child = spawn(...diesWithParent(command), {
			stdio: preload === undefined ? ["ignore", "pipe", "pipe"] : ["ignore", "pipe", "pipe", "ipc"],
			env: { ...process.env, ...env },
			...(user === undefined ? {} : { cwd: "/", uid: user.uid, gid: user.gid }),
		});
		this.#child = child;
		const exit = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
			child.on("close", (code, signal) => resolve({ code, signal }));
		});
		this.#exit = exit;
		child.stderr?.on("data", (chunk) => {
			this.stderr += chunk;
		});
		// it may have ended by itself when it is told something
		child.on("error", () => {});
		const ready = new Promise<string>((resolve) => {
			createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
				this.stdout += `${line}\n`;
				if (line.startsWith("ready")) resolve(line);
			});
		});
		const outcome = await Promise.race([ready, exit, after(READY_MILLISECONDS)]);
		if (typeof outcome !== "string") {
			if (outcome === undefined) child.kill("SIGKILL");
			this.#child = undefined;
			const why = outcome === undefined ? `not ready after ${READY_MILLISECONDS} ms` : `ended with ${outcome.code ?? outcome.signal}`;
			throw new Error(`server ${why}: ${command.join(" ")}\n${this.stderr}`);
		}
		const port = /:(\d+)\b/.exec(outcome)?.[1];
		assert.ok(port, `no port in "${outcome}"`);
		this.#port = Number(port);
	}

	/** Sends the preloaded module a message, and gives its answer. */
	tell(message: object | string): Promise<unknown> {
		const child = this.#child;
		assert.ok(child && this.#exit, "the server does not run");
		const answer = new Promise<unknown>((resolve) => child.once("message", resolve));
		child.send(message);
		return Promise.race([answer, this.#exit.then(() => null)]);
	}

	/** Resolves when it ends, with how. */
	get ended(): Promise<unknown> {
		assert.ok(this.#exit, "the server does not run");
		return this.#exit;
	}

	/** SIGTERM, as a service manager stops it: it drains and must exit 0. */
	async terminate(): Promise<void> {
		const child = this.#child;
		assert.ok(child && this.#exit, "the server does not run");
		child.kill("SIGTERM");
		const ended = await Promise.race([this.#exit, after(STOP_MILLISECONDS)]);
		if (ended === undefined) {
			child.kill("SIGKILL");
			await this.#exit;
		}
		this.#child = undefined;
		assert.deepEqual(ended, { code: 0, signal: null }, `end after SIGTERM within ${STOP_MILLISECONDS} ms\n${this.stderr}`);
	}

	async kill(): Promise<void> {
		const child = this.#child;
		if (!child) return;
		child.kill("SIGKILL");
		await this.#exit;
		this.#child = undefined;
	}

	async restart(): Promise<void> {
		await this.terminate();
		await this.start();
	}

	client(credentials?: AuthSys | null): Promise<Nfs3Client> {
		return Nfs3Client.connect(this.#port, credentials);
	}

	/** As libnfs' tools take it. They mount the folder of the file: of one in the root, what stands before its last slash. */
	url(path: string): string {
		const plain = path.replace(/^\/+/, "");
		return `nfs://127.0.0.1/${plain.includes("/") ? "" : "/"}${plain}?version=3&nfsport=${this.#port}&mountport=${this.#port}`;
	}
}

/** A server that is ended before the folder goes in which its layers lie. */
export async function startServer(scratch: Scratch, options: ServerOptions): Promise<ServerProcess> {
	const server = new ServerProcess(options);
	scratch.beforeRemoval(() => server.kill());
	await server.start();
	return server;
}

/** Runs the program to its end: for commands other than serve, and for a serve that must be refused. */
export function runHoldfast(
	args: readonly string[],
	options: { env?: Readonly<Record<string, string>>; cwd?: string; uid?: number; user?: OrdinaryUser } = {},
): { code: number | null; stdout: string; stderr: string } {
	const { user } = options;
	const run = spawnSync(process.execPath, [user?.main ?? main, ...args], {
		encoding: "utf8",
		timeout: HANG_MILLISECONDS,
		env: { ...process.env, ...options.env },
		...(options.cwd === undefined ? {} : { cwd: options.cwd }),
		...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
		...(user === undefined ? {} : { cwd: "/", uid: user.uid, gid: user.gid }),
	});
	return { code: run.status, stdout: run.stdout, stderr: run.stderr };
}

export const NOBODY = 65534;

/**
 * The user nobody, and the program where that one can read it: a copy where the repository lies in a folder of root's own. The test must be
 * root's. Node.js gives the child that user's ids and no further groups, as `runuser -u nobody` does.
 */
export function ordinaryUser(scratch: Scratch): OrdinaryUser {
	return { uid: NOBODY, gid: NOBODY, main: ordinaryPath(scratch, "dist/src/cli/main.js") };
}

/** Where nobody can run a compiled program of the repository: there, or in a copy, which has the parts too that are named. */
export function ordinaryPath(scratch: Scratch, path: string, parts: readonly string[] = []): string {
	chmodSync(scratch.path, 0o755);
	const user = { uid: NOBODY, gid: NOBODY };
	const starts = (at: string) => spawnSync(process.execPath, ["--check", at], { cwd: "/", ...user }).status === 0;
	if (starts(join(repository, path))) return join(repository, path);
	const copy = scratch.folder("program");
	for (const part of ["package.json", "dist/src", ...parts, ...runtimePackages()]) {
		cpSync(join(repository, part), join(copy, part), { recursive: true, dereference: true });
	}
	const copied = join(copy, path);
	assert.ok(starts(copied), `${NOBODY} cannot run ${process.execPath} ${copied}`);
	return copied;
}

/** What the program needs of node_modules. */
function runtimePackages(): string[] {
	const { packages } = JSON.parse(readFileSync(join(repository, "package-lock.json"), "utf8")) as {
		packages: Record<string, { dev?: boolean }>;
	};
	return Object.keys(packages).filter((path) => path !== "" && packages[path]?.dev !== true && existsSync(join(repository, path)));
}

export function layerArguments(options: Pick<ServerOptions, "directory" | "lowers" | "upper" | "work">): string[] {
	return [
		...(options.directory === undefined ? [] : [options.directory]),
		...(options.lowers ?? []).flatMap((lower) => ["--lower", lower]),
		...(options.upper === undefined ? [] : ["--upper", options.upper]),
		...(options.work === undefined ? [] : ["--work", options.work]),
	];
}

function serveArguments(options: ServerOptions, port: number): string[] {
	const listen = options.args?.includes("--listen") ? [] : ["--listen", `127.0.0.1:${port}`];
	// it would take time from what is tested
	const insecure = options.isSecure ? [] : ["--insecure"];
	return ["serve", "--no-warm-up", ...insecure, ...layerArguments(options), ...listen, ...(options.args ?? [])];
}

/** A process must not outlive a test process that is killed. setpriv becomes the program, so its pid is the program's. */
export function diesWithParent(command: string[]): [string, string[]] {
	if (missing("setpriv") || !existsSync("/proc")) return [command[0] as string, command.slice(1)];
	return ["setpriv", ["--pdeathsig", "KILL", "--", ...command]];
}

function after(milliseconds: number): Promise<undefined> {
	return new Promise((resolve) => setTimeout(resolve, milliseconds, undefined).unref());
}
