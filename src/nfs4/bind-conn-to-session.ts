// BIND_CONN_TO_SESSION: a connection serves a session, in one direction or both.

import { XdrError } from "../xdr/xdr-error.ts";
import type { Operation } from "./operation.ts";
import { principalOf } from "./principal.ts";
import { BoundDirection, ChannelDirection, Op, SESSION_ID_BYTES } from "./protocol.ts";
import { Nfs4Error, Status } from "./status.ts";

/** RFC 8881 section 18.34. */
export const bindConnToSession: Operation = {
	number: Op.bindConnToSession,
	name: "BIND_CONN_TO_SESSION",
	resultBytesMax: 32,
	isAlone: true,
	run(compound, args, reply) {
		const id = args.fixedCopy(SESSION_ID_BYTES);
		const direction = args.u32();
		args.bool(); // RDMA, which there is not
		const isKnown = Object.values(ChannelDirection).some((one) => one === direction);
		if (!isKnown) throw new XdrError(`${direction} is no direction of a channel`);
		const session = compound.context.claims.session(id);
		// callbacks are for who made the client: nobody else takes them away
		const mayBeBack = session.client.principal === principalOf(compound.caller);
		if (direction === ChannelDirection.back && !mayBeBack) throw new Nfs4Error(Status.badsession, "The session is another principal's");
		const isBack = direction !== ChannelDirection.fore && mayBeBack;
		if (isBack) compound.context.channels.bind(session, compound.channel);
		reply.raw(session.id);
		reply.u32(!isBack ? BoundDirection.fore : direction === ChannelDirection.back ? BoundDirection.back : BoundDirection.both);
		reply.bool(false);
		return Status.ok;
	},
};
