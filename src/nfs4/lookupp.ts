// LOOKUPP: the parent of the current directory becomes the current handle.

import type { Compound, Place } from "./compound.ts";
import type { Found } from "./find-name.ts";
import { directoryToSearch } from "./kinds.ts";
import type { Operation } from "./operation.ts";
import { Op } from "./protocol.ts";
import { Status } from "./status.ts";

const DOT_DOT = Buffer.from("..");

/** Null above the root of all exports. */
export function parentOf(compound: Compound, place: Place): Found | null {
	const { served } = place;
	const { namespace } = compound.context;
	const from = compound.object(place);
	if (served === namespace.pseudo) {
		const object = namespace.parentOf(from);
		return object === null ? null : { served, object };
	}
	const isRoot = Buffer.compare(place.handle, served.overlay.root.handle) === 0;
	if (!isRoot) {
		const object = served.overlay.lookup(from, DOT_DOT, compound.who(served));
		return object === null ? null : { served, object };
	}
	const outer = namespace.above(served, (one) => {
		const who = compound.who(one);
		compound.enter(one);
		return who;
	});
	return outer === null ? null : { served: outer.served, object: outer.root };
}

/** RFC 8881 section 18.14. */
export const lookupp: Operation = {
	number: Op.lookupp,
	name: "LOOKUPP",
	resultBytesMax: 0,
	looks: true,
	run(compound) {
		const place = compound.here();
		directoryToSearch(compound.object(place));
		const found = parentOf(compound, place);
		if (found === null) return Status.noent;
		compound.moveTo(compound.placeOf(found.served, found.object));
		return Status.ok;
	},
};
