// CLOSE: ends an open, with its locks.

import type { Operation } from "./operation.ts";
import { Op } from "./protocol.ts";
import { readOrdinaryStateid, STATEID_BYTES, writeStateid } from "./stateid.ts";
import { Status } from "./status.ts";

/** RFC 8881 section 18.2. */
export const close: Operation = {
	number: Op.close,
	name: "CLOSE",
	resultBytesMax: STATEID_BYTES,
	run(compound, args, reply) {
		args.u32(); // the sequence number of minor version 0
		const stateid = readOrdinaryStateid(args, compound.stateid);
		const result = compound.context.claims.close(compound.claimChange(), stateid, compound.here().handle);
		compound.stateid = null;
		writeStateid(reply, result);
		return Status.ok;
	},
};
