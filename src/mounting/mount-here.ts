// A FUSE mount by mount(2), in this process's own namespace.

import { ERRNO, whyNot } from "../linux/errno.ts";
import { mountAt } from "../linux/mount.ts";
import { close } from "../linux/open.ts";
import { openFuse } from "./fuse-file.ts";
import { MOUNT_TYPE, type MountRequest, mountData, mountFlags } from "./mount-request.ts";

/** The descriptor of a mount in this process's own namespace, or why there is none. */
export function mountHere(request: MountRequest): number | string {
	const fd = openFuse();
	if (typeof fd === "string") return fd;
	const status = mountAt(request.source, request.point, MOUNT_TYPE, mountFlags(request), mountData(fd, request));
	if (status === 0) return fd;
	close(fd);
	if (status === -ERRNO.ENODEV) return "this kernel has no FUSE (modprobe fuse)";
	return status === -ERRNO.EPERM ? "this process may not mount (it takes CAP_SYS_ADMIN)" : whyNot(status, request.point);
}
