// The file `clients`: who may reclaim after the host has failed.

import type { ClaimFolder, FileForm } from "./claim-folder.ts";
import { ClaimError, unwritten } from "./errors.ts";
import type { RecoveryList } from "./recovery-list.ts";

export const CLIENTS_FILE: FileForm = {
	name: "clients",
	magic: "HFNC",
	version: 1,
	remedy: "It says who may reclaim files and locks after a failure of the host. Remove it, and nobody may: clients lose what they had.",
};

type Clients = ReadonlyMap<string, boolean>;

/** Clients (`listKey`), and whether they denied others a mode. Empty where there is no file. */
export function readClients(folder: ClaimFolder): Map<string, boolean> {
	const clients = new Map<string, boolean>();
	const bytes = folder.readForm(CLIENTS_FILE);
	for (let at = 0; bytes !== null && at < bytes.length; ) {
		const length = bytes.readUInt16BE(at + 1);
		clients.set(bytes.toString("latin1", at + 3, at + 3 + length), bytes[at] === 1);
		at += 3 + length;
	}
	return clients;
}

function encode(clients: Clients): Buffer {
	const parts: Buffer[] = [];
	for (const [client, denies] of clients) {
		const head = Buffer.alloc(3);
		head[0] = denies ? 1 : 0;
		head.writeUInt16BE(client.length, 1);
		parts.push(head, Buffer.from(client, "latin1"));
	}
	return Buffer.concat(parts);
}

/** Written anew as a whole, one time after the other, by whoever waits for it: all changes until a writing begins share it. */
export class RecoveryFile implements RecoveryList {
	readonly #folder: ClaimFolder;
	readonly #warn: (sentence: string) => void;
	/** As it should be. */
	readonly #clients: Map<string, boolean>;
	/** As it is on disk, and as it is being written. */
	#onDisk: Clients;
	#writing: Clients | null = null;
	/** Counts changes of `#clients`. */
	#version = 0;
	#versionOnDisk = 0;
	/** Until which somebody was struck off. */
	#struckVersion = 0;
	#running: Promise<void> | null = null;
	#failure: NodeJS.ErrnoException | null = null;
	#hasWarned = false;

	constructor(folder: ClaimFolder, clients: Clients, warn: (sentence: string) => void) {
		this.#folder = folder;
		this.#clients = new Map(clients);
		this.#onDisk = clients;
		this.#warn = warn;
	}

	demand(client: string, denies: boolean): Promise<void> | null {
		const wanted = this.#clients.get(client);
		if (wanted === undefined || (denies && !wanted)) {
			this.#clients.set(client, denies);
			this.#version++;
		}
		const isIn = (clients: Clients) => {
			const found = clients.get(client);
			return found !== undefined && (found || !denies);
		};
		if (isIn(this.#onDisk) && (this.#writing === null || isIn(this.#writing))) return null;
		return this.#written(null);
	}

	drop(client: string): void {
		if (!this.#clients.delete(client)) return;
		this.#version++;
		this.#begin();
	}

	strike(client: string): void {
		const isNowhere = !this.#clients.delete(client) && !this.#onDisk.has(client) && !this.#writing?.has(client);
		if (isNowhere && this.#failure === null) return;
		this.#struckVersion = ++this.#version;
		this.#begin();
	}

	struck(): Promise<void> | null {
		return this.#versionOnDisk >= this.#struckVersion ? null : this.#written("delay");
	}

	async replace(clients: Clients): Promise<void> {
		this.#clients.clear();
		for (const [client, denies] of clients) this.#clients.set(client, denies);
		const version = ++this.#version;
		while (this.#versionOnDisk < version) {
			await this.#begin();
			if (this.#failure !== null) throw this.#failure;
		}
	}

	/** Resolves after the next writing. If the last one failed it is tried again, and who asks is refused for now: with the code, or what became of it. */
	#written(code: "delay" | null): Promise<void> {
		const failure = this.#running === null ? this.#failure : null;
		const ready = this.#begin();
		if (failure !== null)
			throw new ClaimError(code ?? unwritten(failure.errno ?? 0), "The list of clients that may reclaim cannot be written");
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
		const clients = new Map(this.#clients);
		this.#writing = clients;
		this.#failure = null;
		try {
			await this.#folder.replace(CLIENTS_FILE, encode(clients));
			this.#onDisk = clients;
			this.#versionOnDisk = version;
			this.#hasWarned = false;
		} catch (error) {
			this.#failure = error as NodeJS.ErrnoException;
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
