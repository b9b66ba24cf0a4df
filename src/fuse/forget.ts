// FORGET: the kernel knows an object no more, or less often than before.

import type { FuseOperation } from "./operation.ts";

/** struct fuse_forget_in. */
export const forget: FuseOperation = {
	name: "FORGET",
	argumentBytes: 8,
	isSilent: true,
	run(request, _reply, mount) {
		mount.forget(request.nodeId, request.word(0) + request.word(1) * 4294967296);
	},
};
