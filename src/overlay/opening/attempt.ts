// What the phases of opening an export share.

import type { Budget } from "./budget.ts";
import type { ChosenHandles } from "./choose-handles.ts";
import type { OpenOptions } from "./open-options.ts";

export interface Resource {
	close(): void;
}

/** One attempt to open an export, with one kind of handles. */
export interface Attempt {
	readonly options: OpenOptions;
	readonly handles: ChosenHandles;
	/** What it shares with the other exports of the process. */
	readonly budget: Budget;
	/** Owners, modes and devices are kept in xattrs, since the process may not set real ones. */
	readonly keepsRights: boolean;
	/** Closed when the overlay is, or when the attempt fails. */
	keep<T extends Resource>(resource: T): T;
	/** Folders that were made for a new export; undone when the attempt fails. */
	readonly made: Resource[];
}
