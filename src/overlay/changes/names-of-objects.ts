// Finds the names of some objects by looking through the whole tree.

import { pathBelow } from "../../layer/path-search.ts";
import { FileType } from "../../vfs/operations.ts";
import { tellProgress } from "../../vfs/progress.ts";
import { rootNode } from "../engine/engine.ts";
import { Walk } from "../engine/turns.ts";
import { DirectoryCursor } from "../listing/listing.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { inPasses } from "../operations/until-ready.ts";

/** A name of one of the objects. */
export interface NameFound {
	/** Names with "/" between them; empty for the root. */
	readonly directory: Buffer;
	readonly name: Buffer;
	/** Of the object. */
	readonly key: string;
}

/** All names of objects other than directories: by their keys, with how many names each has. Ends when all are found. */
export async function namesOfObjects(opened: OpenedOverlay, wanted: ReadonlyMap<string, number>): Promise<NameFound[]> {
	const { overlay } = opened;
	const { engine } = overlay;
	let left = [...wanted.values()].reduce((sum, count) => sum + count, 0);
	const found: NameFound[] = [];
	const directories: { readonly handle: Buffer; readonly path: Buffer }[] = [{ handle: rootNode(engine).handle, path: Buffer.alloc(0) }];
	let looked = 0;
	const walk = new Walk();
	for (let at = directories.pop(); at !== undefined && left > 0; at = directories.pop()) {
		await walk.pause();
		const { handle, path } = at;
		tellProgress("looking for names", ++looked, "directories");
		const listed = await inPasses(overlay, () => {
			const below: typeof directories = [];
			const names: NameFound[] = [];
			const directory = overlay.decode(handle);
			const cursor = new DirectoryCursor(engine, overlay.listings, directory, directory, 0, 2);
			while (cursor.next()) {
				const child = cursor.object();
				if (child === null) continue;
				const name = Buffer.from(cursor.name);
				if (child.type === FileType.dir) below.push({ handle: child.handle, path: pathBelow(path, name) });
				else if (wanted.has(child.key)) names.push({ directory: path, name, key: child.key });
			}
			return { below, names };
		});
		directories.push(...listed.below);
		found.push(...listed.names);
		left -= listed.names.length;
	}
	return found;
}
