// LOOKUP: from a name in a directory to a node id.

import { writeEntry, writeEntryHead } from "./attributes.ts";
import type { FuseOperation } from "./operation.ts";
import { ATTRIBUTES_BYTES } from "./protocol.ts";

/** Node id 0 says that there is no such name, and how long the kernel may go on believing that. */
export const lookup: FuseOperation = {
	name: "LOOKUP",
	argumentBytes: 1,
	run(request, reply, mount) {
		const object = mount.overlay.lookup(mount.object(request.nodeId), request.name(0), mount.who);
		if (object !== null) {
			writeEntry(reply, mount, object);
			return;
		}
		writeEntryHead(reply, mount, 0);
		reply.zeros(ATTRIBUTES_BYTES);
	},
};
