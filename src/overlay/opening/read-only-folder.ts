// Finds the state folder of a read-only export with portable handles, where roots of several trees have the same names.

import { createHash } from "node:crypto";
import { join } from "node:path";
import { openNamedDirectory, realPathOf } from "../../linux/covered-directories.ts";
import { namesOf } from "../../linux/directory.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { readFileNamed } from "../../linux/read-file.ts";
import { fstat, Stat, statAt } from "../../linux/stat.ts";
import { FileType } from "../../vfs/operations.ts";
import { unlessFull } from "../../vfs/system-errors.ts";
import { writeDurably } from "../work/registry.ts";
import { treeNameOf } from "./layer-names.ts";

/** In such a folder: where its trees were, and what else they are known by when they are there no more. */
const TREES_FILE = "trees";
/** Directories of a root whose names are looked at. */
const DIRECTORIES_MAX = 64;

interface KnownTree {
	readonly path: string;
	readonly mark: string;
}

/** `trees`: the names of the lowers (`treeName`), `paths`: where these are. A folder that is not there yet, where none is theirs. */
export function readOnlyFolder(stateFolder: string, trees: readonly string[], paths: readonly string[]): string {
	const hash = createHash("sha256").update("portable\n");
	for (const tree of trees) hash.update(`${tree}\n`);
	const first = join(stateFolder, "read-only", hash.digest("hex").slice(0, 24));
	for (let n = 1; ; n++) {
		const folder = n === 1 ? first : `${first}-${n}`;
		const known = readTrees(folder);
		// it is not there, or of an earlier version, which did not note them
		if (known === null) return folder;
		if (known.length === paths.length && known.every((tree, i) => isThat(tree, trees[i], paths[i]))) return folder;
	}
}

/** Notes whose folder it is. Who may not write to it reads what others have noted. */
export function noteTrees(folder: string, paths: readonly string[]): void {
	const known = paths.map((path): KnownTree => ({ path: realPathOf(path), mark: markOf(path) }));
	const before = readTrees(folder);
	if (before !== null && JSON.stringify(before) === JSON.stringify(known)) return;
	try {
		unlessFull(() => writeDurably(join(folder, TREES_FILE), Buffer.from(`${JSON.stringify(known)}\n`)));
	} catch (error) {
		if (!NOT_OURS.has((error as NodeJS.ErrnoException).code ?? "")) throw error;
	}
}

const NOT_OURS = new Set(["EACCES", "EPERM", "EROFS"]);

function readTrees(folder: string): KnownTree[] | null {
	try {
		const known: unknown = JSON.parse(readFileNamed(join(folder, TREES_FILE)).toString());
		return Array.isArray(known) ? known : null;
	} catch {
		return null;
	}
}

/** The same place, or the same tree where the other place has it no more: two that are there at once are two. */
function isThat({ path: before, mark }: KnownTree, tree: string, path: string): boolean {
	if (realPathOf(path) === before) return true;
	const [one, other] = [new Stat(), new Stat()];
	const stands = withDirectory(before, (fd) => fstat(fd, one) === 0 && treeNameOf(fd, before) === tree) ?? false;
	if (stands) return withDirectory(path, (fd) => fstat(fd, other) === 0 && one.sameInode(other)) ?? false;
	return markOf(path) === mark;
}

/** What a copy of a tree has as well: the files in its root, and the names one level down. */
function markOf(path: string): string {
	const hash = createHash("sha256");
	withDirectory(path, (fd) => {
		const stat = new Stat();
		let directories = 0;
		for (const name of sorted(namesOf(fd))) {
			if (statAt(fd, name, stat) < 0) continue;
			hash.update(name).update(`/${stat.type}:`);
			if (stat.type === FileType.reg) hash.update(`${stat.size}:${stat.mtimeSec}`);
			if (stat.type !== FileType.dir || ++directories > DIRECTORIES_MAX) continue;
			const below = openAt(fd, name, O.rdonly | O.directory | O.nofollow | O.noatime);
			if (below < 0) continue;
			for (const one of sorted(namesOf(below))) hash.update(one).update("/");
			close(below);
		}
	});
	return hash.digest("hex").slice(0, 32);
}

function sorted(names: Buffer[] | number): Buffer[] {
	return typeof names === "number" ? [] : names.sort(Buffer.compare);
}

/** Null: it cannot be opened. */
function withDirectory<T>(path: string, act: (fd: number) => T): T | null {
	const fd = openNamedDirectory(path, O.rdonly | O.directory | O.noatime);
	if (fd < 0) return null;
	try {
		return act(fd);
	} finally {
		close(fd);
	}
}
