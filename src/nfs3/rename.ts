// RENAME: moves a name.

import { RECORD_BYTES_MAX } from "../rpc/limits.ts";
import type { XdrWriter } from "../xdr/xdr-writer.ts";
import { writeFirstWccData, writeSecondWccData } from "./attributes.ts";
import type { Nfs3Procedure } from "./procedure.ts";
import { HANDLE_BYTES_MAX } from "./protocol.ts";
import type { Nfs3Request } from "./request.ts";
import { NFS3_OK } from "./status.ts";

/** RFC 1813 section 3.3.14. */
export const rename: Nfs3Procedure = {
	name: "RENAME",
	changes: true,
	run(request, args, reply) {
		const fromHandle = args.opaque(HANDLE_BYTES_MAX);
		const fromName = args.opaque(RECORD_BYTES_MAX);
		const toHandle = args.opaque(HANDLE_BYTES_MAX);
		const toName = args.opaque(RECORD_BYTES_MAX);
		const from = request.change(fromHandle);
		const to = request.changeSecond(toHandle);
		request.overlay.rename(from, fromName, to, toName, request.who, request.key);
		request.changed = true;
		reply.u32(NFS3_OK);
		writeBoth(reply, request);
	},
	fail: writeBoth,
};

function writeBoth(reply: XdrWriter, request: Nfs3Request): void {
	writeFirstWccData(reply, request);
	writeSecondWccData(reply, request);
}
