// PATHCONF: limits on names and links.

import { LINKS_MAX, NAME_BYTES_MAX } from "../vfs/names.ts";
import { writeFirstAttributes } from "./attributes.ts";
import type { Nfs3Procedure } from "./procedure.ts";
import { HANDLE_BYTES_MAX } from "./protocol.ts";
import { NFS3_OK } from "./status.ts";

/** RFC 1813 section 3.3.20. */
export const pathconf: Nfs3Procedure = {
	name: "PATHCONF",
	changes: false,
	run(request, args, reply) {
		request.open(args.opaque(HANDLE_BYTES_MAX));
		reply.u32(NFS3_OK);
		writeFirstAttributes(reply, request);
		reply.u64(LINKS_MAX, NAME_BYTES_MAX);
		reply.bool(true); // no_trunc: a longer name is refused
		reply.bool(true); // chown_restricted
		reply.bool(false); // case_insensitive
		reply.bool(true); // case_preserving
	},
	fail: writeFirstAttributes,
};
