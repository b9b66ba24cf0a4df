// INIT: which version is spoken, and which of the things that a kernel offers are taken.

import type { FuseMount } from "./mount.ts";
import { FUSE_MINOR_MAX, FUSE_MINOR_MIN, FUSE_VERSION, InitFlag, InitFlag2, PAGE_BYTES, TRANSFER_BYTES_MAX } from "./protocol.ts";
import type { FuseReply } from "./reply.ts";
import type { FuseRequest } from "./request.ts";

const WANTED =
	InitFlag.asyncRead |
	InitFlag.bigWrites |
	InitFlag.dontMask |
	InitFlag.doReaddirplus |
	InitFlag.readdirplusAuto |
	InitFlag.asyncDio |
	InitFlag.noOpenSupport |
	InitFlag.parallelDirops |
	InitFlag.posixAcl |
	InitFlag.abortError |
	InitFlag.maxPages |
	InitFlag.cacheSymlinks |
	InitFlag.noOpendirSupport |
	InitFlag.handleKillprivV2 |
	InitFlag.setxattrExt |
	InitFlag.initExt;

/** With others who lock the same files; their locks by flock(2) go with RELEASE alone, so OPEN cannot be left out. */
const WANTED_FOR_LOCKS = (WANTED & ~InitFlag.noOpenSupport) | InitFlag.posixLocks | InitFlag.flockLocks;

const WANTED2 = InitFlag2.noExportSupport | InitFlag2.hasResend;

/** Requests that nobody waits for, such as reading ahead, which the kernel has under way at a time, and from how many on it holds others back. */
const [BACKGROUND_MAX, CONGESTION] = [64, 48];

/** Words of struct fuse_init_in; kernels before 7.36 end it behind `flags`. */
const [MAJOR, MINOR, READAHEAD, FLAGS, FLAGS2] = [0, 1, 2, 3, 4];
const SHORT_BYTES = 16;
const LONG_BYTES = 20;

/** "agreed"; "again": the kernel speaks a later major version, and is told which one we do; "too old". */
export type InitOutcome = "agreed" | "again" | "too old";

/**
 * struct fuse_init_out. A flag that the kernel has not offered is never taken. `isShared`: others than the kernel change the same objects, so that
 * the content it caches is to be dropped when a file's time has changed.
 */
export function agree(request: FuseRequest, reply: FuseReply, mount: FuseMount, isShared: boolean): InitOutcome {
	const [major, minor] = [request.word(MAJOR), request.word(MINOR)];
	if (request.argumentBytes < SHORT_BYTES || major < FUSE_VERSION || (major === FUSE_VERSION && minor < FUSE_MINOR_MIN)) return "too old";
	reply.u32(FUSE_VERSION);
	reply.u32(Math.min(minor, FUSE_MINOR_MAX));
	if (major > FUSE_VERSION) {
		reply.zeros(56);
		return "again";
	}
	const offered = request.word(FLAGS);
	const offered2 = (offered & InitFlag.initExt) !== 0 && request.argumentBytes >= LONG_BYTES ? request.word(FLAGS2) : 0;
	const wanted = mount.locks === null ? WANTED : WANTED_FOR_LOCKS;
	const more = (isShared ? InitFlag.autoInvalData : 0) | (mount.writesBack ? InitFlag.writebackCache : 0);
	mount.flags = offered & (wanted | more);
	reply.u32(request.word(READAHEAD));
	reply.u32(mount.flags);
	reply.u16(BACKGROUND_MAX);
	reply.u16(CONGESTION);
	reply.u32(TRANSFER_BYTES_MAX);
	// granularity of times in nanoseconds
	reply.u32(1);
	reply.u16(TRANSFER_BYTES_MAX / PAGE_BYTES);
	reply.u16(0);
	reply.u32(offered2 & WANTED2);
	reply.zeros(28);
	return "agreed";
}
