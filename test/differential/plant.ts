import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { changeMode, changeOwner, changeTimes } from "../../src/linux/attributes.ts";
import { truncateFile, writeFrom } from "../../src/linux/data.ts";
import { ERRNO, errnoName, must } from "../../src/linux/errno.ts";
import { linkDescriptor, makeDirectory, makeNode, makeSymlink } from "../../src/linux/names.ts";
import { close, O, openAt, openPath } from "../../src/linux/open.ts";
import { fstat, Stat } from "../../src/linux/stat.ts";
import { setXattr } from "../../src/linux/xattr.ts";
import { isWhiteoutStat } from "../../src/overlay/format/whiteout.ts";
import { FileType } from "../../src/vfs/operations.ts";
import { namesIn } from "./observed.ts";
import type { Mark, Path, PlantStep } from "./scenario.ts";
import { CAPABILITY, posixAcl } from "./xattr-values.ts";

const FIRST_TIME = 1_000_000_000;
const LAYER_TIME = 10_000;
const S_IFIFO = 0o010000;
const S_IFCHR = 0o020000;

/**
 * Makes the lowers `lower0` (top) .., each in a folder of the file system that it is to lie on, and `outside` beside each. The same
 * steps make the same trees, inode numbers aside.
 */
export function plantLowers(folders: readonly string[], lowers: readonly (readonly PlantStep[])[], prefix: string): string[] {
	const paths = lowers.map((_, i) => join(folders[i], `lower${i}`));
	for (let i = lowers.length - 1; i >= 0; i--) {
		mkdirSync(paths[i], { mode: 0o755 });
		const root = must(openPath(paths[i], O.path), "open a lower");
		const below = i + 1 < lowers.length ? must(openPath(paths[i + 1], O.path), "open a lower") : -1;
		const outside = join(folders[i], "outside");
		mkdirSync(outside, { recursive: true });
		const place = { root, below, outside: must(openPath(outside, O.path), "open outside"), layer: i, prefix };
		for (const [j, step] of lowers[i].entries()) plantStep(place, step, `${i}-${j}`);
		close(place.outside);
		if (below >= 0) close(below);
		close(root);
	}
	// at last, from the bottom up: links between layers make times change in both
	for (let i = lowers.length - 1; i >= 0; i--) {
		const root = must(openPath(paths[i], O.path), "open a lower");
		setTimes(root, { next: FIRST_TIME + i * LAYER_TIME });
		close(root);
	}
	return paths;
}

interface Place {
	readonly root: number;
	readonly below: number;
	readonly outside: number;
	readonly layer: number;
	/** Of the overlay's own xattrs. */
	readonly prefix: string;
}

const bytesOf = (name: string) => Buffer.from(name, "latin1");

/** The descriptor of a path (O_PATH), or a negated error number. */
export function openWalk(root: number, path: Path): number {
	let fd = openAt(root, ".", O.path);
	for (const name of path) {
		const next = openAt(fd, bytesOf(name), O.path | O.nofollow);
		close(fd);
		if (next < 0) return next;
		fd = next;
	}
	return fd;
}

function plantStep(place: Place, step: PlantStep, outsideName: string): void {
	if (step.kind === "outside") {
		const fd = openWalk(place.root, step.path);
		if (fd < 0) return;
		if (!isKind(fd, FileType.dir) && !isWhiteout(fd)) must(linkDescriptor(fd, place.outside, outsideName), "link outside");
		close(fd);
		return;
	}
	if (step.kind === "whiteout" && place.below < 0) return;
	const parent = makeParents(place.root, step.path.slice(0, -1));
	if (parent < 0) return;
	const name = bytesOf(step.path[step.path.length - 1]);
	const existing = openAt(parent, name, O.path | O.nofollow);
	if (existing < 0) plantNew(place, parent, name, step);
	else {
		if (step.kind === "dir" && isKind(existing, FileType.dir)) dress(place, existing, step, true, step.opaque);
		close(existing);
	}
	close(parent);
}

function isKind(fd: number, type: FileType): boolean {
	const stat = new Stat();
	fstat(fd, stat);
	return stat.type === type;
}

function isWhiteout(fd: number): boolean {
	const stat = new Stat();
	fstat(fd, stat);
	return isWhiteoutStat(stat);
}

function makeParents(root: number, path: Path): number {
	let fd = openAt(root, ".", O.path);
	for (const name of path) {
		makeDirectory(fd, bytesOf(name), 0o755);
		const next = openAt(fd, bytesOf(name), O.path | O.nofollow | O.directory);
		close(fd);
		if (next < 0) return next;
		fd = next;
	}
	return fd;
}

function plantNew(place: Place, parent: number, name: Buffer, step: Exclude<PlantStep, { kind: "outside" }>): void {
	if (step.kind === "file") {
		const fd = must(openAt(parent, name, O.creat | O.excl | O.wronly, 0o600), "create");
		const text = bytesOf(`${place.layer}:${step.path.join("/").slice(0, 200)}\n`.repeat(1 + Math.floor(step.size / 4)));
		if (step.size > 65_536) {
			must(writeFrom(fd, text.subarray(0, step.size - 65_536), 65_536), "write");
		} else if (step.size > 0) must(writeFrom(fd, text.subarray(0, step.size), 0), "write");
		must(truncateFile(fd, step.size), "truncate");
		dress(place, fd, step, false, false);
		close(fd);
	} else if (step.kind === "dir") {
		must(makeDirectory(parent, name, 0o755), "mkdir");
		const fd = must(openAt(parent, name, O.path), "open");
		dress(place, fd, step, true, step.opaque && place.below >= 0);
		close(fd);
	} else if (step.kind === "symlink") {
		must(makeSymlink(step.target, parent, name), "symlink");
	} else if (step.kind === "fifo") {
		must(makeNode(parent, name, S_IFIFO | 0o600, 0, 0), "mkfifo");
		const fd = must(openAt(parent, name, O.path | O.nofollow), "open");
		changeMode(fd, step.mode);
		close(fd);
	} else if (step.kind === "device") {
		const { type, major, minor } = step.device;
		must(makeNode(parent, name, (FileType[type] << 12) | 0o640, major, minor), "mknod");
	} else if (step.kind === "whiteout") {
		must(makeNode(parent, name, S_IFCHR, 0, 0), "mknod");
	} else {
		const from = openWalk(step.isFromBelow && place.below >= 0 ? place.below : place.root, step.from);
		if (from < 0) return;
		if (!isKind(from, FileType.dir) && !isWhiteout(from)) {
			const status = linkDescriptor(from, parent, name);
			if (status !== -ERRNO.EXDEV) must(status, "link");
		}
		close(from);
	}
}

interface Look {
	readonly mode: number;
	readonly uid: number;
	readonly mark: Mark;
}

function dress(place: Place, fd: number, { mode, uid, mark }: Look, isDirectory: boolean, isOpaque: boolean): void {
	changeOwner(fd, uid, uid);
	must(changeMode(fd, mode), "chmod");
	const set = (name: string, value: Buffer) => must(setXattr(fd, name, value), `set ${name}`);
	if (mark === "user") set("user.colour", Buffer.from("green"));
	if (mark === "trusted") set("trusted.colour", Buffer.alloc(300, 0x61));
	if (mark === "acl") {
		set("system.posix_acl_access", posixAcl("u::7 u:1000:6 g::5 m::7 o::4"));
		if (isDirectory) set("system.posix_acl_default", posixAcl("u::7 u:1000:5 g::5 m::7 o::4"));
	}
	if (mark === "capability" && !isDirectory) set("security.capability", CAPABILITY);
	if (mark === "escaped") set(`${place.prefix}overlay.opaque`, Buffer.from("y"));
	if (isOpaque) set(`${place.prefix}opaque`, Buffer.from("y"));
}

/** Every object gets a time of its own, in the order of names, folders after what is in them. */
function setTimes(fd: number, clock: { next: number }): void {
	if (isKind(fd, FileType.dir)) {
		for (const name of namesIn(fd)) {
			const child = must(openAt(fd, bytesOf(name), O.path | O.nofollow), "open");
			setTimes(child, clock);
			close(child);
		}
	}
	const sec = clock.next++;
	const status = changeTimes(fd, { sec: sec + 5, nsec: 1 }, { sec, nsec: 123_456_789 });
	if (status < 0) throw new Error(`utimes: ${errnoName(status)}`);
}
