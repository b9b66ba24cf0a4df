// RENAME and RENAME2: move a name, or let two change places.

import { OverlayError } from "../vfs/errors.ts";
import type { FuseMount } from "./mount.ts";
import type { FuseOperation } from "./operation.ts";
import type { FuseRequest } from "./request.ts";

const [IN_BYTES, IN2_BYTES] = [8, 16];
/** renameat2(2). Whiteouts are for overlays on top of this one, which make theirs in another way. */
const [NOREPLACE, EXCHANGE] = [1, 2];

/** struct fuse_rename_in, then both names. */
export const rename: FuseOperation = {
	name: "RENAME",
	argumentBytes: IN_BYTES + 2,
	changes: true,
	run(request, _reply, mount) {
		move(request, mount, IN_BYTES, 0);
	},
};

/** struct fuse_rename2_in, then both names. */
export const rename2: FuseOperation = {
	name: "RENAME2",
	argumentBytes: IN2_BYTES + 2,
	changes: true,
	run(request, _reply, mount) {
		move(request, mount, IN2_BYTES, request.word(2));
	},
};

function move(request: FuseRequest, mount: FuseMount, namesAt: number, flags: number): undefined {
	const { overlay, who } = mount;
	const { key } = request.state;
	const fromName = request.name(namesAt);
	const toName = request.name(namesAt + fromName.length + 1);
	const from = mount.object(request.nodeId);
	const to = mount.object(request.id(0));
	if (flags === EXCHANGE) overlay.exchange(from, fromName, to, toName, who, key);
	else if ((flags & ~NOREPLACE) === 0) overlay.rename(from, fromName, to, toName, who, key, flags !== NOREPLACE);
	else throw new OverlayError("inval", `renameat2(2) with flags ${flags}`);
}
