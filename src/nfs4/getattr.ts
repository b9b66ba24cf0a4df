// GETATTR: attributes of the current object.

import { planOf, writeAttributes } from "./attributes.ts";
import { readBitmap } from "./bitmap.ts";
import type { Operation } from "./operation.ts";
import { Op } from "./protocol.ts";
import { shownPlace } from "./shown.ts";
import { Status } from "./status.ts";

/** RFC 8881 section 18.7. */
export const getattr: Operation = {
	number: Op.getattr,
	name: "GETATTR",
	resultBytesMax: 0,
	looks: true,
	run(compound, args, reply) {
		const asked = readBitmap(args);
		const place = compound.here();
		writeAttributes(reply, planOf(asked), shownPlace(compound, place));
		return Status.ok;
	},
};
