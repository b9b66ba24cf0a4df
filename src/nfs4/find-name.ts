// A name in a directory, into another export where one lies there.

import type { Export } from "../exports/export.ts";
import type { OverlayObject } from "../vfs/operations.ts";
import type { Compound, Place } from "./compound.ts";

export interface Found {
	readonly served: Export;
	readonly object: OverlayObject;
}

/** Null: there is no such name. The export that is entered must be for this caller. */
export function findName(compound: Compound, place: Place, name: Uint8Array): Found | null {
	const { served } = place;
	const { namespace } = compound.context;
	const from = compound.object(place);
	const who = compound.who(served);
	if (namespace.hasJunctions(served)) {
		const junction = namespace.entered(served, from, name, who);
		if (junction !== null) {
			compound.who(junction.served);
			compound.enter(junction.served);
			return { served: junction.served, object: junction.root };
		}
	}
	const object = served.overlay.lookup(from, name, who);
	return object === null ? null : { served, object };
}
