/**
 * Folders and mounts that last as long as a test. They lie in $TMPDIR/holdfast-test-PID-*, and are removed when the test
 * ends, when the process ends, and, after a kill, by the next process that asks for one.
 */

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { missing, sbinPath } from "./requirements.ts";

const PREFIX = "holdfast-test-";
const live = new Set<Scratch>();
let swept = false;

export type FileSystem = "root" | "ext4" | "xfs" | "btrfs" | "tmpfs";

export class Scratch {
	readonly path: string;
	readonly #mounts: string[] = [];
	readonly #users: (() => unknown)[] = [];

	constructor() {
		sweep();
		this.path = mkdtempSync(join(tmpdir(), `${PREFIX}${process.pid}-`));
		live.add(this);
	}

	/** A new folder (or the same one again) below this one. */
	folder(name: string): string {
		const path = join(this.path, name);
		mkdirSync(path, { recursive: true });
		return path;
	}

	file(name: string, contents: string | Buffer): string {
		const path = join(this.path, name);
		writeFileSync(path, contents);
		return path;
	}

	/** A new, empty file system of that kind, mounted below this folder; "root" is a folder on the file system of $TMPDIR. `inodes` is for ext4 and tmpfs. */
	mount(kind: FileSystem, name: string = kind, megabytes = 320, inodes = 0): string {
		const at = this.folder(name);
		if (kind === "root") return at;
		const run = (command: string, ...args: string[]) =>
			execFileSync(command, args, { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, PATH: sbinPath() } });
		if (kind === "tmpfs") {
			run("mount", "-t", "tmpfs", "-o", `size=${megabytes}m${inodes === 0 ? "" : `,nr_inodes=${inodes}`}`, "holdfast-test", at);
		} else {
			const image = join(this.path, `${name}.img`);
			writeFileSync(image, "");
			truncateSync(image, megabytes * 1024 * 1024);
			const ofExt4 = ["-q", "-F", ...(inodes === 0 ? ["-i", "4096"] : ["-N", `${inodes}`])];
			run(`mkfs.${kind}`, ...(kind === "ext4" ? ofExt4 : ["-q", "-f"]), image);
			run("mount", "-o", "loop", image, at);
		}
		this.#mounts.push(at);
		return at;
	}

	/** Mounts NAME.img of this folder on the folder NAME. */
	mountImage(name: string): string {
		const at = this.folder(name);
		execFileSync("mount", ["-o", "loop", join(this.path, `${name}.img`), at], { stdio: "pipe" });
		this.#mounts.push(at);
		return at;
	}

	unmount(at: string): void {
		execFileSync("umount", [at], { stdio: "pipe" });
		this.#mounts.splice(this.#mounts.indexOf(at), 1);
	}

	/** For what works in here and must have ended before it is removed: last come, first ended. */
	beforeRemoval(end: () => unknown): void {
		this.#users.push(end);
	}

	async close(): Promise<void> {
		for (const end of this.#users.splice(0).reverse()) await end();
		this.remove();
	}

	/** At once. What is still busy is lazily unmounted, and goes when its last user does. */
	remove(): void {
		live.delete(this);
		removeTree(this.path);
	}
}

/** A folder for one test. */
export function scratch(test: Pick<TestContext, "after">): Scratch {
	const made = new Scratch();
	test.after(() => made.close());
	return made;
}

/** Why file systems of this kind cannot be mounted here; false when they can. As the `skip` option of a test. */
export function cannotMount(kind: FileSystem | "squashfs"): string | false {
	if (kind === "root") return false;
	if (process.getuid?.() !== 0) return "needs root to mount";
	if (kind === "tmpfs") return false;
	if (kind !== "squashfs" && missing(`mkfs.${kind}`)) return `mkfs.${kind} is missing`;
	if (!existsSync("/dev/loop-control")) return "no loop devices here";
	const known = readFileSync("/proc/filesystems", "utf8").split(/\s+/);
	if (known.includes(kind)) return false;
	try {
		execFileSync("modprobe", [kind], { stdio: "ignore", env: { ...process.env, PATH: sbinPath() } });
		return false;
	} catch {
		return `this kernel has no ${kind}`;
	}
}

function removeTree(path: string): void {
	const mounted = readFileSync("/proc/self/mounts", "utf8")
		.split("\n")
		.map((line) => (line.split(" ")[1] ?? "").replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8))))
		.filter((at) => at.startsWith(`${path}/`))
		.reverse();
	for (const at of mounted) {
		try {
			execFileSync("umount", [at], { stdio: "ignore" });
		} catch {
			execFileSync("umount", ["--lazy", at], { stdio: "ignore" });
		}
	}
	rmSync(path, { recursive: true, force: true, maxRetries: 3 });
}

/** What processes left that were killed. */
function sweep(): void {
	if (swept) return;
	swept = true;
	for (const name of readdirSync(tmpdir())) {
		const owner = new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1];
		if (owner === undefined || existsSync(`/proc/${owner}`)) continue;
		try {
			removeTree(join(tmpdir(), name));
		} catch {
			// Another user's, or another process sweeps it at this moment.
		}
	}
}

process.on("exit", () => {
	for (const left of live) left.remove();
});
