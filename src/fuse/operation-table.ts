// The operations by their opcodes.

import { batchForget } from "./batch-forget.ts";
import { create } from "./create.ts";
import { forget } from "./forget.ts";
import { fsync, fsyncdir, syncfs } from "./fsync.ts";
import { getattr } from "./getattr.ts";
import { link } from "./link.ts";
import { readdir, readdirplus } from "./listing.ts";
import { getlk, setlk, setlkw } from "./locks.ts";
import { lookup } from "./lookup.ts";
import { mkdir } from "./mkdir.ts";
import { mknod } from "./mknod.ts";
import { flush, open, opendir, release, releasedir } from "./open.ts";
import type { FuseOperation } from "./operation.ts";
import { Opcode } from "./protocol.ts";
import { copyFileRange, fallocate, lseek } from "./ranges.ts";
import { read } from "./read.ts";
import { readlink } from "./readlink.ts";
import { rename, rename2 } from "./rename.ts";
import { rmdir } from "./rmdir.ts";
import { setattr } from "./setattr.ts";
import { statfs } from "./statfs.ts";
import { statx } from "./statx.ts";
import { symlink } from "./symlink.ts";
import { tmpfile } from "./tmpfile.ts";
import { unlink } from "./unlink.ts";
import { write } from "./write.ts";
import { getxattr, listxattr, removexattr, setxattr } from "./xattrs.ts";

/** What the session does itself: INIT and DESTROY, INTERRUPT, and ACCESS, which the kernel answers (default_permissions). */
type OfSession = "init" | "destroy" | "interrupt" | "access";

const BY_NAME: Record<Exclude<keyof typeof Opcode, OfSession>, FuseOperation> = {
	lookup,
	forget,
	getattr,
	setattr,
	readlink,
	symlink,
	mknod,
	mkdir,
	unlink,
	rmdir,
	rename,
	link,
	open,
	read,
	write,
	statfs,
	release,
	fsync,
	setxattr,
	getxattr,
	listxattr,
	removexattr,
	flush,
	opendir,
	readdir,
	releasedir,
	fsyncdir,
	getlk,
	setlk,
	setlkw,
	create,
	batchForget,
	fallocate,
	readdirplus,
	rename2,
	lseek,
	copyFileRange,
	syncfs,
	tmpfile,
	statx,
};

/** By opcode. What is missing is answered ENOSYS, and the kernel does without from then on. */
export const OPERATIONS: readonly (FuseOperation | undefined)[] = byOpcode();

function byOpcode(): (FuseOperation | undefined)[] {
	const operations: (FuseOperation | undefined)[] = [];
	for (const [name, operation] of Object.entries(BY_NAME)) operations[Opcode[name as keyof typeof BY_NAME]] = operation;
	return operations;
}
