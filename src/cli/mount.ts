// `holdfast mount`: an export mounted on this machine by FUSE, without a server of NFS and without root.

import type { Command } from "commander";
import { addKeeperOptions, type KeeperArguments, keepOrServe } from "./keep.ts";
import { addLayerOptions, type LayerArguments } from "./layer-options.ts";
import { addBoundOptions, addChangeOptions, NO_WARM_UP, type ServeArguments, serve } from "./serve.ts";
import { UserError } from "./user-error.ts";

type MountArguments = Omit<ServeArguments, "listen" | "export" | "allow"> & LayerArguments & KeeperArguments;

const EXAMPLES = `

The mount lasts until holdfast unmount, Ctrl-C or SIGTERM. A server that is killed is started again, and programs in the mount go on.

Examples:

  holdfast mount ~/golden ~/view
      A writable view of a tree; changes are kept as a set in the state folder, the tree itself is never written. No root is needed.
  holdfast mount --background ~/golden ~/view
      The same, and the command returns when the view can be used. holdfast unmount ~/view ends it.
  holdfast mount ~/golden ~/golden
      Over the tree itself, for whoever comes to it by its own path.
  holdfast mount --lower /srv/patches --lower /srv/golden --upper /srv/mine/upper --create /mnt
      Two read-only trees, the first on top, and a writable one above them.`;

export function addMount(program: Command): void {
	const command = program
		.command("mount")
		.description("Mount an overlay on this machine by FUSE, until it is unmounted.")
		.argument("<dir>", "one read-only tree, or the name of a set, as for serve; with --lower or --name where to mount")
		.argument("[mountpoint]", "where to mount: an empty directory, or the tree itself")
		.usage("[options] [dir] <mountpoint>");
	addChangeOptions(addLayerOptions(command, "first"));
	addKeeperOptions(command);
	command.option(...NO_WARM_UP);
	command.option("--writeback", "programs need not wait for their writes, which reach the changes at close, fsync or some seconds later");
	command.option("--background", "return when the mount can be used; what is to be told later reaches nobody");
	addBoundOptions(command)
		.addHelpText("after", EXAMPLES)
		.action((first: string, second: string | undefined, given: MountArguments) => {
			const [directory, mount] = second === undefined ? [undefined, first] : [first, second];
			if (second === undefined && given.lower.length === 0 && given.name === undefined) {
				throw new UserError("Name what to mount and where: holdfast mount DIR MOUNTPOINT.", 2);
			}
			const whole: ServeArguments = { ...given, mount, listen: [], export: [], allow: [], isMountOnly: true };
			return keepOrServe(command, whole, 1, () => serve(directory, whole));
		});
}
