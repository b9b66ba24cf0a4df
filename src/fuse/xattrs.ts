// GETXATTR, LISTXATTR, SETXATTR and REMOVEXATTR: extended attributes and ACLs. The overlay's own are never seen.

import type { SetXattrMode } from "../vfs/operations.ts";
import type { FuseMount } from "./mount.ts";
import { type FuseOperation, TooSmall } from "./operation.ts";
import { InitFlag, SETXATTR_ACL_KILL_SGID } from "./protocol.ts";
import type { FuseReply } from "./reply.ts";
import type { FuseRequest } from "./request.ts";

const IN_BYTES = 8;
/** With FUSE_SETXATTR_EXT. */
const SET_EXT_BYTES = 16;
/** setxattr(2). */
const [XATTR_CREATE, XATTR_REPLACE] = [1, 2];
const S_ISGID = 0o2000;

/** struct fuse_getxattr_in, then the name. Who asks for no bytes is told how many there are. */
export const getxattr: FuseOperation = {
	name: "GETXATTR",
	argumentBytes: IN_BYTES + 1,
	run(request, reply, mount) {
		const value = mount.overlay.getxattr(mount.object(request.nodeId), mount.who, request.name(IN_BYTES));
		writeValue(reply, request.word(0), [value]);
	},
};

/** struct fuse_getxattr_in. Names of "trusted" are for root alone, as of every file system. */
export const listxattr: FuseOperation = {
	name: "LISTXATTR",
	argumentBytes: IN_BYTES,
	run(request, reply, mount) {
		const who = request.uid === 0 ? mount.who : mount.unprivileged;
		const names = mount.overlay.listxattr(mount.object(request.nodeId), who);
		writeValue(
			reply,
			request.word(0),
			names.flatMap((name) => [name, NUL]),
		);
	},
};

const NUL = Buffer.alloc(1);

function writeValue(reply: FuseReply, room: number, parts: readonly Buffer[]): void {
	const length = parts.reduce((sum, part) => sum + part.length, 0);
	if (room === 0) {
		reply.u32(length);
		reply.u32(0);
	} else if (length > room) throw new TooSmall();
	else for (const part of parts) reply.raw(part);
}

/** struct fuse_setxattr_in, then the name and the value. */
export const setxattr: FuseOperation = {
	name: "SETXATTR",
	argumentBytes: IN_BYTES + 1,
	changes: true,
	run(request, _reply, mount) {
		const isExtended = (mount.flags & InitFlag.setxattrExt) !== 0;
		const at = isExtended ? SET_EXT_BYTES : IN_BYTES;
		const name = request.name(at);
		const value = request.data(at + name.length + 1, request.word(0));
		const flags = request.word(1);
		const mode: SetXattrMode = (flags & XATTR_CREATE) !== 0 ? "create" : (flags & XATTR_REPLACE) !== 0 ? "replace" : "any";
		const object = request.once(mount.overlay, () => {
			const found = mount.object(request.nodeId);
			mount.overlay.setxattr(found, mount.who, name, value, mode, request.state.key);
			return found;
		});
		if (isExtended && (request.word(2) & SETXATTR_ACL_KILL_SGID) !== 0) dropSetgid(request, mount, object);
	},
};

/** Who is not in the group of a file cannot give it an ACL and leave the file what sets that group's id. */
function dropSetgid(request: FuseRequest, { overlay, who }: FuseMount, object: ReturnType<FuseMount["object"]>): void {
	const { mode } = overlay.getattr(object, false);
	if ((mode & S_ISGID) === 0) return;
	const { key } = request.state;
	overlay.setattr(object, who, { mode: mode & ~S_ISGID }, undefined, key === null ? null : { ...key, change: key.change + 1 });
}

/** The name. */
export const removexattr: FuseOperation = {
	name: "REMOVEXATTR",
	argumentBytes: 1,
	changes: true,
	run(request, _reply, mount) {
		mount.overlay.removexattr(mount.object(request.nodeId), mount.who, request.name(0), request.state.key);
	},
};
