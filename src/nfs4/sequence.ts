// SEQUENCE: a compound takes its slot, and its client's lease is renewed.

import type { Compound } from "./compound.ts";
import type { Operation } from "./operation.ts";
import { Op, SESSION_ID_BYTES } from "./protocol.ts";
import { requestDigest } from "./request-digest.ts";
import { Nfs4Error, Status } from "./status.ts";

/** Status, tag and count, then the result of SEQUENCE. */
function leastReplyBytes({ tagBytes }: Compound): number {
	return 12 + ((tagBytes + 3) & ~3) + 8 + 36;
}

/** RFC 8881 section 18.46. What can be refused beforehand is refused before the slot is taken. */
export const sequence: Operation = {
	number: Op.sequence,
	name: "SEQUENCE",
	resultBytesMax: 0,
	run(compound, args, reply) {
		const at = args.fixed(SESSION_ID_BYTES);
		const sequenceId = args.u32();
		const slotNumber = args.u32();
		const highestSlot = args.u32();
		const keepsReply = args.bool();
		const { claims, channels, namespace } = compound.context;
		const session = claims.session(args.bytes.subarray(at, at + SESSION_ID_BYTES));
		const { fore } = session;
		if (compound.requestBytes > fore.requestBytes) throw new Nfs4Error(Status.reqTooBig, "The request is too long for its session");
		if (compound.count > fore.operations) throw new Nfs4Error(Status.tooManyOps, "The compound has too many operations for its session");
		// without SEQUENCE itself: a client that has to ask again may use more slots by then (sa_highest_slotid)
		compound.digest = requestDigest(args);
		const { hi: digestHi, lo: digestLo, length } = compound.digest;
		if (keepsReply && fore.keptResponseBytes < leastReplyBytes(compound)) {
			throw new Nfs4Error(Status.repTooBigToCache, "Not even the reply of SEQUENCE can be kept");
		}
		const isAnswered = session.isDead && namespace.isAnswered(compound.request(session, sequenceId, slotNumber), 1, compound.count);
		const slot = claims.sequence(session, {
			slot: slotNumber,
			sequence: sequenceId,
			highestSlot,
			keepsReply,
			digestHi,
			digestLo: (digestLo ^ length) >>> 0,
			isAnswered,
		});
		if (slot.outcome === "replay") {
			compound.replay = slot.reply;
			return Status.ok;
		}
		compound.slot = slot;
		channels.seen(session);
		reply.raw(session.id);
		reply.u64(sequenceId, slotNumber);
		reply.u64(fore.requests - 1, fore.requests - 1);
		reply.u32(claims.statusFlags(session));
		return Status.ok;
	},
};
