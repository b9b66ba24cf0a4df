// How long the kernel may believe names and attributes without asking.

import { NOTIFY_INC_EPOCH_MINOR } from "./protocol.ts";

export interface Validity {
	/** Of names, of what is not there too. */
	readonly nameMilliseconds: number;
	readonly attributeMilliseconds: number;
}

const DAY = 24 * 60 * 60 * 1000;
const ALONE: Validity = { nameMilliseconds: DAY, attributeMilliseconds: DAY };
/** What others have changed is to be seen within a tenth of a second, the time that a request takes included. */
const UNTOLD_MILLISECONDS = 50;
/** The kernel is told when names are to be looked up anew. Of a file that is open it asks for no name. */
const TOLD: Validity = { nameMilliseconds: 1000, attributeMilliseconds: UNTOLD_MILLISECONDS };
const UNTOLD: Validity = { nameMilliseconds: UNTOLD_MILLISECONDS, attributeMilliseconds: UNTOLD_MILLISECONDS };

/** `isShared`: others than the kernel change the same objects. `minor`: of the protocol, as INIT has agreed on it. */
export function validityOf(isShared: boolean, minor: number): Validity {
	if (!isShared) return ALONE;
	return minor >= NOTIFY_INC_EPOCH_MINOR ? TOLD : UNTOLD;
}
