// CREATE: makes a regular file that is open at once.

import { OverlayError } from "../vfs/errors.ts";
import { writeEntry } from "./attributes.ts";
import { writeOpened } from "./open.ts";
import type { FuseOperation } from "./operation.ts";

/** struct fuse_create_in. */
export const CREATE_IN_BYTES = 16;
const O_EXCL = 0o200;

/**
 * struct fuse_create_in, then the name. The kernel asks for it when it believes that there is no such name. Where another front end has made one
 * meanwhile, "stale" lets the kernel look again, and open what is there by that one's mode.
 */
export const create: FuseOperation = {
	name: "CREATE",
	argumentBytes: CREATE_IN_BYTES + 1,
	changes: true,
	run(request, reply, mount) {
		const { overlay } = mount;
		const name = request.name(CREATE_IN_BYTES);
		const attributes = mount.birth(request, request.word(1), request.word(2));
		const object = request.once(overlay, () => {
			try {
				const directory = mount.object(request.nodeId);
				return overlay.create(directory, name, mount.maker(request), { mode: "guarded", attributes }, request.state.key).object;
			} catch (error) {
				const isRace = error instanceof OverlayError && error.code === "exist" && (request.word(0) & O_EXCL) === 0;
				throw isRace ? new OverlayError("stale", "The name has come into being") : error;
			}
		});
		writeEntry(reply, mount, object);
		writeOpened(request, reply, mount);
	},
};
