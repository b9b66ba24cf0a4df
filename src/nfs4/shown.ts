// What attributes are told of: an object, as a client of version 4 sees it.

import type { Export } from "../exports/export.ts";
import type { OverlayObject } from "../vfs/operations.ts";
import type { Shown } from "./attributes.ts";
import type { Compound, Place } from "./compound.ts";

export function shownObject(compound: Compound, served: Export, object: OverlayObject): Shown {
	const { context } = compound;
	const covered = context.namespace.coveredFileid(served);
	const isRoot = covered !== null && Buffer.compare(object.handle, served.overlay.root.handle) === 0;
	return { context, served, object, attributes: served.overlay.getattr(object), coveredFileid: isRoot ? covered : null };
}

export function shownPlace(compound: Compound, place: Place): Shown {
	return shownObject(compound, place.served, compound.object(place));
}
