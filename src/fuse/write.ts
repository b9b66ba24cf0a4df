// WRITE: bytes into a file.

import { OverlayError } from "../vfs/errors.ts";
import type { FuseOperation } from "./operation.ts";
import { changeContent } from "./privilege.ts";
import { WRITE_CACHE, WRITE_KILL_SUIDGID } from "./protocol.ts";

const IN_BYTES = 40;

/** struct fuse_write_in, then the bytes. */
export const write: FuseOperation = {
	name: "WRITE",
	argumentBytes: IN_BYTES,
	run(request, reply, mount) {
		const offset = request.size(2, "fbig");
		const data = request.data(IN_BYTES, request.word(4));
		if (offset + data.length > Number.MAX_SAFE_INTEGER) throw new OverlayError("fbig", "A write that ends beyond 2^53 - 1 bytes");
		const mayKeep = (request.word(5) & WRITE_KILL_SUIDGID) === 0;
		const count = changeContent(mount, request.nodeId, mayKeep, (object, who) => mount.overlay.write(object, who, offset, data, "open"));
		// of what it writes back the kernel takes any reply without an error for all of it
		if ((request.word(5) & WRITE_CACHE) !== 0 && count < data.length) throw new OverlayError("nospc", "There is room for a part alone");
		reply.u32(count);
		reply.u32(0);
	},
};
