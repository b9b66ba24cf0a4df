// MKDIR: makes a directory.

import { writeEntry } from "./attributes.ts";
import type { FuseOperation } from "./operation.ts";

const IN_BYTES = 8;

/** struct fuse_mkdir_in, then the name. */
export const mkdir: FuseOperation = {
	name: "MKDIR",
	argumentBytes: IN_BYTES + 1,
	changes: true,
	run(request, reply, mount) {
		const name = request.name(IN_BYTES);
		const attributes = mount.birth(request, request.word(0), request.word(1));
		const object = request.once(mount.overlay, () =>
			mount.overlay.mkdir(mount.object(request.nodeId), name, mount.maker(request), attributes, request.state.key),
		);
		writeEntry(reply, mount, object);
	},
};
