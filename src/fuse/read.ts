// READ: bytes of a file, read straight into the reply.

import type { FuseOperation } from "./operation.ts";
import { TRANSFER_BYTES_MAX } from "./protocol.ts";

/** struct fuse_read_in. The kernel has asked whether the caller may when the file was opened. */
export const read: FuseOperation = {
	name: "READ",
	argumentBytes: 40,
	run(request, reply, mount) {
		const object = mount.object(request.nodeId);
		const offset = request.size(2);
		const length = Math.min(request.word(4), TRANSFER_BYTES_MAX, Number.MAX_SAFE_INTEGER - offset);
		reply.position += mount.overlay.read(object, mount.who, offset, length, reply.memory, reply.position, "open").count;
	},
};
