// OPEN, OPENDIR, RELEASE, RELEASEDIR and FLUSH: nothing is open here but what the kernel has an id of.

import { type FuseOperation, NotImplemented } from "./operation.ts";
import { InitFlag } from "./protocol.ts";
import type { FuseReply } from "./reply.ts";

/** What is cached of a file or a directory stays when it is opened anew (FOPEN_KEEP_CACHE, FOPEN_CACHE_DIR). */
const [KEEP_CACHE, CACHE_DIR] = [1 << 1, 1 << 3];

/** struct fuse_open_out, of a file without a file handle. */
export function writeOpened(reply: FuseReply, flags: number = KEEP_CACHE): void {
	reply.u64(0, 0);
	reply.u32(flags);
	reply.u32(0);
}

/** struct fuse_open_in. A kernel that can do without is told so once, and never asks again. */
export const open: FuseOperation = {
	name: "OPEN",
	argumentBytes: 8,
	run(_request, reply, mount) {
		if ((mount.flags & InitFlag.noOpenSupport) !== 0) throw new NotImplemented();
		writeOpened(reply);
	},
};

export const opendir: FuseOperation = {
	name: "OPENDIR",
	argumentBytes: 8,
	run(_request, reply, mount) {
		if ((mount.flags & InitFlag.noOpendirSupport) !== 0) throw new NotImplemented();
		writeOpened(reply, KEEP_CACHE | CACHE_DIR);
	},
};

/** Of what CREATE has opened before the kernel knew that it can do without. */
export const release: FuseOperation = { name: "RELEASE", argumentBytes: 24, run: () => undefined };

export const releasedir: FuseOperation = { name: "RELEASEDIR", argumentBytes: 24, run: () => undefined };

export const flush: FuseOperation = {
	name: "FLUSH",
	argumentBytes: 24,
	run() {
		throw new NotImplemented();
	},
};
