// The list on disk of clients that may reclaim after a failure of the host (RFC 8881 section 8.4.3).

/** What the rules of grace need of it. A client is known by its `listKey`, which outlives its client id. */
export interface RecoveryList {
	/** Null where the client stands on disk, with the word that it denies others a mode if so; else resolves when it does. */
	demand(client: string, denies: boolean): Promise<void> | null;
	/** It need not stand there any more; when that reaches the disk does not matter. */
	drop(client: string): void;
	/** It must not stand there any more before others are given what it had: see `struck`. */
	strike(client: string): void;
	/** Null where all that were struck off are off the disk; else resolves when they are. */
	struck(): Promise<void> | null;
	/** Takes the place of the list, by one rename. */
	replace(clients: ReadonlyMap<string, boolean>): Promise<void>;
}

/** For a server that keeps nothing on disk. */
export const NO_LIST: RecoveryList = {
	demand: () => null,
	drop() {},
	strike() {},
	struck: () => null,
	replace: () => Promise.resolve(),
};
