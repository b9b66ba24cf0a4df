import { execFileSync } from "node:child_process";

/** What is younger than a second at most has another time else. */
const NANOSECONDS = ["--modify-window=-1"];

/** Ways to copy the content of a folder into another one, with all modes, owners, links, xattrs, devices and times that the user may set. */
const COPIES = {
	"cp -a": (from: string, to: string) => run("cp", "-a", `${from}/.`, to),
	"rsync -aHAX": (from: string, to: string) => run("rsync", "-aHAX", ...NANOSECONDS, `${from}/`, `${to}/`),
	"tar --xattrs": (from: string, to: string) => {
		const tar = "tar -C \"$1\" --xattrs --xattrs-include='*' --acls -cf - . | tar -C \"$2\" --xattrs --xattrs-include='*' --acls -xpf -";
		run("bash", "-o", "pipefail", "-c", tar, "copy", from, to);
	},
} as const;

export type CopyName = keyof typeof COPIES;

export const COPY_NAMES = Object.keys(COPIES) as CopyName[];

export function copyTree(name: CopyName, from: string, to: string): void {
	COPIES[name](from, to);
}

function run(command: string, ...args: string[]): void {
	execFileSync(command, args, { stdio: ["ignore", "ignore", "pipe"] });
}
