// Where a mount is to be made: what stands there now, looked at without ever waiting for a server that hangs.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { ERRNO, whyNot } from "../linux/errno.ts";
import { mountAtPoint } from "../linux/mount-table.ts";
import { quoteForShell } from "../vfs/names.ts";
import { MOUNT_TYPE } from "./mount-request.ts";
import { MountError, unmountAnyhow } from "./ways.ts";

/** Absolute, and as the mount table writes it: without symbolic links above the last name, which itself may be a mount whose server hangs. */
export function pointPath(path: string): string {
	const absolute = resolve(path);
	if (absolute === "/") return absolute;
	try {
		const beside = join(realpathSync(dirname(absolute)), basename(absolute));
		return mountAtPoint(beside) === null ? realpathSync(beside) : beside;
	} catch {
		// what is not there is said by who looks at it
		return absolute;
	}
}

/** The device number of the mount of ours at a path of `pointPath`, which no other one has while it is there; null: there is none. */
export function deviceOfOurs(point: string): string | null {
	const mount = mountAtPoint(point);
	return mount?.type === MOUNT_TYPE ? mount.device : null;
}

/** What a mount of ours is like whose server cannot be asked. */
export type MountState = "answers" | "dead" | "hangs";

const ANSWER_MS = 2000;

/**
 * Whether somebody serves a mount of ours. Asked by a process of its own, since nobody who asks a server that hangs comes back before it
 * answers; that process is left behind then, and ends with the mount.
 */
export async function stateOfMount(point: string): Promise<MountState> {
	const child = spawn("stat", ["-L", "--", point], {
		stdio: ["ignore", "ignore", "pipe"],
		env: { ...process.env, LC_ALL: "C" },
		cwd: "/",
		detached: true,
	});
	let said = "";
	child.stderr.setEncoding("utf8").on("data", (text: string) => {
		said += text;
	});
	let timer: NodeJS.Timeout | undefined;
	const late = new Promise<"hangs">((settle) => {
		timer = setTimeout(settle, ANSWER_MS, "hangs");
	});
	const state = await Promise.race([late, once(child, "close").then(() => (/not connected/.test(said) ? "dead" : "answers"))]);
	clearTimeout(timer);
	if (state === "hangs") {
		child.unref();
		child.stderr.destroy();
	}
	return state as MountState;
}

export interface PointUse {
	/** Is given sentences for the user. */
	readonly tell: (sentence: string) => void;
	/** Folders that the server writes to, without symbolic links. */
	readonly own: readonly string[];
	/** It is a layer itself, which may have something in it. */
	readonly isLayer: boolean;
}

/** Looks whether a mount may be made at a path of `pointPath`, and takes away a dead one of ours that is there. MountError: it may not. */
export async function preparePoint(point: string, use: PointUse): Promise<void> {
	const shown = quoteForShell(point);
	if (point === "/") throw new MountError("Cannot mount at /: all that the server needs would be covered.");
	const around = use.own.find((folder) => `${point}/`.startsWith(`${folder}/`));
	if (around !== undefined) throw new MountError(`Cannot mount at ${point}: it lies in ${around}, where the server keeps what is its own.`);
	if (deviceOfOurs(point) !== null) {
		const state = await stateOfMount(point);
		if (state !== "dead") {
			const fact =
				state === "hangs" ? "a mount of holdfast is there whose server does not answer" : "holdfast has mounted something there already";
			throw new MountError(`Cannot mount at ${point}: ${fact}. To end that: holdfast unmount ${shown}`);
		}
		const failure = await unmountAnyhow(point, true);
		if (failure !== null) throw new MountError(`Cannot take away the dead mount at ${point}: ${failure.reason}.`);
		use.tell(`The mount at ${point} had lost its server: it was taken away.`);
		return preparePoint(point, use);
	}
	if (!statOf(point).isDirectory()) throw new MountError(`Cannot mount at ${point}: it is not a directory.`);
	if (!use.isLayer && namesIn(point).length > 0) {
		throw new MountError(`Cannot mount at ${point}: it is not empty, and what is in it would be covered. Choose an empty directory.`);
	}
}

function statOf(point: string) {
	try {
		return statSync(point);
	} catch (error) {
		const { code, errno = 0 } = error as NodeJS.ErrnoException;
		const shown = quoteForShell(point);
		if (code === "ENOENT") throw new MountError(`Cannot mount at ${point}: there is no such directory. To make it: mkdir -p ${shown}`);
		if (errno === -ERRNO.ENOTCONN) {
			throw new MountError(
				`Cannot mount at ${point}: another program's mount there has lost its server. To end it: fusermount3 -u ${shown}`,
			);
		}
		throw new MountError(`Cannot mount at ${point}: ${whyNot(errno, point)}.`);
	}
}

function namesIn(point: string): readonly string[] {
	try {
		return readdirSync(point);
	} catch (error) {
		throw new MountError(`Cannot mount at ${point}: ${whyNot((error as NodeJS.ErrnoException).errno ?? 0, point)}.`);
	}
}
