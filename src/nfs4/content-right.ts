// By which right a READ, WRITE or SETATTR goes at content: an open, or none.

import { ClaimError } from "../claims/errors.ts";
import type { ContentRight, OverlayObject } from "../vfs/operations.ts";
import type { Compound } from "./compound.ts";
import type { WireStateid } from "./stateid.ts";

/** `access`: 1 to read, 2 to write. Throws where the stateid does not give it, or an open of somebody else denies it. */
export function contentRight(compound: Compound, stateid: WireStateid, object: OverlayObject, access: number): ContentRight {
	const { claims } = compound.context;
	if (stateid === "bypass" && access === 1) return "mode";
	if (typeof stateid === "string") {
		claims.checkAnonymous(object.handle, access);
		return "mode";
	}
	try {
		claims.checkContent(compound.session.client, stateid, object.handle, access);
	} catch (error) {
		// sent again after a restart, and closed by an operation behind this one
		if (!(error instanceof ClaimError && claims.isAnsweredBehind(compound.claimChange(), stateid))) throw error;
	}
	return "open";
}
