import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { sbinPath } from "../support/requirements.ts";
import { Scratch } from "../support/scratch.ts";
import { type CopyName, copyTree } from "./copies.ts";
import { type Disk, MountedDisk } from "./disk.ts";
import { KINDS } from "./kinds.ts";
import type { DiskKind, Stack } from "./stacks.ts";

const IMAGES = "images";
/** They are sparse. */
const IMAGES_MEGABYTES = 2048;

/** What cells need and only root can make: file systems, and images with files of all owners. */
export interface Place {
	/** Made when it is first asked for. */
	disk(kind: DiskKind): Disk;
	/** Where images of the planted lowers of a stack are mounted. They are root's. */
	imagesOf(stack: Stack): readonly string[];
	/** A new folder that lies on none of the disks. */
	folder(): string;
	/** Where a FUSE file system shows a folder. It would be the user's own, but not every machine lets a user have one. */
	showByFuse(folder: string): string;
	/** Copies what is root's. */
	copyAsRoot(name: CopyName, from: string, to: string): void;
	remove(path: string): void;
	/** Everything is thrown away, and made anew when it is asked for. */
	startAnew(): Promise<void>;
	close(): Promise<void>;
}

/** Of a process of root's. */
export class RootPlace implements Place {
	#made = openScratch();
	readonly #disks = new Map<DiskKind, Disk>();
	#serial = 0;

	disk(kind: DiskKind): Disk {
		const disk = this.#disks.get(kind) ?? new MountedDisk(this.#made, kind, IMAGES);
		this.#disks.set(kind, disk);
		return disk;
	}

	imagesOf(stack: Stack): readonly string[] {
		const planted = stack.disks.map((_, i) => join(this.folder(), `lower${i}`));
		for (const lower of planted) mkdirSync(lower);
		for (const kind of KINDS) kind.plant(planted, stack);
		return planted.map((folder) => {
			const name = `${IMAGES}/of${this.#serial++}`;
			const image = join(this.#made.path, `${name}.img`);
			const [program, ...args] =
				stack.image === "squashfs" ? ["mksquashfs", folder, image, "-quiet", "-no-progress"] : ["mkfs.erofs", "--quiet", image, folder];
			execFileSync(program as string, args, { stdio: "pipe", env: { ...process.env, PATH: sbinPath() } });
			return this.#made.mountImage(name);
		});
	}

	folder(): string {
		return this.#made.folder(`${IMAGES}/folder${this.#serial++}`);
	}

	showByFuse(folder: string): string {
		const at = this.folder();
		execFileSync("bindfs", ["-o", "allow_other", folder, at], { stdio: "pipe" });
		return at;
	}

	/** Where something is mounted for a moment. */
	get mountPoint(): string {
		return this.#made.folder("mounted");
	}

	copyAsRoot(name: CopyName, from: string, to: string): void {
		copyTree(name, from, to);
	}

	remove(path: string): void {
		rmSync(path, { recursive: true, force: true });
	}

	async startAnew(): Promise<void> {
		await this.close();
		this.#disks.clear();
		this.#made = openScratch();
	}

	async close(): Promise<void> {
		await this.#made.close();
	}
}

/** Every user may pass. Images lie in memory: a flush costs nothing there, and what a power failure leaves is decided above. */
function openScratch(): Scratch {
	const made = new Scratch();
	chmodSync(made.path, 0o755);
	made.mount("tmpfs", IMAGES, IMAGES_MEGABYTES);
	return made;
}
