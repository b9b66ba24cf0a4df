// What the folder of a set says to whoever comes across it.

import { join } from "node:path";
import { pathExists, readFileNamed } from "../linux/read-file.ts";
import { writeDurably } from "../overlay/work/registry.ts";
import { quoteForShell, showText } from "../vfs/names.ts";

export const README_FILE = "README.txt";

export function writeReadme(folder: string, name: string, tree: string): void {
	const path = join(folder, README_FILE);
	const bytes = Buffer.from(text(name, tree));
	if (!pathExists(path) || !readFileNamed(path).equals(bytes)) writeDurably(path, bytes);
}

function text(name: string, tree: string): string {
	return `This folder holds a set of changes of holdfast, an overlay filesystem: "${name}".
It belongs to the tree ${showText(tree)}

Do not copy files out of "upper" as they are: plain copies mislead.

- A large file may lie there as zeros, or with parts missing: its data are
  copied from the tree in the background, or not before they are asked for.
- A file that was deleted is a device 0:0, or an empty file with an attribute.
- What was not changed is not there. What was renamed may be a folder that says
  in an attribute which folder of the tree it continues.
- Owners and modes may stand in attributes.

To see the tree with its changes, serve it, mount it, and copy out of the mount:

    holdfast serve ${quoteForShell(tree)} --name ${name}

It prints the commands that mount and unmount.

To have everything of the changed files in "upper", after the server has ended:

    holdfast settle --name ${name}

To give "upper" to the kernel's overlayfs, after the server has ended:

    holdfast release --name ${name}

To see all sets, and to remove this one:

    holdfast list
    holdfast remove ${name}

Nothing here may be changed while the set exists, by hand or by other programs.
A backup is a copy of this whole folder with hard links and attributes
(rsync -aHAX), made while nobody serves it.
`;
}
