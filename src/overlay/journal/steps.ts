// The steps that changes consist of: how each is made, and how a recovery sees whether it was.

import { PORTABLE } from "../../layer/portable-id.ts";
import { changeTimes } from "../../linux/attributes.ts";
import { truncateFile } from "../../linux/data.ts";
import { ENODATA, ERRNO } from "../../linux/errno.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { linkDescriptor, makeDirectory, makeFile, RENAME, removeDirectory, renameName, unlinkName } from "../../linux/names.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { fstat, Stat, statAt } from "../../linux/stat.ts";
import { removeXattr, setXattr, setXattrOfOpen } from "../../linux/xattr.ts";
import type { OverlayError } from "../../vfs/errors.ts";
import { FileType, type SetAttributes, type Timespec } from "../../vfs/operations.ts";
import { failed, ifThere, isFound, isNoRoom, must, unlessOfMachine } from "../../vfs/system-errors.ts";
import { ACL_ACCESS } from "../format/posix-acl.ts";
import { isWhiteoutName } from "../format/whiteout.ts";
import { markOrphan, unmarkOrphan } from "../work/held-objects.ts";
import { setMark } from "../work/marks.ts";
import type { UpperState } from "../work/upper-state.ts";

/** A directory that a step works in: a fixed one of work, or one of upper by its kernel handle. */
export type StepDirectory = "work" | "index" | "orphans" | FileHandle;

/**
 * One change on disk that is a single system call, or can be repeated. A change of several steps is written down whole before its
 * first one, so that a start after a crash can go on behind the last step that was made: every operation happens or does not.
 */
export type Step =
	/** Renames an inode; done when it is there. With `exchange` what was there comes back in its place. */
	| {
			readonly op: "move";
			readonly inode: FileHandle;
			readonly from: StepDirectory;
			readonly fromName: PathName;
			readonly to: StepDirectory;
			readonly toName: PathName;
			readonly flags: number;
	  }
	/**
	 * Makes a regular file or directory under a name that nothing has, with its attributes: whatever has the name after a crash was made by it.
	 * Its handle is known only then. `isOpaque`: hides what lowers have under that name.
	 */
	| {
			readonly op: "make";
			readonly in: StepDirectory;
			readonly name: PathName;
			readonly type: typeof FileType.reg | typeof FileType.dir;
			readonly mode: number;
			readonly uid: number;
			readonly gid: number;
			readonly size: number;
			readonly atime: Timespec | "now" | null;
			readonly mtime: Timespec | "now" | null;
			readonly isOpaque: boolean;
			/** The portable id to assign; null with kernel handles. */
			readonly id: FileHandle | null;
	  }
	/** Gives an inode a further name. */
	| { readonly op: "link"; readonly inode: FileHandle; readonly to: StepDirectory; readonly toName: PathName }
	/**
	 * Puts a whiteout in the place of nothing, a file, or a directory that the overlay shows as empty. `base`: in what version the lower object was
	 * that an entry of the index says is gone by it.
	 */
	| { readonly op: "whiteout"; readonly in: StepDirectory; readonly name: PathName; readonly base?: Uint8Array }
	/** Removes a name of this inode; a directory with all whiteouts in it. */
	| { readonly op: "unlink"; readonly in: StepDirectory; readonly name: PathName; readonly inode: FileHandle }
	| { readonly op: "unlinkWhiteout"; readonly in: StepDirectory; readonly name: PathName }
	| { readonly op: "xattr"; readonly inode: FileHandle; readonly name: string; readonly value: Uint8Array }
	| { readonly op: "attributes"; readonly inode: FileHandle; readonly type: FileType; readonly change: ObjectChange }
	| { readonly op: "times"; readonly inode: FileHandle; readonly atime: Timespec; readonly mtime: Timespec }
	/** Names left of a lower file; null: no record. `base`: in what version it was when it lost the first one. */
	| { readonly op: "count"; readonly entry: string; readonly value: number | null; readonly base?: Uint8Array }
	| { readonly op: "unnamed"; readonly entry: string; readonly value: boolean }
	/** Marks a lower object that is held open and loses its last name, by the name of its mark. */
	| { readonly op: "mark"; readonly name: string; readonly record: Uint8Array }
	| { readonly op: "unmark"; readonly name: string }
	/** Notes where a directory is now, where ids are portable. */
	| { readonly op: "where"; readonly inode: FileHandle; readonly above: StepDirectory; readonly name: PathName }
	/** Gives an inode that is about to lose its last name one in the trash, where a thread frees it. Where that cannot be, the step that takes the last name frees it. */
	| { readonly op: "trash"; readonly inode: FileHandle; readonly name: string }
	/** Forgets what leads from a portable id to its inode, which has lost its last name. */
	| { readonly op: "forget"; readonly inode: FileHandle };

/** A change of attributes, of an extended one too: set, or removed where its value is null. */
export interface ObjectChange extends SetAttributes {
	xattr?: { readonly name: Uint8Array; readonly value: Uint8Array | null };
}

export type PathName = Uint8Array | string;

/** Descriptors of places. In normal running the engine has them open; a recovery opens them by their handles. */
export interface Descriptors {
	/** Negative when the place is gone. */
	directory(of: StepDirectory): number;
	/** O_PATH, or readable and writable for `data`. Negative when the inode is gone. */
	inode(inode: FileHandle, forData: boolean): number;
	/** What a step makes may be there already, as a crash has left it. */
	readonly isRecovery: boolean;
	/** Takes over the descriptor of an object that was made, with its attributes. */
	keep(fd: number, stat: Stat): void;
	/** Takes over what a whiteout of the index has taken the place of, which is in work now, so that it can be put back. */
	keepReplaced?(entry: PathName, temporary: string): void;
	/** Told that where a directory was is kept, until the change is made. */
	keepPlace?(inode: FileHandle): void;
	/** Told how many steps were made before one failed. */
	noteMade?(count: number): void;
}

/** Makes one step. Throws OverlayError. */
export function runStep(writable: UpperState, step: Step, descriptors: Descriptors): void {
	noteEntries(writable, step);
	switch (step.op) {
		case "make": {
			const stat = new Stat();
			descriptors.keep(makeObject(writable, step, descriptors.directory(step.in), descriptors.isRecovery, stat), stat);
			return;
		}
		case "move":
			must(
				renameName(descriptors.directory(step.from), step.fromName, descriptors.directory(step.to), step.toName, step.flags),
				"Cannot move an object to its name",
			);
			return;
		case "link":
			must(linkDescriptor(descriptors.inode(step.inode, false), descriptors.directory(step.to), step.toName), "Cannot make a further name");
			return;
		case "whiteout":
			hide(writable, step, descriptors);
			return;
		case "unlink":
			unlink(writable, descriptors.directory(step.in), step.name);
			return;
		case "unlinkWhiteout":
			must(unlinkName(descriptors.directory(step.in), step.name), "Cannot remove a whiteout");
			return;
		case "xattr":
			must(setMark(writable, descriptors.inode(step.inode, false), step.name, step.value), `Cannot set ${step.name}`);
			return;
		case "attributes":
			applyChange(writable, step.type, step.change, step.inode, descriptors);
			return;
		case "times":
			// a directory's times that are not set back lose nothing
			changeTimes(descriptors.inode(step.inode, false), step.atime, step.mtime);
			return;
		case "count":
			if (step.value === null) writable.linkCounts.delete(step.entry);
			else writable.linkCounts.set(step.entry, step.value, step.base ?? null);
			return;
		case "unnamed":
			if (step.value) writable.linkCounts.noteUnnamed(step.entry);
			else writable.linkCounts.noteNamed(step.entry);
			return;
		case "mark":
			markOrphan(writable.work.orphans, step.name, step.record);
			return;
		case "unmark":
			unmarkOrphan(writable.work.orphans, step.name);
			return;
		case "where":
			placeDirectory(writable, step, descriptors);
			return;
		case "trash":
			writable.work.trash.link(descriptors.inode(step.inode, false), step.name);
			return;
		case "forget":
			writable.ids?.forget(step.inode);
	}
}

/** The index is told of the entries that a step makes before it is made. */
function noteEntries({ index }: UpperState, step: Step): void {
	switch (step.op) {
		case "move":
			if (step.to === "index") index.noteEntry(step.toName);
			if (step.from === "index" && (step.flags & RENAME.exchange) !== 0) index.noteEntry(step.fromName);
			return;
		case "link":
			if (step.to === "index") index.noteEntry(step.toName);
			return;
		case "make":
		case "whiteout":
			if (step.in === "index") index.noteEntry(step.name);
	}
}

export type Make = Extract<Step, { op: "make" }>;

const UMASKED = 0o7777;

/**
 * The new object, open for reading and writing if it is a file. With `isAgain` it may be there already, as a crash left it. What was made is
 * removed again when it cannot be given its attributes.
 */
function makeObject(writable: UpperState, step: Make, directory: number, isAgain: boolean, stat: Stat): number {
	const isFile = step.type === FileType.reg;
	// the process has no umask; a group may come from a set-group-id directory, so a foreign owner is set in any case
	const { rights } = writable.layer;
	const realMode = rights.realMode(step.type, step.mode);
	let status = isFile ? makeFile(directory, step.name, realMode) : makeDirectory(directory, step.name, realMode);
	if (status === -ERRNO.EEXIST && isAgain) status = isFile ? openAt(directory, step.name, O.rdwr | O.nofollow) : 0;
	must(status, "Cannot make an object");
	const fd = isFile ? status : openAt(directory, step.name, O.rdonly | O.directory | O.nofollow | O.noatime);
	try {
		must(fd, "Cannot open a new directory");
		must(fstat(fd, stat), "Cannot read a new object");
		rights.show(fd, stat);
		const isOwned = stat.uid === step.uid && stat.gid === step.gid;
		const hasMode = (stat.mode & UMASKED) === step.mode;
		if (!isOwned) must(rights.change(fd, step.type, { uid: step.uid, gid: step.gid }), "Cannot set the owner of a new object");
		// a change of owner takes set-user-id bits away
		if (!hasMode || !isOwned) must(rights.change(fd, step.type, { mode: step.mode }), "Cannot set the mode of a new object");
		if (step.size > 0) must(truncateFile(fd, step.size), "Cannot set the size of a new file");
		if (step.isOpaque) must(setXattrOfOpen(fd, writable.layer.xattr.opaque, Buffer.from("y")), "Cannot make a directory opaque");
		if (step.atime !== null || step.mtime !== null) {
			must(changeTimes(fd, step.atime ?? undefined, step.mtime ?? undefined), "Cannot set the times of a new object");
		}
		const isAsItWas = isOwned && hasMode && step.size === 0 && !step.isOpaque && step.atime === null && step.mtime === null;
		if (step.id !== null && typeof step.in !== "string") giveId(writable, step.id, fd, step.in, step.name);
		if (!isAsItWas || step.id !== null) must(writable.layer.stat(fd, stat), "Cannot read a new object");
		return fd;
	} catch (error) {
		if (fd >= 0) close(fd);
		unmake(writable, step, directory);
		throw error;
	}
}

/** Removes what a step has just made. */
export function unmake(writable: UpperState, { id, type, name }: Make, directory: number): void {
	if (id !== null) writable.ids?.forget(id);
	if (type === FileType.reg) unlinkName(directory, name);
	else removeDirectory(directory, name);
}

/** Gives a new object in work, or under its name, the id by which it is found again: `above` and `name` are where it is, or will be. */
export function giveId({ ids }: UpperState, id: FileHandle, fd: number, above: FileHandle, name: PathName): void {
	if (ids === null) return;
	must(ids.assign(fd, id), "Cannot give an object its id");
	if (id.type === PORTABLE.directory) must(ids.place(id, above, name), "Cannot note where a directory is");
}

/** First byte of the kernel handle of what a recovery has made, which stands for a handle of ours that is not signed yet: a type and the bytes follow. */
export const UNSIGNED = 0;

/** Where a part of it fails, the parts before are taken back; only what a smaller size cuts off is gone. */
function applyChange(writable: UpperState, type: FileType, change: ObjectChange, inode: FileHandle, descriptors: Descriptors): void {
	const before = new Stat();
	// a recovery goes on until it is complete
	const hasParts = !descriptors.isRecovery && Object.keys(change).length > 1;
	if (hasParts) must(writable.layer.stat(descriptors.inode(inode, false), before), "Cannot read an object");
	try {
		applyParts(writable, type, change, inode, descriptors);
	} catch (error) {
		if (hasParts) takeBackChange(writable, type, change, before, inode, descriptors);
		throw error;
	}
}

function takeBackChange(
	{ layer: { rights } }: UpperState,
	type: FileType,
	{ size, uid, gid, mode }: ObjectChange,
	before: Stat,
	inode: FileHandle,
	descriptors: Descriptors,
): void {
	const fd = descriptors.inode(inode, false);
	if (size !== undefined && size > before.size) truncateFile(descriptors.inode(inode, true), before.size);
	const isOwned = uid !== undefined || gid !== undefined;
	if (isOwned) rights.change(fd, type, { uid: before.uid, gid: before.gid });
	if (type !== FileType.lnk && (isOwned || mode !== undefined)) rights.change(fd, type, { mode: before.mode & UMASKED });
	changeTimes(fd, { sec: before.atimeSec, nsec: before.atimeNsec }, { sec: before.mtimeSec, nsec: before.mtimeNsec });
}

/** Owner, mode (which a change of owner clears bits of), size (what is cut off cannot be had back), times, and last an extended attribute: an ACL changes the mode. */
function applyParts(
	{ layer: { rights } }: UpperState,
	type: FileType,
	change: ObjectChange,
	inode: FileHandle,
	descriptors: Descriptors,
): void {
	// open before the mode says otherwise
	const data = change.size === undefined ? -1 : descriptors.inode(inode, true);
	const fd = descriptors.inode(inode, false);
	if (change.uid !== undefined || change.gid !== undefined) {
		must(rights.change(fd, type, { uid: change.uid, gid: change.gid }), "Cannot change the owner");
	}
	if (change.mode !== undefined && type !== FileType.lnk) must(rights.change(fd, type, { mode: change.mode }), "Cannot change the mode");
	if (change.size !== undefined) must(truncateFile(data, change.size), "Cannot set the size of a file");
	if (change.atime !== undefined || change.mtime !== undefined) {
		must(changeTimes(fd, change.atime, change.mtime), "Cannot change the times");
	}
	if (change.xattr === undefined) return;
	applyXattr(fd, change.xattr.name, change.xattr.value);
	// an ACL has changed the mode of the real file, and what is kept beside it says otherwise
	if (
		!rights.isKept ||
		change.xattr.value === null ||
		Buffer.from(change.xattr.name).toString("latin1") !== ACL_ACCESS ||
		fstat(fd, scratch) < 0
	)
		return;
	const bits = scratch.mode & 0o777;
	rights.show(fd, scratch);
	must(rights.change(fd, type, { mode: (scratch.mode & 0o7000) | bits }), "Cannot change the mode");
}

function applyXattr(fd: number, name: Uint8Array, value: Uint8Array | null): void {
	if (value !== null) {
		must(setXattr(fd, name, value), "Cannot set an extended attribute");
		return;
	}
	const status = removeXattr(fd, name);
	// it was there before the first step: who removed it then is a process that was killed behind it
	if (status !== -ENODATA) must(status, "Cannot remove an extended attribute");
}

function placeWhiteout(writable: UpperState, directory: number, name: PathName): void {
	const { work } = writable;
	if (work.placeWhiteout(directory, name)) return;
	const temporary = work.makeWhiteout();
	let status = renameName(work.temporaries, temporary, directory, name);
	if (status === -ERRNO.EISDIR) status = renameName(work.temporaries, temporary, directory, name, RENAME.exchange);
	// what is in work now is the directory that was there; on failure it is the whiteout. The step is made: where work cannot be looked at, the next start cleans it
	if (status < 0 || statAt(work.temporaries, temporary, scratch) === 0) work.discard(temporary);
	if (status < 0) throw failed("Cannot make a whiteout", status);
}

function placeDirectory({ ids }: UpperState, { inode, above, name }: Extract<Step, { op: "where" }>, descriptors: Descriptors): void {
	if (typeof above === "string" || ids === null) return;
	const isKept = descriptors.keepPlace !== undefined;
	must(isKept ? ids.placeAnew(inode, above, name) : ids.place(inode, above, name), "Cannot note where a directory is");
	descriptors.keepPlace?.(inode);
}

function hide(writable: UpperState, { in: place, name, base }: Extract<Step, { op: "whiteout" }>, descriptors: Descriptors): void {
	const noted = base === undefined ? null : noteBase(writable, name, base);
	try {
		if (place === "index" && descriptors.keepReplaced !== undefined) replaceEntry(writable, name, descriptors);
		else placeWhiteout(writable, descriptors.directory(place), name);
	} catch (error) {
		if (noted !== null && !descriptors.isRecovery) writable.bases.delete(noted);
		throw error;
	}
}

/** The record that it is noted of. What is removed where there is no room, or no inode, for its version is removed all the same: its base is unknown then. */
function noteBase({ bases }: UpperState, entry: PathName, base: Uint8Array): Buffer {
	const record = Buffer.from(String(entry), "hex");
	try {
		bases.set(record, Buffer.from(base));
	} catch (error) {
		if (!isNoRoom(error)) throw error;
		// of an earlier time that it was removed
		bases.delete(record);
	}
	return record;
}

/** A whiteout for an entry of the index, and what was there kept in work. */
function replaceEntry({ index, work }: UpperState, name: PathName, descriptors: Descriptors): void {
	if (work.placeWhiteout(index.fd, name)) return;
	const temporary = work.makeWhiteout();
	const status = renameName(work.temporaries, temporary, index.fd, name, RENAME.exchange);
	if (status < 0) {
		work.discard(temporary);
		throw failed("Cannot make a whiteout", status);
	}
	descriptors.keepReplaced?.(name, temporary);
}

function unlink(writable: UpperState, directory: number, name: PathName): void {
	const { work } = writable;
	let status = unlinkName(directory, name);
	if (status === -ERRNO.EISDIR || status === -ERRNO.EPERM) {
		status = removeDirectory(directory, name);
		if (status === -ERRNO.ENOTEMPTY) {
			const temporary = work.temporaryName();
			status = renameName(directory, name, work.temporaries, temporary);
			if (status === 0) work.discard(temporary);
		}
	}
	must(status, "Cannot remove a name");
}

const PRIVILEGE = 0o6000;

/** Whether to make a step again, when content of an inode has been written since, would take back what the write has done. */
export function mayUndoWrite(step: Step, inode: FileHandle): boolean {
	switch (step.op) {
		case "attributes":
		case "times":
			return step.inode.type === inode.type && step.inode.bytes.equals(inode.bytes);
		case "make":
			// which inode it has made the step does not say; a write takes set-user-id bits away
			return step.size > 0 || step.atime !== null || step.mtime !== null || (step.mode & PRIVILEGE) !== 0;
		default:
			return false;
	}
}

const scratch = new Stat();

function isWhiteout({ work }: UpperState, directory: number, name: PathName): boolean {
	return isThere(directory, name) && isWhiteoutName(directory, name, scratch, work.whiteoutXattr);
}

function isThere(directory: number, name: PathName): boolean {
	return isFound(statAt(directory, name, scratch), "Cannot read a directory");
}

/** Whether a name leads to this very inode. */
function leadsTo(writable: UpperState, directory: number, name: PathName, inode: FileHandle): boolean {
	if (directory < 0) return false;
	const found = writable.layer.handles.at(directory, name);
	if (typeof found === "number") unlessOfMachine(found, "Cannot read a directory");
	return typeof found !== "number" && found.type === inode.type && found.bytes.equals(inode.bytes);
}

/** Whether the disk shows that a step was made; undefined where it cannot show it, and the step can be repeated. */
function isDone(writable: UpperState, step: Step, descriptors: Descriptors): boolean | undefined {
	switch (step.op) {
		case "move":
			return leadsTo(writable, descriptors.directory(step.to), step.toName, step.inode);
		case "link":
			return leadsTo(writable, descriptors.directory(step.to), step.toName, step.inode);
		case "whiteout": {
			const directory = descriptors.directory(step.in);
			return directory < 0 || isWhiteout(writable, directory, step.name);
		}
		case "unlink": {
			const directory = descriptors.directory(step.in);
			return directory < 0 || !leadsTo(writable, directory, step.name, step.inode);
		}
		default:
			return undefined;
	}
}

/** Whether a step that is next in a recovery has nothing to do. That says nothing of the steps before it: it may be so from the start. */
function isNeedless(writable: UpperState, step: Step, descriptors: Descriptors): boolean {
	switch (step.op) {
		case "unlinkWhiteout": {
			const directory = descriptors.directory(step.in);
			return directory < 0 || !isWhiteout(writable, directory, step.name);
		}
		case "times": {
			// to set them would change nothing but the ctime, which clients see
			const fd = descriptors.inode(step.inode, false);
			return fd < 0 || (fstat(fd, scratch) === 0 && scratch.mtimeSec === step.mtime.sec && scratch.mtimeNsec === step.mtime.nsec);
		}
		default:
			return false;
	}
}

/** Opens what a recovery needs, for as long as it takes. */
export class RecoveryDescriptors implements Descriptors {
	readonly isRecovery = true;
	/** The handle of what a step has made by its name, as UNSIGNED; null: none has. */
	made: Buffer | null = null;
	readonly #writable: UpperState;
	readonly #open: number[] = [];

	constructor(writable: UpperState) {
		this.#writable = writable;
	}

	directory(of: StepDirectory): number {
		if (of === "work") return this.#writable.work.temporaries;
		if (of === "index") return this.#writable.index.fd;
		if (of === "orphans") return this.#writable.work.orphans;
		return this.#keep(this.#writable.layer.handles.open(of, O.path | O.directory));
	}

	inode(inode: FileHandle, forData: boolean): number {
		return this.#keep(this.#writable.layer.handles.open(inode, (forData ? O.rdwr : O.path) | O.nofollow));
	}

	keep(fd: number): void {
		this.#keep(fd);
		const handle = this.#writable.layer.handles.of(fd);
		if (typeof handle === "number") throw failed("Cannot take a file handle", handle);
		this.made = Buffer.concat([Buffer.of(UNSIGNED, handle.type), handle.bytes]);
	}

	close(): void {
		for (const fd of this.#open.splice(0)) close(fd);
	}

	/** Negative only where there is no such object any more: a disk that cannot be read says nothing of what was done. */
	#keep(fd: number): number {
		const found = ifThere(fd, "Cannot open what an interrupted change was made to");
		if (found >= 0) this.#open.push(found);
		return found;
	}
}

/** How far a change that a crash interrupted was completed. */
export interface Completion {
	/** The handle of what it made by name, as UNSIGNED. */
	readonly made: Buffer | null;
	/** Null: it is complete. Else there was no room for the rest. */
	readonly failure: OverlayError | null;
	/** Then: nothing of it is there, or was seen, so that it may as well be given up. */
	readonly isTakenBack: boolean;
}

/** Completes a change that a crash interrupted: goes on behind the last step that the disk shows to be made. Throws what is not for want of room. */
export function completeSteps(writable: UpperState, steps: readonly Step[]): Completion {
	const descriptors = new RecoveryDescriptors(writable);
	let next = 0;
	try {
		steps.forEach((step, i) => {
			if (isDone(writable, step, descriptors) === true) next = i + 1;
		});
		for (; next < steps.length; next++) {
			if (!isNeedless(writable, steps[next], descriptors)) runStep(writable, steps[next], descriptors);
		}
		for (const step of steps) if (step.op === "where") writable.ids?.settlePlace(step.inode);
		return { made: descriptors.made, failure: null, isTakenBack: false };
	} catch (error) {
		if (!isNoRoom(error)) throw error;
		return { made: null, failure: error, isTakenBack: takeBack(writable, steps, next, descriptors) };
	} finally {
		descriptors.close();
	}
}

/** Takes the steps before a failed one back, if that needs nothing but what they say: a copy up that only the index has, or none at all. */
function takeBack(writable: UpperState, steps: readonly Step[], failed: number, descriptors: Descriptors): boolean {
	const at = steps[failed];
	if (!IS_ONE_CALL.has(at.op)) return false;
	const made = steps.slice(0, failed);
	if (!made.every(isIndexing)) return false;
	if (at.op === "make") {
		// without all its attributes
		const directory = descriptors.directory(at.in);
		unmake(writable, at, directory);
		if (isThere(directory, at.name)) return false;
	}
	for (const step of made.reverse()) {
		if (step.op === "unnamed") writable.linkCounts.noteNamed(step.entry);
		else if (step.op === "move" || step.op === "link") writable.index.withdraw(String(step.toName), step.inode);
	}
	return true;
}

/** Steps that have failed as a whole when they fail, and that the disk shows not to have been made before. */
const IS_ONE_CALL: ReadonlySet<Step["op"]> = new Set(["make", "move", "link", "whiteout"]);

/** A step by which the index gets what has no name yet, or that changes attributes of that. */
function isIndexing(step: Step): boolean {
	if (step.op === "attributes") return true;
	if (step.op === "unnamed") return step.value;
	return (step.op === "link" || (step.op === "move" && step.from === "work" && step.flags === 0)) && step.to === "index";
}
