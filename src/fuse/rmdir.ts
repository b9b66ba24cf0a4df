// RMDIR: removes an empty directory.

import type { FuseOperation } from "./operation.ts";

export const rmdir: FuseOperation = {
	name: "RMDIR",
	argumentBytes: 1,
	changes: true,
	run(request, _reply, mount) {
		mount.overlay.rmdir(mount.object(request.nodeId), request.name(0), mount.who, request.state.key);
	},
};
