// The numbers of the FUSE protocol, version 7 (linux/fuse.h up to 7.45).

export const FUSE_VERSION = 7;
/** What is spoken at most. */
export const FUSE_MINOR_MAX = 45;
/** Linux 5.4: older kernels lay out some structures otherwise, and cannot do without OPEN. */
export const FUSE_MINOR_MIN = 31;

export const ROOT_ID = 1;

/** enum fuse_opcode. */
export const Opcode = {
	lookup: 1,
	forget: 2,
	getattr: 3,
	setattr: 4,
	readlink: 5,
	symlink: 6,
	mknod: 8,
	mkdir: 9,
	unlink: 10,
	rmdir: 11,
	rename: 12,
	link: 13,
	open: 14,
	read: 15,
	write: 16,
	statfs: 17,
	release: 18,
	fsync: 20,
	setxattr: 21,
	getxattr: 22,
	listxattr: 23,
	removexattr: 24,
	flush: 25,
	init: 26,
	opendir: 27,
	readdir: 28,
	releasedir: 29,
	fsyncdir: 30,
	getlk: 31,
	setlk: 32,
	setlkw: 33,
	access: 34,
	create: 35,
	interrupt: 36,
	destroy: 38,
	batchForget: 42,
	fallocate: 43,
	readdirplus: 44,
	rename2: 45,
	lseek: 46,
	copyFileRange: 47,
	syncfs: 50,
	tmpfile: 51,
	statx: 52,
} as const;

/** INIT flags below bit 32. */
export const InitFlag = {
	asyncRead: 1 << 0,
	posixLocks: 1 << 1,
	bigWrites: 1 << 5,
	flockLocks: 1 << 10,
	dontMask: 1 << 6,
	autoInvalData: 1 << 12,
	doReaddirplus: 1 << 13,
	readdirplusAuto: 1 << 14,
	asyncDio: 1 << 15,
	writebackCache: 1 << 16,
	noOpenSupport: 1 << 17,
	parallelDirops: 1 << 18,
	posixAcl: 1 << 20,
	abortError: 1 << 21,
	maxPages: 1 << 22,
	cacheSymlinks: 1 << 23,
	noOpendirSupport: 1 << 24,
	handleKillprivV2: 1 << 28,
	setxattrExt: 1 << 29,
	initExt: 1 << 30,
} as const;

/** INIT flags from bit 32 on, as they stand in `flags2`. */
export const InitFlag2 = {
	noExportSupport: 1 << 6,
	hasResend: 1 << 7,
} as const;

/** Bits of fuse_setattr_in.valid. */
export const SetattrValid = {
	mode: 1 << 0,
	uid: 1 << 1,
	gid: 1 << 2,
	size: 1 << 3,
	atime: 1 << 4,
	mtime: 1 << 5,
	atimeNow: 1 << 7,
	mtimeNow: 1 << 8,
	killSuidgid: 1 << 11,
} as const;

/** enum fuse_notify_code: attributes of an object, and its content. */
export const NOTIFY_INVAL_INODE = 2;
/**
 * enum fuse_notify_code: names that the kernel knows from before are to be looked up anew, each when it is used next. It makes the kernel wait for nothing,
 * as FUSE_NOTIFY_INVAL_ENTRY does for locks whose holders may wait for this server.
 */
export const NOTIFY_INC_EPOCH = 8;
export const NOTIFY_INC_EPOCH_MINOR = 44;

/** Written back from the page cache, by nobody in particular. */
export const WRITE_CACHE = 1 << 0;
export const WRITE_KILL_SUIDGID = 1 << 2;
export const SETXATTR_ACL_KILL_SGID = 1 << 0;

/** Sizes of structures, in bytes. */
export const IN_HEADER_BYTES = 40;
export const OUT_HEADER_BYTES = 16;
export const ATTRIBUTES_BYTES = 88;
export const ENTRY_BYTES = 40 + ATTRIBUTES_BYTES;
export const DIRENT_BYTES = 24;

/** The most that one READ or WRITE moves. */
export const TRANSFER_BYTES_MAX = 1024 * 1024;
export const PAGE_BYTES = 4096;
