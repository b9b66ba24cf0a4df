// mount(2) and umount2(2).

import { arena, arenaAddress, declare, type PathBytes, PLACE, putPath, result, VALUE_BYTES } from "./libc.ts";

const mountCall = declare("mount", "int", ["pointer", "pointer", "pointer", "ulong", "pointer"]);
const umount2Call = declare("umount2", "int", ["pointer", "int"]);

/** mount(2). */
export const MS = { rdonly: 1, nosuid: 2, nodev: 4 } as const;
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
