// Asks the kernel whether a directory is the upper of a mounted overlay.

import { ERRNO } from "./errno.ts";
import { openPrivateTree } from "./file-system.ts";
import { declare, PLACE, putPath, result } from "./libc.ts";
import { close, descriptorPath, O, openPath } from "./open.ts";

const fsopenCall = declare("syscall", "long", ["long", "pointer", "uint"]);
const fsconfigCall = declare("syscall", "long", ["long", "int", "uint", "pointer", "pointer", "int"]);

const SYS_FSOPEN = 430;
const SYS_FSCONFIG = 431;
const FSOPEN_CLOEXEC = 1;
const FSCONFIG_SET_STRING = 1;
const FSCONFIG_CMD_CREATE = 6;

function setString(context: number, key: string, value: string): number {
	return result(fsconfigCall(SYS_FSCONFIG, context, FSCONFIG_SET_STRING, putPath(PLACE.path, key), putPath(PLACE.otherPath, value), 0));
}

/**
 * Whether a directory is the upper of a kernel overlay that is mounted at this moment, in whatever mount namespace. Asked by beginning
 * to make another one with `index=on` (which then says EBUSY) and with a work folder on another mount than upper: the kernel refuses that
 * (EINVAL) behind the question, before it has written anything or looked at the lower. Null where it cannot be
 * asked: there is no overlayfs, or this process may not mount.
 */
export function isMountedUpper(upper: string): boolean | null {
	const context = result(fsopenCall(SYS_FSOPEN, putPath(PLACE.path, "overlay"), FSOPEN_CLOEXEC));
	if (context < 0) return null;
	// descriptors, because a path in a mount option must not hold some characters
	const [upperFd, lowerFd] = [openPath(upper, O.rdonly | O.directory), openPath("/", O.path | O.directory)];
	const elsewhere = upperFd < 0 ? -1 : openPrivateTree(upperFd, false);
	try {
		if (elsewhere < 0) return null;
		const options = [
			["lowerdir", descriptorPath(lowerFd)],
			["upperdir", descriptorPath(upperFd)],
			["workdir", descriptorPath(elsewhere)],
			["index", "on"],
		];
		for (const [key, value] of options) {
			const status = setString(context, key, value);
			if (status < 0) return status === -ERRNO.EBUSY;
		}
		return result(fsconfigCall(SYS_FSCONFIG, context, FSCONFIG_CMD_CREATE, 0, 0, 0)) === -ERRNO.EBUSY;
	} finally {
		for (const fd of [elsewhere, upperFd, lowerFd, context]) if (fd >= 0) close(fd);
	}
}
