// A program of ours that runs in namespaces of its own and sends descriptors out of them: started by unshare(1), since a process of Node has threads and cannot enter a user namespace.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { receiveDescriptor, socketPair } from "../linux/descriptor-passing.ts";
import { ERRNO, whyNot } from "../linux/errno.ts";
import { close, setNonblocking } from "../linux/open.ts";

/** Where it finds its socket. */
export const INSIDE_SOCKET = 3;
/** Of unshare(1): a user namespace in which this user is who it is outside. */
export const OWN_USER = ["--user", "--map-current-user", "--keep-caps"] as const;
const LOOK_AGAIN_MS = 5;
const SAID_MAX = 4096;

export interface InsideProgram {
	readonly child: ChildProcess;
	/** Our end of its socket. */
	readonly socket: number;
	/** As `endOf` gives it. */
	readonly ended: Promise<string | null>;
}

/**
 * `words`: the namespaces, as options of unshare(1). `script`: of sh(1), whose words are the program with what is asked of it. Half a sentence: it cannot be
 * started.
 */
export function startInside(words: readonly string[], script: string, program: URL, request: object): InsideProgram | string {
	const pair = socketPair("stream");
	if (typeof pair === "number") return `no socket (${whyNot(pair)})`;
	const [near, far] = pair;
	const command = [process.execPath, fileURLToPath(program), JSON.stringify(request)];
	const child = spawn("unshare", [...words, "sh", "-c", script, ...command], {
		stdio: ["ignore", "ignore", "pipe", far],
		env: { ...process.env, LC_ALL: "C" },
		cwd: "/",
	});
	close(far);
	return { child, socket: near, ended: endOf(child) };
}

/** The next descriptor that it sends, which never waits; or half a sentence why there is none, and then it is let go of. */
export async function nextDescriptor(inside: InsideProgram): Promise<number | string> {
	const fd = await nextMessage(inside);
	if (fd < 0) {
		close(inside.socket);
		return (await inside.ended) ?? `it sent no descriptor (${whyNot(fd)})`;
	}
	setNonblocking(fd, true);
	return fd;
}

/** Waits for what it sends: a descriptor, or -EBADMSG where it is a byte alone. Another negated error number where it has ended. */
export async function nextMessage({ socket, ended }: InsideProgram): Promise<number> {
	// what it says of a failure comes before its end; a descriptor comes while it lives
	let fd = -ERRNO.EAGAIN;
	for (let isOver = false; fd === -ERRNO.EAGAIN && !isOver; ) {
		isOver = (await Promise.race([ended, laterOn()])) !== undefined;
		fd = receiveDescriptor(socket);
	}
	return fd;
}

function laterOn(): Promise<undefined> {
	return new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS, undefined));
}

/** Null: the program ended well. Else the last line that it said, or that it is not there. */
export async function endOf(child: ChildProcess): Promise<string | null> {
	let said = "";
	child.stderr?.setEncoding("utf8").on("data", (text: string) => {
		said = (said + text).slice(-SAID_MAX);
	});
	try {
		const [code, signal] = await once(child, "close");
		if (code === 0) return null;
		return said.trim().split("\n").at(-1) || `it ended with ${code ?? signal}`;
	} catch (error) {
		const { code, message } = error as NodeJS.ErrnoException;
		return code === "ENOENT" ? `there is no program ${child.spawnfile}` : message;
	}
}
