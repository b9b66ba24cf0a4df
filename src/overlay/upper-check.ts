import { readdirSync } from "node:fs";
import { join } from "node:path";
import { type Layer, LayerError, overlayXattrs } from "../layer/layer.ts";
import { visitEntries } from "../linux/directory.ts";
import { close, O, openAt } from "../linux/open.ts";
import { fstat, Stat } from "../linux/stat.ts";
import { FileType } from "./types.ts";
import { isWhiteoutStat } from "./whiteout.ts";

/**
 * Looks at an upper that is not empty before its first serve, the delta alone: marks of an overlay mean that it was made elsewhere and
 * would have to be adopted; files with names outside of it may be a lower's (`cp -al`), and writing would go through to that.
 */
export function refuseForeignUpper(upper: Layer, lowers: readonly Layer[], work: string, isStartingOver: boolean): void {
	const rootMarks = overlayXattrs(upper.root, upper.xattr).filter((mark) => !(isStartingOver && mark === "holdfast"));
	if (rootMarks.length > 0) throw notOurs(upper, `its root carries the overlay attribute ${rootMarks[0]}`);
	const foreign = foreignWork(work);
	if (foreign !== null) throw notOurs(upper, `its work folder already holds ${foreign}`);
	const walk: Walk = { upper, links: new Map(), mayShare: lowers.some((lower) => lower.fileSystem === upper.fileSystem) };
	visitTree(walk, upper.root, "");
	for (const [, inode] of walk.links) {
		if (inode.seen === inode.nlink) continue;
		throw new LayerError(
			`Cannot use the upper ${upper.path}: ${inode.path} has a further name outside of it, so it may be the lower's own file (cp -al), ` +
				"and writing to it would change the lower. Make the upper by cp -a --reflink=auto instead, or start with an empty one.",
		);
	}
}

function notOurs(upper: Layer, why: string): LayerError {
	return new LayerError(
		`Cannot serve the upper ${upper.path}: it was made by another overlay (${why}), and such uppers cannot be adopted yet. ` +
			"Start with an empty upper and work.",
	);
}

function foreignWork(work: string): string | null {
	for (const name of readdirSync(work)) {
		if (name === "holdfast") continue;
		if (name !== "work" && name !== "index") return name;
		const inside = readdirSync(join(work, name)).filter((entry) => !(name === "work" && entry === "incompat"));
		if (inside.length > 0) return join(name, inside[0]);
	}
	return null;
}

interface Walk {
	readonly upper: Layer;
	/** Files of several names, by inode: names seen inside upper, and names that there are. */
	readonly links: Map<string, { readonly path: string; readonly nlink: number; seen: number }>;
	/** A lower lies on the same file system. */
	readonly mayShare: boolean;
}

function visitTree(walk: Walk, directory: number, path: string): void {
	const names: Buffer[] = [];
	visitEntries(directory, (name) => {
		names.push(Buffer.from(name));
		return undefined;
	});
	const stat = new Stat();
	for (const name of names) {
		const childPath = join(path, name.toString());
		const fd = openAt(directory, name, O.path | O.nofollow);
		if (fd < 0) continue;
		try {
			fstat(fd, stat);
			if (isWhiteoutStat(stat)) throw notOurs(walk.upper, `${childPath} is a whiteout`);
			const marks = overlayXattrs(fd, walk.upper.xattr);
			if (marks.length > 0) throw notOurs(walk.upper, `${childPath} carries the overlay attribute ${marks[0]}`);
			if (stat.type === FileType.dir) descend(walk, fd, childPath);
			else if (stat.nlink > 1 && walk.mayShare) count(walk, stat, childPath);
		} finally {
			close(fd);
		}
	}
}

function descend(walk: Walk, fd: number, path: string): void {
	const list = openAt(fd, ".", O.rdonly | O.directory | O.noatime);
	if (list < 0) return;
	try {
		visitTree(walk, list, path);
	} finally {
		close(list);
	}
}

function count(walk: Walk, stat: Stat, path: string): void {
	const key = `${stat.inoHi}:${stat.inoLo}`;
	const known = walk.links.get(key);
	if (known === undefined) walk.links.set(key, { path, nlink: stat.nlink, seen: 1 });
	else known.seen++;
}
