// LOCKT: whether a range could be locked.

import { regularFile } from "./kinds.ts";
import { readLockType, readRange, writeConflict } from "./lock.ts";
import { readOwner } from "./lock-owner.ts";
import type { Operation } from "./operation.ts";
import { Op } from "./protocol.ts";
import { Status } from "./status.ts";

/** RFC 8881 section 18.11. */
export const lockt: Operation = {
	number: Op.lockt,
	name: "LOCKT",
	resultBytesMax: 0,
	looks: true,
	run(compound, args, reply) {
		const { type } = readLockType(args);
		const range = readRange(args);
		const owner = readOwner(args);
		const place = compound.here();
		regularFile(compound.object(place));
		const conflict = compound.context.claims.lockTest(compound.session.client, owner, place.handle, type, range);
		if (conflict === null) return Status.ok;
		writeConflict(reply, conflict);
		return Status.denied;
	},
};
