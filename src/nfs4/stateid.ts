// Stateids on the wire (RFC 8881 sections 3.3.12, 8.2): ordinary ones, and those with a meaning of their own.

import type { Stateid } from "../claims/operations.ts";
import type { XdrReader } from "../xdr/xdr-reader.ts";
import type { XdrWriter } from "../xdr/xdr-writer.ts";
import { Nfs4Error, Status } from "./status.ts";

/** A stateid, or one of the two that stand for no open at all. */
export type WireStateid = Stateid | "anonymous" | "bypass";

const ALL_ONES = 0xffffffff;

/** Reads a stateid4 as it stands, special or not. */
export function readAnyStateid(args: XdrReader): Stateid {
	return { seqid: args.u32(), boot: args.u32(), index: args.u32(), generation: args.u32() };
}

/** Reads a stateid4; `current` is the current one of the compound. "bad_stateid" for combinations that no server gives out. */
export function readStateid(args: XdrReader, current: WireStateid | null): WireStateid {
	const stateid = readAnyStateid(args);
	const { seqid, boot, index, generation } = stateid;
	if (boot === 0 && index === 0 && generation === 0) {
		if (seqid === 0) return "anonymous";
		if (seqid === 1 && current !== null) return current;
		throw new Nfs4Error(Status.badStateid, "No such special stateid, or there is no current one");
	}
	if (boot === ALL_ONES && index === ALL_ONES && generation === ALL_ONES) {
		if (seqid === ALL_ONES) return "bypass";
		throw new Nfs4Error(Status.badStateid, "No such special stateid");
	}
	return stateid;
}

/** The same where it must stand for an open or a lock. */
export function readOrdinaryStateid(args: XdrReader, current: WireStateid | null): Stateid {
	const stateid = readStateid(args, current);
	if (typeof stateid === "string") throw new Nfs4Error(Status.badStateid, "A special stateid where one of an open is needed");
	return stateid;
}

export const STATEID_BYTES = 16;

export function writeStateid(reply: XdrWriter, { seqid, boot, index, generation }: Stateid): void {
	reply.u64(seqid, boot);
	reply.u64(index, generation);
}
