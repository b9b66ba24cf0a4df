// A map that knows which of its entries was used longest ago.

interface Entry<K, V> {
	readonly key: K;
	value: V;
	newer: Entry<K, V> | null;
	older: Entry<K, V> | null;
}

/**
 * Keeps at most `max` entries: what was set or used longest ago goes. Every step is O(1). A Map alone is not: it finds its first entry by
 * passing over all that were deleted before it since it was laid out last.
 */
export class RecentMap<K, V> {
	readonly max: number;
	readonly #entries = new Map<K, Entry<K, V>>();
	#newest: Entry<K, V> | null = null;
	#oldest: Entry<K, V> | null = null;

	constructor(max: number = Number.POSITIVE_INFINITY) {
		this.max = max;
	}

	get size(): number {
		return this.#entries.size;
	}

	/** The key that was set or used longest ago. */
	get oldest(): K | undefined {
		return this.#oldest?.key;
	}

	/** The value, which does not count as used by that. */
	get(key: K): V | undefined {
		return this.#entries.get(key)?.value;
	}

	/** The value, now the one used last. */
	use(key: K): V | undefined {
		const entry = this.#entries.get(key);
		if (entry === undefined) return undefined;
		this.#touch(entry);
		return entry.value;
	}

	set(key: K, value: V): void {
		const known = this.#entries.get(key);
		if (known !== undefined) {
			known.value = value;
			this.#touch(known);
			return;
		}
		const entry = { key, value, newer: null, older: null };
		this.#entries.set(key, entry);
		this.#link(entry);
		if (this.#entries.size > this.max) this.delete((this.#oldest as Entry<K, V>).key);
	}

	delete(key: K): boolean {
		const entry = this.#entries.get(key);
		if (entry === undefined) return false;
		this.#entries.delete(key);
		this.#unlink(entry);
		return true;
	}

	/** From the one used longest ago on. An entry may be deleted while it is shown. */
	*entries(): Generator<[K, V]> {
		for (let entry = this.#oldest; entry !== null; ) {
			const { newer } = entry;
			yield [entry.key, entry.value];
			entry = newer;
		}
	}

	#touch(entry: Entry<K, V>): void {
		if (this.#newest === entry) return;
		this.#unlink(entry);
		this.#link(entry);
	}

	#link(entry: Entry<K, V>): void {
		entry.older = this.#newest;
		if (this.#newest === null) this.#oldest = entry;
		else this.#newest.newer = entry;
		this.#newest = entry;
	}

	#unlink(entry: Entry<K, V>): void {
		if (entry.newer !== null) entry.newer.older = entry.older;
		else this.#newest = entry.older;
		if (entry.older !== null) entry.older.newer = entry.newer;
		else this.#oldest = entry.newer;
		entry.newer = null;
		entry.older = null;
	}
}
