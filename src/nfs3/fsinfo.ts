// FSINFO: the sizes and properties that clients should know.

import { TRANSFER_BYTES_MAX } from "../rpc/limits.ts";
import { writeFirstAttributes } from "./attributes.ts";
import type { Nfs3Procedure } from "./procedure.ts";
import { FsinfoProperty, HANDLE_BYTES_MAX, LISTING_BYTES_PREFERRED, TRANSFER_MULTIPLE_BYTES } from "./protocol.ts";
import { NFS3_OK } from "./status.ts";

const PROPERTIES = FsinfoProperty.link | FsinfoProperty.symlink | FsinfoProperty.homogeneous | FsinfoProperty.canSetTime;

/** RFC 1813 section 3.3.19. */
export const fsinfo: Nfs3Procedure = {
	name: "FSINFO",
	changes: false,
	run(request, args, reply) {
		request.open(args.opaque(HANDLE_BYTES_MAX));
		reply.u32(NFS3_OK);
		writeFirstAttributes(reply, request);
		// Maximum, preferred size and multiple, of reads and then of writes.
		for (let kind = 0; kind < 2; kind++) {
			reply.u64(TRANSFER_BYTES_MAX, TRANSFER_BYTES_MAX);
			reply.u32(TRANSFER_MULTIPLE_BYTES);
		}
		reply.u32(LISTING_BYTES_PREFERRED);
		reply.u64FromNumber(Number.MAX_SAFE_INTEGER);
		// Times are exact to the nanosecond.
		reply.u64(0, 1);
		reply.u32(PROPERTIES);
	},
	fail: writeFirstAttributes,
};
