import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { flushFileSystem, PowerDisk } from "../crash/power-disk.ts";
import type { Scratch } from "../support/scratch.ts";
import type { DiskKind } from "./stacks.ts";

/** A file system for layers, that can lose its power and be mounted elsewhere. */
export interface Disk {
	readonly path: string;
	/** From here on nothing reaches the disk; with `isCommitted` all metadata changed so far has, as by somebody else's fsync. */
	cut(isCommitted: boolean): void;
	/** The power is back. What is still open is closed. */
	restore(): void;
	/** Mounts it at another path. Nothing may be open there. */
	move(): void;
	moveBack(): void;
}

/** Made and mounted by this process, which is root's. Any user may have files there. */
export class MountedDisk implements Disk {
	readonly #kind: DiskKind;
	readonly #made: Scratch;
	readonly #name: string;
	readonly #power: PowerDisk | null;
	readonly #home: string;
	#path: string;

	/** Its image lies in the folder `images` of `made`. */
	constructor(made: Scratch, kind: DiskKind, images: string) {
		this.#kind = kind;
		this.#made = made;
		this.#name = `${images}/disk-${kind}`;
		this.#power = kind === "tmpfs" ? null : new PowerDisk(made, kind, this.#name);
		this.#home = this.#power?.path ?? made.mount(kind, this.#name);
		this.#path = this.#home;
		chmodSync(this.#home, 0o777);
		flushFileSystem(this.#home);
	}

	get path(): string {
		return this.#path;
	}

	cut(isCommitted: boolean): void {
		if (isCommitted) this.#power?.commit();
		this.#power?.cut();
	}

	restore(): void {
		this.#power?.restore();
	}

	move(): void {
		const there = join(this.#made.path, "elsewhere", this.#name);
		mkdirSync(there, { recursive: true });
		if (this.#kind === "tmpfs") execFileSync("mount", ["--bind", this.#home, there]);
		else {
			this.#made.unmount(this.#home);
			execFileSync("mount", ["-o", "loop", join(this.#made.path, `${this.#name}.img`), there]);
		}
		this.#path = there;
	}

	moveBack(): void {
		if (this.#path === this.#home) return;
		execFileSync("umount", [this.#path]);
		if (this.#kind !== "tmpfs") this.#made.mountImage(this.#name);
		this.#path = this.#home;
	}
}
