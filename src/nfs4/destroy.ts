// DESTROY_SESSION and DESTROY_CLIENTID: the end of a session, and of a client.

import type { Operation } from "./operation.ts";
import { principalOf } from "./principal.ts";
import { Op, SESSION_ID_BYTES } from "./protocol.ts";
import { Nfs4Error, Status } from "./status.ts";

/** RFC 8881 section 18.37. Its own session may be ended only by the last operation of a compound. */
export const destroySession: Operation = {
	number: Op.destroySession,
	name: "DESTROY_SESSION",
	resultBytesMax: 4,
	isAlone: true,
	run(compound, args) {
		const id = args.fixedCopy(SESSION_ID_BYTES);
		const { slot, index, count } = compound;
		const isOwn = slot !== null && Buffer.compare(slot.session.id, id) === 0;
		if (isOwn && index + 1 < count) throw new Nfs4Error(Status.notOnlyOp, "The session of a compound ends with it");
		compound.context.claims.destroySession(id, principalOf(compound.caller));
		return Status.ok;
	},
};

/** Section 18.50. */
export const destroyClientid: Operation = {
	number: Op.destroyClientid,
	name: "DESTROY_CLIENTID",
	resultBytesMax: 4,
	isAlone: true,
	run(compound, args) {
		const client = { hi: args.u32(), lo: args.u32() };
		compound.context.claims.destroyClient(client, principalOf(compound.caller));
		return Status.ok;
	},
};
