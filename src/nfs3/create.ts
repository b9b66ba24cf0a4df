// CREATE: makes a regular file, unchecked, guarded or exclusive.

import { RECORD_BYTES_MAX } from "../rpc/limits.ts";
import type { CreateHow } from "../vfs/operations.ts";
import type { XdrReader } from "../xdr/xdr-reader.ts";
import { readSetAttributes, writeCreated, writeFirstWccData } from "./attributes.ts";
import type { Nfs3Procedure } from "./procedure.ts";
import { CREATE_VERIFIER_BYTES, CreateMode, HANDLE_BYTES_MAX } from "./protocol.ts";
import { NFS3_OK } from "./status.ts";

/** createhow3 (RFC 1813 section 3.3.8). */
function readHow(args: XdrReader): CreateHow {
	const mode = args.enumeration(CreateMode.exclusive);
	// a copy: the overlay may keep it
	if (mode === CreateMode.exclusive) return { mode: "exclusive", verifier: args.fixedCopy(CREATE_VERIFIER_BYTES) };
	return { mode: mode === CreateMode.guarded ? "guarded" : "unchecked", attributes: readSetAttributes(args) };
}

/** RFC 1813 section 3.3.8. */
export const create: Nfs3Procedure = {
	name: "CREATE",
	changes: true,
	run(request, args, reply) {
		const handle = args.opaque(HANDLE_BYTES_MAX);
		const name = args.opaque(RECORD_BYTES_MAX);
		const how = readHow(args);
		const directory = request.change(handle);
		const { object } = request.overlay.create(directory, name, request.who, how, request.key);
		request.changed = true;
		reply.u32(NFS3_OK);
		writeCreated(reply, request, object);
	},
	fail: writeFirstWccData,
};
