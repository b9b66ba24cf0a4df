// PUTFH: makes a handle the current one.

import { OverlayError } from "../vfs/errors.ts";
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
		compound.moveTo(compound.placeOf(served, served.overlay.decode(handle)));
		return Status.ok;
	},
};
