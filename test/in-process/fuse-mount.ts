// A FUSE mount that a test keeps itself: its server is a process that may be killed and started again.

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { KEPT_BYTES } from "../../src/fuse/kept-layout.ts";
import { MS, mountAt, UMOUNT, unmountAt } from "../../src/linux/mount.ts";
import { close, O, openDevice } from "../../src/linux/open.ts";
import { makeSharedMemory } from "../../src/linux/shared-memory.ts";
import type { NfsVersion } from "../../src/server/serve-exports.ts";
import type { Scratch } from "../support/scratch.ts";

export interface FuseServerOptions {
	readonly lowers: readonly string[];
	readonly upper?: string;
	readonly work?: string;
	readonly stateFolder: string;
	readonly isSync?: boolean;
	/** Serve it over NFS too; 0: at any port. */
	readonly nfsPort?: number;
	readonly writesBack?: boolean;
	/** Default: 3. */
	readonly versions?: readonly NfsVersion[];
}

const SERVER = fileURLToPath(new URL("fuse-server.js", import.meta.url));

/**
 * The mount, which belongs to this process as it would to a keeper. Who asks for something in it from this process must not do so while there is no
 * server: then nobody is there to start one.
 */
export class FuseMountOfTest {
	readonly at: string;
	readonly #options: FuseServerOptions;
	readonly #fuse: number;
	readonly #kept: number;
	#server: ChildProcess | null = null;
	#isMounted = false;
	/** Where NFS clients come. */
	port = 0;

	private constructor(at: string, options: FuseServerOptions) {
		this.at = at;
		this.#options = options;
		this.#fuse = openDevice("/dev/fuse", O.rdwr);
		this.#kept = makeSharedMemory("holdfast-test", KEPT_BYTES);
		assert.ok(this.#fuse >= 0 && this.#kept >= 0);
	}

	static async start(made: Scratch, at: string, options: FuseServerOptions): Promise<FuseMountOfTest> {
		const mount = new FuseMountOfTest(at, options);
		made.beforeRemoval(() => mount.close());
		await mount.startServer();
		return mount;
	}

	get pid(): number {
		return this.#server?.pid ?? 0;
	}

	async startServer(): Promise<void> {
		const stdio = ["pipe", "pipe", "inherit", this.#fuse, this.#kept] as const;
		const server = spawn(process.execPath, [SERVER, JSON.stringify(this.#options)], { stdio: [...stdio] });
		this.#server = server;
		const lines = createInterface(server.stdout as NodeJS.ReadableStream)[Symbol.asyncIterator]();
		assert.equal((await lines.next()).value, "opened");
		if (!this.#isMounted) {
			const data = `fd=${this.#fuse},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other`;
			assert.equal(mountAt("holdfast", this.at, "fuse.holdfast", MS.nosuid | MS.nodev, data), 0);
			this.#isMounted = true;
		}
		server.stdin?.write("serve\n");
		const ready = (await lines.next()).value as string;
		assert.match(ready, /^ready/);
		this.port = Number(/:(\d+)$/.exec(ready)?.[1] ?? 0);
	}

	/** SIGKILL; what is asked for meanwhile waits. */
	async kill(): Promise<void> {
		const server = this.#server;
		if (server === null || server.exitCode !== null || server.signalCode !== null) return;
		const ended = once(server, "exit");
		server.kill("SIGKILL");
		await ended;
	}

	/** Unmounts. The exit status of the server. */
	async unmount(): Promise<number | null> {
		const server = this.#server;
		const ended = server === null || server.exitCode !== null ? null : once(server, "exit");
		assert.equal(unmountAt(this.at), 0);
		this.#isMounted = false;
		return ended === null ? null : ((await ended)[0] as number | null);
	}

	async close(): Promise<void> {
		if (this.#isMounted) unmountAt(this.at, UMOUNT.force | UMOUNT.detach);
		this.#isMounted = false;
		await this.kill();
		close(this.#fuse);
		close(this.#kept);
	}
}
