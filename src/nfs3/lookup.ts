// LOOKUP: from a name in a directory to a handle.

import { RECORD_BYTES_MAX } from "../rpc/limits.ts";
import { writeFirstAttributes, writeObjectAttributes } from "./attributes.ts";
import type { Nfs3Procedure } from "./procedure.ts";
import { HANDLE_BYTES_MAX } from "./protocol.ts";
import { NFS3_OK, STATUS } from "./status.ts";

/** RFC 1813 section 3.3.3. */
export const lookup: Nfs3Procedure = {
	name: "LOOKUP",
	changes: false,
	run(request, args, reply) {
		const handle = args.opaque(HANDLE_BYTES_MAX);
		const name = args.opaque(RECORD_BYTES_MAX);
		const directory = request.open(handle);
		const object = request.overlay.lookup(directory, name, request.who);
		if (object === null) {
			// The most frequent failure of all: not worth an exception.
			reply.u32(STATUS.noent);
		} else {
			reply.u32(NFS3_OK);
			reply.opaque(object.handle);
			writeObjectAttributes(reply, request, object);
		}
		writeObjectAttributes(reply, request, directory);
	},
	fail: writeFirstAttributes,
};
