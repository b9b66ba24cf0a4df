// OPEN_DOWNGRADE: an open goes back to less access, or denies less.

import type { Operation } from "./operation.ts";
import { Op, Share, Want } from "./protocol.ts";
import { readOrdinaryStateid, STATEID_BYTES, writeStateid } from "./stateid.ts";
import { Nfs4Error, Status } from "./status.ts";

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
		const access = shareAccess & Share.both;
		if (access === 0 || (shareAccess & ~(Share.both | Want.mask | Want.signals)) !== 0 || deny > Share.both) {
			throw new Nfs4Error(Status.inval, "No such way to share");
		}
		const { handle } = compound.here();
		const result = compound.context.claims.downgrade(compound.claimChange(), stateid, handle, { access, deny });
		compound.stateid = result;
		writeStateid(reply, result);
		return Status.ok;
	},
};
