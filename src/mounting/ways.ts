// The ways to mount, tried one after another: mount(2), fusermount3, and a user namespace.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { receiveDescriptor, socketPair } from "../linux/descriptor-passing.ts";
import { ERRNO, whyNot } from "../linux/errno.ts";
import { UMOUNT, unmountAt } from "../linux/mount.ts";
import { close, setNonblocking } from "../linux/open.ts";
import { mountHere } from "./mount-here.ts";
import { fusermountOptions, type MountRequest } from "./mount-request.ts";

export type Way = "mount" | "fusermount3" | "namespace";

/** A mount that exists. */
export interface Mounted {
	readonly way: Way;
	/** /dev/fuse, by which its requests come: non-blocking, close-on-exec. */
	readonly descriptor: number;
	/** The process by which its user namespace is entered; null where the mount is to be seen by all. */
	readonly namespace: number | null;
	/** It is of a user namespace that has one user and one group: this process has both. */
	readonly isOneUser: boolean;
	/** Lets go of what else keeps the mount. */
	release(): void;
}

/** Nothing could be mounted: the message is a sentence for the user, with the reason of each way. */
export class MountError extends Error {
	override readonly name = "MountError";
}

const WAYS: readonly (readonly [Way, string, (request: MountRequest) => Promise<Mounted | string>])[] = [
	["mount", "mount(2)", mountDirectly],
	["fusermount3", "fusermount3", mountByFusermount],
	["namespace", "a user namespace", mountInNamespace],
];

/** MountError: by none of the ways. `only`: the ways to try. */
export async function mountAnyhow(request: MountRequest, only: readonly Way[] = WAYS.map(([way]) => way)): Promise<Mounted> {
	const reasons: string[] = [];
	for (const [way, name, go] of WAYS) {
		if (!only.includes(way)) continue;
		const mounted = await go(request);
		if (typeof mounted !== "string") return mounted;
		reasons.push(`by ${name}: ${mounted}`);
	}
	throw new MountError(`Cannot mount at ${request.point}, ${reasons.join("; ")}.`);
}

const nothing = () => {};

async function mountDirectly(request: MountRequest): Promise<Mounted | string> {
	// whoever is not root is refused: not asked, so that the reason is a plain one
	if (process.geteuid?.() !== 0) return "only root may";
	const mounted = mountHere(request);
	return typeof mounted === "string" ? mounted : { way: "mount", descriptor: mounted, namespace: null, isOneUser: false, release: nothing };
}

/** In its own environment it finds the socket on which it is to send the descriptor. */
const COMMFD = "_FUSE_COMMFD";
const PROGRAM = "fusermount3";
/** Where a child finds the socket. */
const CHILD_SOCKET = 3;

async function mountByFusermount(request: MountRequest): Promise<Mounted | string> {
	const pair = socketPair("stream");
	if (typeof pair === "number") return `no socket (${whyNot(pair)})`;
	const [near, far] = pair;
	try {
		const child = spawn(PROGRAM, ["-o", fusermountOptions(request), "--", request.point], {
			stdio: ["ignore", "ignore", "pipe", far],
			env: { ...process.env, [COMMFD]: `${CHILD_SOCKET}`, LC_ALL: "C" },
			cwd: "/",
		});
		const ended = await endOf(child);
		if (ended !== null) return ended.replace(/^fusermount3: /, "");
		const fd = receiveDescriptor(near);
		if (fd < 0) return `it sent no descriptor (${whyNot(fd)})`;
		setNonblocking(fd, true);
		return { way: "fusermount3", descriptor: fd, namespace: null, isOneUser: false, release: nothing };
	} finally {
		for (const fd of pair) close(fd);
	}
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

const SAID_MAX = 4096;

/**
 * A process of Node has threads and cannot enter a user namespace: unshare(1) makes one, in which a program of ours mounts and passes the
 * descriptor out. What is left of it is cat(1), which keeps the namespace for as long as we have the other end of its socket.
 */
async function mountInNamespace(request: MountRequest): Promise<Mounted | string> {
	const pair = socketPair("stream");
	if (typeof pair === "number") return `no socket (${whyNot(pair)})`;
	const [near, far] = pair;
	const script = `"$0" "$@" && exec cat <&${CHILD_SOCKET} >/dev/null`;
	const program = [process.execPath, fileURLToPath(new URL("./mount-inside.js", import.meta.url)), JSON.stringify(request)];
	const child = spawn("unshare", ["--user", "--map-current-user", "--keep-caps", "--mount", "sh", "-c", script, ...program], {
		stdio: ["ignore", "ignore", "pipe", far],
		env: { ...process.env, LC_ALL: "C" },
		cwd: "/",
	});
	close(far);
	const ended = endOf(child);
	const fd = await descriptorFrom(near, ended);
	if (fd < 0) {
		close(near);
		return (await ended) ?? `it sent no descriptor (${whyNot(fd)})`;
	}
	setNonblocking(fd, true);
	child.unref();
	child.stderr?.destroy();
	return { way: "namespace", descriptor: fd, namespace: child.pid as number, isOneUser: true, release: () => close(near) };
}

/**
 * Waits for what a program sends: a descriptor, or -EBADMSG where it is a byte alone. Another negated error number where the program has ended.
 * `ended`: as endOf gives it.
 */
export async function descriptorFrom(socket: number, ended: Promise<string | null>): Promise<number> {
	// what it says of a failure comes before its end; a descriptor comes while it lives
	let fd = -ERRNO.EAGAIN;
	for (let isOver = false; fd === -ERRNO.EAGAIN && !isOver; ) {
		isOver = (await Promise.race([ended, laterOn()])) !== undefined;
		fd = receiveDescriptor(socket);
	}
	return fd;
}

const LOOK_AGAIN_MS = 5;

function laterOn(): Promise<undefined> {
	return new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS, undefined));
}

/** Ends a mount of this user's. Null, or why it could not be ended. `isLazy`: takes it out of sight though somebody uses it. */
export async function unmountAnyhow(point: string, isLazy: boolean): Promise<{ readonly isBusy: boolean; readonly reason: string } | null> {
	const status = unmountAt(point, isLazy ? UMOUNT.detach : 0);
	if (status === 0) return null;
	if (status !== -ERRNO.EPERM) return { isBusy: status === -ERRNO.EBUSY, reason: whyNot(status, point) };
	const child = spawn(PROGRAM, ["-u", ...(isLazy ? ["-z"] : []), "--", point], {
		stdio: ["ignore", "ignore", "pipe"],
		env: { ...process.env, LC_ALL: "C" },
		cwd: "/",
	});
	const reason = (await endOf(child))?.replace(/^fusermount3: /, "") ?? null;
	return reason === null ? null : { isBusy: /busy/.test(reason), reason };
}
