// The shared flush that makes changes of names and attributes stable.

import { changeTimes } from "../../linux/attributes.ts";
import { ERRNO } from "../../linux/errno.ts";
import { failed } from "../../vfs/system-errors.ts";
import type { Engine } from "../engine/engine.ts";
import { isFlushedByJournal, type Journal } from "../journal/journal.ts";
import type { Writable } from "../journal/writable.ts";

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
	readonly #journal: Journal;
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
		this.#journal = writable.journal;
		this.#journal.onFilling = (files) => {
			// should one fail, answers are lost only if the power fails too
			for (const fd of files) void engine.offload.run({ kind: "sync", fd, scope: "file" });
		};
	}

	/** Makes content stable that was written through `fd`; 0, or the negated error number. */
	async content(fd: number): Promise<number> {
		// elsewhere than in order an fsync can bring a later change to the disk without an earlier one
		const scope = this.#method === "file system" ? "file system" : "file";
		return (await this.#engine.offload.run({ kind: "sync", fd, scope })) as number;
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

	#startNext(): Promise<void> {
		this.#next = null;
		return this.#start();
	}

	#start(): Promise<void> {
		this.flushes++;
		const isFile = this.#method === "journal" && this.#journal.log >= 0;
		if (isFile) changeTimes(this.#journal.log, "now", "now");
		const job = isFile ? { fd: this.#journal.log, scope: "file" as const } : { fd: this.#work, scope: "file system" as const };
		const running = this.#engine.offload.run({ kind: "sync", ...job }).then((status) => {
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
	return isFlushedByJournal(fileSystem) ? "journal" : "file system";
}
