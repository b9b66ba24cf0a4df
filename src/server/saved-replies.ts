// The replies that a server saves at a clean stop, for clients that did not get them before it.

import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { pathExists, readFileNamed } from "../linux/read-file.ts";
import { lowerAround } from "../overlay/opening/export-paths.ts";
import type { OpenedOverlay } from "../overlay/opening/opened-overlay.ts";
import { writeDurably } from "../overlay/work/registry.ts";
import type { DuplicateRequests } from "../rpc/duplicate-requests.ts";
import { describeThrown } from "../vfs/system-errors.ts";
import { formatListenAddress, type ListenAddress } from "./listen-address.ts";

const FOLDER = "replies";
/** In the folder of an export: where replies are that an earlier version saved, or that had no other place. */
const FILE_OF_EXPORT = "replies";
/** Nobody asks for older replies: see DuplicateRequests. */
const KEPT_MS = 15 * 60 * 1000;

/** Names what a server keeps for its clients: they come back to the addresses at which it listens, whatever it exports there. */
export function nameFor(addresses: readonly ListenAddress[]): string {
	const hash = createHash("sha256");
	const names = addresses.map((address) => formatListenAddress("path" in address ? { path: resolve(address.path) } : address));
	for (const name of names.sort()) hash.update(`${name}\n`);
	return hash.digest("hex").slice(0, 24);
}

function pathFor(stateFolder: string, addresses: readonly ListenAddress[]): string {
	return join(stateFolder, FOLDER, nameFor(addresses));
}

/** Takes up what a server at these addresses has saved, and what was saved with its exports. A file that cannot be used is told to `warn`. */
export function restoreReplies(
	cache: Pick<DuplicateRequests<unknown>, "restore">,
	stateFolder: string,
	addresses: readonly ListenAddress[],
	exports: readonly OpenedOverlay[],
	warn: (sentence: string) => void,
): void {
	for (const path of [pathFor(stateFolder, addresses), ...filesOfExports(exports)]) {
		try {
			if (!pathExists(path)) continue;
			cache.restore(readFileNamed(path));
		} catch (error) {
			warn(`The replies saved in ${path} cannot be used: ${describeThrown(error)}.`);
		}
	}
}

/**
 * Saves all replies, after which no earlier file is of use. Below the state folder, unless that cannot be written or lies in a lower: then
 * with the first export that has an upper. Throws the error of the last place that was tried.
 */
export function saveReplies(
	cache: Pick<DuplicateRequests<unknown>, "save" | "hasReplies">,
	stateFolder: string,
	addresses: readonly ListenAddress[],
	exports: readonly OpenedOverlay[],
): void {
	const ofExports = filesOfExports(exports);
	// who changes nothing has nothing that must not be done twice
	if (ofExports.length === 0) return;
	const folder = join(stateFolder, FOLDER);
	const own = mayWrite(folder, exports) ? pathFor(stateFolder, addresses) : null;
	const saved = cache.hasReplies ? write(cache.save(), own, ofExports[0]) : null;
	for (const path of ofExports) if (path !== saved) rmSync(path, { force: true });
	if (own === null || !pathExists(folder)) return;
	if (saved !== own) rmSync(own, { force: true });
	dropOld(folder);
}

/** Not in a lower of any export. */
export function mayWrite(folder: string, exports: readonly OpenedOverlay[]): boolean {
	const lowers = exports.flatMap(({ overlay: { engine } }) => [
		...engine.layers.filter(({ isUpper }) => !isUpper),
		...engine.dataFiles.layers,
	]);
	try {
		return lowerAround(folder, lowers) === null;
	} catch {
		return false;
	}
}

function write(bytes: Buffer, own: string | null, other: string): string {
	if (own !== null) {
		try {
			mkdirSync(dirname(own), { recursive: true, mode: 0o700 });
			writeDurably(own, bytes);
			return own;
		} catch {
			// no place there: a user without a home, for one
		}
	}
	writeDurably(other, bytes);
	return other;
}

function filesOfExports(exports: readonly OpenedOverlay[]): string[] {
	return exports.filter(({ upper }) => upper !== null).map(({ folder }) => join(folder, FILE_OF_EXPORT));
}

/** Files of servers that did not come back. */
function dropOld(folder: string): void {
	for (const name of readdirSync(folder)) {
		const path = join(folder, name);
		if (Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0) > KEPT_MS) rmSync(path, { force: true });
	}
}
