// The keeper of a mount: holds what its server needs to go on, starts the server, again whenever it is killed, and ends with the mount.

import { type ChildProcess, spawn } from "node:child_process";
import { writeSync } from "node:fs";
import { Socket } from "node:net";
import { HEADER, KEPT_BYTES } from "../fuse/kept-layout.ts";
import { sendDescriptor, socketPair } from "../linux/descriptor-passing.ts";
import { must, whyNot } from "../linux/errno.ts";
import { tryLock } from "../linux/file-system.ts";
import { mountAtPoint } from "../linux/mount-table.ts";
import { close, O, openPath } from "../linux/open.ts";
import { makeSharedMemory } from "../linux/shared-memory.ts";
import { isConnectionOver } from "../linux/socket.ts";
import { quoteForShell } from "../vfs/names.ts";
import { listenAsKeeper } from "./keeper-name.ts";
import { preparePoint } from "./mount-point.ts";
import type { MountOptions } from "./mount-request.ts";
import type { Again, ServerMessage, ServerOpened } from "./server-message.ts";
import { unmountElsewhere } from "./unmount-elsewhere.ts";
import { MountError, type Mounted, mountAnyhow, type Way } from "./ways.ts";

export interface KeeperOptions {
	/** As `pointPath` gives it. */
	readonly point: string;
	readonly mount: MountOptions;
	/** By these only; default: all. */
	readonly ways?: readonly Way[] | undefined;
	/**
	 * A mount that is there already, where this process does not see it, and that ends with whoever has made it. `stop` ends the server though the mount is
	 * still there, and signals are not this keeper's.
	 */
	readonly made?: { readonly mounted: Mounted; readonly stop: AbortSignal } | undefined;
	/** The server: a program and its first words, such as `node main.js serve`, and what else it is told, where paths are absolute. */
	readonly program: readonly string[];
	readonly words: readonly string[];
	/** Its server prints nothing on standard output. */
	readonly isQuiet?: boolean;
	/** Called when the mount can be used, and whenever another server has begun to serve it. */
	readonly onReady?: (() => void) | undefined;
	/** Is given sentences for the user. */
	readonly tell: (sentence: string) => void;
}

/** Where the server finds its end of the socket, and behind it what is held for it. */
const [SERVER_SOCKET, FIRST_HELD] = [3, 4];
/** Before a server is started again, by how many have ended early before it; the last one for all further ones. */
const DELAYS_MS = [0, 100, 200, 500, 1000, 2000, 5000, 10_000];
/** A server that has served for so long has not ended early. */
const LASTING_MS = 1000;

/** Mounts, and keeps the mount until it ends. The exit status of the program. */
export function keepMount(options: KeeperOptions): Promise<number> {
	return new Keeper(options).run();
}

class Keeper {
	readonly #options: KeeperOptions;
	#server: ChildProcess | null = null;
	/** Our end of the socket to the server. */
	#link: { readonly socket: Socket; readonly fd: number } | null = null;
	#opened: ServerOpened | null = null;
	#mounting: Promise<void> | null = null;
	#mounted: Mounted | null = null;
	/** The device number of the mount, which no other one has while it is there; null where the mount cannot be seen from here. */
	#device: string | null = null;
	#memory = -1;
	/** Directories that the mount covers, by path: no later server comes to them by it. */
	readonly #held = new Map<string, number>();
	/** Keeps the set of changes from being taken for a dead server's while there is none. */
	#setHold = -1;
	#readySince: number | null = null;
	#ended = 0;
	#signals = 0;
	#isStopping = false;
	/** There is no mount any more. */
	#isOver = false;
	#status = 0;
	#finish: (status: number) => void = () => {};

	constructor(options: KeeperOptions) {
		this.#options = options;
	}

	async run(): Promise<number> {
		const { point, tell, made } = this.#options;
		if (made === undefined) {
			// before anything is made
			await preparePoint(point, { tell, own: [], isLayer: true });
			for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => this.#onSignal());
		} else made.stop.addEventListener("abort", () => void this.#stop(true));
		const finished = new Promise<number>((resolve) => {
			this.#finish = resolve;
		});
		this.#start();
		const status = await finished;
		if (this.#mounted !== null) {
			close(this.#mounted.descriptor);
			this.#mounted.release();
		}
		return status;
	}

	#start(): void {
		const made = socketPair("stream");
		if (typeof made === "number") throw new MountError(`Cannot start the server: there is no socket for it (${whyNot(made)}).`);
		const [near, far] = made;
		const [command, ...first] = this.#options.program;
		const held = [...this.#held];
		const told = [`--keeper=${SERVER_SOCKET}`];
		if (this.#opened !== null) {
			const again: Again = {
				set: this.#opened.set?.name ?? null,
				held: Object.fromEntries(held.map(([path], i) => [path, { fd: FIRST_HELD + i, real: this.#options.point }])),
			};
			told.push(`--keeper-again=${JSON.stringify(again)}`);
		}
		this.#link = { socket: this.#listen(near), fd: near };
		this.#server = spawn(command, [...first, ...told, ...this.#options.words], {
			stdio: ["inherit", this.#options.isQuiet ? "ignore" : "inherit", "inherit", far, ...held.map(([, fd]) => fd)],
			// whatever lies below the working directory may be covered by the mount by now
			cwd: "/",
		});
		close(far);
		this.#server.on("error", ({ message }) => this.#options.tell(`Cannot start the server: ${message}.`));
		this.#server.on("close", (code: number | null) => void this.#onEnd(code));
	}

	#listen(near: number): Socket {
		const socket = new Socket({ fd: near, readable: true, writable: false });
		let text = "";
		socket.setEncoding("utf8").on("data", (more: string) => {
			const lines = (text + more).split("\n");
			text = lines.pop() as string;
			for (const line of lines) this.#onMessage(JSON.parse(line) as ServerMessage);
		});
		// of a server that was killed
		socket.on("error", () => {});
		return socket;
	}

	#onMessage(message: ServerMessage): void {
		switch (message.kind) {
			case "opened":
				this.#mounting = this.#giveMount(message);
				return;
			case "ready":
				this.#readySince = performance.now();
				this.#options.onReady?.();
				return;
			case "stop":
				void this.#stop(false);
				return;
		}
	}

	/** The layers are open: now the mount may cover them. */
	async #giveMount(opened: ServerOpened): Promise<void> {
		try {
			if (this.#mounted === null) await this.#mount(opened);
			// a server that was killed meanwhile takes none
			for (const fd of [this.#mounted?.descriptor ?? -1, this.#memory]) if (this.#link !== null) sendDescriptor(this.#link.fd, fd);
		} catch (error) {
			if (!(error instanceof MountError)) throw error;
			this.#options.tell(error.message);
			this.#status = 1;
			void this.#stop(false);
		}
	}

	async #mount(opened: ServerOpened): Promise<void> {
		const { point, mount, ways, tell, made } = this.#options;
		if (made !== undefined) {
			this.#keep(opened, made.mounted);
			return;
		}
		const covered = opened.layers.filter(({ real }) => real === point);
		await preparePoint(point, { tell, own: opened.own, isLayer: covered.length > 0 });
		for (const { path } of covered) this.#held.set(path, must(openPath(path, O.path | O.directory), `Cannot open ${path}`));
		// it may lie in a layer, as a directory of it
		if (!this.#held.has(point)) this.#held.set(point, must(openPath(point, O.path | O.directory), `Cannot open ${point}`));
		this.#keep(opened, await mountAnyhow({ ...mount, point, source: opened.source }, ways));
		this.#device = this.#mounted?.namespace === null ? this.#deviceNow() : null;
		if (this.#device !== null) listenAsKeeper(this.#device, () => this.#look());
		const namespace = this.#mounted?.namespace ?? null;
		if (namespace !== null) {
			tell(`${point} is mounted in a user namespace, and seen by nobody else. To enter it: ${namespaceCommand(namespace, point)}`);
		}
	}

	/** From here on there is a mount, which a later server gets too. */
	#keep(opened: ServerOpened, mounted: Mounted): void {
		this.#memory = must(makeSharedMemory("holdfast mount", KEPT_BYTES), "Cannot make memory for the mount");
		if (mounted.isOneUser) writeSync(this.#memory, Uint32Array.of(1), 0, 4, HEADER.isOneUser * 4);
		this.#mounted = mounted;
		this.#opened = opened;
		if (opened.set === null) return;
		this.#setHold = openPath(opened.set.folder, O.rdonly | O.directory | O.noatime);
		if (this.#setHold >= 0) tryLock(this.#setHold, true);
	}

	#deviceNow(): string | null {
		return mountAtPoint(this.#options.point)?.device ?? null;
	}

	/** Other mount namespaces may have a copy of a mount that was unmounted here, which would keep it alive. */
	#look(): void {
		if (this.#deviceNow() !== this.#device) void this.#stop(false);
	}

	#onSignal(): void {
		this.#signals++;
		if (this.#signals > 2) this.#server?.kill("SIGKILL");
		void this.#stop(this.#signals > 1);
	}

	/** Ends the mount while the server still answers, since only now all comes that programs have written to mapped files; then the server. */
	async #stop(isLazy: boolean): Promise<void> {
		if (this.#isStopping && !isLazy) return;
		this.#isStopping = true;
		if (this.#device !== null) await this.#unmount(isLazy);
		this.#isOver = true;
		this.#letServerEnd();
		if (this.#server === null) this.#finish(this.#status);
	}

	async #unmount(isLazy: boolean): Promise<void> {
		const { point, tell } = this.#options;
		// what is there now may be somebody else's
		const isThere = () => this.#deviceNow() === this.#device;
		if (!isThere()) return;
		const failure = await unmountElsewhere(point, isLazy);
		if (failure === null || !isThere()) return;
		if (isLazy) {
			tell(`Cannot unmount ${point}: ${failure.reason}.`);
			return;
		}
		if (failure.isBusy) tell(`${point} is in use: it is taken out of sight, and who has something open there loses it.`);
		await this.#unmount(true);
	}

	/** The server ends when its socket does. A set of changes that goes with it is let go of first. */
	#letServerEnd(): void {
		if (this.#setHold >= 0) close(this.#setHold);
		this.#setHold = -1;
		this.#link?.socket.destroy();
		this.#link = null;
	}

	async #onEnd(code: number | null): Promise<void> {
		this.#server = null;
		this.#link?.socket.destroy();
		this.#link = null;
		await this.#mounting;
		if (this.#mounted === null || this.#isOver) return this.#finish(this.#status || (code ?? 1));
		if (this.#readySince === null && this.#ended === 0) {
			// the first one could not begin, and has said why
			this.#status = code || 1;
			return this.#stop(false);
		}
		const lasted = this.#readySince !== null && performance.now() - this.#readySince >= LASTING_MS;
		this.#readySince = null;
		this.#ended = lasted ? 1 : this.#ended + 1;
		// a mount that is being ended needs a server for what comes last
		const delay = DELAYS_MS[Math.min(this.#ended, DELAYS_MS.length) - 1];
		setTimeout(() => this.#startAgain(code, delay), delay);
	}

	#startAgain(code: number | null, delay: number): void {
		if (this.#isOver) return;
		if (this.#mounted === null || isConnectionOver(this.#mounted.descriptor)) return void this.#stop(false);
		const waited = delay === 0 ? "" : `, ${delay / 1000} s later`;
		this.#options.tell(
			`The server of ${this.#options.point} has ended (${code === null ? "killed" : `status ${code}`}): it is started again${waited}.`,
		);
		this.#start();
	}
}

/** The command that begins a shell in the user namespace of a mount, or what is put behind it. nsenter(1) itself goes to directories outside. */
function namespaceCommand(pid: number, point: string): string {
	const enter = `nsenter --preserve-credentials --user --mount --target ${pid}`;
	return `${enter} sh -c 'cd "$0" && exec "\${@:-\${SHELL:-sh}}"' ${quoteForShell(point)}`;
}
