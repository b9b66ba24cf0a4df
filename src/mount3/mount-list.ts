// The list of mounts that DUMP answers from.

import { RecentMap } from "../collections/recent-map.ts";

/** Entries beyond it push out the oldest: DUMP is for people to look at, nothing depends on it. */
const ENTRIES_MAX = 1024;

export interface MountEntry {
	readonly host: string;
	/** As the client gave it: bytes in latin1. */
	readonly path: string;
}

/** Who has mounted what, as far as clients say (RFC 1813 section 5.2.2). In memory only. */
export class MountList {
	readonly #entries = new RecentMap<string, MountEntry>(ENTRIES_MAX);

	add(host: string, path: string): void {
		this.#entries.set(`${host}\0${path}`, { host, path });
	}

	remove(host: string, path: string): void {
		this.#entries.delete(`${host}\0${path}`);
	}

	removeAll(host: string): void {
		for (const [key, entry] of this.#entries.entries()) {
			if (entry.host === host) this.#entries.delete(key);
		}
	}

	*entries(): Generator<MountEntry> {
		for (const [, entry] of this.#entries.entries()) yield entry;
	}
}
