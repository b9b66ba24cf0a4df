// OPEN_DOWNGRADE: an open goes back to less access, or denies less.

import { accessOf } from "./open-arguments.ts";
import type { Operation } from "./operation.ts";
import { Op } from "./protocol.ts";
import { readOrdinaryStateid, STATEID_BYTES, writeStateid } from "./stateid.ts";
import { Status } from "./status.ts";

/** RFC 8881 section 18.18. */
export const openDowngrade: Operation = {
	number: Op.openDowngrade,
	name: "OPEN_DOWNGRADE",
	resultBytesMax: STATEID_BYTES,
	run(compound, args, reply) {
		const stateid = readOrdinaryStateid(args, compound.stateid);
		args.u32(); // the sequence number of minor version 0
		const shareAccess = args.u32();
		const deny = args.u32();
		const access = accessOf(shareAccess, deny);
		const { handle } = compound.here();
		const result = compound.context.claims.downgrade(compound.claimChange(), stateid, handle, { access, deny });
		compound.stateid = result;
		writeStateid(reply, result);
		return Status.ok;
	},
};
