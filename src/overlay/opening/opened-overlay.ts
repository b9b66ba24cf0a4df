// What `openOverlay` gives: the overlay, and what its user should be told.

import type { Credentials } from "../../vfs/operations.ts";
import type { UpperReport } from "../adopt/adopt-upper.ts";
import type { Overlay } from "../operations/overlay.ts";
import type { Registry } from "../work/registry.ts";
import type { ChosenHandles } from "./choose-handles.ts";

/** An overlay, and what its user should be told about it. */
export interface OpenedOverlay {
	readonly overlay: Overlay;
	readonly registry: Registry;
	/** The folder of the export's own state: registry, saved replies. */
	readonly folder: string;
	readonly upper: string | null;
	readonly work: string | null;
	/** What had to be adopted of upper before it could be served. */
	readonly adopted: UpperReport | null;
	/** Changes that were interrupted, and wait for room on the disk of upper. */
	readonly postponed: number;
	/** Where ids come from, and why. */
	readonly handles: ChosenHandles;
	/** The ordinary user with whose rights every client acts; null: clients are who they say. */
	readonly actsAs: Credentials | null;
	/** Upper was made just now. */
	readonly isNewUpper: boolean;
	/** An upper that was made just now, and that other users of this host reach: what clients make in it is open to them as its modes say. */
	readonly isUpperExposed: boolean;
	/** Lowers that belong to somebody else, by their paths. */
	readonly foreignLowers: readonly string[];
}
