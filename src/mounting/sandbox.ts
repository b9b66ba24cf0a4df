// A sandbox: namespaces in which commands see views of ours in place of directories, and can change nothing else. Made by unshare(1), entered by nsenter(1).

import { writeSync } from "node:fs";
import { ERRNO } from "../linux/errno.ts";
import { close } from "../linux/open.ts";
import { showText } from "../vfs/names.ts";
import { INSIDE_SOCKET, nextDescriptor, nextMessage, OWN_USER, startInside } from "./inside-program.ts";
import type { SandboxRequest } from "./sandbox-request.ts";

/** The namespaces of a sandbox, by which further processes enter it. */
export interface Namespaces {
	/** Made them, and lives as long as they do. */
	readonly pid: number;
	readonly isUserOwn: boolean;
	readonly isNetworkOwn: boolean;
}

export interface Sandbox {
	readonly namespaces: Namespaces;
	/** /dev/fuse of each view, in their order. */
	readonly descriptors: readonly number[];
	/** The views are served: completes what is made in them. Null, or why it cannot be. */
	complete(): Promise<string | null>;
	/** Ends every process in it, and with them its mounts. */
	end(): void;
	/** Resolves when it has ended. */
	readonly ended: Promise<unknown>;
}

/** Why there is no sandbox. `isClosed`: this user may make no namespaces here; a mount by another way may go. */
export interface NoSandbox {
	readonly why: string;
	readonly isClosed: boolean;
}

/**
 * The first process, which takes in all orphans. It waits in cat(1) until the other end of the socket is closed, and all others end with it.
 */
const FIRST = `"$0" "$@" || exit 1; cat <&${INSIDE_SOCKET} >/dev/null; exit 0`;
/** Of a network of its own, which else has not even itself. */
const LOOPBACK = "ip link set lo up 2>/dev/null; ";

/** Root needs no user namespace, unless it may not mount. */
export async function makeSandbox(request: SandboxRequest, isNetworkOwn: boolean): Promise<Sandbox | NoSandbox> {
	const isRoot = process.geteuid?.() === 0;
	const made = await makeBy(request, { isUserOwn: !isRoot, isNetworkOwn });
	return isRoot && "why" in made && made.isClosed ? makeBy(request, { isUserOwn: true, isNetworkOwn }) : made;
}

async function makeBy(request: SandboxRequest, kinds: Omit<Namespaces, "pid">): Promise<Sandbox | NoSandbox> {
	const user = kinds.isUserOwn ? OWN_USER : [];
	const words = [...user, "--mount", "--pid", ...(kinds.isNetworkOwn ? ["--net"] : []), "--fork", "--kill-child"];
	const script = `${kinds.isNetworkOwn ? LOOPBACK : ""}${FIRST}`;
	const inside = startInside(words, script, new URL("./sandbox-inside.js", import.meta.url), request);
	if (typeof inside === "string") return { why: inside, isClosed: false };
	const { child, socket, ended } = inside;
	const descriptors: number[] = [];
	while (descriptors.length < request.views.length) {
		const fd = await nextDescriptor(inside);
		if (typeof fd === "string")
			return { why: fd.replace(/^unshare: /, ""), isClosed: /^(unshare: |spawn unshare |there is no program)/.test(fd) };
		descriptors.push(fd);
	}
	return {
		namespaces: { ...kinds, pid: child.pid as number },
		descriptors,
		async complete() {
			writeSync(socket, "\n");
			const answer = await nextMessage(inside);
			return answer === -ERRNO.EBADMSG ? null : ((await ended) ?? "it has ended");
		},
		end: () => close(socket),
		ended,
	};
}

/** What root keeps in a sandbox: nothing that mounts, loads, traces or makes devices. */
const ROOT_KEEPS = ["chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "net_bind_service"];

/**
 * Goes to the first of two folders that is there: by its path, which leads into the view, since a working directory from outside is the real one. What
 * cannot be run is told by the two sentences behind them, with the status that a shell has for it.
 */
const BEGIN = `
cd -- "$1" 2>/dev/null || cd -- "$2" || exit 125
missing=$3 closed=$4
shift 4
case $1 in
*/*) test -e "$1" || { printf '%s\\n' "$missing" >&2; exit 127; }; test -x "$1" || { printf '%s\\n' "$closed" >&2; exit 126; } ;;
*) command -v -- "$1" >/dev/null 2>&1 || { printf '%s\\n' "$missing" >&2; exit 127; } ;;
esac
exec setpriv PRIVILEGES -- "$@"
`;

/**
 * The command line that runs a command in the namespaces, or in none, as this user, in the first of `folders` that is there. It ends as the command does. Nothing
 * that it becomes gets a privilege back.
 */
export function enterCommand(namespaces: Namespaces | null, folders: readonly [string, string], command: readonly string[]): string[] {
	return [
		...(namespaces === null ? [] : [...enterWords(namespaces), "--"]),
		...["sh", "-c", BEGIN.replace("PRIVILEGES", privileges(namespaces !== null)), "sh", ...folders],
		`holdfast: There is no command ${showText(command[0])}.`,
		`holdfast: Cannot run ${showText(command[0])}: it is not executable.`,
		...command,
	];
}

function enterWords({ pid, isUserOwn, isNetworkOwn }: Namespaces): string[] {
	const user = isUserOwn ? ["--preserve-credentials", "--user"] : [];
	const network = isNetworkOwn ? ["--net"] : [];
	return ["nsenter", "--target", `${pid}`, ...user, "--mount", `--pid=/proc/${pid}/ns/pid_for_children`, ...network];
}

/** Options of setpriv(1): what it runs, and whatever that becomes, has no privilege, and ends with its parent. */
function privileges(isSandbox: boolean): string {
	const kept = isSandbox && process.geteuid?.() === 0 ? ` --bounding-set=-all,${ROOT_KEEPS.map((name) => `+${name}`).join(",")}` : "";
	return `--pdeathsig KILL --no-new-privs --inh-caps=-all${kept}`;
}
