// What setuid and setgid come to when somebody without privilege changes content (FUSE_HANDLE_KILLPRIV_V2).

import type { Credentials, OverlayObject } from "../vfs/operations.ts";
import type { FuseMount } from "./mount.ts";

const [S_ISUID, S_ISGID, S_IXGRP] = [0o4000, 0o2000, 0o0010];

/** The mode of a file whose content somebody has changed who may not keep its privileges. */
export function withoutPrivilege(mode: number): number {
	return mode & ~S_ISUID & ((mode & S_IXGRP) !== 0 ? ~S_ISGID : ~0);
}

/** Changes content as somebody who may keep the privileges of the file, or may not. The kernel leaves the mode to us then, and is told where it changes. */
export function changeContent<T>(
	mount: FuseMount,
	id: number,
	mayKeep: boolean,
	change: (object: OverlayObject, who: Credentials) => T,
): T {
	const object = mount.object(id);
	if (mayKeep) return change(object, mount.who);
	const { mode } = mount.overlay.getattr(object, false);
	const result = change(object, mount.unprivileged);
	if (withoutPrivilege(mode) !== mode) mount.notifications.attributesChanged(id);
	return result;
}
