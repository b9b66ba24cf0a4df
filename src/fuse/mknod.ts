// MKNOD: makes a file, a pipe, a socket or a device.

import { FileType } from "../vfs/operations.ts";
import { devicePair, writeEntry } from "./attributes.ts";
import type { FuseOperation } from "./operation.ts";

const IN_BYTES = 16;

/** struct fuse_mknod_in, then the name. */
export const mknod: FuseOperation = {
	name: "MKNOD",
	argumentBytes: IN_BYTES + 1,
	changes: true,
	run(request, reply, mount) {
		const { overlay } = mount;
		const mode = request.word(0);
		const name = request.name(IN_BYTES);
		const type = (mode >>> 12) as FileType;
		const [who, attributes, { key }] = [mount.maker(request), mount.birth(request, mode, request.word(2)), request.state];
		const object = request.once(overlay, () => {
			const directory = mount.object(request.nodeId);
			if (type === FileType.reg) return overlay.create(directory, name, who, { mode: "guarded", attributes }, key).object;
			const [major, minor] = devicePair(request.word(1));
			return overlay.mknod(directory, name, who, type, major, minor, attributes, key);
		});
		writeEntry(reply, mount, object);
	},
};
