// FSSTAT: free and used space.

import { writeFirstAttributes } from "./attributes.ts";
import type { Nfs3Procedure } from "./procedure.ts";
import { HANDLE_BYTES_MAX } from "./protocol.ts";
import { NFS3_OK } from "./status.ts";

/** RFC 1813 section 3.3.18. */
export const fsstat: Nfs3Procedure = {
	name: "FSSTAT",
	changes: false,
	run(request, args, reply) {
		const object = request.open(args.opaque(HANDLE_BYTES_MAX));
		const status = request.overlay.statfs(object);
		reply.u32(NFS3_OK);
		writeFirstAttributes(reply, request);
		reply.u64FromNumber(status.totalBytes);
		reply.u64FromNumber(status.freeBytes);
		reply.u64FromNumber(status.availableBytes);
		reply.u64FromNumber(status.totalFiles);
		reply.u64FromNumber(status.freeFiles);
		// Files available to the caller: no file system here keeps some back.
		reply.u64FromNumber(status.freeFiles);
		// invarsec: the figures may change at any time.
		reply.u32(0);
	},
	fail: writeFirstAttributes,
};
