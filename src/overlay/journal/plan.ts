// Puts the steps of one change together and has the journal make them.

import type { DescriptorCache, Real } from "../../layer/real.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { RENAME, renameName, unlinkName } from "../../linux/names.ts";
import type { Stat } from "../../linux/stat.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { type ChangeKey, FileType } from "../../vfs/operations.ts";
import { awaitCut, type Node } from "../nodes/node.ts";
import type { HeldObjects } from "../work/held-objects.ts";
import type { Undo } from "./journal.ts";
import type { Descriptors, PathName, Step, StepDirectory } from "./steps.ts";
import type { Writable } from "./writable.ts";

/** The part of an engine that a change works with. */
export interface PlanContext {
	readonly descriptors: DescriptorCache;
	readonly held: Pick<HeldObjects, "isHeld">;
	/** Of the change under way; null: nobody asks for it again. */
	readonly changeKey: ChangeKey | null;
	readonly memory: { changes: number; doubts: number };
	readonly changeAttribute: { expect(node: Node): void; expectExchange(node: Node): void };
}

/** The steps of one change, as they are put together, with the descriptors that are open for them. */
export class Plan implements Descriptors {
	readonly steps: Step[] = [];
	readonly isRecovery = false;
	readonly #undos: (Undo | null)[] = [];
	readonly #last: Step[] = [];
	readonly #engine: PlanContext;
	readonly #writable: Writable;
	/** The inodes that steps work on; few, and a Map for each change costs more than to look through them. */
	readonly #reals: Real[] = [];
	#built: { readonly inode: FileHandle; readonly fd: number } | null = null;
	readonly #touched: Node[] = [];
	readonly #exchanged: Node[] = [];
	#made: { readonly fd: number; readonly stat: Stat } | null = null;

	constructor(engine: PlanContext, writable: Writable) {
		this.#engine = engine;
		this.#writable = writable;
	}

	/** `undo` takes the step back when a later one fails, as for lack of space. It should need none itself. */
	add(step: Step, undo: Undo | null = null): this {
		this.steps.push(step);
		this.#undos.push(undo);
		return this;
	}

	/** Behind all other steps: what could not be taken back on a full disk. */
	addLast(step: Step): this {
		this.#last.push(step);
		return this;
	}

	/** The upper directory of a node, as a place for steps. */
	in(directory: Node): StepDirectory {
		return this.of(directory);
	}

	/** The upper inode of a node. */
	of(node: Node): FileHandle {
		this.touch(node);
		this.#reals.push(node.top);
		return node.top.handle;
	}

	/** Changes its name in exchange for another, and may stay as it is by that. */
	exchanged(node: Node): this {
		this.#exchanged.push(node);
		return this.touch(node);
	}

	/** Its attributes are not what they were when the steps have been made. */
	touch(node: Node): this {
		this.#touched.push(node);
		return this;
	}

	/** Before the step that moves a directory, since it can fail for lack of space: portable ids lead by its new place. */
	moves(node: Node, from: { readonly directory: Node; readonly name: Uint8Array }, to: typeof from): this {
		const { ids } = this.#writable;
		if (ids === null || node.type !== FileType.dir) return this;
		const inode = node.top.handle;
		return this.add({ op: "where", inode, above: this.in(to.directory), name: to.name }, () => ids.placeBack(inode));
	}

	/** Behind the step that takes the last name of an object: nothing leads to it by its portable id any more. */
	lost(node: Node): this {
		if (this.#writable.ids === null || !node.isUpper || this.#engine.held.isHeld(node)) return this;
		return this.add({ op: "forget", inode: node.top.handle });
	}

	/** Makes a change of this one step: the new object, open, with its attributes. */
	make(step: Extract<Step, { op: "make" }>): { readonly fd: number; readonly stat: Stat } {
		this.add(step).perform();
		if (this.#made === null) throw new OverlayError("io", "A step has made nothing");
		return this.#made;
	}

	keep(fd: number, stat: Stat): void {
		this.#made = { fd, stat };
	}

	/** Of a change that failed: its first steps that were made. */
	stepsMade = 0;

	noteMade(count: number): void {
		this.stepsMade = count;
	}

	/** Where work has what a whiteout of the index has taken the place of, until the change is made. */
	readonly #replaced = new Map<string, string>();

	keepReplaced(entry: PathName, temporary: string): void {
		this.#replaced.set(String(entry), temporary);
	}

	readonly #placed: FileHandle[] = [];

	keepPlace(inode: FileHandle): void {
		this.#placed.push(inode);
	}

	/** Puts back what a whiteout of the index has taken the place of. 0, or the negated error number. */
	putBack(entry: string): number {
		const { index, work } = this.#writable;
		const temporary = this.#replaced.get(entry);
		if (temporary === undefined) return unlinkName(index.fd, entry);
		const status = renameName(work.temporaries, temporary, index.placeFor(entry), entry, RENAME.exchange);
		if (status < 0) return status;
		this.#replaced.delete(entry);
		return unlinkName(work.temporaries, temporary);
	}

	/** An inode in work that is open here. */
	built(real: Real, fd: number): FileHandle {
		this.#built = { inode: real.handle, fd };
		return real.handle;
	}

	directory(of: StepDirectory): number {
		if (of === "work") return this.#writable.work.temporaries;
		if (of === "index") return this.#writable.index.fd;
		if (of === "orphans") return this.#writable.work.orphans;
		return this.inode(of, false);
	}

	inode(inode: FileHandle, forData: boolean): number {
		if (this.#built?.inode === inode) return this.#built.fd;
		const real = this.#reals.find(({ handle }) => handle === inode);
		if (real === undefined) throw new OverlayError("io", "A step works on an inode that is not open");
		return forData ? this.#engine.descriptors.data(real, true) : this.#engine.descriptors.path(real);
	}

	/** Makes the change that was asked for; `handle` is that of the object it makes. */
	perform(handle: Buffer | null = null): void {
		const { changeAttribute } = this.#engine;
		for (const node of this.#touched) {
			if (this.#exchanged.includes(node)) changeAttribute.expectExchange(node);
			else changeAttribute.expect(node);
		}
		this.#run(this.#engine.changeKey, handle);
	}

	/** Makes a change that only prepares one, and that no client sees. */
	prepare(): void {
		this.#run(null, null);
	}

	#run(key: ChangeKey | null, handle: Buffer | null): void {
		for (const node of this.#touched) awaitCut(node);
		for (const step of this.#last.splice(0)) this.add(step);
		try {
			this.#writable.journal.perform(this.steps, this, key, handle, this.#undos);
		} catch (error) {
			this.#engine.memory.doubts++;
			throw error;
		} finally {
			this.#engine.memory.changes++;
			for (const node of this.#touched) node.stat = null;
			for (const temporary of this.#replaced.values()) this.#writable.work.discard(temporary);
			for (const inode of this.#placed) this.#writable.ids?.settlePlace(inode);
		}
	}
}
