// Where the control socket of a server lies, and what is left of killed servers' sockets.

import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, rmdirSync, statSync, unlinkSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import type { OpenedOverlay } from "../overlay/opening/opened-overlay.ts";
import { isSocketInUse, SOCKET_PATH_BYTES_MAX } from "./listen-address.ts";
import { mayWrite } from "./saved-replies.ts";

/** A socket that was made this long ago has been listened at since, or never will be. */
const NEW_MS = 60_000;

/**
 * A path for a new socket, in a folder that is this user's alone: of the session where there is one, else in the state folder, if that lies in no lower.
 * Null: there is no such place.
 */
export function newControlPath(stateFolder: string, exports: readonly OpenedOverlay[]): string | null {
	const name = `${process.pid}-${randomBytes(4).toString("hex")}`;
	for (const folder of foldersFor(stateFolder, exports)) {
		const path = join(folder, name);
		if (Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX && makeOwn(folder)) return path;
	}
	return null;
}

function foldersFor(stateFolder: string, exports: readonly OpenedOverlay[]): string[] {
	const session = process.env.XDG_RUNTIME_DIR ?? "";
	return [
		// of another user where root has come by sudo
		...(isAbsolute(session) && isOwn(session) ? [join(session, "holdfast")] : []),
		join(stateFolder, "control"),
	].filter((folder) => mayWrite(folder, exports));
}

function makeOwn(folder: string): boolean {
	try {
		mkdirSync(folder, { recursive: true, mode: 0o700 });
		return isOwn(folder);
	} catch {
		return false;
	}
}

/** Whether nobody else can put anything there. */
function isOwn(folder: string): boolean {
	try {
		const { uid, mode } = statSync(folder);
		return uid === process.geteuid?.() && (mode & 0o022) === 0;
	} catch {
		return false;
	}
}

/** Removes the sockets of servers that were killed. */
export async function removeStaleSockets(folder: string): Promise<void> {
	for (const name of readdirSync(folder)) {
		const path = join(folder, name);
		try {
			const stat = statSync(path);
			if (stat.isSocket() && stat.mtimeMs < Date.now() - NEW_MS && !(await isSocketInUse(path))) unlinkSync(path);
		} catch {
			// another server was faster
		}
	}
}

/** The last server that had a socket there takes the folder away. */
export function leaveControlFolder(folder: string): void {
	try {
		rmdirSync(folder);
	} catch {
		// others are there
	}
}
