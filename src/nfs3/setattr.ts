// SETATTR: changes attributes, if the guard allows it.

import { readSetAttributes, readTime, writeFirstWccData } from "./attributes.ts";
import type { Nfs3Procedure } from "./procedure.ts";
import { HANDLE_BYTES_MAX } from "./protocol.ts";
import { NFS3_OK } from "./status.ts";

/** RFC 1813 section 3.3.2. The guard is the ctime that the client believes in. */
export const setattr: Nfs3Procedure = {
	name: "SETATTR",
	changes: true,
	run(request, args, reply) {
		const handle = args.opaque(HANDLE_BYTES_MAX);
		const change = readSetAttributes(args);
		const guard = args.bool() ? readTime(args) : undefined;
		const object = request.change(handle);
		request.overlay.setattr(object, request.who, change, guard, request.key);
		request.changed = true;
		reply.u32(NFS3_OK);
		writeFirstWccData(reply, request);
	},
	fail: writeFirstWccData,
};
