import { readSync, writeSync } from "node:fs";
import { closeAll, descriptorsOn, Inconclusive } from "../crash/power-disk.ts";
import type { CopyName } from "./copies.ts";
import type { Disk } from "./disk.ts";
import { type Answer, LINE_FD, type Services } from "./ordinary-process.ts";
import type { Place } from "./place.ts";
import type { DiskKind, Stack } from "./stacks.ts";

/** Asks root, and waits. */
function ask<Name extends keyof Services>(name: Name, ...given: Parameters<Services[Name]>): Awaited<ReturnType<Services[Name]>> {
	const request = Buffer.from(`${JSON.stringify([name, ...given])}\n`);
	for (let at = 0; at < request.length; ) at += writeSync(LINE_FD, request, at);
	const { value, error, isInconclusive } = JSON.parse(readLine()) as Answer;
	if (error !== undefined) throw isInconclusive ? new Inconclusive(error) : new Error(`root, asked for ${name}: ${error}`);
	return value as Awaited<ReturnType<Services[Name]>>;
}

function readLine(): string {
	const chunk = Buffer.alloc(65_536);
	let line = "";
	while (!line.endsWith("\n")) {
		const count = readSync(LINE_FD, chunk, 0, chunk.length, null);
		if (count === 0) process.exit(1);
		line += chunk.toString("utf8", 0, count);
	}
	return line;
}

/** A file system that another process mounts, while this one has files open there. */
class ServedDisk implements Disk {
	readonly #kind: DiskKind;
	#path: string;
	#open: readonly number[] = [];

	constructor(kind: DiskKind) {
		this.#kind = kind;
		this.#path = ask("disk", kind);
	}

	get path(): string {
		return this.#path;
	}

	cut(isCommitted: boolean): void {
		// a file system that is shut down does not even say whose a descriptor is
		this.#open = descriptorsOn(this.#path);
		ask("cut", this.#kind, isCommitted);
	}

	restore(): void {
		closeAll(this.#open);
		this.#path = ask("mountAgain", this.#kind, "restore");
	}

	move(): void {
		this.#path = ask("mountAgain", this.#kind, "move");
	}

	moveBack(): void {
		this.#path = ask("mountAgain", this.#kind, "moveBack");
	}
}

/** Of an ordinary user, who asks root for it. */
export class ServedPlace implements Place {
	readonly #disks = new Map<DiskKind, Disk>();

	disk(kind: DiskKind): Disk {
		const disk = this.#disks.get(kind) ?? new ServedDisk(kind);
		this.#disks.set(kind, disk);
		return disk;
	}

	imagesOf(stack: Stack): readonly string[] {
		return ask("imagesOf", stack.name);
	}

	folder(): string {
		return ask("folder");
	}

	showByFuse(folder: string): string {
		return ask("showByFuse", folder);
	}

	copyAsRoot(name: CopyName, from: string, to: string): void {
		ask("copyAsRoot", name, from, to);
	}

	remove(path: string): void {
		ask("remove", path);
	}

	async startAnew(): Promise<void> {
		this.#disks.clear();
		ask("startAnew");
	}

	async close(): Promise<void> {}
}
