// GETFH: tells the current handle.

import type { Operation } from "./operation.ts";
import { Op } from "./protocol.ts";
import { Status } from "./status.ts";

/** RFC 8881 section 18.8. */
export const getfh: Operation = {
	number: Op.getfh,
	name: "GETFH",
	resultBytesMax: 0,
	run(compound, _args, reply) {
		reply.opaque(compound.here().handle);
		return Status.ok;
	},
};
