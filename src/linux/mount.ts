// mount(2), mount_setattr(2) and umount2(2).

import { arena, arenaAddress, arenaView, declare, type PathBytes, PLACE, putPath, result, VALUE_BYTES } from "./libc.ts";

const mountCall = declare("mount", "int", ["pointer", "pointer", "pointer", "ulong", "pointer"]);
const umount2Call = declare("umount2", "int", ["pointer", "int"]);
const mountSetattrCall = declare("syscall", "long", ["long", "int", "pointer", "uint", "pointer", "size_t"]);

/** mount(2). `bind` shows a file or directory at a further place, with `rec` also what is mounted in it. */
export const MS = { rdonly: 1, nosuid: 2, nodev: 4, noexec: 8, bind: 4096, rec: 16384 } as const;
/** umount2(2): `force` ends the requests that wait; `detach` takes the mount out of sight and ends it when nobody uses it any more. */
export const UMOUNT = { force: 1, detach: 2, noFollow: 8 } as const;

/** Mounts a file system of a type. `data` are its own options, as it wants them. 0, or the negated error number. */
export function mountAt(source: string, target: PathBytes, type: string, flags: number, data: PathBytes): number {
	const texts = [source, type, data].map((text) => (typeof text === "string" ? Buffer.from(text) : text));
	// the kernel takes a page of data at most, and copies what lies behind the address it is given
	let at: number = PLACE.value;
	const addresses = texts.map((text) => {
		if (at + text.length >= PLACE.value + VALUE_BYTES) throw new RangeError("The options are too long for mount(2)");
		arena.set(text, at);
		arena[at + text.length] = 0;
		const address = arenaAddress + at;
		at += text.length + 1;
		return address;
	});
	return result(mountCall(addresses[0], putPath(PLACE.path, target), addresses[1], flags, addresses[2]));
}

/** Ends a mount, by UMOUNT flags. 0, or the negated error number: -EBUSY where it is in use, -EINVAL where nothing is mounted. */
export function unmountAt(target: PathBytes, flags = 0): number {
	return result(umount2Call(putPath(PLACE.path, target), flags));
}

const SYS_MOUNT_SETATTR = 442;
const AT_FDCWD = -100;
const MOUNT_ATTR_BYTES = 32;
/** mount_setattr(2): which mount is meant, and its attributes. */
export const AT = { emptyPath: 0x1000, recursive: 0x8000 } as const;
export const MOUNT_ATTR = { rdonly: 0x1, noatime: 0x10, anyAtime: 0x70 } as const;

/** Sets attributes of a mount, and clears others. `flags`: AT. 0, or the negated error number. */
export function setMountAttributes(directory: number, path: PathBytes, flags: number, set: number, clear: number): number {
	const at = PLACE.ioctl;
	arena.fill(0, at, at + MOUNT_ATTR_BYTES);
	arenaView.setUint32(at, set, true);
	arenaView.setUint32(at + 8, clear, true);
	return result(mountSetattrCall(SYS_MOUNT_SETATTR, directory, putPath(PLACE.path, path), flags, arenaAddress + at, MOUNT_ATTR_BYTES));
}

/** Makes the mount at a path read-only, or writable again, with all that is mounted in it if `isWhole`. 0, or the negated error number. */
export function setReadOnly(path: PathBytes, isReadOnly: boolean, isWhole: boolean): number {
	const { rdonly } = MOUNT_ATTR;
	return setMountAttributes(AT_FDCWD, path, isWhole ? AT.recursive : 0, isReadOnly ? rdonly : 0, isReadOnly ? 0 : rdonly);
}
