// Keeps pages of listings for as long as nothing has changed.

import { RecentMap } from "../collections/recent-map.ts";

/** Of all pages of one version of NFS. */
const BYTES_MAX = 16 * 1024 * 1024;
/** As long as attributes are remembered. */
const LIFE_MS = 3000;

interface Page {
	/** Of the overlay's changes, and the moment, when it was written. */
	readonly changes: number;
	readonly time: number;
	readonly bytes: Buffer;
}

/** Pages of listings (READDIRPLUS, and READDIR of version 4) as they were written last, for as long as nothing has changed: many clients read the same directories. */
export class PageCache {
	readonly #pages = new RecentMap<string, Page>();
	#bytes = 0;

	/** Null where there is none, or one that may be out of date. */
	get(key: string, changes: number, now: number): Buffer | null {
		const page = this.#pages.get(key);
		if (page === undefined) return null;
		if (page.changes === changes && now - page.time < LIFE_MS) return page.bytes;
		this.#drop(key, page);
		return null;
	}

	set(key: string, changes: number, time: number, bytes: Buffer): void {
		const former = this.#pages.get(key);
		if (former !== undefined) this.#drop(key, former);
		this.#pages.set(key, { changes, time, bytes });
		this.#bytes += bytes.length;
		while (this.#bytes > BYTES_MAX) {
			const oldest = this.#pages.oldest as string;
			this.#drop(oldest, this.#pages.get(oldest) as Page);
		}
	}

	#drop(key: string, page: Page): void {
		this.#pages.delete(key);
		this.#bytes -= page.bytes.length;
	}
}
