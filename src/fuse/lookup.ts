// LOOKUP: from a name in a directory to a node id.

import { writeEntry, writeNoEntry } from "./attributes.ts";
import type { FuseOperation } from "./operation.ts";

export const lookup: FuseOperation = {
	name: "LOOKUP",
	argumentBytes: 1,
	run(request, reply, mount) {
		const object = mount.overlay.lookup(mount.object(request.nodeId), request.name(0), mount.who);
		if (object === null) writeNoEntry(reply, mount);
		else writeEntry(reply, mount, object);
	},
};
