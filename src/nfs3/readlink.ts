// READLINK: the target of a symlink.

import { writeFirstAttributes, writeObjectAttributes } from "./attributes.ts";
import type { Nfs3Procedure } from "./procedure.ts";
import { HANDLE_BYTES_MAX } from "./protocol.ts";
import { NFS3_OK } from "./status.ts";

/** RFC 1813 section 3.3.5. */
export const readlink: Nfs3Procedure = {
	name: "READLINK",
	changes: false,
	run(request, args, reply) {
		const object = request.open(args.opaque(HANDLE_BYTES_MAX));
		const target = request.overlay.readlink(object);
		reply.u32(NFS3_OK);
		writeObjectAttributes(reply, request, object);
		reply.opaque(target);
	},
	fail: writeFirstAttributes,
};
