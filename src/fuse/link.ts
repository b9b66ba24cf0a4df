// LINK: gives an object a further name.

import { writeEntry } from "./attributes.ts";
import type { FuseOperation } from "./operation.ts";

const IN_BYTES = 8;

/** struct fuse_link_in, then the name. */
export const link: FuseOperation = {
	name: "LINK",
	argumentBytes: IN_BYTES + 1,
	changes: true,
	run(request, reply, mount) {
		const name = request.name(IN_BYTES);
		const object = request.once(mount.overlay, () => {
			const linked = mount.object(request.id(0));
			mount.overlay.link(linked, mount.object(request.nodeId), name, mount.who, request.state.key, true);
			return linked;
		});
		writeEntry(reply, mount, object);
	},
};
