// GETATTR: the attributes of an object.

import { writeAttributes } from "./attributes.ts";
import type { Nfs3Procedure } from "./procedure.ts";
import { HANDLE_BYTES_MAX } from "./protocol.ts";
import { NFS3_OK } from "./status.ts";

/** RFC 1813 section 3.3.1. */
export const getattr: Nfs3Procedure = {
	name: "GETATTR",
	changes: false,
	run(request, args, reply) {
		const object = request.open(args.opaque(HANDLE_BYTES_MAX));
		const attributes = request.overlay.getattr(object, false);
		reply.u32(NFS3_OK);
		writeAttributes(reply, request.served, attributes);
	},
	fail() {},
};
