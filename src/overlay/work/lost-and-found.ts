// The folder in `work/holdfast` for what was in the way and could be data.

import { ERRNO } from "../../linux/errno.ts";
import { makeDirectory, RENAME, renameName } from "../../linux/names.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { must } from "../../vfs/system-errors.ts";

export const LOST_AND_FOUND = "lost+found";
const NAME_BYTES_MAX = 255;

/**
 * Moves a name of a directory there, under a number and a label of one byte for each character. `own` is `work/holdfast`, open. OverlayError, which
 * begins with `sentence` where the move itself failed.
 */
export function moveToLostAndFound(own: number, directory: number, name: string | Uint8Array, label: string, sentence: string): void {
	const made = makeDirectory(own, LOST_AND_FOUND, 0o700);
	if (made !== -ERRNO.EEXIST) must(made, "Cannot make the lost-and-found folder");
	const folder = must(openAt(own, LOST_AND_FOUND, O.rdonly | O.directory), "Cannot open the lost-and-found folder");
	try {
		for (let i = 1; ; i++) {
			const status = renameName(
				directory,
				name,
				folder,
				Buffer.from(`${i}-${label}`, "latin1").subarray(0, NAME_BYTES_MAX),
				RENAME.noReplace,
			);
			if (status === -ERRNO.EEXIST) continue;
			must(status, sentence);
			return;
		}
	} finally {
		close(folder);
	}
}
