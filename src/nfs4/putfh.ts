// PUTFH: makes a handle the current one.

import type { Export } from "../exports/export.ts";
import { OverlayError } from "../vfs/errors.ts";
import type { Compound, Place } from "./compound.ts";
import type { Operation } from "./operation.ts";
import { HANDLE_BYTES_MAX, Op } from "./protocol.ts";
import { Status } from "./status.ts";

/** RFC 8881 section 18.19. */
export const putfh: Operation = {
	number: Op.putfh,
	name: "PUTFH",
	resultBytesMax: 0,
	run(compound, args) {
		const handle = args.opaque(HANDLE_BYTES_MAX);
		const served = compound.context.namespace.byHandle(handle);
		if (served === null) throw new OverlayError("badhandle", "This is no handle of any export");
		// ACCESS is not among the errors of PUTFH
		if (compound.admission(served).who === null) throw new OverlayError("stale", "The export is not for this client");
		compound.enter(served);
		compound.moveTo(placeOf(compound, served, handle));
		return Status.ok;
	},
};

/** A compound that is sent again after a restart may itself have removed the object, or closed one without a name: who needs it finds that it is stale. */
function placeOf(compound: Compound, served: Export, handle: Uint8Array): Place {
	try {
		return compound.placeOf(served, served.overlay.decode(handle));
	} catch (error) {
		if (!(error instanceof OverlayError && error.code === "stale" && wentOn(compound))) throw error;
		return compound.placeOfHandle(served, new Uint8Array(handle));
	}
}

/** Whether the compound came to an operation behind this one before a restart. */
function wentOn(compound: Compound): boolean {
	const change = compound.claimChange();
	const { session, sequence, number } = change.slot;
	const { claims, namespace } = compound.context;
	return (
		claims.isAnsweredBehind(change) || namespace.isAnswered(compound.request(session, sequence, number), compound.index + 1, compound.count)
	);
}
