// STATX: attributes with the time at which an object was made, for whoever asks for that (FUSE 7.39).

import type { Timespec } from "../vfs/operations.ts";
import { PREFERRED_BYTES, writeAttributesValid } from "./attributes.ts";
import type { FuseOperation } from "./operation.ts";
import type { FuseReply } from "./reply.ts";

/** statx(2). */
const [STATX_BASIC_STATS, STATX_BTIME] = [0x7ff, 0x800];
const NO_TIME: Timespec = { sec: 0, nsec: 0 };

/** struct fuse_statx_in; struct fuse_statx_out: the kernel knows the device itself. */
export const statx: FuseOperation = {
	name: "STATX",
	argumentBytes: 24,
	run(request, reply, mount) {
		const object = mount.object(request.nodeId);
		const birth = mount.overlay.birthTime(object);
		const attributes = mount.overlay.getattr(object, false);
		const { uid, gid, mode } = mount.shown(attributes);
		writeAttributesValid(reply, mount);
		reply.zeros(20);
		reply.u32(birth === null ? STATX_BASIC_STATS : STATX_BASIC_STATS | STATX_BTIME);
		reply.u32(PREFERRED_BYTES);
		reply.u64(0, 0);
		reply.u32(attributes.nlink);
		reply.u32(uid);
		reply.u32(gid);
		reply.u32((attributes.type << 12) | mode);
		reply.u64(attributes.fileidHi, attributes.fileidLo);
		reply.u64(attributes.sizeHi, attributes.sizeLo);
		reply.number(attributes.blocks);
		reply.u64(0, 0);
		for (const time of [attributes.atime, birth ?? NO_TIME, attributes.ctime, attributes.mtime]) writeTime(reply, time);
		reply.u32(attributes.rdevMajor);
		reply.u32(attributes.rdevMinor);
		reply.zeros(8 + 14 * 8);
	},
};

/** struct fuse_sx_time. */
function writeTime(reply: FuseReply, { sec, nsec }: Timespec): void {
	reply.number(sec);
	reply.u32(nsec);
	reply.u32(0);
}
