// The part of an export that can be written, with the journal through which it is changed.

import type { UpperState } from "../work/upper-state.ts";
import type { Journal } from "./journal.ts";

/** An upper with its journal, through which alone it is changed. */
export interface Writable extends UpperState {
	readonly journal: Journal;
}
