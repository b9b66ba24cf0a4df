// Reads /proc/self/mountinfo: which mount a descriptor belongs to, and its options.

import { readFileSync } from "node:fs";
import { close, O, openPath } from "./open.ts";
import { fstat, mountId, Stat } from "./stat.ts";

/** A line of /proc/self/mountinfo (proc_pid_mountinfo(5)). */
export interface Mount {
	/** `major:minor`. */
	readonly device: string;
	/** The directory of the file system that is mounted: "/" is all of it. */
	readonly root: string;
	/** Where. */
	readonly point: string;
	/** With the kind of a FUSE behind a dot, as `fuse.sshfs`. */
	readonly type: string;
	/** Options of the file system itself, whatever this mount of it adds: `ro` here holds for every mount. */
	readonly options: readonly string[];
}

/**
 * The mount that a descriptor was opened through; for one that is not in this process's table, as a private one, another mount of the same
 * device, whose type and options are the same. Null where there is none.
 */
export function mountOf(fd: number): Mount | null {
	const id = mountId(fd);
	const stat = new Stat();
	if (id < 0 || fstat(fd, stat) < 0) return null;
	const lines = mountLines();
	const line =
		lines.find((entry) => entry.startsWith(`${id} `)) ?? lines.find((entry) => deviceOf(entry) === `${stat.devMajor}:${stat.devMinor}`);
	return line === undefined ? null : parseMount(line);
}

/** A readable descriptor of the root of a descriptor's file system, on a mount that shows all of it; negative where none is to be seen. */
export function openWholeFileSystem(fd: number): number {
	const stat = new Stat();
	if (fstat(fd, stat) < 0) return -1;
	for (const line of mountLines()) {
		if (deviceOf(line) !== `${stat.devMajor}:${stat.devMinor}`) continue;
		const mount = parseMount(line);
		if (mount?.root !== "/") continue;
		const root = openPath(mount.point, O.rdonly | O.directory);
		// something else may be mounted over it
		if (root >= 0 && line.startsWith(`${mountId(root)} `)) return root;
		if (root >= 0) close(root);
	}
	return -1;
}

/** Whether something is mounted at a path, which has no links in it. */
export function isMountPoint(path: string): boolean {
	return mountAtPoint(path) !== null;
}

/** What is mounted at a path without links in it, on top of all else that is mounted there; null: nothing is. */
export function mountAtPoint(path: string): Mount | null {
	return mountTable().findLast(({ point }) => point === path) ?? null;
}

/** The mounts that this process sees, or another one by the lines of its table: what is mounted later comes later. */
export function mountTable(lines: readonly string[] = mountLines()): Mount[] {
	return lines.map(parseMount).filter((mount) => mount !== null);
}

/** What a path without links in it lies on, by a table alone: no file system is asked, so that this never waits. Null: nothing tells. */
export function mountAround(path: string, table: readonly Mount[]): Mount | null {
	let found: Mount | null = null;
	for (const mount of table) {
		if (!(mount.point === "/" || path === mount.point || path.startsWith(`${mount.point}/`))) continue;
		// what is mounted later at the same place lies above
		if (found === null || mount.point.length >= found.point.length) found = mount;
	}
	return found;
}

/** Where fstab(5) has something mounted. */
export function pointsOfFstab(): ReadonlySet<string> {
	let text: string;
	try {
		text = readFileSync("/etc/fstab", "utf8");
	} catch {
		return new Set();
	}
	const lines = text.split("\n").filter((line) => !line.startsWith("#"));
	return new Set(lines.map((line) => unescaped(line.trim().split(/\s+/)[1] ?? "").replace(/(.)\/+$/, "$1")));
}

function mountLines(): string[] {
	try {
		return readFileSync("/proc/self/mountinfo", "utf8").split("\n");
	} catch {
		return [];
	}
}

function deviceOf(line: string): string {
	return line.split(" ", 3)[2];
}

/** Null for a line of another form. */
export function parseMount(line: string): Mount | null {
	const [before, behind] = line.split(" - ", 2);
	const [, , device, root, point] = before.split(" ");
	const [type, , options] = (behind ?? "").split(" ");
	if (point === undefined || options === undefined) return null;
	return { device, root: unescaped(root), point: unescaped(point), type, options: options.split(",").map(unescaped) };
}

/** The kernel writes blanks, commas and backslashes as three octal digits. */
function unescaped(text: string): string {
	if (!text.includes("\\")) return text;
	const bytes = Buffer.from(text, "utf8").toString("latin1");
	return Buffer.from(
		bytes.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8))),
		"latin1",
	).toString("utf8");
}

/** The value of an option `NAME=VALUE`, or null. */
export function optionValue(mount: Mount, name: string): string | null {
	const option = mount.options.find((text) => text.startsWith(`${name}=`));
	return option === undefined ? null : option.slice(name.length + 1);
}
