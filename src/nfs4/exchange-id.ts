// EXCHANGE_ID: a client tells who it is, and gets an id.

import type { XdrReader } from "../xdr/xdr-reader.ts";
import type { Operation } from "./operation.ts";
import { principalOf } from "./principal.ts";
import { ExchangeFlag, OPAQUE_BYTES_MAX, Op, StateProtection, VERIFIER_BYTES } from "./protocol.ts";
import { Nfs4Error, Status } from "./status.ts";

/** nfs_impl_id4<1>: what the client says that it is, which nobody looks at. */
function passImplementation(args: XdrReader): void {
	if (args.enumeration(1) === 0) return;
	args.opaque(OPAQUE_BYTES_MAX);
	args.opaque(OPAQUE_BYTES_MAX);
	args.fixed(8 + 4);
}

/** RFC 8881 section 18.35. No state protection but SP4_NONE, and no pNFS. */
export const exchangeId: Operation = {
	number: Op.exchangeId,
	name: "EXCHANGE_ID",
	resultBytesMax: 256,
	isAlone: true,
	run(compound, args, reply) {
		const verifier = args.fixedCopy(VERIFIER_BYTES);
		const id = args.opaque(OPAQUE_BYTES_MAX);
		const flags = args.u32();
		const protection = args.enumeration(StateProtection.ssv);
		if (protection === StateProtection.ssv) throw new Nfs4Error(Status.encrAlgUnsupp, "There is no SSV");
		if (protection === StateProtection.machineCredential) throw new Nfs4Error(Status.inval, "There are no machine credentials");
		passImplementation(args);
		if ((flags & ~ExchangeFlag.askable) !== 0) throw new Nfs4Error(Status.inval, "No such flags");
		const { claims } = compound.context;
		const { caller } = compound;
		const owner = { id, verifier, principal: principalOf(caller), address: caller.peer.address };
		const exchanged = claims.exchangeId(owner, (flags & ExchangeFlag.update) !== 0);
		reply.u64(exchanged.hi, exchanged.lo);
		reply.u64(exchanged.sequence, (ExchangeFlag.useNonPnfs | (exchanged.isConfirmed ? ExchangeFlag.confirmed : 0)) >>> 0);
		reply.u32(StateProtection.none);
		// one server at all its addresses, and none of any other
		reply.u64(0, 0);
		reply.opaque(claims.serverId);
		reply.opaque(claims.serverId);
		reply.u32(0);
		return Status.ok;
	},
};
