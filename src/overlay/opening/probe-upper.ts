// Tries what an upper needs of its file system, in work, before anything relies on it: some take a call and do something else.

import { join } from "node:path";
import type { Layer } from "../../layer/layer.ts";
import { LayerError } from "../../layer/layer-error.ts";
import { ERRNO, errnoName, whyNot } from "../../linux/errno.ts";
import { mountOf } from "../../linux/mount-table.ts";
import {
	linkDescriptor,
	linkName,
	makeDirectory,
	makeFile,
	makeNode,
	makeSymlink,
	RENAME,
	readLink,
	removeDirectory,
	renameName,
	unlinkName,
} from "../../linux/names.ts";
import { close, O, openPath } from "../../linux/open.ts";
import { fstat, Stat, statAt } from "../../linux/stat.ts";
import { getXattr, setXattr } from "../../linux/xattr.ts";
import { FileType } from "../../vfs/operations.ts";
import { isWhiteoutStat } from "../format/whiteout.ts";

const FOLDER = "probe";
const NAMES = ["a", "b", "c", "d", "w", "x"] as const;
const S_IFCHR = 0o020000;
const TARGET = "target";

/** They say nothing of what the file system can do: a full disk keeps nobody from starting, and from making room. */
const PASSING: ReadonlySet<number> = new Set([ERRNO.ENOSPC, ERRNO.EDQUOT, ERRNO.EMFILE, ERRNO.ENFILE, ERRNO.ENOMEM]);

/** A call that failed, with its error number, or with 0 where it did not do what it was asked for. */
class Failure {
	readonly call: string;
	readonly error: number;

	constructor(call: string, error: number) {
		this.call = call;
		this.error = error;
	}
}

/**
 * Makes each call that an upper relies on once, in a folder of work that is gone afterwards, as is what a killed probe has left. It takes a
 * fraction of a millisecond on a disk of this machine, so each start does it. `isDeviceless`: whiteouts are files with an xattr. LayerError.
 */
export function probeUpper(upper: Layer, folder: string, isDeviceless: boolean): void {
	const path = join(folder, FOLDER);
	const own = openPath(folder, O.rdonly | O.directory);
	if (own < 0) throw new LayerError(`Cannot open ${folder}: ${whyNot(own, folder)}.`);
	let failure: Failure | null;
	try {
		clear(own, path);
		failure = attempt(own, path, (probe) => {
			probeRenames(probe);
			probeXattrs(probe, upper.xattr.identity);
			probeLinks(probe);
			if (!isDeviceless) probeWhiteouts(probe);
			if (!upper.handles.isPortable) probeHandles(probe, upper);
		});
		clear(own, path);
	} finally {
		close(own);
	}
	if (failure === null || PASSING.has(failure.error)) return;
	const name = mountOf(upper.outside)?.type ?? upper.fileSystem.name;
	const why = failure.error === 0 ? "did not do what it was asked for" : `failed (${errnoName(-failure.error)})`;
	throw new LayerError(
		`Cannot serve the upper ${upper.path}: its file system (${name}) cannot do what an upper needs: ${failure.call} in ${folder} ${why}. ` +
			"Keep upper and work on another file system, as ext4, xfs, btrfs or tmpfs; lowers may stay on this one.",
	);
}

function attempt(own: number, path: string, probe: (folder: number) => void): Failure | null {
	let folder = -1;
	try {
		expect("mkdir(2)", makeDirectory(own, FOLDER, 0o700));
		folder = expect("open(2) of a directory", openPath(path, O.rdonly | O.directory | O.nofollow));
		probe(folder);
		return null;
	} catch (error) {
		if (error instanceof Failure) return error;
		throw error;
	} finally {
		if (folder >= 0) close(folder);
	}
}

/** What lies there under other names is not ours. LayerError. */
function clear(own: number, path: string): void {
	const folder = openPath(path, O.rdonly | O.directory | O.nofollow);
	if (folder >= 0) {
		for (const name of NAMES) if (unlinkName(folder, name) < 0) removeDirectory(folder, name);
		close(folder);
	}
	if (folder === -ERRNO.ENOENT) return;
	const status = removeDirectory(own, FOLDER);
	if (status >= 0 || status === -ERRNO.ENOENT) return;
	throw new LayerError(`Cannot remove ${path}: ${whyNot(status, path)}. It was put there by somebody else: look at it, and move it away.`);
}

function expect(call: string, status: number): number {
	if (status < 0) throw new Failure(call, -status);
	return status;
}

function expectThat(call: string, isDone: boolean): void {
	if (!isDone) throw new Failure(call, 0);
}

function typeOf(folder: number, name: string): number {
	const stat = new Stat();
	return statAt(folder, name, stat) < 0 ? -1 : stat.type;
}

/** Leaves the file `b`, and the directory `c`. */
function probeRenames(folder: number): void {
	close(expect("open(2) with O_CREAT", makeFile(folder, "a", 0o600)));
	close(expect("open(2) with O_CREAT", makeFile(folder, "b", 0o600)));
	const noReplace = "renameat2(2) with RENAME_NOREPLACE";
	expect(noReplace, renameName(folder, "a", folder, "c", RENAME.noReplace));
	const refused = renameName(folder, "c", folder, "b", RENAME.noReplace);
	expectThat(noReplace, refused === -ERRNO.EEXIST && typeOf(folder, "c") === FileType.reg);
	expect("mkdir(2)", makeDirectory(folder, "d", 0o700));
	const exchange = "renameat2(2) with RENAME_EXCHANGE";
	expect(exchange, renameName(folder, "d", folder, "c", RENAME.exchange));
	expectThat(exchange, typeOf(folder, "c") === FileType.dir && typeOf(folder, "d") === FileType.reg);
}

function probeLinks(folder: number): void {
	const link = "link(2)";
	expect(link, linkName(folder, "b", folder, "a"));
	const [one, other] = [new Stat(), new Stat()];
	statAt(folder, "a", one);
	statAt(folder, "b", other);
	expectThat(link, one.sameInode(other) && one.nlink === 2);
	expect("unlink(2)", unlinkName(folder, "a"));
	const fd = expect("open(2)", openPath(`/proc/self/fd/${folder}/b`, O.rdwr | O.nofollow));
	const linked = linkDescriptor(fd, folder, "a");
	close(fd);
	expect("linkat(2) of an open file", linked);
	expect("symlink(2)", makeSymlink(TARGET, folder, "x"));
	expectThat("readlink(2)", readLink(folder, "x")?.toString("latin1") === TARGET);
}

/** On a file and on a directory. */
function probeXattrs(folder: number, name: string): void {
	for (const at of ["b", "c"]) {
		const fd = expect("open(2)", openPath(`/proc/self/fd/${folder}/${at}`, O.rdonly | O.nofollow));
		const value = Buffer.from("0123456789abcdef", "latin1");
		const status = setXattr(fd, name, value);
		const found = status < 0 ? status : getXattr(fd, name);
		close(fd);
		// not the file system refuses that, and taking the upper says what does
		if (status === -ERRNO.EPERM && name.startsWith("trusted.")) return;
		const call = `setxattr(2) of ${name}`;
		expect(call, status);
		expectThat(call, typeof found !== "number" && value.equals(found));
	}
}

function probeWhiteouts(folder: number): void {
	const stat = new Stat();
	expect("mknod(2) of a character device 0:0", makeNode(folder, "w", S_IFCHR, 0, 0));
	expectThat("mknod(2) of a character device 0:0", statAt(folder, "w", stat) === 0 && isWhiteoutStat(stat));
	expect("unlink(2)", unlinkName(folder, "w"));
	const call = "renameat2(2) with RENAME_WHITEOUT";
	expect(call, renameName(folder, "d", folder, "w", RENAME.whiteout));
	expectThat(call, statAt(folder, "d", stat) === 0 && isWhiteoutStat(stat) && typeOf(folder, "w") === FileType.reg);
}

/** Of a file; opening the layer has tried that of its root. */
function probeHandles(folder: number, upper: Layer): void {
	const handle = upper.handles.at(folder, "b");
	if (typeof handle === "number") throw new Failure("name_to_handle_at(2)", -handle);
	const fd = expect("open_by_handle_at(2)", upper.handles.open(handle, O.path));
	const [one, other] = [new Stat(), new Stat()];
	fstat(fd, one);
	close(fd);
	statAt(folder, "b", other);
	expectThat("open_by_handle_at(2)", one.sameInode(other));
}
