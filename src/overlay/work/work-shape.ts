// Refuses a work folder in which something odd stands where an overlay keeps its own.

import { chmodSync, lstatSync, readdirSync, type Stats } from "node:fs";
import { join } from "node:path";
import { LayerError } from "../../layer/layer-error.ts";
import { namesOf } from "../../linux/directory.ts";
import { ERRNO, whyNot } from "../../linux/errno.ts";
import { close, O, openPath } from "../../linux/open.ts";

/** Folders of `work/holdfast`; all else in it is a file. */
const FOLDERS = new Set([
	"orphans",
	"trash",
	"cuts",
	"probe",
	"links",
	"bases",
	"unnamed",
	"redirects",
	"data",
	"marks",
	"requests",
	"intents",
	"long-redirects",
	"lost+found",
	"partial",
	"index",
	"ids",
	"directories",
	"inodes",
	"link-names",
	"nfs4",
	"rebases",
	"rebound",
]);
/** Far more than anything in there grows to: what is larger is not read. */
const FILE_BYTES_MAX = 64 * 1024 * 1024;

/**
 * Refuses a work folder in which something else stands where an overlay keeps its own: through a planted link the server would write
 * outside of it, and at a fifo it would wait for ever. To be asked before anything in it is opened. LayerError.
 */
export function refuseOddWork(work: string): void {
	for (const name of ["work", "work/incompat", "work/incompat/holdfast", "index", "holdfast"]) expectFolder(work, name);
	refuseOddFolder(work, join(work, "holdfast"));
}

/** The same of the export's own folder. `within`: for the message. */
export function refuseOddFolder(within: string, folder: string): void {
	for (const name of namesIn(folder)) {
		const path = join(folder, name);
		const stat = lookAt(path);
		if (stat === undefined) continue;
		// what is wrong with that one its reader tells; it is written aside, and so never through a link
		if (name === "registry") continue;
		if (FOLDERS.has(name)) expectFolder(folder, name, within);
		else if (name === "whiteout") {
			const isDevice = stat.isCharacterDevice() && stat.rdev === 0;
			if (!isDevice && !(stat.isFile() && stat.size === 0)) throw odd(within, path, "is no whiteout");
		} else if (!stat.isDirectory()) expectFile(within, path, stat, name.startsWith("registry"));
	}
	for (const files of [join(folder, "requests"), join(folder, "intents"), join(folder, "partial")]) {
		for (const name of namesIn(files)) {
			const stat = lookAt(join(files, name));
			if (stat !== undefined) expectFile(within, join(files, name), stat, false);
		}
	}
}

/**
 * The kernel makes these folders of work with no permissions at all, which an ordinary user is held to also where they are this user's own. Gives
 * them to their owner again; all others stay.
 */
export function openToOwner(work: string): void {
	const me = process.geteuid?.() ?? 0;
	if (me === 0) return;
	for (const name of ["work", "work/incompat", "index"]) {
		const stat = lookAt(join(work, name));
		if (stat?.isDirectory() && stat.uid === me && (stat.mode & 0o700) !== 0o700) chmodSync(join(work, name), stat.mode | 0o700);
	}
}

function namesIn(folder: string): string[] {
	if (!lookAt(folder)?.isDirectory()) return [];
	// without an access time: `check` looks here too, and leaves nothing behind
	const fd = openPath(folder, O.rdonly | O.directory | O.nofollow | O.noatime);
	if (fd === -ERRNO.EACCES) throw closed(folder);
	if (fd < 0) return readdirSync(folder);
	const names = namesOf(fd);
	close(fd);
	if (typeof names === "number") throw new LayerError(`Cannot read ${folder}: ${whyNot(names, folder)}.`);
	return names.map((name) => name.toString());
}

/** Undefined: there is nothing. */
function lookAt(path: string): Stats | undefined {
	try {
		return lstatSync(path, { throwIfNoEntry: false });
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === "EACCES") throw closed(path);
		throw error;
	}
}

function closed(path: string): LayerError {
	return new LayerError(
		`Cannot look at ${path}: ${whyNot(ERRNO.EACCES, path)}. The folder belongs to another user; an upper and work that root has served are root's.`,
	);
}

function expectFolder(above: string, name: string, within = above): void {
	const path = join(above, name);
	const stat = lookAt(path);
	if (stat !== undefined && !stat.isDirectory()) throw odd(within, path, `is ${kindOf(stat)}, where a directory belongs`);
}

function expectFile(within: string, path: string, stat: Stats, mayHaveLinks: boolean): void {
	if (!stat.isFile()) throw odd(within, path, `is ${kindOf(stat)}, where a file belongs`);
	// a registry has two names for a moment, and after a kill then
	if (stat.nlink > 1 && !mayHaveLinks) throw odd(within, path, "has a further name, and writing to it would change that");
	if (stat.size > FILE_BYTES_MAX) throw odd(within, path, `has ${stat.size} bytes`);
}

function kindOf(stat: Stats): string {
	if (stat.isSymbolicLink()) return "a symlink";
	if (stat.isFile()) return "a file";
	if (stat.isDirectory()) return "a directory";
	return "a device, fifo or socket";
}

function odd(within: string, path: string, what: string): LayerError {
	return new LayerError(
		`Cannot use the folder ${within}: ${path} ${what}, so it was put there by somebody else. Look at it, and move it away.`,
	);
}
