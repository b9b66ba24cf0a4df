// Names of lowers whose object was changed under another name, or through a handle: only the index leads from them to the copy.

import { openDirectoryIn, splitPath } from "../../layer/path-search.ts";
import { namesOf } from "../../linux/directory.ts";
import { close } from "../../linux/open.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { FileType } from "../../vfs/operations.ts";
import { tellProgress } from "../../vfs/progress.ts";
import { must } from "../../vfs/system-errors.ts";
import { handleFor, identityOfRecord } from "../engine/engine.ts";
import { Walk } from "../engine/turns.ts";
import { linkCount, statOf } from "../lookup/stat.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { inPasses } from "../operations/until-ready.ts";
import { type NameFound, namesOfObjects } from "./names-of-objects.ts";

/** By the path of their directory, each byte a character. */
export interface IndexOnlyNames {
	readonly names: ReadonlyMap<string, readonly Buffer[]>;
	/** The directories above them, which may be untouched themselves. */
	readonly directories: ReadonlySet<string>;
}

/** Entries that are looked at in one pass. */
const ENTRIES_PER_PASS = 64;

/** Looks through the whole tree, but only where there are such names at all. */
export async function findIndexOnly(opened: OpenedOverlay): Promise<IndexOnlyNames> {
	const wanted = await objectsWithSuchNames(opened);
	const found = wanted.size === 0 ? [] : await namesOfObjects(opened, wanted);
	const names = new Map<string, Buffer[]>();
	const directories = new Set<string>();
	for (const { directory, name } of found) addName({ names, directories }, directory, name);
	return { names, directories };
}

/** The directories above are names of theirs, down to which one has to go. */
function addName(
	to: { readonly names: Map<string, Buffer[]>; readonly directories: Set<string> },
	directory: NameFound["directory"],
	name: Buffer,
): void {
	const key = directory.toString("latin1");
	const known = to.names.get(key);
	if (known === undefined) to.names.set(key, [name]);
	else known.push(name);
	if (key === "" || to.directories.has(key)) return;
	to.directories.add(key);
	const above = splitPath(directory);
	addName(to, above.directory, above.name);
}

/** Copies that show more names than upper holds: how many these are, by the key of the object. */
async function objectsWithSuchNames(opened: OpenedOverlay): Promise<Map<string, number>> {
	const { overlay } = opened;
	const { engine } = overlay;
	const wanted = new Map<string, number>();
	if (engine.writable === null) return wanted;
	const entries = listNames(engine.writable.index.fd);
	const walk = new Walk();
	for (let at = 0; at < entries.length; at += ENTRIES_PER_PASS) {
		await walk.pause();
		tellProgress("looking at what was copied up", at, "objects");
		await inPasses(overlay, () => {
			for (const entry of entries.slice(at, at + ENTRIES_PER_PASS)) {
				const names = namesBeside(opened, entry);
				if (names !== null) wanted.set(names.key, names.count);
				engine.descriptors.trim();
			}
		});
	}
	return wanted;
}

/** All names in an open directory, which may be O_PATH. */
export function listNames(directory: number): Buffer[] {
	const fd = must(openDirectoryIn(directory, Buffer.alloc(0)), "Cannot open a directory for reading");
	try {
		return must(namesOf(fd), "Cannot read a directory");
	} finally {
		close(fd);
	}
}

/** Whether an entry of the index is named by a record; what else lies there is nobody's. */
export function isRecordName(text: string): boolean {
	return /^([0-9a-f]{2})+$/.test(text);
}

/** Null: all names of the object lie in upper, or there is none. */
function namesBeside({ overlay }: OpenedOverlay, entry: Buffer): { readonly key: string; readonly count: number } | null {
	const { engine } = overlay;
	const text = entry.toString("latin1");
	if (!isRecordName(text)) return null;
	const identity = identityOfRecord(engine, Buffer.from(text, "hex"));
	if (identity === null) return null;
	try {
		const node = overlay.decode(handleFor(engine, identity));
		if (node.type === FileType.dir || !node.isUpper) return null;
		const stat = statOf(engine, node);
		// the index has one link of the upper inode
		const inUpper = stat.nlink - 1;
		const count = linkCount(engine, node, stat);
		return count > inUpper ? { key: node.key, count } : null;
	} catch (error) {
		if (error instanceof OverlayError && error.code === "stale") return null;
		throw error;
	}
}
