// change_info4: the change attribute of a directory before and after a change.

import { OverlayError } from "../vfs/errors.ts";
import type { Attributes } from "../vfs/operations.ts";
import type { XdrWriter } from "../xdr/xdr-writer.ts";
import type { Compound, Place } from "./compound.ts";

export const CHANGE_INFO_BYTES = 20;

/** A change attribute in two halves. */
export type ChangeValue = Pick<Attributes, "changeHi" | "changeLo">;

export const UNKNOWN_CHANGE: ChangeValue = { changeHi: 0, changeLo: 0 };

export function changeOf(compound: Compound, place: Place): ChangeValue {
	return place.served.overlay.getattr(compound.object(place));
}

/** As `changeOf`, behind a change that was made. Where the directory has gone since a restart, nothing is known. */
function changeNow(compound: Compound, place: Place): ChangeValue {
	try {
		return changeOf(compound, place);
	} catch (error) {
		if (error instanceof OverlayError && error.code === "stale") return UNKNOWN_CHANGE;
		throw error;
	}
}

/** change_info4 of a change that was made before a restart. */
export function writeChangeAgain(compound: Compound, reply: XdrWriter, place: Place): void {
	const { changeHi, changeLo } = changeNow(compound, place);
	reply.bool(false);
	reply.u64(changeHi, changeLo);
	reply.u64(changeHi, changeLo);
}

/**
 * Both were read in the pass that made the change, which nothing else can come between. Of one that was made before a restart the values of that time
 * are not known: the client is to look at the directory anew (RFC 8881 section 3.3.8).
 */
export function writeChangeInfo(compound: Compound, reply: XdrWriter, before: ChangeValue, after: ChangeValue): void {
	const isSame = before.changeHi === after.changeHi && before.changeLo === after.changeLo;
	reply.bool(!(isSame && compound.slot?.outcome === "rerun"));
	reply.u64(before.changeHi, before.changeLo);
	reply.u64(after.changeHi, after.changeLo);
}
