// SYMLINK: makes a symlink.

import { writeEntry } from "./attributes.ts";
import type { FuseOperation } from "./operation.ts";

/** Its name, then its target. */
export const symlink: FuseOperation = {
	name: "SYMLINK",
	argumentBytes: 2,
	changes: true,
	run(request, reply, mount) {
		const name = request.name(0);
		const target = request.name(name.length + 1);
		const object = request.once(mount.overlay, () =>
			mount.overlay.symlink(mount.object(request.nodeId), name, mount.maker(request), target, mount.birth(request), request.state.key),
		);
		writeEntry(reply, mount, object);
	},
};
