// Holdfast mounted by FUSE on a set of layers, served by a process of its own: this thread asks the kernel, and waits for it.

import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { UMOUNT, unmountAt } from "../../src/linux/mount.ts";
import type { Order } from "../in-process/mounting-server.ts";
import { KernelOverlay } from "./kernel-overlay.ts";
import type { Tree } from "./observed.ts";
import type { HoldfastOptions, LayerPaths } from "./rig.ts";
import type { Change, Scenario } from "./scenario.ts";

const SERVER = fileURLToPath(new URL("../in-process/mounting-server.js", import.meta.url));

/** The process that serves mounts, one at a time. It ends with this one. */
export class MountingServer {
	readonly #child: ChildProcess;
	readonly #lines: AsyncIterator<string>;

	constructor() {
		this.#child = spawn(process.execPath, [SERVER], { stdio: ["pipe", "pipe", "inherit"], cwd: "/" });
		this.#lines = createInterface(this.#child.stdout as NodeJS.ReadableStream)[Symbol.asyncIterator]();
	}

	async order(order: Order): Promise<void> {
		this.#child.stdin?.write(`${JSON.stringify(order)}\n`);
		const { value } = await this.#lines.next();
		if (value !== "done") throw new Error(`the server of the mount: ${value}`);
	}

	close(): void {
		this.#child.kill("SIGKILL");
	}
}

export class MountedOverlay {
	readonly #server: MountingServer;
	readonly #paths: LayerPaths;
	readonly #scenario: Scenario;
	readonly #options: HoldfastOptions;
	/** The same calls, at the same place. */
	readonly #calls: KernelOverlay;
	#isMounted = false;

	constructor(server: MountingServer, paths: LayerPaths, scenario: Scenario, options: HoldfastOptions) {
		this.#server = server;
		this.#paths = paths;
		this.#scenario = scenario;
		this.#options = options;
		this.#calls = new KernelOverlay(paths, []);
	}

	async mount(): Promise<void> {
		const { lowers, upper, work, state, mountPoint } = this.#paths;
		const { nodesMax, copiesInParts, usesThreads } = this.#scenario;
		const partialLimits = copiesInParts ? { bytesMin: 1, granuleBytes: 16, fills: false } : {};
		const layers = { lowers, upper, work, stateFolder: state, isSync: false, purpose: "serve" as const };
		const options = { ...layers, nodesMax, ...this.#options, partialLimits };
		await this.#server.order({ kind: "mount", at: mountPoint, options, usesThreads });
		this.#isMounted = true;
	}

	/** Another server takes the mount over: what the kernel knows stays as it is. */
	restart(): Promise<void> {
		return this.#server.order({ kind: "restart" });
	}

	/** Nothing, if it is not mounted. */
	async unmount(): Promise<void> {
		if (!this.#isMounted) return;
		this.#isMounted = false;
		const status = unmountAt(this.#paths.mountPoint, UMOUNT.detach);
		if (status < 0) throw new Error(`umount: ${status}`);
		await this.#server.order({ kind: "end" });
	}

	/** "ok", with what was read, or the name of the error. */
	perform(operation: Change): string {
		return this.#calls.perform(operation);
	}

	observe(): Tree {
		const tree = this.#calls.observe();
		if (this.#calls.ghosts.size > 0) throw new Error(`listed, but look-up finds nothing: ${[...this.#calls.ghosts].join()}`);
		return tree;
	}
}
