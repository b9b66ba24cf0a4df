// The kernel's file handles: name_to_handle_at(2) and open_by_handle_at(2).

import { arena, arenaAddress, arenaWords, declare, type PathBytes, PLACE, putPath, result } from "./libc.ts";
import { copyBytes } from "./memory.ts";
import { O } from "./open.ts";

const nameToHandleCall = declare("name_to_handle_at", "int", ["int", "pointer", "pointer", "pointer", "int"]);
const openByHandleCall = declare("open_by_handle_at", "int", ["int", "pointer", "int"]);

const AT_EMPTY_PATH = 0x1000;
/** MAX_HANDLE_SZ of the kernel. */
const HANDLE_BYTES = 128;
const HANDLE_WORD = PLACE.fileHandle / 4;
const HANDLE_ADDRESS = arenaAddress + PLACE.fileHandle;

/** A kernel file handle: opaque bytes that name an inode within its file system (open_by_handle_at(2)). */
export interface FileHandle {
	readonly type: number;
	readonly bytes: Buffer;
}

/** The handle of the inode behind a descriptor, or the negated error number (-EOPNOTSUPP: the file system has none). */
export function handleOf(fd: number): FileHandle | number {
	return handleAt(fd, "");
}

/** The handle of a name in a directory, a link not followed. */
export function handleAt(directory: number, name: PathBytes): FileHandle | number {
	arenaWords[HANDLE_WORD] = HANDLE_BYTES;
	const status = nameToHandleCall(
		directory,
		putPath(PLACE.path, name),
		HANDLE_ADDRESS,
		arenaAddress + PLACE.mountId,
		name.length === 0 ? AT_EMPTY_PATH : 0,
	);
	if (status < 0) return result(status);
	const start = PLACE.fileHandle + 8;
	return { type: arenaWords[HANDLE_WORD + 1] | 0, bytes: copyBytes(arena, start, start + arenaWords[HANDLE_WORD]) };
}

/**
 * Opens the inode; `mount` is any readable descriptor on its file system (not O_PATH). -ESTALE: it is gone. No open waits (O_NONBLOCK): not for the
 * other end of a fifo, nor for a lease (-EAGAIN). That it is a file its caller has seen when it took the handle, since no inode changes its type.
 */
export function openByHandle(mount: number, handle: FileHandle, flags: number): number {
	if (handle.bytes.length > HANDLE_BYTES) throw new RangeError("The file handle is too long");
	arenaWords[HANDLE_WORD] = handle.bytes.length;
	arenaWords[HANDLE_WORD + 1] = handle.type;
	arena.set(handle.bytes, PLACE.fileHandle + 8);
	const given = (flags & O.path) !== 0 ? flags : flags | O.nonblock;
	return result(openByHandleCall(mount, HANDLE_ADDRESS, given | O.cloexec));
}
