// TMPFILE: makes a regular file without a name, which LINK may give one (O_TMPFILE, FUSE 7.37).

import { writeEntry } from "./attributes.ts";
import { CREATE_IN_BYTES } from "./create.ts";
import { writeOpened } from "./open.ts";
import type { FuseOperation } from "./operation.ts";

/** struct fuse_create_in, then a name that says nothing. The kernel itself refuses to link what was opened with O_EXCL. */
export const tmpfile: FuseOperation = {
	name: "TMPFILE",
	argumentBytes: CREATE_IN_BYTES,
	changes: true,
	run(request, reply, mount) {
		const { overlay, table } = mount;
		const attributes = mount.birth(request, request.word(1), request.word(2));
		const object = request.once(overlay, () => {
			const made = overlay.createUnnamed(mount.object(request.nodeId), mount.maker(request), attributes, request.state.key);
			// from its first moment: nobody else does
			overlay.hold(made.handle);
			return made;
		});
		writeEntry(reply, mount, object);
		// an earlier server may have held it for this mount already
		if (!table.holds(object.handle)) overlay.letGo(object.handle);
		writeOpened(request, reply, mount);
	},
};
