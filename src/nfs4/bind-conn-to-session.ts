// BIND_CONN_TO_SESSION: a connection serves a session, in one direction or both.

import { XdrError } from "../xdr/xdr-error.ts";
import type { Operation } from "./operation.ts";
import { BoundDirection, ChannelDirection, Op, SESSION_ID_BYTES } from "./protocol.ts";
import { Status } from "./status.ts";

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
		const isBack = direction !== ChannelDirection.fore;
		if (isBack) compound.context.channels.bind(session, compound.channel);
		reply.raw(session.id);
		reply.u32(
			direction === ChannelDirection.fore
				? BoundDirection.fore
				: direction === ChannelDirection.back
					? BoundDirection.back
					: BoundDirection.both,
		);
		reply.bool(false);
		return Status.ok;
	},
};
