// Runs an NFSv3 procedure as a remote one: request, reply, failure, and waiting for stable storage.

import type { EncodeResults, Procedure, SharedResults, TakenRequest } from "../rpc/program.ts";
import { OverlayError } from "../vfs/errors.ts";
import type { ChangeKey } from "../vfs/operations.ts";
import { ofSystem } from "../vfs/system-errors.ts";
import type { XdrReader } from "../xdr/xdr-reader.ts";
import type { XdrWriter } from "../xdr/xdr-writer.ts";
import { Nfs3Request } from "./request.ts";
import { STATUS } from "./status.ts";

/** A procedure of RFC 1813 section 3.3. */
export interface Nfs3Procedure {
	readonly name: string;
	/** Changes names or attributes: remembered for repetitions, and answered only when the change is stable. */
	readonly changes: boolean;
	/**
	 * Decodes everything, calls the overlay once, encodes the status and what follows it. OverlayError becomes a failure.
	 * A promise is for what stands in the overlay but has to reach the disk before the reply.
	 */
	run(request: Nfs3Request, args: XdrReader, reply: XdrWriter): undefined | Promise<EncodeResults>;
	/** Writes what follows the status of a failure. */
	fail(reply: XdrWriter, request: Nfs3Request): void;
}

/** A request that names no object: a failure of it tells no attributes. */
const NOTHING = new Nfs3Request();

/** The procedure as a remote one, over `request`, which all procedures of a server share. */
export function remoteProcedure(procedure: Nfs3Procedure, request: Nfs3Request): Procedure {
	return {
		name: procedure.name,
		remembered: procedure.changes,
		run(caller, args, reply, identity) {
			request.reset(caller, identity === null ? null : changeKey(caller.peer.address, identity));
			const results = reply.length;
			let outcome: undefined | Promise<EncodeResults>;
			try {
				outcome = procedure.run(request, args, reply);
			} catch (thrown) {
				const error = ofSystem(thrown);
				if (!(error instanceof OverlayError)) throw error;
				reply.rewind(results);
				reply.u32(STATUS[error.code]);
				procedure.fail(reply, request);
				return;
			}
			if (outcome !== undefined) return outcome.catch((error: unknown) => encodeFailure(procedure, error));
			if (procedure.changes) return whenStable(procedure, request, reply, results);
		},
	};
}

/** Every request of NFSv3 makes one change. */
function changeKey(owner: string, identity: TakenRequest): ChangeKey {
	const { xid, program, version, procedure, length, checksumHi, checksumLo, origin } = identity;
	return { request: { owner, numbers: [xid, program, version, procedure, length, checksumHi, checksumLo], origin }, change: 0 };
}

/** Holds a complete reply back until the change that it tells of is on stable storage. */
function whenStable(procedure: Nfs3Procedure, request: Nfs3Request, reply: XdrWriter, results: number): SharedResults | undefined {
	const ready = request.overlay.stable();
	if (ready === null) return undefined;
	const encoded = reply.copyFrom(results);
	return {
		ready,
		encode(later, isFulfilled) {
			if (isFulfilled) later.raw(encoded);
			else encodeFailure(procedure, new OverlayError("io", "The change did not reach stable storage"))(later);
		},
	};
}

function encodeFailure(procedure: Nfs3Procedure, thrown: unknown): EncodeResults {
	const error = ofSystem(thrown);
	if (!(error instanceof OverlayError)) throw error;
	return (reply) => {
		reply.u32(STATUS[error.code]);
		procedure.fail(reply, NOTHING);
	};
}
