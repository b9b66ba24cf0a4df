// What a front end must offer for the list of POSIX behaviour to run through it: the calls of a user by paths, and errors by errno names.

export type Errno =
	| "EPERM"
	| "ENOENT"
	| "EACCES"
	| "EEXIST"
	| "EXDEV"
	| "ENOTDIR"
	| "EISDIR"
	| "EINVAL"
	| "EFBIG"
	| "EROFS"
	| "EMLINK"
	| "ENAMETOOLONG"
	| "ENOTEMPTY"
	| "ESTALE"
	| (string & {});

/** A call was refused. Adapters throw nothing else where the system under test says no. */
export class Refusal extends Error {
	readonly errno: Errno;

	constructor(errno: Errno, what: string) {
		super(`${what}: ${errno}`);
		this.errno = errno;
	}
}

export interface Who {
	readonly uid: number;
	readonly gid: number;
	readonly gids?: readonly number[];
}

export type ObjectType = "file" | "directory" | "symlink" | "fifo" | "socket" | "character" | "block";

export interface PosixStat {
	readonly type: ObjectType;
	/** The lowest 12 bits. */
	readonly mode: number;
	readonly nlink: number;
	readonly uid: number;
	readonly gid: number;
	readonly size: bigint;
	readonly ino: bigint;
	/** Nanoseconds since 1970. */
	readonly atime: bigint;
	readonly mtime: bigint;
	readonly ctime: bigint;
	readonly rdev: readonly [major: number, minor: number];
}

/** Nanoseconds since 1970, whole microseconds; "now": of the server; null: as it is. */
export type NewTime = bigint | "now" | null;

/** An object that was opened by a path, and is used whatever becomes of that. */
export interface OpenFile {
	read(): Promise<string>;
	write(offset: number, text: string): Promise<void>;
	stat(): Promise<PosixStat>;
	close(): Promise<void>;
}

/**
 * The calls of one user below one folder. Paths are relative to it and plain: names, slashes, and "." or ".." as a last name. No call follows
 * a symlink. There is no umask.
 */
export interface Calls {
	stat(path: string): Promise<PosixStat>;
	/** Names without "." and "..", sorted. */
	list(path: string): Promise<string[]>;
	readlink(path: string): Promise<string>;
	/** open(2) with O_CREAT and O_EXCL. */
	create(path: string, mode?: number): Promise<void>;
	/** `write`: for reading and writing, else for reading alone. */
	open(path: string, write: boolean): Promise<OpenFile>;
	mkdir(path: string, mode?: number): Promise<void>;
	symlink(target: string, path: string): Promise<void>;
	mknod(path: string, type: "fifo" | "socket" | "character" | "block", mode: number, major?: number, minor?: number): Promise<void>;
	link(from: string, to: string): Promise<void>;
	unlink(path: string): Promise<void>;
	rmdir(path: string): Promise<void>;
	rename(from: string, to: string): Promise<void>;
	chmod(path: string, mode: number): Promise<void>;
	/** null: as it is. */
	chown(path: string, uid: number | null, gid: number | null): Promise<void>;
	truncate(path: string, size: bigint): Promise<void>;
	utimes(path: string, atime: NewTime, mtime: NewTime): Promise<void>;
}

export interface FrontEnd {
	readonly name: string;
	/** Whether an open file that has lost its last name is used on. */
	readonly keepsUnlinked: boolean;
	as(who: Who, folder: string): Calls;
}
