// LINK: gives a file another name.

import { RECORD_BYTES_MAX } from "../rpc/limits.ts";
import type { XdrWriter } from "../xdr/xdr-writer.ts";
import { writeObjectAttributes, writeSecondWccData } from "./attributes.ts";
import type { Nfs3Procedure } from "./procedure.ts";
import { HANDLE_BYTES_MAX } from "./protocol.ts";
import type { Nfs3Request } from "./request.ts";
import { NFS3_OK } from "./status.ts";

/** RFC 1813 section 3.3.15. */
export const link: Nfs3Procedure = {
	name: "LINK",
	changes: true,
	run(request, args, reply) {
		const objectHandle = args.opaque(HANDLE_BYTES_MAX);
		const directoryHandle = args.opaque(HANDLE_BYTES_MAX);
		const name = args.opaque(RECORD_BYTES_MAX);
		const object = request.open(objectHandle);
		const directory = request.changeSecond(directoryHandle);
		request.overlay.link(object, directory, name, request.who, request.key);
		request.changed = true;
		reply.u32(NFS3_OK);
		writeBoth(reply, request);
	},
	fail: writeBoth,
};

function writeBoth(reply: XdrWriter, request: Nfs3Request): void {
	writeObjectAttributes(reply, request, request.first);
	writeSecondWccData(reply, request);
}
