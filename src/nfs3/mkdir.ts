// MKDIR: makes a directory.

import { RECORD_BYTES_MAX } from "../rpc/limits.ts";
import { readSetAttributes, writeCreated, writeFirstWccData } from "./attributes.ts";
import type { Nfs3Procedure } from "./procedure.ts";
import { HANDLE_BYTES_MAX } from "./protocol.ts";
import { NFS3_OK } from "./status.ts";

/** RFC 1813 section 3.3.9. */
export const mkdir: Nfs3Procedure = {
	name: "MKDIR",
	changes: true,
	run(request, args, reply) {
		const handle = args.opaque(HANDLE_BYTES_MAX);
		const name = args.opaque(RECORD_BYTES_MAX);
		const attributes = readSetAttributes(args);
		const directory = request.change(handle);
		const object = request.overlay.mkdir(directory, name, request.who, attributes, request.key);
		request.changed = true;
		reply.u32(NFS3_OK);
		writeCreated(reply, request, object);
	},
	fail: writeFirstWccData,
};
