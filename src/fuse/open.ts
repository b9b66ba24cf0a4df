// OPEN, OPENDIR, RELEASE, RELEASEDIR and FLUSH: nothing is open here but what the kernel has an id of, and what is locked by it.

import { rangeOwner } from "./locks.ts";
import type { FuseMount } from "./mount.ts";
import { type FuseOperation, NotImplemented } from "./operation.ts";
import { InitFlag } from "./protocol.ts";
import type { FuseReply } from "./reply.ts";
import type { FuseRequest } from "./request.ts";

/** What is cached of a file or a directory stays when it is opened anew (FOPEN_KEEP_CACHE, FOPEN_CACHE_DIR). */
const [KEEP_CACHE, CACHE_DIR] = [1 << 1, 1 << 3];

/**
 * struct fuse_open_out. Where files are locked the file handle tells one open file from others: it is the number of the request, which no other one has.
 */
export function writeOpened(request: FuseRequest, reply: FuseReply, { locks }: FuseMount, flags: number = KEEP_CACHE): void {
	if (locks === null) reply.u64(0, 0);
	else reply.u64(request.uniqueHi & UNIQUE_HI_MASK, request.uniqueLo);
	reply.u32(flags);
	reply.u32(0);
}

/** The kernel sets the highest bit of what it sends once more. */
const UNIQUE_HI_MASK = 0x7fffffff;

/** struct fuse_open_in. A kernel that can do without is told so once, and never asks again. */
export const open: FuseOperation = {
	name: "OPEN",
	argumentBytes: 8,
	run(request, reply, mount) {
		if ((mount.flags & InitFlag.noOpenSupport) !== 0) throw new NotImplemented();
		writeOpened(request, reply, mount);
	},
};

export const opendir: FuseOperation = {
	name: "OPENDIR",
	argumentBytes: 8,
	run(request, reply, mount) {
		if ((mount.flags & InitFlag.noOpendirSupport) !== 0) throw new NotImplemented();
		writeOpened(request, reply, mount, KEEP_CACHE | CACHE_DIR);
	},
};

/** struct fuse_release_in. Without locks: of what CREATE has opened before the kernel knew that it can do without. */
export const release: FuseOperation = {
	name: "RELEASE",
	argumentBytes: 24,
	run(request, _reply, { locks, table }) {
		locks?.close(table.handle(request.nodeId), request.data(0, 8));
	},
};

export const releasedir: FuseOperation = { name: "RELEASEDIR", argumentBytes: 24, run: () => undefined };

/** struct fuse_flush_in: a process closes one of its descriptors, and so loses its locks of ranges of the file (POSIX). */
export const flush: FuseOperation = {
	name: "FLUSH",
	argumentBytes: 24,
	run(request, _reply, { locks, table }) {
		if (locks === null) throw new NotImplemented();
		locks.unlock(table.handle(request.nodeId), rangeOwner(request, FLUSH_OWNER));
	},
};

/** Its word of struct fuse_flush_in. */
const FLUSH_OWNER = 4;
