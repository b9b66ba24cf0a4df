import { execFileSync } from "node:child_process";
import { closeSync, fstatSync, fsyncSync, openSync, readdirSync, readFileSync, renameSync, statSync, writeSync } from "node:fs";
import { basename, join } from "node:path";
import { syncFileSystem } from "../../src/linux/data.ts";
import { arenaAddress, arenaView, declare, PLACE, result } from "../../src/linux/libc.ts";
import type { FileSystem, Scratch } from "../support/scratch.ts";

const ioctlCall = declare("ioctl", "int", ["int", "ulong", "pointer"]);
/** _IOR('X', 125, u32) of ext4, xfs and f2fs. */
const FS_IOC_SHUTDOWN = 0x8004587d;
/** What is not in the journal on disk by now never comes there. */
const NO_LOG_FLUSH = 2;
/** Of an image that the file system goes on writing to meanwhile. */
const COPIES_MAX = 50;
const RELEASE_MS = 20_000;

/** Something that is nobody's fault here, as somebody else on this host, has kept a test from being made: it says nothing. */
export class Inconclusive extends Error {}

/**
 * A file system in an image that can lose its power. btrfs has no FS_IOC_SHUTDOWN: there the image is copied at that instant, which has what
 * the file system had handed to its disk by then, and the copy takes its place.
 */
export class PowerDisk {
	readonly kind: FileSystem;
	readonly #made: Scratch;
	readonly #name: string;
	#path: string;
	#open: readonly number[] = [];

	constructor(made: Scratch, kind: FileSystem, name = `power-${kind}`) {
		this.kind = kind;
		this.#made = made;
		this.#name = name;
		this.#path = made.mount(kind, name, kind === "ext4" ? 96 : 320);
	}

	get path(): string {
		return this.#path;
	}

	get #image(): string {
		return join(this.#made.path, `${this.#name}.img`);
	}

	/** Somebody else flushes a file of their own: all metadata changed so far comes to the disk with it, and nobody's content. */
	commit(): void {
		if (this.kind === "btrfs") {
			// there a file of somebody else brings nothing along
			this.flush();
			return;
		}
		const file = openSync(join(this.#path, "somebody-elses"), "a");
		writeSync(file, "x");
		fsyncSync(file);
		closeSync(file);
	}

	/** Everything, content too, is on the disk. */
	flush(): void {
		flushFileSystem(this.#path);
	}

	/** From here on nothing reaches the disk. */
	cut(): void {
		// a file system that is shut down does not even say whose a descriptor is
		this.#open = descriptorsOn(this.#path);
		if (this.kind === "btrfs") {
			this.#copyImage();
			return;
		}
		const root = openSync(this.#path, "r");
		arenaView.setUint32(PLACE.ioctl, NO_LOG_FLUSH, true);
		const status = result(ioctlCall(root, FS_IOC_SHUTDOWN, arenaAddress + PLACE.ioctl));
		closeSync(root);
		if (status < 0) throw new Error(`FS_IOC_SHUTDOWN: ${status}`);
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

	/** The writes that the loop device has completed; null while one is under way. */
	#writes(): string | null {
		const mounts = readFileSync("/proc/self/mounts", "utf8").split("\n");
		const device = mounts.map((line) => line.split(" ")).findLast(([, at]) => at === this.#path)?.[0];
		if (device === undefined) throw new Error(`${this.#path} is not mounted`);
		// Documentation/block/stat.rst: I/Os, merges, sectors written, and I/Os in flight
		const fields = readFileSync(join("/sys/block", basename(device), "stat"), "utf8")
			.trim()
			.split(/\s+/);
		return fields[8] === "0" ? fields.slice(4, 7).join(" ") : null;
	}

	/** A mount of an image whose file system somebody still has, as in a mount namespace of theirs, would be that dead one again. */
	#untilReleased(): void {
		const end = Date.now() + RELEASE_MS;
		while (isAttached(this.#image)) {
			if (Date.now() > end) throw new Inconclusive(`${this.#image} is still in use ${RELEASE_MS} ms after it was unmounted`);
			Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
		}
	}

	/** The power is back: the journal is replayed. What was still open here is closed, as with a process that has ended. */
	restore(): void {
		closeAll(this.#open);
		this.#made.unmount(this.#path);
		this.#untilReleased();
		if (this.kind === "btrfs") renameSync(`${this.#image}.cut`, this.#image);
		this.#path = this.#made.mountImage(this.#name);
	}
}

function isAttached(image: string): boolean {
	return readdirSync("/sys/block").some((name) => {
		const backing = join("/sys/block", name, "loop/backing_file");
		try {
			return name.startsWith("loop") && readFileSync(backing, "utf8").trim() === image;
		} catch {
			return false;
		}
	});
}

/** All of the file system that a path lies on is on the disk. */
export function flushFileSystem(path: string): void {
	const root = openSync(path, "r");
	syncFileSystem(root);
	closeSync(root);
}

export function closeAll(descriptors: readonly number[]): void {
	for (const fd of descriptors) {
		try {
			closeSync(fd);
		} catch {
			// whoever had it open has closed it
		}
	}
}

/** What this process has open on the file system that a path lies on. */
export function descriptorsOn(path: string): number[] {
	const device = statSync(path).dev;
	return readdirSync("/proc/self/fd")
		.map(Number)
		.filter((fd) => {
			try {
				return fstatSync(fd).dev === device;
			} catch {
				// the descriptor of the listing itself
				return false;
			}
		});
}
