// Brings changes into a target: prepared aside, then carried out step by step, so that a command that was stopped goes on.

import { mkdirSync, readdirSync } from "node:fs";
import { LayerError } from "../../layer/layer-error.ts";
import { namesInPath, openInTree, openNames, splitPath } from "../../layer/path-search.ts";
import { changeMode, changeTimes } from "../../linux/attributes.ts";
import { syncFileSystem } from "../../linux/data.ts";
import { namesOf } from "../../linux/directory.ts";
import { ENODATA, ERRNO, whyNot } from "../../linux/errno.ts";
import { fileSystemFigures } from "../../linux/file-system.ts";
import { makeDirectory, makeFile, RENAME, renameName, unlinkName } from "../../linux/names.ts";
import { close, O, openAt, openPath } from "../../linux/open.ts";
import { fstat, Stat, statAt } from "../../linux/stat.ts";
import { removeXattr } from "../../linux/xattr.ts";
import { removeTree } from "../../unpack/remove-tree.ts";
import { showName } from "../../vfs/names.ts";
import { FileType } from "../../vfs/operations.ts";
import { tellProgress } from "../../vfs/progress.ts";
import { Walk } from "../engine/turns.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { ApplyJournal, type ApplyRecord, newStagingName, readPlan, writePlan } from "./apply-journal.ts";
import { isAsSeen, type Look } from "./apply-plan.ts";
import { type Loss, prepare } from "./apply-prepare.ts";
import type { ApplyPlan, ApplyStep, Replaced, Seen } from "./apply-steps.ts";
import { giveAttributes, timesOf } from "./kept-attributes.ts";
import type { Target } from "./target.ts";

export interface ApplyOptions {
	/** `work/holdfast` of the upper. */
	readonly folder: string;
	/** Where the target is the lower of this export: its upper, whose redirects lead to where directories were; else null. */
	readonly upper: string | null;
	/** The directory that what is replaced and removed is moved to: on the file system of the target, and empty. */
	readonly undo: string | null;
	/** Steps are made whatever stands there by now. */
	readonly isForced: boolean;
	/** Is asked between two parts of the work, and throws where it is to end. */
	readonly goOn: () => void;
	/** From here on the target changes, and a command that is stopped must be run again. */
	readonly onBegun: () => void;
	/** The target is as it is to be, on the disk, and nothing of ours is left in it: what else has to know is told before the apply counts as done. */
	readonly onApplied: () => void;
	/** What the target cannot keep. */
	readonly lose: (loss: Loss) => void;
	/** A sentence about the target that people should know. */
	readonly note: (sentence: string) => void;
}

/** The room that new files take, and that the target has. */
export interface Room {
	readonly needed: number;
	readonly available: number;
}

const OBJECT_BYTES = 4096;

/** What a look found is to come to the target takes at most so much of it. */
export function roomFor(target: Target, { planned }: Look): Room {
	const figures = fileSystemFigures(target.root);
	const needed = planned.reduce((sum, { change: { kind, size } }) => {
		return kind === "added" || kind === "changed" ? sum + size + OBJECT_BYTES : sum;
	}, OBJECT_BYTES);
	return { needed, available: typeof figures === "number" ? Number.POSITIVE_INFINITY : figures.availableBlocks * figures.blockBytes };
}

/** One apply to a target, from its preparation to the removal of what it leaves. */
export class Application {
	readonly #journal: ApplyJournal;
	readonly #target: Target;
	readonly #options: ApplyOptions;

	constructor(target: Target, options: ApplyOptions) {
		this.#journal = new ApplyJournal(options.folder, target, options.upper !== null);
		this.#target = target;
		this.#options = options;
	}

	/** One that was stopped, and has begun to change the target. What one has left that had not is removed. LayerError. */
	interrupted(): ApplyRecord | null {
		const record = this.#journal.read();
		if (record === null || record.state === "begun") return record;
		this.#clean(record, record.state === "done" && record.undo !== null ? this.#planLeft(record) : null);
		return null;
	}

	/** All that a look has found. Where it fails, or is ended, before the first change, nothing is left of it. LayerError, OverlayError. */
	async run(opened: OpenedOverlay, look: Look): Promise<void> {
		if (this.#options.undo !== null) this.#prepareUndo(this.#options.undo);
		const record: ApplyRecord = {
			state: "preparing",
			target: this.#target.path,
			staging: newStagingName(),
			digest: "",
			undo: this.#options.undo,
			redirect: this.#options.upper === null ? null : opened.overlay.engine.xattr.redirect,
			since: new Date().toISOString(),
		};
		this.#journal.write(record);
		let begun: ApplyRecord;
		let plan: ApplyPlan;
		try {
			this.#demand(makeDirectory(this.#target.root, record.staging, 0o700), "Cannot prepare anything");
			const staging = this.#openStaging(record);
			try {
				const { goOn, lose, note, undo } = this.#options;
				if (foldsCase(staging)) note(`${this.#target.path} takes names for one that differ in case alone: of such names one will be left.`);
				plan = await prepare(opened, this.#target, look, { staging, keepsReplaced: undo !== null, goOn, lose });
				begun = { ...record, state: "begun", digest: writePlan(staging, plan) };
				this.#demand(syncFileSystem(staging), "Cannot flush what was prepared");
			} finally {
				close(staging);
			}
		} catch (error) {
			this.#clean(record, null);
			throw error;
		}
		this.#journal.write(begun);
		await this.#carryOut(begun, plan, false);
	}

	/** Goes on with one that was stopped. LayerError. */
	async goOn(record: ApplyRecord): Promise<void> {
		await this.#carryOut(record, this.#planOf(record), true);
	}

	#planOf(record: ApplyRecord): ApplyPlan {
		const staging = this.#openStaging(record);
		try {
			return readPlan(staging, record.digest);
		} finally {
			close(staging);
		}
	}

	/** Null: it was removed, after all that it says was kept. */
	#planLeft(record: ApplyRecord): ApplyPlan | null {
		try {
			return this.#planOf(record);
		} catch {
			return null;
		}
	}

	#openStaging({ staging }: ApplyRecord): number {
		const fd = openInTree(this.#target.root, staging, O.rdonly | O.directory | O.nofollow);
		this.#demand(fd, `Cannot open the staging folder ${staging}`);
		return fd;
	}

	async #carryOut(record: ApplyRecord, plan: ApplyPlan, isAgain: boolean): Promise<void> {
		const staging = this.#openStaging(record);
		this.#options.onBegun();
		try {
			const walk = new Walk();
			for (const [at, step] of plan.steps.entries()) {
				tellProgress("applying", at, `of ${plan.steps.length} steps`);
				this.#options.goOn();
				// what stood there when the last path was opened may have been moved
				this.#target.leave();
				this.#do(step, staging, isAgain);
				await walk.pause();
			}
			this.#dropRedirects(plan, record.redirect);
			this.#demand(syncFileSystem(staging), "Cannot flush the target");
		} finally {
			close(staging);
			this.#target.leave();
		}
		const done: ApplyRecord = { ...record, state: "done" };
		this.#journal.write(done);
		this.#clean(done, plan);
	}

	#do(step: ApplyStep, staging: number, isAgain: boolean): void {
		const path = Buffer.from(step.path, "latin1");
		if (step.do === "aside") this.#aside(path, step, staging, isAgain);
		else if (step.do === "place") this.#place(path, step, staging);
		else this.#change(path, step);
	}

	#aside(path: Buffer, { name, seen }: { readonly name: string; readonly seen: Seen }, staging: number, isAgain: boolean): void {
		const stat = new Stat();
		if (statAt(staging, name, stat) === 0) return;
		const found = this.#target.stat(path, stat);
		const isSeen = found === 0 && isAsSeen(stat, seen);
		const isSame = found === 0 && `${stat.inoHi}.${stat.inoLo}` === seen.inode;
		// put aside before, and put to its place since
		if (isAgain && !isSame) return;
		if (!isSeen && !this.#options.isForced) throw this.#changed(path);
		if (found < 0) return;
		this.#rename(path, (at) => renameName(at.directory, at.name, staging, name), "Cannot put aside");
	}

	#place(path: Buffer, { name, seen }: { readonly name: string; readonly seen: Seen | null }, staging: number): void {
		const stat = new Stat();
		if (statAt(staging, name, stat) < 0) return;
		const found = this.#target.stat(path, stat);
		const isFree = seen === null ? found < 0 : found === 0 && isAsSeen(stat, seen);
		if (!isFree && !this.#options.isForced) throw this.#changed(path);
		const flags = seen === null && found < 0 ? RENAME.noReplace : 0;
		this.#rename(
			path,
			(at) => {
				const status = renameName(staging, name, at.directory, at.name, flags);
				// some file systems know no flags
				return status === -ERRNO.EINVAL && flags !== 0 ? renameName(staging, name, at.directory, at.name) : status;
			},
			"Cannot put in place",
		);
	}

	/** Where the owner is not let in, who may let himself in: the mode is set in the end. */
	#rename(path: Buffer, rename: (at: { readonly directory: number; readonly name: Buffer }) => number, what: string): void {
		const at = this.#target.at(path);
		if (typeof at === "number") throw at === -ERRNO.ENOENT ? this.#changed(path) : this.#failed(what, path, at);
		let status = rename(at);
		if (status === -ERRNO.EACCES) {
			openToOwner(at.directory);
			const fd = openInTree(at.directory, at.name, O.path | O.nofollow);
			if (fd >= 0) openToOwner(fd);
			if (fd >= 0) close(fd);
			status = rename(at);
		}
		if (status < 0) throw this.#failed(what, path, status);
	}

	#change(path: Buffer, step: Extract<ApplyStep, { readonly do: "attributes" | "times" }>): void {
		const fd = this.#target.open(path, O.path);
		if (fd < 0) {
			if (step.do === "times") return;
			throw fd === -ERRNO.ENOENT ? this.#changed(path) : this.#failed("Cannot open", path, fd);
		}
		try {
			const stat = new Stat();
			this.#demand(fstat(fd, stat), `Cannot look at ${this.#target.shown(path)}`);
			if (step.do === "attributes" && stat.type !== step.type) throw this.#changed(path);
			if (step.do === "times") {
				if (stat.type !== FileType.dir) return;
				if (process.geteuid?.() !== 0 && (stat.mode & 0o7777) !== step.mode) changeMode(fd, step.mode);
				changeTimes(fd, step.times.atime, step.times.mtime);
				return;
			}
			const status = giveAttributes(fd, step.kept, (what) => this.#options.lose({ path, what }));
			if (status < 0) throw this.#failed("Cannot set the attributes of", path, status);
		} finally {
			close(fd);
		}
	}

	/** The directories of the lower stand where upper has them: nothing has to lead there. */
	#dropRedirects({ redirects }: ApplyPlan, xattr: string | null): void {
		if (this.#options.upper === null || xattr === null || redirects.length === 0) return;
		const upper = openPath(this.#options.upper, O.path | O.directory);
		try {
			for (const path of redirects) {
				const fd = openNames(upper, namesInPath(Buffer.from(path, "latin1")), O.path | O.directory);
				const status = fd < 0 ? fd : removeXattr(fd, xattr);
				if (fd >= 0) close(fd);
				if (status < 0 && status !== -ENODATA)
					throw this.#failed("Cannot tell upper where it is now:", Buffer.from(path, "latin1"), status);
			}
		} finally {
			if (upper >= 0) close(upper);
		}
	}

	#prepareUndo(undo: string): void {
		try {
			mkdirSync(undo, { mode: 0o700 });
		} catch (error) {
			if ((error as NodeJS.ErrnoException).code !== "EEXIST")
				throw new LayerError(`Cannot make ${undo}: ${whyNot((error as NodeJS.ErrnoException).errno ?? 0)}.`);
		}
		if (readdirSync(undo).length > 0) throw new LayerError(`Cannot keep anything in ${undo}: it is not empty.`);
		const stat = new Stat();
		fstat(this.#target.root, stat);
		const fd = openPath(undo, O.path | O.directory);
		const own = new Stat();
		if (fd >= 0) fstat(fd, own);
		if (fd >= 0) close(fd);
		if (!own.sameDevice(stat))
			throw new LayerError(`Cannot keep anything in ${undo}: it lies on another file system than ${this.#target.path}.`);
	}

	/** Removes what an apply leaves, or brings it to where it is to be kept. */
	#clean(record: ApplyRecord, plan: ApplyPlan | null): void {
		const staging = openInTree(this.#target.root, record.staging, O.rdonly | O.directory | O.nofollow);
		if (staging >= 0) {
			const root = new Stat();
			const kept = fstat(this.#target.root, root) === 0;
			if (plan !== null && record.undo !== null) for (const one of plan.replaced) this.#keep(one, staging, record.undo);
			close(staging);
			let status = removeTree(this.#target.root, Buffer.from(record.staging));
			if (status === -ERRNO.EACCES) {
				openTree(this.#target.root, record.staging);
				status = removeTree(this.#target.root, Buffer.from(record.staging));
			}
			this.#demand(status, `Cannot remove the staging folder ${record.staging}`);
			const { atime, mtime } = timesOf(root);
			if (kept) changeTimes(this.#target.root, atime, mtime);
		}
		if (record.state === "done") this.#options.onApplied();
		this.#journal.remove();
	}

	/** Below the folder for undo, at the path that it had. */
	#keep({ path, name }: Replaced, staging: number, undo: string): void {
		const stat = new Stat();
		if (statAt(staging, name, stat) < 0) return;
		const { directory, name: last } = splitPath(Buffer.from(path, "latin1"));
		let folder = openPath(undo, O.rdonly | O.directory);
		for (const part of namesInPath(directory)) {
			if (folder < 0) break;
			makeDirectory(folder, part, 0o700);
			const next = openInTree(folder, part, O.rdonly | O.directory | O.nofollow);
			close(folder);
			folder = next;
		}
		const status = folder < 0 ? folder : renameName(staging, name, folder, last, RENAME.noReplace);
		if (folder >= 0) close(folder);
		if (status < 0) throw this.#failed(`Cannot keep in ${undo}`, Buffer.from(path, "latin1"), status);
	}

	#changed(path: Buffer): LayerError {
		return new LayerError(
			`Cannot go on: ${this.#target.shown(path)} is not what it was when it was looked at. What was done stays, and the rest is to come: ` +
				"put it back and run the same command again, or give it --force.",
		);
	}

	#failed(what: string, path: Buffer, status: number): LayerError {
		return new LayerError(`${what} ${this.#target.shown(path)}: ${whyNot(status)}.`);
	}

	#demand(status: number, what: string): void {
		if (status < 0) throw new LayerError(`${what} in ${this.#target.path}: ${whyNot(status)}.`);
	}
}

const RWX = 0o700;

function openToOwner(fd: number): void {
	const stat = new Stat();
	if (fstat(fd, stat) === 0 && stat.type === FileType.dir && (stat.mode & RWX) !== RWX) changeMode(fd, (stat.mode & 0o7777) | RWX);
}

/** Lets the owner remove what is in a tree. */
function openTree(parent: number, name: string): void {
	const directories = [openAt(parent, name, O.path | O.directory | O.nofollow)];
	for (let at = directories.pop(); at !== undefined; at = directories.pop()) {
		if (at < 0) continue;
		openToOwner(at);
		const list = openAt(at, ".", O.rdonly | O.directory);
		const names = list < 0 ? list : namesOf(list);
		for (const child of typeof names === "number" ? [] : names) {
			const fd = openAt(at, child, O.path | O.directory | O.nofollow);
			if (fd >= 0) directories.push(fd);
		}
		if (list >= 0) close(list);
		close(at);
	}
}

/** Whether a directory takes two names for one that differ in case alone. Something is made in it, and removed. */
function foldsCase(directory: number): boolean {
	const fd = makeFile(directory, "case", 0o600);
	if (fd < 0) return false;
	close(fd);
	const isFolded = statAt(directory, "CASE", new Stat()) === 0;
	unlinkName(directory, "case");
	return isFolded;
}

export function shownLoss({ path, what }: Loss): string {
	return `${showName(path)}: ${what}`;
}
