// LOCK: locks a range of a file.

import type { ByteRange, LockConflict, LockRequest, LockType } from "../claims/operations.ts";
import { XdrError } from "../xdr/xdr-error.ts";
import type { XdrReader } from "../xdr/xdr-reader.ts";
import type { XdrWriter } from "../xdr/xdr-writer.ts";
import type { Compound } from "./compound.ts";
import { regularFile } from "./kinds.ts";
import { readOwner } from "./lock-owner.ts";
import type { Operation } from "./operation.ts";
import { LockKind, OPAQUE_BYTES_MAX, Op } from "./protocol.ts";
import { readOrdinaryStateid, writeStateid } from "./stateid.ts";
import { Status } from "./status.ts";

export interface LockWish {
	readonly type: LockType;
	readonly waits: boolean;
}

/** nfs_lock_type4. */
export function readLockType(args: XdrReader): LockWish {
	const kind = args.u32();
	if (kind < LockKind.read || kind > LockKind.writeWaits) throw new XdrError(`${kind} is no kind of lock`);
	const isRead = kind === LockKind.read || kind === LockKind.readWaits;
	return { type: isRead ? "read" : "write", waits: kind > LockKind.write };
}

export function readRange(args: XdrReader): ByteRange {
	return { offsetHi: args.u32(), offsetLo: args.u32(), lengthHi: args.u32(), lengthLo: args.u32() };
}

/** LOCK4denied. */
export function writeConflict(reply: XdrWriter, conflict: LockConflict): void {
	reply.u64(conflict.offsetHi, conflict.offsetLo);
	reply.u64(conflict.lengthHi, conflict.lengthLo);
	reply.u32(conflict.type === "read" ? LockKind.read : LockKind.write);
	reply.u64(conflict.client.hi, conflict.client.lo);
	reply.opaque(conflict.owner);
}

/** locker4. */
function readLocker(compound: Compound, args: XdrReader): LockRequest["by"] {
	if (!args.bool()) {
		const lock = readOrdinaryStateid(args, compound.stateid);
		args.u32(); // the sequence number of minor version 0
		return { lock };
	}
	args.u32();
	const open = readOrdinaryStateid(args, compound.stateid);
	args.u32();
	return { open, owner: readOwner(args) };
}

/** RFC 8881 section 18.10. */
export const lock: Operation = {
	number: Op.lock,
	name: "LOCK",
	resultBytesMax: 28 + 4 + OPAQUE_BYTES_MAX,
	run(compound, args, reply) {
		const { type, waits } = readLockType(args);
		const isReclaim = args.bool();
		const range = readRange(args);
		const by = readLocker(compound, args);
		const place = compound.here();
		const { claims } = compound.context;
		const change = compound.claimChange();
		// a file that was closed behind it before a restart may have gone since
		if (claims.answerOf(change) === null) regularFile(compound.object(place));
		const result = claims.lock(change, { ...range, type, waits, isReclaim, by, handle: place.handle });
		if ("denied" in result) {
			writeConflict(reply, result.denied);
			return Status.denied;
		}
		compound.stateid = result.granted;
		writeStateid(reply, result.granted);
		return Status.ok;
	},
};
