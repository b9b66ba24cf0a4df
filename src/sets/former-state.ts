// What earlier versions kept in root's home besides sets: it goes on in the state folder of today.

import { lstatSync, mkdirSync, readdirSync, realpathSync, rmSync, statSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { realPathOf } from "../linux/covered-directories.ts";
import { pathExists, readFileNamed } from "../linux/read-file.ts";
import { writeDurably } from "../overlay/work/registry.ts";
import { type StateRoots, SYSTEM_ROOT } from "./state-roots.ts";

/** Folders of an earlier version: an export without upper has its keys in the first, and clients ask again for what is in the second. */
const [READ_ONLY, REPLIES] = ["read-only", "replies"];

/** Links to registries, which stay on their file system, and moves saved replies. What cannot be is left, as in a lower. */
export function takeOverState({ own, others }: StateRoots, lowers: readonly string[]): void {
	if (own !== SYSTEM_ROOT) return;
	for (const former of others) {
		for (const kind of [READ_ONLY, REPLIES]) {
			for (const name of namesIn(join(former, kind))) {
				const [from, to] = [join(former, kind, name), join(own, kind, name)];
				if (lstatSync(to, { throwIfNoEntry: false }) !== undefined || isInside(own, lowers)) continue;
				if (statSync(from, { throwIfNoEntry: false })?.uid !== process.geteuid?.()) continue;
				move(kind, from, to);
			}
		}
	}
}

function move(kind: string, from: string, to: string): void {
	try {
		mkdirSync(dirname(to), { recursive: true, mode: 0o700 });
		if (kind === READ_ONLY) symlinkSync(from, to);
		else {
			writeDurably(to, readFileNamed(from));
			rmSync(from);
		}
	} catch (error) {
		// another process was first
		if ((error as NodeJS.ErrnoException).code === "EEXIST") return;
		// without its keys the export would get others; replies may wait where they are
		if (kind === READ_ONLY) throw error;
	}
}

function namesIn(folder: string): string[] {
	try {
		return readdirSync(folder);
	} catch (error) {
		if (["ENOENT", "ENOTDIR", "EACCES"].includes((error as NodeJS.ErrnoException).code ?? "")) return [];
		throw error;
	}
}

/** The whole tree conceals what lies in it and is the server's own. */
function isInside(path: string, lowers: readonly string[]): boolean {
	let existing = path;
	while (!pathExists(existing)) existing = dirname(existing);
	const real = join(realpathSync(existing), "/");
	return lowers.some((lower) => isOver(lower, real));
}

function isOver(lower: string, real: string): boolean {
	try {
		const path = realPathOf(lower);
		return path !== "/" && real.startsWith(join(path, "/"));
	} catch {
		return false;
	}
}
