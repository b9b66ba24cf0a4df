// The ways to mount, tried one after another: mount(2), fusermount3, and a user namespace.

import { spawn } from "node:child_process";
import { receiveDescriptor, socketPair } from "../linux/descriptor-passing.ts";
import { ERRNO, whyNot } from "../linux/errno.ts";
import { UMOUNT, unmountAt } from "../linux/mount.ts";
import { close, setNonblocking } from "../linux/open.ts";
import { endOf, INSIDE_SOCKET, nextDescriptor, OWN_USER, startInside } from "./inside-program.ts";
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

/**
 * In a user namespace a program of ours mounts, and passes the descriptor out. What is left of it is cat(1), which keeps the namespace for as long as we have
 * the other end of its socket.
 */
async function mountInNamespace(request: MountRequest): Promise<Mounted | string> {
	const script = `"$0" "$@" && exec cat <&${INSIDE_SOCKET} >/dev/null`;
	const inside = startInside([...OWN_USER, "--mount"], script, new URL("./mount-inside.js", import.meta.url), request);
	if (typeof inside === "string") return inside;
	const descriptor = await nextDescriptor(inside);
	if (typeof descriptor === "string") return descriptor;
	const { child, socket } = inside;
	child.unref();
	child.stderr?.destroy();
	return { way: "namespace", descriptor, namespace: child.pid as number, isOneUser: true, release: () => close(socket) };
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
