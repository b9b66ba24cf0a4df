import { createHash } from "node:crypto";
import { closeSync, openSync, readFileSync } from "node:fs";
import { visitEntries } from "../../src/linux/directory.ts";
import { errnoName } from "../../src/linux/errno.ts";
import { readLink } from "../../src/linux/names.ts";
import { close, descriptorPath, O, openAt } from "../../src/linux/open.ts";
import { fstat, Stat } from "../../src/linux/stat.ts";
import { getXattr, listXattrs } from "../../src/linux/xattr.ts";
import { FileType } from "../../src/vfs/operations.ts";

/** What a tree shows of an object, for comparison. */
export interface Observed {
	readonly type: string;
	readonly mode: string;
	readonly owner: string;
	/** Of regular files and symlinks. */
	readonly size: number;
	/** Hash of a file's bytes, or a symlink's target. */
	readonly content: string;
	/** Seconds of a time that a test has set, or "now". */
	readonly mtime: string;
	readonly atime: string;
	/** Sorted "name=hex"; without xfs's own form of an ACL, which it lists beside that of Linux. */
	readonly xattrs: string;
	readonly rdev: string;
	readonly nlink: number;
	/** The same for all names of one object. */
	readonly object: string;
}

/** By path, each byte a character, the root "". */
export type Tree<T extends Observed = Observed> = ReadonlyMap<string, T>;

export const TYPE_NAMES: Readonly<Record<number, string>> = Object.fromEntries(
	Object.entries(FileType).map(([name, value]) => [value, name]),
);

/** Times that tests set lie before 2008; what is later was set by the clock. */
export function showTime(sec: number, nsec: number): string {
	return sec > 1_200_000_000 ? "now" : `${sec}.${nsec}`;
}

export function digest(bytes: Uint8Array): string {
	return createHash("sha1").update(bytes).digest("hex").slice(0, 12);
}

export function showXattrs(names: readonly Buffer[], read: (name: Buffer) => Buffer | string): string {
	const counted = names.filter((name) => !name.toString("latin1").startsWith("trusted.SGI_ACL_"));
	const shown = counted.map((name) => {
		const value = read(name);
		return `${name.toString("latin1")}=${typeof value === "string" ? value : value.toString("hex")}`;
	});
	return shown.sort().join(" ");
}

function xattrsOf(fd: number): string {
	const names = listXattrs(fd);
	if (typeof names === "number") return errnoName(names);
	return showXattrs(names, (name) => {
		const value = getXattr(fd, name);
		return typeof value === "number" ? errnoName(value) : value;
	});
}

export function describeStat(stat: Stat): Omit<Observed, "content" | "xattrs" | "object" | "size"> {
	return {
		type: TYPE_NAMES[stat.type] ?? "?",
		mode: (stat.mode & 0o7777).toString(8),
		owner: `${stat.uid}:${stat.gid}`,
		mtime: showTime(stat.mtimeSec, stat.mtimeNsec),
		atime: showTime(stat.atimeSec, stat.atimeNsec),
		rdev: `${stat.rdevMajor}:${stat.rdevMinor}`,
		nlink: stat.nlink,
	};
}

/** What is behind an O_PATH descriptor of a mounted tree. */
export function observeDescriptor(fd: number): Observed {
	const stat = new Stat();
	const status = fstat(fd, stat);
	if (status < 0) throw new Error(`stat: ${errnoName(status)}`);
	return {
		...describeStat(stat),
		size: stat.type === FileType.reg || stat.type === FileType.lnk ? stat.size : 0,
		content: contentOf(fd, stat),
		xattrs: xattrsOf(fd),
		object: `${stat.devMajor}:${stat.devMinor}:${stat.inoHi}:${stat.inoLo}`,
	};
}

function contentOf(fd: number, stat: Stat): string {
	if (stat.type === FileType.lnk) return readLink(fd, "")?.toString("latin1") ?? "unreadable";
	if (stat.type !== FileType.reg) return "";
	const data = openSync(descriptorPath(fd), O.rdonly | O.noatime);
	try {
		return digest(readFileSync(data));
	} finally {
		closeSync(data);
	}
}

export function namesIn(fd: number): string[] {
	const list = openAt(fd, ".", O.rdonly | O.directory | O.noatime);
	if (list < 0) throw new Error(`open directory: ${errnoName(list)}`);
	const names: string[] = [];
	const status = visitEntries(list, (name) => {
		const text = Buffer.from(name).toString("latin1");
		if (text !== "." && text !== "..") names.push(text);
		return undefined;
	});
	close(list);
	if (status < 0) throw new Error(`readdir: ${errnoName(status)}`);
	return names.sort();
}

/** A whole tree through the kernel. `onGhost`: a name that a listing has and a look-up has not. */
export function observeTree(root: number, onGhost: (path: string) => void): Tree {
	const tree = new Map<string, Observed>();
	const visit = (fd: number, path: string) => {
		const observed = observeDescriptor(fd);
		tree.set(path, observed);
		if (observed.type !== "dir") return;
		for (const name of namesIn(fd)) {
			const childPath = path === "" ? name : `${path}/${name}`;
			const child = openAt(fd, Buffer.from(name, "latin1"), O.path | O.nofollow);
			if (child < 0) {
				if (errnoName(child) !== "ENOENT") throw new Error(`open ${childPath}: ${errnoName(child)}`);
				onGhost(childPath);
				continue;
			}
			try {
				visit(child, childPath);
			} finally {
				close(child);
			}
		}
	};
	visit(root, "");
	return tree;
}

/** Everything of a tree that must not change at all, inode numbers and change times included. */
export function fingerprint(root: number): string {
	const lines: string[] = [];
	const stat = new Stat();
	const visit = (fd: number, path: string) => {
		const observed = observeDescriptor(fd);
		fstat(fd, stat);
		lines.push(JSON.stringify([path, observed, stat.mtimeSec, stat.mtimeNsec, stat.ctimeSec, stat.ctimeNsec, stat.blocks]));
		if (observed.type !== "dir") return;
		for (const name of namesIn(fd)) {
			const child = openAt(fd, Buffer.from(name, "latin1"), O.path | O.nofollow);
			visit(child, `${path}/${name}`);
			close(child);
		}
	};
	visit(root, "");
	return lines.join("\n");
}
