// SETATTR: mode, owner, size and times.

import { OverlayError } from "../vfs/errors.ts";
import type { SetAttributes, Timespec } from "../vfs/operations.ts";
import { writeAttributesOut } from "./attributes.ts";
import type { FuseOperation } from "./operation.ts";
import { withoutPrivilege } from "./privilege.ts";
import { SetattrValid } from "./protocol.ts";
import type { FuseRequest } from "./request.ts";

/** Words of struct fuse_setattr_in. */
const [VALID, SIZE, ATIME, MTIME, ATIME_NSEC, MTIME_NSEC, MODE, UID, GID] = [0, 4, 8, 10, 14, 15, 17, 19, 20];
const NANOSECONDS_MAX = 999_999_999;

function timeAt(request: FuseRequest, seconds: number, nanoseconds: number): Timespec {
	const nsec = request.word(nanoseconds);
	if (nsec > NANOSECONDS_MAX) throw new OverlayError("inval", `A time with ${nsec} nanoseconds`);
	return { sec: (request.word(seconds + 1) | 0) * 4294967296 + request.word(seconds), nsec };
}

function changeOf(request: FuseRequest): SetAttributes {
	const valid = request.word(VALID);
	const change: SetAttributes = {};
	if ((valid & SetattrValid.mode) !== 0) change.mode = request.word(MODE) & 0o7777;
	if ((valid & SetattrValid.uid) !== 0) change.uid = request.word(UID);
	if ((valid & SetattrValid.gid) !== 0) change.gid = request.word(GID);
	if ((valid & SetattrValid.size) !== 0) change.size = request.size(SIZE, "fbig");
	if ((valid & SetattrValid.atimeNow) !== 0) change.atime = "now";
	else if ((valid & SetattrValid.atime) !== 0) change.atime = timeAt(request, ATIME, ATIME_NSEC);
	if ((valid & SetattrValid.mtimeNow) !== 0) change.mtime = "now";
	else if ((valid & SetattrValid.mtime) !== 0) change.mtime = timeAt(request, MTIME, MTIME_NSEC);
	return change;
}

/** struct fuse_setattr_in. */
export const setattr: FuseOperation = {
	name: "SETATTR",
	argumentBytes: 88,
	changes: true,
	run(request, reply, mount) {
		const { overlay } = mount;
		const change = changeOf(request);
		const object = request.once(overlay, () => {
			const found = mount.object(request.nodeId);
			if ((request.word(VALID) & SetattrValid.killSuidgid) !== 0 && change.size !== undefined && change.mode === undefined) {
				const { mode } = overlay.getattr(found, false);
				if (withoutPrivilege(mode) !== mode) change.mode = withoutPrivilege(mode);
			}
			overlay.setattr(found, mount.who, change, undefined, request.state.key);
			return found;
		});
		writeAttributesOut(reply, mount, object);
	},
};
