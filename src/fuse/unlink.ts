// UNLINK: removes a name of anything but a directory.

import type { FuseOperation } from "./operation.ts";

export const unlink: FuseOperation = {
	name: "UNLINK",
	argumentBytes: 1,
	changes: true,
	run(request, _reply, mount) {
		mount.overlay.remove(mount.object(request.nodeId), request.name(0), mount.who, request.state.key);
	},
};
