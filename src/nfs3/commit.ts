// COMMIT: makes unstable writes to a file stable.

import { writeFirstWccData, writeWccData } from "./attributes.ts";
import type { Nfs3Procedure } from "./procedure.ts";
import { HANDLE_BYTES_MAX } from "./protocol.ts";
import { NFS3_OK } from "./status.ts";

/** RFC 1813 section 3.3.21. The whole file is flushed, whatever the range. */
export const commit: Nfs3Procedure = {
	name: "COMMIT",
	changes: false,
	run(request, args) {
		const handle = args.opaque(HANDLE_BYTES_MAX);
		args.fixed(8 + 4); // offset and count
		const object = request.change(handle);
		const { overlay, served, firstBefore: before } = request;
		const flushed = overlay.commit(object);
		request.changed = true;
		const after = request.attributes(object);
		return flushed.then(() => (reply) => {
			reply.u32(NFS3_OK);
			writeWccData(reply, served, before, after);
			// Read last: a flush that failed while this one waited has changed it.
			reply.raw(overlay.writeVerifier);
		});
	},
	fail: writeFirstWccData,
};
