import { execFileSync } from "node:child_process";
import { lstatSync, mkdirSync, readdirSync, readlinkSync, renameSync } from "node:fs";
import { join } from "node:path";
import type { OpenOptions } from "../../src/overlay/opening/open-options.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import { untilReady } from "../../src/overlay/operations/until-ready.ts";
import { closeAll, descriptorsOn, flushFileSystem } from "../crash/power-disk.ts";
import { keptBy } from "../crash/stage.ts";
import { workInline } from "../differential/inline-offload.ts";
import { keyed, keyOf } from "../in-process/keyed.ts";
import { walk } from "../in-process/walk.ts";
import { snapshotTree } from "../support/tree-snapshot.ts";
import { type Change, perform, rename } from "./change.ts";
import { type CopyName, copyTree } from "./copies.ts";
import type { Disk } from "./disk.ts";
import { KINDS } from "./kinds.ts";
import { type Place, RootPlace } from "./place.ts";
import { copyDisk, type Stack } from "./stacks.ts";

let serial = 0;

/** The lowers of one stack, planted once for all its cells: nothing may ever change in them. */
export class Ground {
	readonly stack: Stack;
	/** That of upper and work first. */
	readonly disks: readonly Disk[];
	readonly #place: Place;
	readonly #folder: string;
	#lowersBefore = "";
	#exactBefore = "";
	/** Where the lowers are mounted that lie on none of the disks. */
	#mounted: readonly string[] | null = null;
	/** What is shown there by a file system in user space. */
	#behind: readonly string[] | null = null;

	private constructor(place: Place, stack: Stack) {
		this.stack = stack;
		this.#place = place;
		this.disks = [...new Set([stack.upper, ...stack.disks])].map((kind) => place.disk(kind));
		this.#folder = stack.name.replaceAll(/[^a-z0-9]+/g, "-");
	}

	static async make(place: Place, stack: Stack): Promise<Ground> {
		const ground = new Ground(place, stack);
		await ground.#plant();
		ground.flush();
		// this one reads files, which may move their access times
		ground.#exactBefore = ground.#exact();
		ground.#lowersBefore = ground.inodes();
		return ground;
	}

	async #plant(): Promise<void> {
		const { stack } = this;
		if (stack.image === "squashfs" || stack.image === "erofs") {
			this.#mounted = this.#place.imagesOf(stack);
			return;
		}
		const planted = stack.image === null ? this.lowers : stack.disks.map((_, i) => join(this.#place.folder(), `lower${i}`));
		for (const lower of planted) mkdirSync(lower, { recursive: true });
		for (const kind of KINDS) kind.plant(planted, stack);
		if (stack.hasRedirect) await this.#redirect();
		if (stack.image === null) return;
		this.#behind = planted;
		this.#mounted = planted.map((folder) => this.#place.showByFuse(folder));
	}

	get lowers(): string[] {
		if (this.#mounted !== null) return [...this.#mounted];
		return this.stack.disks.map((kind, i) => join(this.#place.disk(kind).path, this.#folder, `lower${i}`));
	}

	/** Where the cells have their uppers. */
	get cells(): string {
		return join(this.#place.disk(this.stack.upper).path, this.#folder, "cells");
	}

	/** An empty folder on another file system than that of upper. */
	place(): string {
		const path = join(this.#place.disk(copyDisk(this.stack.upper)).path, `place${serial++}`);
		mkdirSync(path);
		return path;
	}

	/** Whoever made the lowers copies them. */
	copyLowers(name: CopyName, to: string): string[] {
		return this.lowers.map((lower, i) => {
			const copy = join(to, `lower${i}`);
			mkdirSync(copy);
			if (this.#mounted !== null && this.#behind === null) this.#place.copyAsRoot(name, lower, copy);
			else copyTree(name, lower, copy);
			return copy;
		});
	}

	/** With all that is in it, whoever made it. */
	remove(path: string): void {
		this.#place.remove(path);
	}

	/** Directories are renamed in an overlay whose upper is a lower from then on: the kernel's, or that of an ordinary user, one of ours. */
	async #redirect(): Promise<void> {
		const { lowers, stack } = this;
		const upper = lowers[stack.redirecting];
		const below = lowers.slice(stack.redirecting + 1);
		const work = `${upper}.work`;
		mkdirSync(work);
		const tops = KINDS.filter((kind) => kind.plantsBelowRedirect).map(({ top }) => top);
		if (stack.keeping === "ordinary") {
			const changes = tops.flatMap((top) => [
				rename(`${top}0/g/p`, `${top}0/o/p`),
				rename(`${top}0`, top),
				rename(`${top}/o/p`, `${top}/g/p`),
			]);
			await this.#change({ lowers: below, upper, work, stateFolder: `${upper}.state` }, changes);
			return;
		}
		this.kernel(`lowerdir=${below.join(":")},upperdir=${upper},workdir=${work},redirect_dir=on,index=on`, (tree) => {
			for (const top of tops) {
				renameSync(join(tree, `${top}0/g/p`), join(tree, `${top}0/o/p`));
				renameSync(join(tree, `${top}0`), join(tree, top));
				renameSync(join(tree, `${top}/o/p`), join(tree, `${top}/g/p`));
			}
		});
	}

	async #change(layers: Pick<OpenOptions, "lowers" | "upper" | "work" | "stateFolder">, changes: readonly Change[]): Promise<void> {
		const overlay = workInline(openOverlay({ ...layers, purpose: "serve", isSync: false, ...keptBy(this.stack.keeping) }).overlay);
		for (const [i, change] of changes.entries()) {
			await untilReady(() => {
				perform(keyed(overlay, keyOf("before", i)), change, (path) => overlay.decode(walk(overlay, path).handle));
			});
		}
		await overlay.close();
	}

	/** Lets the kernel's overlayfs work; `act` gets the mounted tree. */
	kernel(options: string, act: (tree: string) => void): void {
		if (!(this.#place instanceof RootPlace)) throw new Error("only root mounts the kernel's overlayfs here");
		const at = this.#place.mountPoint;
		execFileSync("mount", ["-t", "overlay", "overlay", "-o", options, at], { stdio: "pipe" });
		try {
			act(at);
		} finally {
			execFileSync("umount", [at]);
		}
	}

	/** Whatever this process has open in the layers, as its end would. */
	closeDescriptors(): void {
		for (const at of [...this.disks.map(({ path }) => path), ...(this.#mounted ?? [])]) closeAll(descriptorsOn(at));
	}

	flush(): void {
		for (const { path } of this.disks) flushFileSystem(path);
	}

	/** Numbers, link counts, sizes, owners, modes and times of all inodes of the lowers. */
	inodes(): string {
		return (this.#behind ?? this.lowers).map((lower) => inodesBelow(lower)).join("\n");
	}

	/** What has happened to the lowers; null when nothing has. */
	changed(isExact: boolean): string | null {
		return (isExact ? this.#exact() === this.#exactBefore : this.inodes() === this.#lowersBefore) ? null : "a lower has changed";
	}

	#exact(): string {
		// nobody can write to an image
		if (this.#mounted !== null && this.#behind === null) return this.inodes();
		return (this.#behind ?? this.lowers)
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
