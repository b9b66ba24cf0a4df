// STATFS: how much room there is.

import { NAME_BYTES_MAX } from "../vfs/names.ts";
import type { FuseOperation } from "./operation.ts";
import { PAGE_BYTES } from "./protocol.ts";

/** struct fuse_kstatfs. */
export const statfs: FuseOperation = {
	name: "STATFS",
	argumentBytes: 0,
	run(request, reply, mount) {
		const status = mount.overlay.statfs(mount.object(request.nodeId));
		for (const bytes of [status.totalBytes, status.freeBytes, status.availableBytes]) reply.number(Math.floor(bytes / PAGE_BYTES));
		reply.number(status.totalFiles);
		reply.number(status.freeFiles);
		reply.u32(PAGE_BYTES);
		reply.u32(NAME_BYTES_MAX);
		reply.u32(PAGE_BYTES);
		reply.zeros(28);
	},
};
