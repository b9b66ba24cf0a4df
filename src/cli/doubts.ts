// What a slip of the pen may have asked `holdfast serve` for: a new upper, or a tree that is not mounted yet.

import { readdirSync, realpathSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { isMountPoint, pointsOfFstab } from "../linux/mount-table.ts";
import { pathExists } from "../linux/read-file.ts";
import { confirm, isAnybodyThere } from "./ask.ts";
import { isMistyped } from "./mistyped.ts";

/**
 * An upper that is not there is made only for who says so, at a terminal. Where nobody can be asked it is made and told of, unless its name looks like
 * a mistyped one of a folder beside it: that would show the tree without its changes.
 */
export function confirmNewUpper(path: string, isAsked: boolean): void {
	const upper = path === "" ? "" : resolve(path);
	// without the folder above it there is nothing to ask: it is refused
	if (isAsked || upper === "" || pathExists(upper) || !pathExists(dirname(upper))) return;
	const meant = folderMeant(upper);
	if (meant === null && !isAnybodyThere()) return;
	confirm(
		`There is no upper ${upper}${meant === null ? "." : `, but ${meant} is there.`}`,
		"Make a new, empty one?",
		"To begin with a new, empty one give --create; to go on with changes that are there, correct the path.",
	);
}

/** A folder beside `path` that may be meant by its name; null: there is none. */
function folderMeant(path: string): string | null {
	try {
		const entries = readdirSync(dirname(path), { withFileTypes: true });
		const meant = entries.find((entry) => entry.isDirectory() && isMistyped(basename(path), entry.name));
		return meant === undefined ? null : join(dirname(path), meant.name);
	} catch {
		// whoever makes the upper says what is wrong
		return null;
	}
}

/** Folders for what is mounted by hand, or by the desktop. */
const PLACES = /^(\/mnt|\/mnt\/[^/]+|\/media(\/[^/]+){1,2}|\/run\/media(\/[^/]+){2})$/;

/** An empty mount point is served only for who says so: changes over it would be of no use over what is mounted there later. */
export function confirmEmptyMountPoints(lowers: readonly string[], isAsked: boolean): void {
	if (isAsked) return;
	for (const lower of lowers) {
		const why = whyUnmounted(lower);
		if (why === null) continue;
		confirm(
			`The tree ${lower} is empty, and ${why}: nothing is mounted there.`,
			"Serve it all the same?",
			"Mount it first, or give --empty to serve it as it is.",
		);
	}
}

/** Why an empty directory is taken for a mount point without its mount, as half a sentence; null: it is not. */
function whyUnmounted(path: string): string | null {
	try {
		const real = realpathSync(path);
		if (readdirSync(real).length > 0 || isMountPoint(real)) return null;
		if (pointsOfFstab().has(real)) return "/etc/fstab has a mount for it";
		return PLACES.test(real) && isAnybodyThere() ? "it is a place for mounts" : null;
	} catch {
		// whoever opens it says what is wrong
		return null;
	}
}
