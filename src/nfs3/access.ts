// ACCESS: which of the asked permissions the caller has.

import { Access, FileType } from "../vfs/operations.ts";
import { writeFirstAttributes, writeObjectAttributes } from "./attributes.ts";
import type { Nfs3Procedure } from "./procedure.ts";
import { HANDLE_BYTES_MAX } from "./protocol.ts";
import { NFS3_OK } from "./status.ts";

const KNOWN = Access.read | Access.lookup | Access.modify | Access.extend | Access.delete | Access.execute;

const CHANGES = Access.modify | Access.extend | Access.delete;

/** Writing to a device or a pipe changes nothing of the export. */
function isStored(type: FileType): boolean {
	return type === FileType.reg || type === FileType.dir || type === FileType.lnk;
}

/** RFC 1813 section 3.3.4. */
export const access: Nfs3Procedure = {
	name: "ACCESS",
	changes: false,
	run(request, args, reply) {
		const handle = args.opaque(HANDLE_BYTES_MAX);
		const wanted = args.u32();
		const object = request.open(handle);
		const granted = request.overlay.access(
			object,
			request.who,
			wanted & (request.readOnly && isStored(object.type) ? KNOWN & ~CHANGES : KNOWN),
		);
		reply.u32(NFS3_OK);
		writeObjectAttributes(reply, request, object);
		reply.u32(granted);
	},
	fail: writeFirstAttributes,
};
