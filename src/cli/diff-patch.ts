// `holdfast diff --patch`: the changes as a patch for `git apply`.

import { Contents } from "../overlay/changes/content.ts";
import { fileChanges } from "../overlay/changes/file-changes.ts";
import { patchOf, type Unsaid } from "../overlay/changes/git-patch.ts";
import { pathsInExport } from "../overlay/changes/path-in-export.ts";
import { isWanted } from "../overlay/changes/wanted-paths.ts";
import type { OpenedOverlay } from "../overlay/opening/opened-overlay.ts";
import type { Exclusion } from "./exclusion.ts";
import { complain, printPatch } from "./print.ts";

interface PatchWishes {
	readonly words: readonly string[];
	readonly hasBinary: boolean;
	readonly exclusion: Exclusion;
}

/** What is written at once. */
const BATCH_BYTES = 64 * 1024;

/** Prints it; how many files it has something to say of. PathError. */
export async function showPatch(opened: OpenedOverlay, { words, hasBinary, exclusion }: PatchWishes): Promise<number> {
	const paths = await pathsInExport(opened, words);
	const unsaid: Unsaid = { specials: 0, ofGit: 0, binaries: 0 };
	const contents = new Contents(opened);
	let count = 0;
	let batch: Buffer[] = [];
	let size = 0;
	const flush = () => {
		if (size > 0) printPatch(Buffer.concat(batch));
		batch = [];
		size = 0;
	};
	try {
		for await (const change of fileChanges(opened, contents)) {
			if (!isWanted(paths, change.shown) || exclusion.isExcluded(change.shown, false)) continue;
			let isSaid = false;
			for await (const piece of patchOf(change, { hasBinary, unsaid })) {
				isSaid = true;
				batch.push(piece);
				size += piece.length;
				if (size >= BATCH_BYTES) flush();
			}
			if (isSaid) count++;
		}
		flush();
	} finally {
		contents.close();
	}
	tellUnsaid(unsaid);
	return count;
}

function tellUnsaid({ specials, ofGit, binaries }: Unsaid): void {
	if (specials > 0) complain(`Not in the patch: ${specials} changes of devices, fifos or sockets, which git does not have.`);
	if (ofGit > 0) complain(`Not in the patch: ${ofGit} changes of .git, which git keeps for itself.`);
	if (binaries > 0) complain(`Of ${binaries} files that are no text the patch says only that they differ: give --binary as well.`);
}
