/** A disk that is filled and emptied again beside what a server has on it, in the ways that disks are full. */

import { closeSync, mkdirSync, openSync, rmSync, statfsSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { allocateRange } from "../../src/linux/data.ts";
import type { FileSystem, Scratch } from "../support/scratch.ts";

/** What is left: `room` is some MiB, `nearly` less than half a MiB, `bytes` no byte, `inodes` bytes but no inode, `nothing` neither. */
const FULLNESSES = ["room", "nearly", "bytes", "inodes", "nothing"] as const;
export type Fullness = (typeof FULLNESSES)[number];

export const MEGABYTES = { tmpfs: 48, ext4: 64, xfs: 320, btrfs: 160, root: 0 };
const ROOM_BYTES = 12 << 20;
const BALLAST_BYTES_AT_ONCE = 4 << 20;
const NEARLY_BYTES_MAX = 512 << 10;
const SIZES = [1 << 20, 1 << 16, 4096, 512];
const INODES = 4000;
const FILES_MAX = 6000;

export class SmallDisk {
	readonly path: string;
	readonly #kind: FileSystem;
	#files: string[] = [];
	#made = 0;

	constructor(scratch: Scratch, kind: FileSystem) {
		this.#kind = kind;
		this.path = scratch.mount(kind, "disk", MEGABYTES[kind], INODES);
		for (const folder of ["fillers", "ballast"]) mkdirSync(join(this.path, folder));
	}

	/** Which kinds of being full this file system knows. */
	get fullnesses(): readonly Fullness[] {
		return FULLNESSES.filter((one) => one !== "inodes" || this.#kind === "ext4" || this.#kind === "tmpfs");
	}

	/** Takes what is more than the room that `room` leaves. */
	load(): void {
		const file = openSync(join(this.path, "ballast/bytes"), "w");
		for (let size = 0; ; ) {
			const { bfree, bsize } = statfsSync(this.path);
			const bytes = Math.min(bfree * bsize - ROOM_BYTES, BALLAST_BYTES_AT_ONCE);
			// btrfs counts as free what it keeps for itself
			if (bytes <= 0 || allocateRange(file, 0, size, bytes) < 0) break;
			size += bytes;
		}
		closeSync(file);
	}

	become(fullness: Fullness, random: (below: number) => number): void {
		this.#empty();
		if (fullness === "room") return;
		if (fullness !== "inodes") for (const size of SIZES) this.#fill(size);
		if (fullness === "inodes" || fullness === "nothing") this.#fill(0);
		if (fullness !== "nearly") return;
		for (let left = random(NEARLY_BYTES_MAX); left > 0; left -= SIZES[1]) {
			const file = this.#files.findLast((name) => name.endsWith(`-${SIZES[1]}`));
			if (file !== undefined) this.#remove(file);
		}
	}

	#fill(size: number): void {
		const bytes = Buffer.alloc(size, 1);
		while (this.#files.length < FILES_MAX) {
			const path = join(this.path, `fillers/${this.#made++}-${size}`);
			try {
				writeFileSync(path, bytes);
				this.#files.push(path);
			} catch (error) {
				if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
				rmSync(path, { force: true });
				return;
			}
		}
	}

	#remove(path: string): void {
		unlinkSync(path);
		this.#files = this.#files.filter((other) => other !== path);
	}

	#empty(): void {
		for (const path of this.#files.splice(0)) unlinkSync(path);
	}
}
