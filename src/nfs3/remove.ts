// REMOVE: removes a name that is not a directory's.

import { RECORD_BYTES_MAX } from "../rpc/limits.ts";
import { writeFirstWccData } from "./attributes.ts";
import type { Nfs3Procedure } from "./procedure.ts";
import { HANDLE_BYTES_MAX } from "./protocol.ts";
import { NFS3_OK } from "./status.ts";

/** RFC 1813 section 3.3.12. */
export const remove: Nfs3Procedure = {
	name: "REMOVE",
	changes: true,
	run(request, args, reply) {
		const handle = args.opaque(HANDLE_BYTES_MAX);
		const name = args.opaque(RECORD_BYTES_MAX);
		const directory = request.change(handle);
		request.overlay.remove(directory, name, request.who, request.key);
		request.changed = true;
		reply.u32(NFS3_OK);
		writeFirstWccData(reply, request);
	},
	fail: writeFirstWccData,
};
