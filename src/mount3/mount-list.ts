// The list of mounts that DUMP answers from.

/** Entries beyond it push out the oldest: DUMP is for people to look at, nothing depends on it. */
const ENTRIES_MAX = 1024;

export interface MountEntry {
	readonly host: string;
	/** As the client gave it: bytes in latin1. */
	readonly path: string;
}

/** Who has mounted what, as far as clients say (RFC 1813 section 5.2.2). In memory only. */
export class MountList {
	readonly #entries = new Map<string, MountEntry>();

	add(host: string, path: string): void {
		const key = `${host}\0${path}`;
		this.#entries.delete(key);
		this.#entries.set(key, { host, path });
		if (this.#entries.size > ENTRIES_MAX) this.#entries.delete(this.#entries.keys().next().value as string);
	}

	remove(host: string, path: string): void {
		this.#entries.delete(`${host}\0${path}`);
	}

	removeAll(host: string): void {
		for (const [key, entry] of this.#entries) {
			if (entry.host === host) this.#entries.delete(key);
		}
	}

	entries(): Iterable<MountEntry> {
		return this.#entries.values();
	}
}
