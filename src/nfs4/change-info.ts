// change_info4: the change attribute of a directory before and after a change.

import type { Attributes } from "../vfs/operations.ts";
import type { XdrWriter } from "../xdr/xdr-writer.ts";
import type { Compound, Place } from "./compound.ts";

export const CHANGE_INFO_BYTES = 20;

/** A change attribute in two halves. */
export type ChangeValue = Pick<Attributes, "changeHi" | "changeLo">;

export function changeOf(compound: Compound, place: Place): ChangeValue {
	return place.served.overlay.getattr(compound.object(place));
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
