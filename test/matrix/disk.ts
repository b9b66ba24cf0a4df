import { execFileSync } from "node:child_process";
import { closeSync, fstatSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, statSync } from "node:fs";
import { join } from "node:path";
import { syncFileSystem } from "../../src/linux/data.ts";
import { PowerDisk } from "../crash/power-disk.ts";
import type { Scratch } from "../support/scratch.ts";
import type { DiskKind } from "./stacks.ts";

/** Of a copy of an image; each time the file system has written to it meanwhile. */
const COPIES_MAX = 50;

/** A file system for layers, that can lose its power and be mounted elsewhere. */
export class Disk {
	readonly kind: DiskKind;
	readonly #made: Scratch;
	readonly #name: string;
	readonly #power: PowerDisk | null;
	readonly #home: string;
	#path: string;

	constructor(made: Scratch, kind: DiskKind) {
		this.kind = kind;
		this.#made = made;
		this.#name = `disk-${kind}`;
		const isJournaled = kind === "ext4" || kind === "xfs";
		this.#power = isJournaled ? new PowerDisk(made, kind, this.#name) : null;
		this.#home = this.#power?.path ?? made.mount(kind, this.#name, 256);
		this.#path = this.#home;
	}

	get path(): string {
		return this.#path;
	}

	/** Everything is on the disk. */
	flush(): void {
		const root = openSync(this.#path, "r");
		syncFileSystem(root);
		closeSync(root);
	}

	/** From here on nothing reaches the disk; with `isCommitted` all metadata changed so far has, as by somebody else's fsync. */
	cut(isCommitted: boolean): void {
		if (this.#power === null) {
			if (isCommitted) this.flush();
			this.#copyImage();
			return;
		}
		if (isCommitted) this.#power.commit();
		this.#power.cut();
	}

	/** Closes whatever this process has open there, as its end would. */
	closeDescriptors(): void {
		const device = statSync(this.#path).dev;
		for (const fd of readdirSync("/proc/self/fd").map(Number)) {
			try {
				if (fstatSync(fd).dev === device) closeSync(fd);
			} catch {
				// the descriptor of the listing itself
			}
		}
	}

	/** The power is back. What is still open is closed. */
	restore(): void {
		if (this.#power !== null) {
			this.#power.restore();
			return;
		}
		this.closeDescriptors();
		this.#made.unmount(this.#home);
		renameSync(`${this.#image}.cut`, this.#image);
		this.#made.mountImage(this.#name);
	}

	/** Mounts it at another path. Nothing may be open there. */
	move(): void {
		const there = join(this.#made.path, "elsewhere", this.#name);
		mkdirSync(there, { recursive: true });
		if (this.kind === "tmpfs") execFileSync("mount", ["--bind", this.#home, there]);
		else {
			this.#made.unmount(this.#home);
			execFileSync("mount", ["-o", "loop", this.#image, there]);
		}
		this.#path = there;
	}

	moveBack(): void {
		if (this.#path === this.#home) return;
		execFileSync("umount", [this.#path]);
		if (this.kind !== "tmpfs") this.#made.mountImage(this.#name);
		this.#path = this.#home;
	}

	get #image(): string {
		return join(this.#made.path, `${this.#name}.img`);
	}

	/** The image of one instant: the device has written nothing while it was copied. */
	#copyImage(): void {
		for (let copy = 1; copy <= COPIES_MAX; copy++) {
			const before = this.#writes();
			execFileSync("cp", ["--sparse=always", this.#image, `${this.#image}.cut`]);
			if (before !== null && before === this.#writes()) return;
		}
		throw new Error(`${this.#image} is written to all the time`);
	}

	/** Writes that the loop device has completed, as text; null while one is under way. */
	#writes(): string | null {
		const mounts = readFileSync("/proc/self/mounts", "utf8").split("\n");
		const device = mounts.map((line) => line.split(" ")).findLast(([, at]) => at === this.#path)?.[0];
		if (device === undefined) throw new Error(`${this.#path} is not mounted`);
		const fields = readFileSync(`/sys/block/${device.replace("/dev/", "")}/stat`, "utf8")
			.trim()
			.split(/\s+/);
		return fields[8] === "0" ? fields.slice(4, 7).join(" ") : null;
	}
}
