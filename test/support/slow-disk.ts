import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { missing, repository, sbinPath } from "./requirements.ts";
import { cannotMount, type Scratch } from "./scratch.ts";

/** What the process that serves it says of itself. */
export interface DiskState {
	/** Reads since the start. */
	readonly calls: number;
	/** Of these, not answered yet. */
	readonly waiting: number;
}

const fuseServer = join(repository, "dist/test/slow-disk/slow-fuse.js");

/** Why there can be no slow disk here; false when there can. As the `skip` option of a test. */
export function cannotMountSlowDisk(): string | false {
	const no = cannotMount("ext4");
	if (no !== false) return no;
	if (!existsSync("/dev/fuse")) return "no /dev/fuse here";
	if (missing("setpriv") || missing("losetup")) return "needs setpriv and losetup";
	return false;
}

/** What has been read of any disk is read again when it is asked for. What is in use, or not yet written, stays. */
export function dropCaches(): void {
	writeFileSync("/proc/sys/vm/drop_caches", "3");
}

/**
 * An ext4, read-only, on a loop device whose file lies on a FUSE file system that takes the time it is told for each read. The loop
 * device reads by O_DIRECT: nothing but the caches of the ext4 itself lies between, and reads wait side by side.
 */
export class SlowDisk {
	readonly path: string;
	readonly #process: ChildProcess;
	readonly #answers: { readonly resolve: (state: DiskState) => void; readonly reject: (error: Error) => void }[] = [];

	private constructor(path: string, server: ChildProcess) {
		this.path = path;
		this.#process = server;
		const kill = () => void server.kill("SIGKILL");
		// before Scratch unmounts: what waits for this disk fails then
		process.prependListener("exit", kill);
		server.on("close", (code, signal) => {
			process.off("exit", kill);
			for (const { reject } of this.#answers.splice(0)) reject(new Error(`the slow disk ended with ${code ?? signal}`));
		});
		createInterface({ input: server.stdout as NodeJS.ReadableStream }).on("line", (line) =>
			this.#answers.shift()?.resolve(JSON.parse(line) as DiskState),
		);
	}

	/** `fill` makes its content in a folder, before it is slow. */
	static async make(scratch: Scratch, name: string, megabytes: number, fill: (at: string) => void): Promise<SlowDisk> {
		const image = join(scratch.path, `${name}.img`);
		writeFileSync(image, "");
		truncateSync(image, megabytes * 1024 * 1024);
		run("mkfs.ext4", "-q", "-F", "-i", "8192", "-E", "lazy_itable_init=0,lazy_journal_init=0", image);
		const at = scratch.mountImage(name);
		fill(at);
		scratch.unmount(at);

		const fuse = scratch.folder(`${name}.fuse`);
		// it must not outlive a test process that is killed: whatever waits for it would wait for ever
		const server = spawn("setpriv", ["--pdeathsig", "KILL", "--", process.execPath, fuseServer, fuse, image], {
			stdio: ["pipe", "pipe", "inherit"],
		});
		const disk = new SlowDisk(at, server);
		scratch.beforeRemoval(() => disk.#remove(fuse));
		await disk.#answer();
		const device = run("losetup", "--find", "--show", "--read-only", "--direct-io=on", join(fuse, "image")).trim();
		// no inode comes along with another
		run("mount", "-o", "ro,inode_readahead_blks=1", device, at);
		// while it is in use that means: with its last use
		run("losetup", "--detach", device);
		return disk;
	}

	/** For each read that begins now, and for those that hang; "hang" until another delay is set. */
	async setDelay(milliseconds: number | "hang"): Promise<void> {
		this.#send(`delay ${milliseconds}`);
		await this.#answer();
	}

	/** All reads fail from now on. */
	async fail(): Promise<void> {
		const ended = new Promise((resolve) => this.#process.once("close", resolve));
		this.#process.kill("SIGKILL");
		await ended;
	}

	state(): Promise<DiskState> {
		this.#send("state");
		return this.#answer();
	}

	#send(line: string): void {
		assert.equal(this.#process.exitCode ?? this.#process.signalCode, null, "the slow disk has ended");
		this.#process.stdin?.write(`${line}\n`);
	}

	#answer(): Promise<DiskState> {
		return new Promise((resolve, reject) => {
			this.#answers.push({ resolve, reject });
		});
	}

	async #remove(fuse: string): Promise<void> {
		const ended = new Promise((resolve) => this.#process.once("close", resolve));
		for (const at of [this.path, fuse]) {
			try {
				run("umount", "--lazy", at);
			} catch {
				// was not mounted yet
			}
		}
		this.#process.kill("SIGKILL");
		if (this.#process.exitCode === null && this.#process.signalCode === null) await ended;
	}
}

function run(command: string, ...args: string[]): string {
	return execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, PATH: sbinPath() } });
}
