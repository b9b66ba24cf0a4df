// CREATE_SESSION: a client opens a session, and confirms its id.

import type { ChannelAttributes } from "../claims/operations.ts";
import { RECORD_BYTES_MAX } from "../rpc/limits.ts";
import { readChannel, readSecurity, writeChannel } from "./channel-attributes.ts";
import type { Operation } from "./operation.ts";
import { principalOf } from "./principal.ts";
import { BACK_SLOTS_MAX, OPERATIONS_MAX, Op, SessionFlag } from "./protocol.ts";
import { Nfs4Error, Status } from "./status.ts";

/** Less does not carry SEQUENCE and one operation. */
const CHANNEL_BYTES_MIN = 256;
const OPERATIONS_MIN = 2;
/** Callbacks are small; less does not carry CB_SEQUENCE and a call with a handle. */
const BACK_BYTES_MIN = 256;
const BACK_BYTES_MAX = 4096;
const BACK_OPERATIONS = 2;

function foreChannel(asked: ChannelAttributes): ChannelAttributes {
	if (Math.min(asked.requestBytes, asked.responseBytes) < CHANNEL_BYTES_MIN || asked.operations < OPERATIONS_MIN) {
		throw new Nfs4Error(Status.toosmall, "Too small for any request");
	}
	return {
		headerPadBytes: 0,
		requestBytes: Math.min(asked.requestBytes, RECORD_BYTES_MAX),
		responseBytes: Math.min(asked.responseBytes, RECORD_BYTES_MAX),
		keptResponseBytes: Math.min(asked.keptResponseBytes, asked.responseBytes, RECORD_BYTES_MAX),
		operations: Math.min(asked.operations, OPERATIONS_MAX),
		requests: Math.max(1, asked.requests),
	};
}

function backChannel(asked: ChannelAttributes): ChannelAttributes {
	if (Math.min(asked.requestBytes, asked.responseBytes) < BACK_BYTES_MIN || asked.operations < BACK_OPERATIONS) {
		throw new Nfs4Error(Status.toosmall, "Too small for any callback");
	}
	return {
		headerPadBytes: 0,
		requestBytes: Math.min(asked.requestBytes, BACK_BYTES_MAX),
		responseBytes: Math.min(asked.responseBytes, BACK_BYTES_MAX),
		keptResponseBytes: 0,
		operations: Math.min(asked.operations, BACK_OPERATIONS),
		requests: Math.max(1, Math.min(asked.requests, BACK_SLOTS_MAX)),
	};
}

/** RFC 8881 section 18.36. */
export const createSession: Operation = {
	number: Op.createSession,
	name: "CREATE_SESSION",
	resultBytesMax: 256,
	isAlone: true,
	run(compound, args, reply) {
		const client = { hi: args.u32(), lo: args.u32() };
		const sequence = args.u32();
		const asked = args.u32();
		const fore = readChannel(args);
		const back = readChannel(args);
		const callbackProgram = args.u32();
		const callbackSecurity = readSecurity(args);
		const { claims, channels } = compound.context;
		const granted = SessionFlag.backChannel | (claims.isPersistent ? SessionFlag.persist : 0);
		const made = claims.createSession({
			client,
			sequence,
			principal: principalOf(compound.caller),
			flags: asked & granted,
			fore: foreChannel(fore),
			back: backChannel(back),
			callbackProgram,
			callbackSecurity,
		});
		const { session } = made;
		if ((session.flags & SessionFlag.backChannel) !== 0) channels.bind(session, compound.channel);
		reply.raw(session.id);
		reply.u64(made.sequence, session.flags);
		writeChannel(reply, session.fore);
		writeChannel(reply, session.back);
		return Status.ok;
	},
};
