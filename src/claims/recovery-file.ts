// The file `clients`: who may reclaim after the host has failed.

import type { ClaimFolder, FileForm } from "./claim-folder.ts";
import { ClaimError } from "./errors.ts";
import type { RecoveryList } from "./recovery-list.ts";

export const CLIENTS_FILE: FileForm = {
	name: "clients",
	magic: "HFNC",
	version: 1,
	remedy: "It says who may reclaim files and locks after a failure of the host. Remove it, and nobody may: clients lose what they had.",
};

type Owners = ReadonlyMap<string, boolean>;

/** Clients by owner (latin1), and whether they denied others a mode. Empty where there is no file. */
export function readClients(folder: ClaimFolder): Map<string, boolean> {
	const owners = new Map<string, boolean>();
	const bytes = folder.readForm(CLIENTS_FILE);
	for (let at = 0; bytes !== null && at < bytes.length; ) {
		const length = bytes.readUInt16BE(at + 1);
		owners.set(bytes.toString("latin1", at + 3, at + 3 + length), bytes[at] === 1);
		at += 3 + length;
	}
	return owners;
}

function encode(owners: Owners): Buffer {
	const parts: Buffer[] = [];
	for (const [owner, denies] of owners) {
		const head = Buffer.alloc(3);
		head[0] = denies ? 1 : 0;
		head.writeUInt16BE(owner.length, 1);
		parts.push(head, Buffer.from(owner, "latin1"));
	}
	return Buffer.concat(parts);
}

/** Written anew as a whole, one time after the other, by whoever waits for it: all changes until a writing begins share it. */
export class RecoveryFile implements RecoveryList {
	readonly #folder: ClaimFolder;
	readonly #warn: (sentence: string) => void;
	/** As it should be. */
	readonly #owners: Map<string, boolean>;
	/** As it is on disk, and as it is being written. */
	#onDisk: Owners;
	#writing: Owners | null = null;
	/** Counts changes of `#owners`. */
	#version = 0;
	#versionOnDisk = 0;
	/** Until which somebody was struck off. */
	#struckVersion = 0;
	#running: Promise<void> | null = null;
	#failure: Error | null = null;
	#hasWarned = false;

	constructor(folder: ClaimFolder, owners: Owners, warn: (sentence: string) => void) {
		this.#folder = folder;
		this.#owners = new Map(owners);
		this.#onDisk = owners;
		this.#warn = warn;
	}

	demand(owner: string, denies: boolean): Promise<void> | null {
		const wanted = this.#owners.get(owner);
		if (wanted === undefined || (denies && !wanted)) {
			this.#owners.set(owner, denies);
			this.#version++;
		}
		const isIn = (owners: Owners) => {
			const found = owners.get(owner);
			return found !== undefined && (found || !denies);
		};
		if (isIn(this.#onDisk) && (this.#writing === null || isIn(this.#writing))) return null;
		return this.#written("nospc");
	}

	drop(owner: string): void {
		if (!this.#owners.delete(owner)) return;
		this.#version++;
		this.#begin();
	}

	strike(owner: string): void {
		const isNowhere = !this.#owners.delete(owner) && !this.#onDisk.has(owner) && !this.#writing?.has(owner);
		if (isNowhere && this.#failure === null) return;
		this.#struckVersion = ++this.#version;
		this.#begin();
	}

	struck(): Promise<void> | null {
		return this.#versionOnDisk >= this.#struckVersion ? null : this.#written("delay");
	}

	async replace(owners: Owners): Promise<void> {
		this.#owners.clear();
		for (const [owner, denies] of owners) this.#owners.set(owner, denies);
		const version = ++this.#version;
		while (this.#versionOnDisk < version) {
			await this.#begin();
			if (this.#failure !== null) throw this.#failure;
		}
	}

	/** Resolves after the next writing. If the last one failed it is tried again, and who asks is refused for now. */
	#written(code: "nospc" | "delay"): Promise<void> {
		const hasFailed = this.#failure !== null && this.#running === null;
		const ready = this.#begin();
		if (hasFailed) throw new ClaimError(code, "The list of clients that may reclaim cannot be written");
		return ready;
	}

	/** One writing, or what is left of the one under way. */
	#begin(): Promise<void> {
		this.#running ??= this.#write();
		return this.#running;
	}

	/** Never rejects. */
	async #write(): Promise<void> {
		const version = this.#version;
		const owners = new Map(this.#owners);
		this.#writing = owners;
		this.#failure = null;
		try {
			await this.#folder.replace(CLIENTS_FILE, encode(owners));
			this.#onDisk = owners;
			this.#versionOnDisk = version;
			this.#hasWarned = false;
		} catch (error) {
			this.#failure = error as Error;
			// either of the two may stand there now
			this.#onDisk = new Map();
			if (!this.#hasWarned) this.#warn(`Clients that open files are refused: ${this.#failure.message}`);
			this.#hasWarned = true;
		}
		this.#writing = null;
		this.#running = null;
		if (this.#failure === null && this.#version > this.#versionOnDisk) this.#begin();
	}
}
