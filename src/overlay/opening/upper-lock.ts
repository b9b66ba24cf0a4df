// The lock of an upper: one writer at a time on all machines that see it, and who that is.

import { existsSync, ftruncateSync, lstatSync, readSync, rmdirSync, rmSync, writeSync } from "node:fs";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { LayerError } from "../../layer/layer-error.ts";
import { ERRNO, errnoName, whyNot } from "../../linux/errno.ts";
import { tryLock } from "../../linux/file-system.ts";
import { close, O, openAt, openPath } from "../../linux/open.ts";
import { pathExists, readFileNamed } from "../../linux/read-file.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { makeFolder } from "./export-paths.ts";
import { refuseOthersWork, refuseOtherWriter } from "./users-of-upper.ts";

/** An upper by its path and a descriptor of its root, with the folder `work/holdfast`. */
export interface LockedUpper {
	readonly path: string;
	readonly root: number;
	readonly folder: string;
}

/** The lock of the file ends when this is closed, that of the directory with the descriptor of its root, and both with the process, however that dies. */
export interface UpperLock {
	/** The export goes on: the file stays where it is. */
	keepFile(): void;
	close(): void;
}

/**
 * Locked by flock(2), of a descriptor that no child gets: file systems over a network keep the lock of a file for all their
 * machines, and the lock of a directory for one mount alone. Earlier versions lock the directory of the upper, so that is locked too.
 */
const LOCK_FILE = "server";
const HOLDER_BYTES_MAX = 4096;
/** A first start that is refused takes the file away, perhaps between the open and the lock of another one. */
const ATTEMPTS_MAX = 100;
/** For the lock of a lower, which may be asked about at the moment. */
const LOWER_ATTEMPTS_MAX = 20;
const LOWER_RETRY_MS = 10;
const sleeper = new Int32Array(new SharedArrayBuffer(4));
/** A full disk keeps nobody from starting, and from making room. */
const NO_ROOM: ReadonlySet<number> = new Set([ERRNO.ENOSPC, ERRNO.EDQUOT]);

/**
 * Locks an upper for who writes to it. `command`: for others to see, as `holdfast serve`. LayerError: somebody else serves the upper, has it
 * mounted, or owns its work folder.
 */
export function lockUpper(upper: LockedUpper, command: string, act: "serve" | "repair" = "serve"): UpperLock {
	const { path, root, folder } = upper;
	refuseOthersWork(path, dirname(folder));
	demandLock(tryLock(root), upper, act);
	refuseOtherWriter({ path, fd: root }, act);
	return lockFile(upper, command, act);
}

/** Whether somebody holds the lock at this moment; both locks are asked for and given back at once. Nothing is written. LayerError. */
export function isUpperLocked(upper: LockedUpper): boolean {
	const directory = openAt(upper.root, ".", O.rdonly | O.directory);
	const file = openPath(join(upper.folder, LOCK_FILE), O.rdonly | O.nofollow | O.nonblock | O.noatime);
	try {
		for (const status of [directory < 0 ? directory : tryLock(directory), file < 0 ? 0 : tryLock(file, true)]) {
			if (status === -ERRNO.EWOULDBLOCK) return true;
			if (status < 0) throw new LayerError(`Cannot lock the upper ${upper.path}: ${whyNot(status)}.`);
		}
		return false;
	} finally {
		for (const fd of [directory, file]) if (fd >= 0) close(fd);
	}
}

/**
 * Holds a lower for as long as its `root` is open, so that nothing is applied to it meanwhile: a shared lock, which leaves nothing on any disk. A file
 * system without such locks, and a folder that may not be listed, is held by nobody.
 */
export function lockLower({ root, path }: { readonly root: number; readonly path: string }): void {
	let status = tryLock(root, true);
	// who looks whether it is served has it for a moment
	for (let attempt = 0; status === -ERRNO.EWOULDBLOCK && attempt < LOWER_ATTEMPTS_MAX; attempt++) {
		Atomics.wait(sleeper, 0, 0, LOWER_RETRY_MS);
		status = tryLock(root, true);
	}
	if (status === -ERRNO.EWOULDBLOCK)
		throw new LayerError(`Cannot serve ${path}: changes are being applied to it by holdfast apply. Try again when that is done.`);
}

function lockFile(upper: LockedUpper, command: string, act: "serve" | "repair"): UpperLock {
	const path = join(upper.folder, LOCK_FILE);
	// a repair of what is sound changes nothing, and an upper of the kernel's stays that
	if (act === "repair" && !pathExists(path)) return lockOf(-1, null, () => {});
	const hasMadeFolder = makeFolder(upper.folder, "the folder", false) !== undefined;
	const undoFolder = () => {
		if (hasMadeFolder) removeEmpty(upper.folder);
	};
	for (let attempt = 0; ; attempt++) {
		let isNew = false;
		let file = openPath(path, O.rdwr | O.nofollow | O.nonblock);
		if (file === -ERRNO.ENOENT) {
			file = openPath(path, O.rdwr | O.creat | O.excl | O.nofollow, 0o600);
			isNew = file >= 0;
		}
		if (NO_ROOM.has(-file)) return lockOf(-1, null, undoFolder);
		if (file === -ERRNO.EEXIST && attempt < ATTEMPTS_MAX) continue;
		try {
			if (file < 0)
				throw new LayerError(`Cannot lock the upper ${upper.path}: ${path} cannot be opened: ${whyNot(file, path)}.${remedyFor(-file)}`);
			demandLock(tryLock(file), upper, act);
			if (!isAt(file, path)) {
				close(file);
				if (attempt < ATTEMPTS_MAX) continue;
				throw new LayerError(`Cannot lock the upper ${upper.path}: ${path} is removed again and again.`);
			}
		} catch (error) {
			if (file >= 0) close(file);
			undoFolder();
			throw error;
		}
		if (act === "serve") sign(file, command);
		return lockOf(file, isNew ? path : null, undoFolder);
	}
}

function remedyFor(error: number): string {
	if (error === ERRNO.EROFS) return " Its file system is mounted read-only: mount it for writing, or serve the lowers without --upper.";
	return error === ERRNO.ELOOP ? " It was put there by somebody else: look at it, and move it away." : "";
}

/** `made`: the path of the file, if this made it. */
function lockOf(file: number, made: string | null, undoFolder: () => void): UpperLock {
	let isKept = false;
	let isClosed = false;
	return {
		keepFile() {
			isKept = true;
		},
		close() {
			if (isClosed) return;
			isClosed = true;
			// while it is still locked, so that it is nobody else's
			try {
				if (!isKept && made !== null) rmSync(made, { force: true });
			} catch {
				// it harms nobody there
			}
			if (file >= 0) close(file);
			// FUSE keeps a file that is open under another name in there
			if (!isKept) undoFolder();
		},
	};
}

/** Whether an open file is what has this name, and no other one has taken its place. */
function isAt(fd: number, path: string): boolean {
	const stat = new Stat();
	const found = lstatSync(path, { bigint: true, throwIfNoEntry: false });
	if (found === undefined || fstat(fd, stat) < 0) return false;
	// Node.js gives numbers from 2^63 on, as GlusterFS has them, as negative ones
	return BigInt.asUintN(64, found.ino) === (BigInt(stat.inoHi) << 32n) + BigInt(stat.inoLo);
}

/** Who has locked an upper, as the file says. */
interface Holder {
	readonly host: string;
	readonly pid: number;
	readonly since: string;
	/** As `holdfast serve`. */
	readonly command: string;
	/** The Unix socket at which it takes requests about the export. */
	readonly control?: string;
}

/** Says in the locked file who holds it. Where there is no room, others only learn that somebody does. */
function sign(file: number, command: string): void {
	writeHolder(file, { host: hostname(), pid: process.pid, since: new Date().toISOString(), command });
}

function writeHolder(file: number, holder: Holder): void {
	try {
		ftruncateSync(file, 0);
		writeSync(file, `${JSON.stringify(holder)}\n`, 0);
	} catch {}
}

/** Adds to what the lock file of this process says where it takes requests. Where that cannot be, nobody is told. */
export function signControl(folder: string, control: string): void {
	const file = openPath(join(folder, LOCK_FILE), O.rdwr | O.nofollow | O.nonblock);
	if (file < 0) return;
	const holder = readHolder(file);
	if (holder !== null && holder.host === hostname() && holder.pid === process.pid) writeHolder(file, { ...holder, control });
	close(file);
}

/** Who holds the lock at this moment, on this host; null: nobody, or it does not say. */
export function signedBy(folder: string): Holder | null {
	const file = openPath(join(folder, LOCK_FILE), O.rdonly | O.nofollow | O.nonblock | O.noatime);
	if (file < 0) return null;
	const holder = tryLock(file, true) === -ERRNO.EWOULDBLOCK ? readHolder(file) : null;
	close(file);
	return holder?.host === hostname() ? holder : null;
}

/** LayerError: the lock was not given. */
function demandLock(status: number, upper: LockedUpper, act: "serve" | "repair"): void {
	if (status >= 0) return;
	if (status === -ERRNO.EWOULDBLOCK) {
		throw new LayerError(
			`Cannot ${act === "serve" ? "lock" : "repair"} the upper ${upper.path}: ${holderOf(upper.folder)} is serving it. Stop that one first.`,
		);
	}
	throw new LayerError(
		`Cannot lock the upper ${upper.path}: flock(2) failed (${errnoName(status)}), so two servers could write to it. Keep upper and work on a file ` +
			"system with locks.",
	);
}

/** Whether another process of this host has an upper locked, by its work folder. */
export function isSignedByOther(work: string): boolean {
	return signedBy(join(work, "holdfast")) !== null;
}

/** Who holds the lock, for people: by what the file says, or, of an earlier version, by the file of its pid. */
function holderOf(folder: string): string {
	const file = openPath(join(folder, LOCK_FILE), O.rdonly | O.nofollow | O.nonblock | O.noatime);
	if (file >= 0) {
		const isHeld = tryLock(file, true) === -ERRNO.EWOULDBLOCK;
		const told = isHeld ? readHolder(file) : null;
		close(file);
		if (told !== null) return shownHolder(told);
		if (isHeld) return "another process";
	}
	const pid = readPid(folder);
	return pid === null ? "another process" : `the process ${pid}`;
}

function shownHolder({ host, pid, since, command }: Holder): string {
	return `the process ${pid} of ${host === hostname() ? "this host" : `the host ${host}`} (${command}, since ${since})`;
}

/** Null: it does not say. */
function readHolder(file: number): Holder | null {
	try {
		const bytes = Buffer.alloc(HOLDER_BYTES_MAX);
		const { host, pid, since, command, control } = JSON.parse(bytes.toString("utf8", 0, readSync(file, bytes, 0, HOLDER_BYTES_MAX, 0)));
		if (!Number.isInteger(pid) || [host, since, command].some((field) => typeof field !== "string")) return null;
		// left by a server that was killed, while a repair has the lock
		if (host === hostname() && !existsSync(`/proc/${pid}`)) return null;
		return { host, pid, since, command, ...(typeof control === "string" ? { control } : {}) };
	} catch {
		return null;
	}
}

function readPid(folder: string): string | null {
	try {
		const text = readFileNamed(join(folder, "pid")).toString("latin1").trim();
		return /^\d{1,10}$/.test(text) ? text : null;
	} catch {
		return null;
	}
}

function removeEmpty(folder: string): void {
	try {
		rmdirSync(folder);
	} catch {
		// somebody else uses it
	}
}
