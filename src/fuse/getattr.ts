// GETATTR: the attributes of an object.

import { writeAttributesOut } from "./attributes.ts";
import type { FuseOperation } from "./operation.ts";

/** struct fuse_getattr_in: there are no file handles that could be meant. */
export const getattr: FuseOperation = {
	name: "GETATTR",
	argumentBytes: 16,
	run(request, reply, mount) {
		writeAttributesOut(reply, mount, mount.object(request.nodeId));
	},
};
