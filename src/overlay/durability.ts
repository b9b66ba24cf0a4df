import { changeTimesAt } from "../linux/attributes.ts";
import { ERRNO } from "../linux/errno.ts";
import { close, O, openAt } from "../linux/open.ts";
import { type Engine, failed, must, type Writable } from "./engine.ts";

const FLUSH_FILE = "flush";

/** How one flush makes every change before it stable, on the file system of upper and work. */
type Method = "none" | "journal" | "file system";

/**
 * The shared flush of an export with `sync`: all who wait at a moment wait for one. On ext4 and xfs an fsync of an inode whose metadata
 * changed after the batch commits the journal with all of the batch, and not the data that clients wrote unstably; elsewhere syncfs(2).
 */
export class Durability {
	readonly #engine: Engine;
	readonly #method: Method;
	readonly #isSync: boolean;
	readonly #fd: number;
	readonly #work: number;
	#running: Promise<void> | null = null;
	#next: Promise<void> | null = null;
	/** Flushes made so far. */
	flushes = 0;

	constructor(engine: Engine, writable: Writable, isSync: boolean) {
		this.#engine = engine;
		this.#isSync = isSync;
		this.#method = methodFor(writable.layer.fileSystem.name);
		this.#work = writable.work.own;
		this.#fd = must(openAt(this.#work, FLUSH_FILE, O.creat | O.rdwr, 0o600), "Cannot open the flush file");
	}

	/** See OverlayOperations.stable. */
	stable(): Promise<void> | null {
		if (!this.#isSync || this.#method === "none") return null;
		if (this.#running === null) return this.#start();
		// the flush that runs may have begun before the caller's change
		this.#next ??= this.#running.then(
			() => this.#startNext(),
			() => this.#startNext(),
		);
		return this.#next;
	}

	/** Flushes whatever the export says about replies: for the end of the server. */
	async flush(): Promise<void> {
		if (this.#method !== "none") await this.#start();
	}

	close(): void {
		close(this.#fd);
	}

	#startNext(): Promise<void> {
		this.#next = null;
		return this.#start();
	}

	#start(): Promise<void> {
		this.flushes++;
		if (this.#method === "journal") changeTimesAt(this.#work, FLUSH_FILE, "now", "now");
		const scope = this.#method === "journal" ? "file" : "file system";
		const running = this.#engine.offload.run({ kind: "sync", fd: this.#fd, scope }).then((status) => {
			if (status !== 0 && status !== -ERRNO.EINVAL) throw failed("Cannot flush the file system", status as number);
		});
		const settled = () => {
			if (this.#running === running) this.#running = null;
		};
		running.then(settled, settled);
		this.#running = running;
		return running;
	}
}

function methodFor(fileSystem: string): Method {
	if (fileSystem === "tmpfs") return "none";
	return fileSystem === "ext4" || fileSystem === "xfs" ? "journal" : "file system";
}
