/** An overlay as a front end uses it for one change: every changing operation gets the key. */
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import type { ChangeKey } from "../../src/vfs/operations.ts";

/** Where the key stands among the arguments. */
const KEY_AT: Readonly<Record<string, number>> = {
	setattr: 4,
	create: 4,
	mkdir: 4,
	symlink: 5,
	mknod: 7,
	remove: 3,
	rmdir: 3,
	rename: 5,
	exchange: 5,
	link: 4,
	setxattr: 5,
	removexattr: 3,
};

export function keyed(overlay: Overlay, key: ChangeKey | null): Overlay {
	return new Proxy(overlay, {
		get(target, name) {
			const value = Reflect.get(target, name, target);
			if (typeof value !== "function") return value;
			return (...args: unknown[]) => {
				const at = KEY_AT[String(name)];
				if (at !== undefined) args[at] = key;
				return value.apply(target, args);
			};
		},
	});
}

/** A key of a request as NFSv3 has them. */
export function keyOf(owner: string, xid: number): ChangeKey {
	return { request: { owner, numbers: [xid, 100003, 3, 8, 100, xid * 7, xid * 13] }, change: 0 };
}
