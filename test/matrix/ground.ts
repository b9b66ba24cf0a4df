import { execFileSync } from "node:child_process";
import { lstatSync, mkdirSync, readdirSync, readlinkSync, renameSync } from "node:fs";
import { join } from "node:path";
import { sbinPath } from "../support/requirements.ts";
import type { Scratch } from "../support/scratch.ts";
import { snapshotTree } from "../support/tree-snapshot.ts";
import { Disk } from "./disk.ts";
import { KINDS } from "./kinds.ts";
import type { DiskKind, ImageKind, Stack } from "./stacks.ts";

const IMAGES = "images";
let serial = 0;
/** They are sparse. */
const IMAGES_MEGABYTES = 2048;

/** The file systems of one process, each made when it is first needed. */
export class Disks {
	readonly #made: Scratch;
	readonly #disks = new Map<DiskKind, Disk>();

	constructor(made: Scratch) {
		this.#made = made;
	}

	get(kind: DiskKind): Disk {
		// in memory: a flush costs nothing there, and what a power failure leaves is decided above
		if (this.#disks.size === 0) this.#made.mount("tmpfs", IMAGES, IMAGES_MEGABYTES);
		const disk = this.#disks.get(kind) ?? new Disk(this.#made, kind, IMAGES);
		this.#disks.set(kind, disk);
		return disk;
	}

	/** Where an image of that kind of a folder is mounted. */
	mountImageOf(folder: string, kind: ImageKind): string {
		const name = `${IMAGES}/of${serial++}`;
		const image = join(this.#made.path, `${name}.img`);
		const command =
			kind === "squashfs" ? ["mksquashfs", folder, image, "-quiet", "-no-progress"] : ["mkfs.erofs", "--quiet", image, folder];
		execFileSync(command[0], command.slice(1), { stdio: "pipe", env: { ...process.env, PATH: sbinPath() } });
		return this.#made.mountImage(name);
	}

	/** A folder for what is mounted for a moment. */
	get mountPoint(): string {
		return this.#made.folder("mounted");
	}
}

/** The lowers of one stack, planted once for all its cells: nothing may ever change in them. */
export class Ground {
	readonly stack: Stack;
	/** That of upper and work first. */
	readonly disks: readonly Disk[];
	readonly #all: Disks;
	readonly #folder: string;
	readonly #lowersBefore: string;
	readonly #exactBefore: string;
	/** Where the images of the lowers are mounted. */
	#images: readonly string[] | null = null;

	constructor(all: Disks, stack: Stack) {
		this.stack = stack;
		this.#all = all;
		this.disks = [...new Set([stack.upper, ...stack.disks])].map((kind) => all.get(kind));
		this.#folder = stack.name.replaceAll(/[^a-z0-9]+/g, "-");
		const { lowers } = this;
		for (const lower of lowers) mkdirSync(lower, { recursive: true });
		for (const kind of KINDS) kind.plant(lowers, stack);
		if (stack.hasRedirect) this.#redirect();
		const { image } = stack;
		if (image !== null) this.#images = lowers.map((lower) => all.mountImageOf(lower, image));
		this.flush();
		// this one reads files, which may move their access times
		this.#exactBefore = this.#exact();
		this.#lowersBefore = this.inodes();
	}

	get lowers(): string[] {
		if (this.#images !== null) return [...this.#images];
		return this.stack.disks.map((kind, i) => join(this.#all.get(kind).path, this.#folder, `lower${i}`));
	}

	/** Where the cells have their uppers. */
	get cells(): string {
		return join(this.#all.get(this.stack.upper).path, this.#folder, "cells");
	}

	/** An empty folder on another file system than that of upper. */
	place(): string {
		const kind = this.stack.upper === "ext4" ? "tmpfs" : "ext4";
		const path = join(this.#all.get(kind).path, `place${serial++}`);
		mkdirSync(path);
		return path;
	}

	/** The kernel's overlayfs renames directories; its upper is a lower from then on. */
	#redirect(): void {
		const { lowers, stack } = this;
		const upper = lowers[stack.redirecting];
		const below = lowers.slice(stack.redirecting + 1);
		const work = `${upper}.work`;
		mkdirSync(work);
		this.kernel(`lowerdir=${below.join(":")},upperdir=${upper},workdir=${work},redirect_dir=on,index=on`, (tree) => {
			for (const { top } of KINDS.filter((kind) => kind.plantsBelowRedirect)) {
				renameSync(join(tree, `${top}0/g/p`), join(tree, `${top}0/o/p`));
				renameSync(join(tree, `${top}0`), join(tree, top));
				renameSync(join(tree, `${top}/o/p`), join(tree, `${top}/g/p`));
			}
		});
	}

	/** Lets the kernel's overlayfs work; `act` gets the mounted tree. */
	kernel(options: string, act: (tree: string) => void): void {
		const at = this.#all.mountPoint;
		execFileSync("mount", ["-t", "overlay", "overlay", "-o", options, at], { stdio: "pipe" });
		try {
			act(at);
		} finally {
			execFileSync("umount", [at]);
		}
	}

	flush(): void {
		for (const disk of this.disks) disk.flush();
	}

	/** Numbers, link counts, sizes, owners, modes and times of all inodes of the lowers. */
	inodes(): string {
		return this.lowers.map((lower) => inodesBelow(lower)).join("\n");
	}

	/** What has happened to the lowers; null when nothing has. */
	changed(isExact: boolean): string | null {
		return (isExact ? this.#exact() === this.#exactBefore : this.inodes() === this.#lowersBefore) ? null : "a lower has changed";
	}

	#exact(): string {
		// nobody can write to an image
		if (this.#images !== null) return this.inodes();
		return this.lowers
			.flatMap((path, i) => [...snapshotTree(path, { exact: true })].map(([name, line]) => `${i} ${name} ${line}`))
			.join("\n");
	}
}

/** One line for each inode. Access times of directories are left out: to list them here may change them. */
export function inodesBelow(top: string): string {
	const lines: string[] = [];
	const visit = (path: string) => {
		const stat = lstatSync(join(top, path), { bigint: true });
		const { ino, nlink, mode, uid, gid, size, mtimeNs, ctimeNs, atimeNs } = stat;
		const rest = stat.isSymbolicLink() ? readlinkSync(join(top, path)) : stat.isDirectory() ? "" : atimeNs;
		lines.push([path, ino, nlink, mode, uid, gid, size, mtimeNs, ctimeNs, rest].join(" "));
		if (stat.isDirectory()) for (const name of readdirSync(join(top, path)).sort()) visit(path === "" ? name : `${path}/${name}`);
	};
	visit("");
	return lines.join("\n");
}
