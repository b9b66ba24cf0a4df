// WRITE: bytes into a file.

import { OverlayError } from "../vfs/errors.ts";
import type { FuseOperation } from "./operation.ts";
import { withoutPrivilege } from "./privilege.ts";
import { WRITE_KILL_SUIDGID } from "./protocol.ts";

const IN_BYTES = 40;

/** struct fuse_write_in, then the bytes. */
export const write: FuseOperation = {
	name: "WRITE",
	argumentBytes: IN_BYTES,
	run(request, reply, mount) {
		const offset = request.size(2, "fbig");
		const data = request.data(IN_BYTES, request.word(4));
		if (offset + data.length > Number.MAX_SAFE_INTEGER) throw new OverlayError("fbig", "A write that ends beyond 2^53 - 1 bytes");
		const object = mount.object(request.nodeId);
		const isUnprivileged = (request.word(5) & WRITE_KILL_SUIDGID) !== 0;
		const { mode } = isUnprivileged ? mount.overlay.getattr(object, false) : { mode: 0 };
		reply.u32(mount.overlay.write(object, isUnprivileged ? mount.unprivileged : mount.who, offset, data, "open"));
		reply.u32(0);
		// the kernel leaves the mode to us, and believes what it knows of it
		if (withoutPrivilege(mode) !== mode) mount.notifications.attributesChanged(request.nodeId);
	},
};
