// The contract between the overlay and its front ends.

import type { AddressedBytes } from "../linux/memory.ts";
import type { OverlayErrorCode } from "./errors.ts";

export type { AddressedBytes } from "../linux/memory.ts";

/** The vocabulary between the overlay and its front ends. File names are bytes; 64-bit values are two unsigned 32-bit halves. */

/** File types, with the numbers of S_IFMT >> 12 (inode(7)). */
export const FileType = {
	fifo: 1,
	chr: 2,
	dir: 4,
	blk: 6,
	reg: 8,
	lnk: 10,
	sock: 12,
} as const;
export type FileType = (typeof FileType)[keyof typeof FileType];

/** Seconds since the epoch (may be negative) and nanoseconds 0 .. 999,999,999. */
export interface Timespec {
	readonly sec: number;
	readonly nsec: number;
}

/** Attributes of an object at one instant, as its overlay shows them. */
export interface Attributes {
	readonly type: FileType;
	/** Permission bits with setuid, setgid and sticky: 07777. */
	readonly mode: number;
	readonly nlink: number;
	readonly uid: number;
	readonly gid: number;
	readonly sizeHi: number;
	readonly sizeLo: number;
	/** Allocated space in units of 512 bytes. */
	readonly blocks: number;
	readonly rdevMajor: number;
	readonly rdevMinor: number;
	readonly fileidHi: number;
	readonly fileidLo: number;
	readonly atime: Timespec;
	readonly mtime: Timespec;
	readonly ctime: Timespec;
	/**
	 * The change attribute (RFC 8881 section 5.8.1.4), unsigned: each change of the object that a client can see (data, attributes, extended ones, names of
	 * a directory, links) makes it greater, over any restart. Now and then it grows without one.
	 */
	readonly changeHi: number;
	readonly changeLo: number;
}

/** What a caller wants changed; what is absent stays. `now` is the server's clock. */
export interface SetAttributes {
	mode?: number;
	uid?: number;
	gid?: number;
	/** Bytes; at most Number.MAX_SAFE_INTEGER, a front end answers "too big" beyond. */
	size?: number;
	atime?: Timespec | "now";
	mtime?: Timespec | "now";
	/** Bits that are taken from the mode of what is made, unless a default ACL of its directory decides; "inval" of what exists. */
	umask?: number;
}

/** On whose behalf an operation runs, after squashing. `gids` holds the supplementary groups. */
export interface Credentials {
	readonly uid: number;
	readonly gid: number;
	readonly gids: readonly number[];
}

/** Who may do all that there is. */
export const SUPERUSER: Credentials = { uid: 0, gid: 0, gids: [] };

/** What brings the requests of an owner: a connection. */
export interface RequestSource {
	/** Tells it from others of its owner, over a restart too if the client comes back from there: 16 bits, 0 where there is none. */
	readonly port: number;
	/** Whether it may still bring requests. */
	readonly isOpen: boolean;
	/** Whether its owner has any that is open. */
	readonly isOwnerConnected: boolean;
}

/** Where a request has come from: one object for each request that a front end takes in, which goes on being told the truth. */
export interface RequestOrigin {
	/** Who brought it, or brought it again after that one was left. */
	readonly source: RequestSource | null;
}

/**
 * A request of a client. Opaque to the overlay, but for this: the same numbers of the same owner are the same request, sent again, if they
 * come by the same source, or if the source that brought them before is not open any more. A front end makes one object each time that it
 * takes a request in, and keeps it over all passes until the request is answered.
 */
export interface ClientRequest {
	/** Who may send it again: the peer's address without port, "unix", or a session. */
	readonly owner: string;
	/** Seven numbers of 32 bits that tell it from all others of the owner. */
	readonly numbers: readonly number[];
	/** Absent where an owner has one source only, as a session. */
	readonly origin?: RequestOrigin;
}

/**
 * What one change is remembered by. A change that was answered before a restart is not made again: it gets the error, or the object, that
 * it got then. Two changes of one request under one key are a mistake of its front end, which throws Error and makes nothing of it.
 */
export interface ChangeKey {
	readonly request: ClientRequest;
	/** Which change of the request it is, as the place of an operation in a compound: 0 .. 255. */
	readonly change: number;
}

/**
 * By what a caller reads or writes content:
 * - "mode": permission bits and ACL, as for open(2);
 * - "owner": these too, and the owner whatever they say, and to read whoever may execute. For requests of a protocol without opens;
 * - "open": by an open that the front end has granted to them. No permission is asked for.
 * Read-only exports and protected files (`chattr +i`, `+a`) refuse writes by any right.
 */
export type ContentRight = "mode" | "owner" | "open";

/** By which rights the source is read and the target written. */
export interface CopyRights {
	readonly read: ContentRight;
	readonly write: ContentRight;
}

export type SeekTarget = "data" | "hole";

export interface SeekResult {
	/** Where it begins; the size of the file if there is none before its end. */
	readonly offset: number;
	/** There is none before the end of the file. */
	readonly isEnd: boolean;
}

/** Access bits as in RFC 1813 section 3.3.4. */
export const Access = { read: 1, lookup: 2, modify: 4, extend: 8, delete: 16, execute: 32 } as const;

export type CreateHow =
	/**
	 * A file that is there gets the size alone. `takeExisting` is asked about it before: it throws where the file may not be given out, and says whether
	 * it gets the size.
	 */
	| { readonly mode: "unchecked"; readonly attributes: SetAttributes; readonly takeExisting?: (file: OverlayObject) => boolean }
	| { readonly mode: "guarded"; readonly attributes: SetAttributes }
	/**
	 * Eight bytes of the client's; kept in atime and mtime until the client sets them (RFC 1813 section 3.3.8). `attributes` may be all
	 * but these two: "inval" (EXCLUSIVE4_1, RFC 8881 section 18.16.3).
	 */
	| { readonly mode: "exclusive"; readonly verifier: Uint8Array; readonly attributes?: SetAttributes };

/** What CREATE gives. */
export interface CreatedObject {
	readonly object: OverlayObject;
	/** False where the file was there before; true for an exclusive create that is sent again. */
	readonly made: boolean;
}

/** What a change was answered before a restart: an error, or success with the handle of what it made. */
export interface ChangeAnswer {
	readonly error: OverlayErrorCode | null;
	readonly handle: Uint8Array | null;
}

/** As the flags of setxattr(2): "create" refuses a name that is there ("exist"), "replace" one that is not ("noattr"). */
export type SetXattrMode = "any" | "create" | "replace";

export interface ReadResult {
	readonly count: number;
	readonly eof: boolean;
}

/** Bytes and inodes; Numbers, since no file system here reaches 2^53 bytes. */
export interface FileSystemStatus {
	readonly totalBytes: number;
	readonly freeBytes: number;
	readonly availableBytes: number;
	readonly totalFiles: number;
	readonly freeFiles: number;
}

/** An object of the overlay: what a client sees, whatever real inodes are behind it. */
export interface OverlayObject {
	readonly type: FileType;
	/** The wire handle: the same bytes for the object's whole life (at most 64). Never written to. */
	readonly handle: Buffer;
}

/**
 * A place in a listing. `next()` moves to the next entry after the cookie and says whether there is one; the fields
 * then describe it. Cookies are 1 for ".", 2 for "..", and a keyed hash of the name in 3 .. 2^63-1 for all else.
 */
export interface ListCursor {
	next(): boolean;
	/** A view that is valid until the next call of `next()`. */
	readonly name: Uint8Array;
	readonly cookieHi: number;
	readonly cookieLo: number;
	/** Costs a look-up for some entries of copied-up directories; equal to `Attributes.fileid*` of the object. */
	fileid(): { readonly hi: number; readonly lo: number };
	/** The object, or null if it has gone since or cannot be shown. Pending where so many were looked up that others should have their turn: the next page may begin here. */
	object(): OverlayObject | null;
}

/**
 * The overlay as its front ends see it. Every operation is synchronous, and either changes nothing and throws
 * (`OverlayError`, or `Pending`: wait, then run it again from the start) or is complete.
 *
 * Each change of names or attributes gets a key of its own; null for what nobody sends again. It counts from the call that is answered,
 * with success or OverlayError: what throws Pending is run again under the same key.
 *
 * Names are checked here: empty or with "/" or NUL: "inval"; longer than 255 bytes: "nametoolong"; "." and ".." are
 * accepted by lookup only ("exist" from create, mkdir, symlink, mknod, link; "inval" from remove, rmdir, rename).
 */
export interface OverlayOperations {
	readonly root: OverlayObject;
	readonly readOnly: boolean;
	/** Eight bytes, new at every start (and after a flush that failed). */
	readonly writeVerifier: Buffer;
	/** Counts changes: as long as it stays the same, nothing was changed through this overlay. */
	readonly changes: number;
	/**
	 * To be called at the beginning of each synchronous pass, before anything else of it: what is remembered ages, and caches go back to
	 * their bounds. Objects of an earlier pass may be gone from memory then: a front end that goes on in the middle of a request after it
	 * had to wait takes them anew from their handles (`decode`). "stale" once the export is closed.
	 */
	beginPass(): void;

	/** From wire bytes to the object: "badhandle" without any system call when the signature is wrong, "stale" when it is gone. */
	decode(bytes: Uint8Array): OverlayObject;
	/** `withChange` false: for front ends that do not show the change attribute, which is 0 then; on coarse clocks it costs to give one out. */
	getattr(object: OverlayObject, withChange?: boolean): Attributes;
	/** When the object was made: of one that was copied up, when that in the lower was. Null where nobody says. */
	birthTime(object: OverlayObject): Timespec | null;
	/** With `guard`: "notsync" unless the object's ctime is exactly that. */
	setattr(object: OverlayObject, who: Credentials, change: SetAttributes, guard: Timespec | undefined, key: ChangeKey | null): void;
	/** Null when there is no such name. */
	lookup(directory: OverlayObject, name: Uint8Array, who: Credentials): OverlayObject | null;
	/** The granted ones of the bits asked for (`Access`). */
	access(object: OverlayObject, who: Credentials, wanted: number): number;
	readlink(object: OverlayObject): Buffer;
	/** Reads up to `length` bytes at `offset` into `into.bytes` from index `at` on. */
	read(
		object: OverlayObject,
		who: Credentials,
		offset: number,
		length: number,
		into: AddressedBytes,
		at: number,
		right: ContentRight,
	): ReadResult;
	/** Says how many bytes of `data` were written: all of them, or as many as there was room for, which are not none. */
	write(object: OverlayObject, who: Credentials, offset: number, data: Uint8Array, right: ContentRight): number;
	/**
	 * Where the next data, or the next hole, begins at or after the offset. The end of the file is a hole (RFC 7862 section 15.11.3); "nxio" at or behind
	 * it. Data may be told where there is none, and never the other way round.
	 */
	seek(object: OverlayObject, who: Credentials, offset: number, what: SeekTarget, right: ContentRight): SeekResult;
	/**
	 * Reserves room for a range, and makes the file as long; what it holds stays. Does a part, at least one byte, and says how many bytes of
	 * the range that were: the caller goes on behind them, as for the next two. `keepsSize`: the file stays as long as it is, and room behind its end is kept too.
	 */
	allocate(object: OverlayObject, who: Credentials, offset: number, length: number, right: ContentRight, keepsSize?: boolean): number;
	/** Makes a range read as zeros and gives its room back; the file stays as long as it is. "notsupp" where upper has no holes. */
	deallocate(object: OverlayObject, who: Credentials, offset: number, length: number, right: ContentRight): number;
	/** Copies a range, up to the end of the source, where it says 0. "inval" for ranges of one file that overlap. */
	copyRange(
		source: OverlayObject,
		sourceOffset: number,
		target: OverlayObject,
		offset: number,
		length: number,
		who: Credentials,
		rights: CopyRights,
	): number;
	/**
	 * Shares all of a range with another file (RFC 7862 section 15.13); a length of 0 is up to the end of the source. Throws before anything was changed,
	 * or resolves when it is done. "notsupp", "xdev", "inval" where the file system of upper cannot, or not at these offsets.
	 */
	cloneRange(
		source: OverlayObject,
		sourceOffset: number,
		target: OverlayObject,
		offset: number,
		length: number,
		who: Credentials,
		rights: CopyRights,
	): Promise<void>;
	/** What the change of this key was answered before a restart, after which it is not made again; null: nothing is known of it. */
	answerTo(key: ChangeKey): ChangeAnswer | null;
	create(directory: OverlayObject, name: Uint8Array, who: Credentials, how: CreateHow, key: ChangeKey | null): CreatedObject;
	/** Makes a regular file without a name, as open(2) with O_TMPFILE. It is there for as long as somebody holds it, or until `link` gives it a name. */
	createUnnamed(directory: OverlayObject, who: Credentials, attributes: SetAttributes, key: ChangeKey | null): OverlayObject;
	mkdir(directory: OverlayObject, name: Uint8Array, who: Credentials, attributes: SetAttributes, key: ChangeKey | null): OverlayObject;
	symlink(
		directory: OverlayObject,
		name: Uint8Array,
		who: Credentials,
		target: Uint8Array,
		attributes: SetAttributes,
		key: ChangeKey | null,
	): OverlayObject;
	/** fifo, sock, chr, blk; major and minor are for the last two. */
	mknod(
		directory: OverlayObject,
		name: Uint8Array,
		who: Credentials,
		type: FileType,
		major: number,
		minor: number,
		attributes: SetAttributes,
		key: ChangeKey | null,
	): OverlayObject;
	remove(directory: OverlayObject, name: Uint8Array, who: Credentials, key: ChangeKey | null): void;
	rmdir(directory: OverlayObject, name: Uint8Array, who: Credentials, key: ChangeKey | null): void;
	/** `mayReplace` false: "exist" where the new name is there already, as renameat2(2) with RENAME_NOREPLACE. */
	rename(
		from: OverlayObject,
		fromName: Uint8Array,
		to: OverlayObject,
		toName: Uint8Array,
		who: Credentials,
		key: ChangeKey | null,
		mayReplace?: boolean,
	): void;
	/** Lets two names change places, as renameat2(2) with RENAME_EXCHANGE. Both must exist; they may be of any kinds. */
	exchange(from: OverlayObject, fromName: Uint8Array, to: OverlayObject, toName: Uint8Array, who: Credentials, key: ChangeKey | null): void;
	/** `mayBeUnnamed`: the object may have no name, and gets its first one; else that is "noent". */
	link(
		object: OverlayObject,
		directory: OverlayObject,
		name: Uint8Array,
		who: Credentials,
		key: ChangeKey | null,
		mayBeUnnamed?: boolean,
	): void;
	/** The value of an extended attribute; "noattr" when there is none that the caller may see. */
	getxattr(object: OverlayObject, who: Credentials, name: Uint8Array): Buffer;
	/** Names of all extended attributes that the caller may see. */
	listxattr(object: OverlayObject, who: Credentials): Buffer[];
	/** Sets an extended attribute, or an ACL in the form that Linux keeps it in (`system.posix_acl_access`, `_default`). */
	setxattr(object: OverlayObject, who: Credentials, name: Uint8Array, value: Uint8Array, mode: SetXattrMode, key: ChangeKey | null): void;
	/** "noattr" when there is none. */
	removexattr(object: OverlayObject, who: Credentials, name: Uint8Array, key: ChangeKey | null): void;
	/** Entries after the cookie, in cookie order, "." and ".." first. */
	list(directory: OverlayObject, who: Credentials, cookieHi: number, cookieLo: number): ListCursor;
	statfs(object: OverlayObject): FileSystemStatus;

	/**
	 * `told` is called, by whatever request, before an object is changed: a directory too when a name in it changes. It must call nothing here. Where
	 * the change fails it was told in vain. `isByCommand`: no front end has asked for it, and content may become what it was before.
	 */
	onChange(told: (object: OverlayObject, isByCommand: boolean) => void): void;

	/**
	 * The object of this handle stays there by its handle when its last name has gone, with a link count of 0, until `letGo` was called as
	 * often. It need not stay in memory. "isdir": directories are not held. "tryagain": too many are.
	 */
	hold(handle: Uint8Array): void;
	/** Ends one `hold`. Throws Error where there is none. */
	letGo(handle: Uint8Array): void;
	/**
	 * For a front end that knows too many objects to hold each. Before an object loses a name, `takes` is asked with its handle: true says that the
	 * front end knows it and has not been asked before, and counts as `hold`. It may be asked more than once, and also where the name stays after all.
	 */
	holdOnLoss(takes: (handle: Uint8Array) => boolean): void;
	/**
	 * What a front end held before the start and goes on holding, of an overlay that was opened with `restoresHolds`: as often as each
	 * handle comes. Without a system call, whether the objects are still there or not. How many were no handles of this export.
	 */
	restoreHolds(handles: Iterable<Uint8Array>): number;
	/** All that is still held was said, or was held anew: objects without a name that nobody holds are removed. */
	endOfRestore(): void;

	/** Resolves when all data and attributes of the object are on stable storage; rejects with OverlayError. */
	commit(object: OverlayObject): Promise<void>;
	/**
	 * Call after a change. Null when the reply may go out now (`async` exports, or a file system without storage);
	 * else resolves when every change made so far is stable. One flush is shared by all who wait.
	 */
	stable(): Promise<void> | null;
}
