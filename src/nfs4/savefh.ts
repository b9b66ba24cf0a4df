// SAVEFH and RESTOREFH: the current handle and stateid are saved, and come back.

import type { Operation } from "./operation.ts";
import { Op } from "./protocol.ts";
import { Status } from "./status.ts";

/** RFC 8881 section 18.28. */
export const savefh: Operation = {
	number: Op.savefh,
	name: "SAVEFH",
	resultBytesMax: 0,
	run(compound) {
		compound.saved = compound.here();
		compound.savedStateid = compound.stateid;
		return Status.ok;
	},
};

/** Section 18.27. */
export const restorefh: Operation = {
	number: Op.restorefh,
	name: "RESTOREFH",
	resultBytesMax: 0,
	run(compound) {
		compound.current = compound.savedPlace();
		compound.stateid = compound.savedStateid;
		return Status.ok;
	},
};
