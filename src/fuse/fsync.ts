// FSYNC, FSYNCDIR and SYNCFS: what was changed reaches the disk before the reply.

import { FileType, type OverlayObject } from "../vfs/operations.ts";
import type { FuseMount } from "./mount.ts";
import type { FuseOperation } from "./operation.ts";

/** struct fuse_fsync_in. Content, and all names and attributes that were changed before. */
export const fsync: FuseOperation = {
	name: "FSYNC",
	argumentBytes: 16,
	run(request, _reply, mount) {
		const object = mount.object(request.nodeId);
		return object.type === FileType.reg ? flushed(mount, object) : stable(mount);
	},
};

export const fsyncdir: FuseOperation = {
	name: "FSYNCDIR",
	argumentBytes: 16,
	run: (_request, _reply, mount) => stable(mount),
};

export const syncfs: FuseOperation = {
	name: "SYNCFS",
	argumentBytes: 8,
	run: (_request, _reply, mount) => stable(mount),
};

async function flushed(mount: FuseMount, object: OverlayObject): Promise<void> {
	await mount.overlay.commit(object);
	await mount.overlay.stable();
}

function stable({ overlay }: FuseMount): undefined | Promise<void> {
	return overlay.stable() ?? undefined;
}
