// LOOKUP: a name in the current directory becomes the current handle.

import { findName } from "./find-name.ts";
import { directoryToSearch } from "./kinds.ts";
import { checkComponent, readComponent } from "./names.ts";
import type { Operation } from "./operation.ts";
import { Op } from "./protocol.ts";
import { Status } from "./status.ts";

/** RFC 8881 section 18.13. */
export const lookup: Operation = {
	number: Op.lookup,
	name: "LOOKUP",
	resultBytesMax: 0,
	looks: true,
	run(compound, args) {
		const name = readComponent(args);
		const place = compound.here();
		directoryToSearch(compound.object(place));
		checkComponent(name);
		const found = findName(compound, place, name);
		// The most frequent failure of all: not worth an exception.
		if (found === null) return Status.noent;
		compound.moveTo(compound.placeOf(found.served, found.object));
		return Status.ok;
	},
};
