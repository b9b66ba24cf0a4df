// TEST_STATEID, FREE_STATEID and RECLAIM_COMPLETE: what stateids are worth, and the end of worthless ones.

import { XdrError } from "../xdr/xdr-error.ts";
import type { Operation } from "./operation.ts";
import { Op } from "./protocol.ts";
import { readAnyStateid, readOrdinaryStateid } from "./stateid.ts";
import { CLAIM_STATUS, Nfs4Error, Status } from "./status.ts";

/** Stateids that are tested at once; a client with more asks again. */
const TESTED_MAX = 1024;

/** RFC 8881 section 18.48. */
export const testStateid: Operation = {
	number: Op.testStateid,
	name: "TEST_STATEID",
	resultBytesMax: 0,
	looks: true,
	run(compound, args, reply) {
		const count = args.u32();
		if (count > TESTED_MAX) throw new XdrError(`${count} stateids`);
		const statuses: Status[] = [];
		const { client } = compound.session;
		for (let index = 0; index < count; index++) {
			const code = compound.context.claims.testStateid(client, readAnyStateid(args));
			statuses.push(code === null ? Status.ok : CLAIM_STATUS[code]);
		}
		reply.u32(count);
		for (const status of statuses) reply.u32(status);
		return Status.ok;
	},
};

/** Section 18.38. */
export const freeStateid: Operation = {
	number: Op.freeStateid,
	name: "FREE_STATEID",
	resultBytesMax: 4,
	run(compound, args) {
		const stateid = readOrdinaryStateid(args, compound.stateid);
		compound.context.claims.freeStateid(compound.claimChange(), stateid);
		return Status.ok;
	},
};

/** Section 18.51. */
export const reclaimComplete: Operation = {
	number: Op.reclaimComplete,
	name: "RECLAIM_COMPLETE",
	resultBytesMax: 4,
	run(compound, args) {
		const oneFileSystem = args.bool();
		if (oneFileSystem && compound.current === null) throw new Nfs4Error(Status.nofilehandle, "There is no current file handle");
		compound.context.claims.reclaimComplete(compound.claimChange(), oneFileSystem);
		return Status.ok;
	},
};
