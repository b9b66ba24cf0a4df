// Where a server keeps what clients of version 4 have open and locked.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { OpenedOverlay } from "../overlay/opening/opened-overlay.ts";
import { describeThrown } from "../vfs/system-errors.ts";
import type { ListenAddress } from "./listen-address.ts";
import { mayWrite, nameFor } from "./saved-replies.ts";

const FOLDER = "nfs4";

/**
 * With the first export that has an upper, whose work folder one server has at a time. Where none has: below the state folder, by the addresses at which
 * clients come back, if there is room for it; null: nowhere.
 */
export function claimFolder(
	stateFolder: string,
	addresses: readonly ListenAddress[],
	exports: readonly OpenedOverlay[],
	warn: (sentence: string) => void,
): string | null {
	const writable = exports.find(({ upper }) => upper !== null);
	if (writable !== undefined) return join(writable.folder, FOLDER);
	const folder = join(stateFolder, FOLDER);
	if (!mayWrite(folder, exports)) return null;
	const own = join(folder, nameFor(addresses));
	try {
		mkdirSync(own, { recursive: true, mode: 0o700 });
		return own;
	} catch (error) {
		warn(`What clients have open does not outlive this server: ${describeThrown(error)}.`);
		return null;
	}
}
