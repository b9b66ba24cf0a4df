// COMMIT: makes unstable writes to a file stable.

import { regularFile } from "./kinds.ts";
import type { Operation } from "./operation.ts";
import { Op } from "./protocol.ts";
import { Status } from "./status.ts";

/** RFC 8881 section 18.3. The whole file is flushed, whatever the range. */
export const commit: Operation = {
	number: Op.commit,
	name: "COMMIT",
	resultBytesMax: 8,
	looks: true,
	run(compound, args) {
		args.fixed(8 + 4); // offset and count
		const place = compound.here();
		const { overlay } = place.served;
		const object = regularFile(compound.object(place));
		return overlay.commit(object).then(() => (reply) => {
			// Read last: a flush that failed while this one waited has changed it.
			reply.raw(overlay.writeVerifier);
			return Status.ok;
		});
	},
};
