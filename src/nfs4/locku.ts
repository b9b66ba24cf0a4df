// LOCKU: unlocks a range of a file.

import { readLockType, readRange } from "./lock.ts";
import type { Operation } from "./operation.ts";
import { Op } from "./protocol.ts";
import { readOrdinaryStateid, STATEID_BYTES, writeStateid } from "./stateid.ts";
import { Status } from "./status.ts";

/** RFC 8881 section 18.12. */
export const locku: Operation = {
	number: Op.locku,
	name: "LOCKU",
	resultBytesMax: STATEID_BYTES,
	run(compound, args, reply) {
		readLockType(args);
		args.u32(); // the sequence number of minor version 0
		const stateid = readOrdinaryStateid(args, compound.stateid);
		const range = readRange(args);
		const { handle } = compound.here();
		const result = compound.context.claims.unlock(compound.claimChange(), stateid, handle, range);
		compound.stateid = result;
		writeStateid(reply, result);
		return Status.ok;
	},
};
