// An ordinary user who may use FUSE, whatever mode /dev/fuse has here.

import { execFileSync } from "node:child_process";
import { chmodSync, existsSync } from "node:fs";
import { join } from "node:path";
import type { Scratch } from "./scratch.ts";
import { NOBODY } from "./server-process.ts";

/**
 * A command of root's that runs another one as an ordinary user, in a mount namespace of its own where /dev/fuse has mode 0666. `device` is what
 * /dev/fuse is there; by default a device of its kind. `hidden`: programs that cannot be run there.
 */
export function asFuseUser(
	made: Scratch,
	command: readonly string[],
	{ device = fuseDevice(made), hidden = [] }: { readonly device?: string | undefined; readonly hidden?: readonly string[] } = {},
): string[] {
	const hide = hidden.map((program) => `mount --bind /dev/null "$(command -v ${program})"; `).join("");
	const script = `test ! -e /dev/fuse || mount --bind "$1" /dev/fuse; shift; ${hide}exec setpriv --reuid=${NOBODY} --regid=${NOBODY} --clear-groups "$@"`;
	return ["unshare", "-m", "--propagation", "private", "sh", "-ec", script, "sh", device, ...command];
}

function fuseDevice(made: Scratch): string {
	const device = join(made.path, "fuse");
	if (!existsSync(device)) {
		execFileSync("mknod", [device, "c", "10", "229"]);
		chmodSync(device, 0o666);
	}
	return device;
}
