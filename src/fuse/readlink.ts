// READLINK: the target of a symlink.

import type { FuseOperation } from "./operation.ts";

export const readlink: FuseOperation = {
	name: "READLINK",
	argumentBytes: 0,
	run(request, reply, mount) {
		reply.raw(mount.overlay.readlink(mount.object(request.nodeId)));
	},
};
