// Looks at names, and reads whole files by theirs, and nothing but files.

import { readFileSync, statSync } from "node:fs";
import { errnoName } from "./errno.ts";
import { close, O, openPath } from "./open.ts";

/** As `readFileSync` of Node, with an error of that form; what is no regular file is refused (ENXIO) and never opened: a fifo would never be read to its end. */
export function readFileNamed(path: string): Buffer {
	const fd = openPath(path, O.rdonly);
	if (fd < 0)
		throw Object.assign(new Error(`${errnoName(fd)}: cannot open '${path}'`), { code: errnoName(fd), errno: fd, syscall: "open", path });
	try {
		return readFileSync(fd);
	} finally {
		close(fd);
	}
}

/** Whether something has this name, links followed. Throws as Node does where that cannot be said: who is told that there is nothing makes something. */
export function pathExists(path: string): boolean {
	try {
		return statSync(path, { throwIfNoEntry: false }) !== undefined;
	} catch (error) {
		// below a file nothing is
		if ((error as NodeJS.ErrnoException).code === "ENOTDIR") return false;
		throw error;
	}
}
