// /dev/fuse: opened, or why it cannot be and what helps.

import { statSync } from "node:fs";
import { ERRNO, whyNot } from "../linux/errno.ts";
import { O, openDevice } from "../linux/open.ts";

const FUSE_FILE = "/dev/fuse";

/** A descriptor that never waits, for one mount; or half a sentence that says why there is none. */
export function openFuse(): number | string {
	const fd = openDevice(FUSE_FILE, O.rdwr | O.nonblock);
	return fd >= 0 ? fd : whyNoFuse(fd);
}

function whyNoFuse(error: number): string {
	switch (error) {
		case -ERRNO.ENOENT:
		case -ERRNO.ENODEV:
		case -ERRNO.ENXIO:
			return `there is no ${FUSE_FILE}: have root load it (modprobe fuse), or give it to the container (--device ${FUSE_FILE})`;
		case -ERRNO.EACCES:
			return `${FUSE_FILE} is closed to this user${modeOf()}: have root open it (chmod 0666 ${FUSE_FILE}), as it is on most systems`;
		case -ERRNO.EPERM:
			return `the container may not use ${FUSE_FILE}: start it with --device ${FUSE_FILE}`;
		default:
			return `${FUSE_FILE} cannot be opened: ${whyNot(error, FUSE_FILE)}`;
	}
}

function modeOf(): string {
	try {
		return ` (it has mode ${(statSync(FUSE_FILE).mode & 0o7777).toString(8).padStart(4, "0")})`;
	} catch {
		return "";
	}
}
