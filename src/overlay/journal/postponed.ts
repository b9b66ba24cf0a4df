// A change that a kill interrupted and that cannot be completed for want of room: what it is about, so that others keep away from that.

import type { FileHandle } from "../../linux/file-handle.ts";
import { OverlayError } from "../../vfs/errors.ts";
import type { Intent } from "./intent.ts";
import type { PathName, Step, StepDirectory } from "./steps.ts";

/** What a step is about. */
interface Touched {
	readonly inode?: FileHandle;
	readonly names: readonly (readonly [StepDirectory, PathName])[];
	/** Only its times are set. */
	readonly directory?: FileHandle;
}

function touchedBy(step: Step): Touched {
	switch (step.op) {
		case "make":
		case "whiteout":
		case "unlinkWhiteout":
			return { names: [[step.in, step.name]] };
		case "unlink":
			return { inode: step.inode, names: [[step.in, step.name]] };
		case "move":
			return {
				inode: step.inode,
				names: [
					[step.from, step.fromName],
					[step.to, step.toName],
				],
			};
		case "link":
			return { inode: step.inode, names: [[step.to, step.toName]] };
		case "where":
			return { inode: step.inode, names: [[step.above, step.name]] };
		case "count":
		case "unnamed":
			return { names: [["index", step.entry]] };
		case "mark":
		case "unmark":
			return { names: [["orphans", step.name]] };
		case "times":
			return { names: [], directory: step.inode };
		case "xattr":
		case "attributes":
		case "trash":
		case "forget":
			return { inode: step.inode, names: [] };
	}
}

function keyOf(inode: FileHandle): string {
	return `${inode.type} ${inode.bytes.toString("latin1")}`;
}

function nameKey(directory: StepDirectory, name: PathName): string {
	const text = typeof name === "string" ? name : Buffer.from(name.buffer, name.byteOffset, name.length).toString("latin1");
	return `${typeof directory === "string" ? directory : keyOf(directory)}\0${text}`;
}

/** Inodes and names that steps are about, and the directories that these names are in. */
class Touch {
	readonly inodes = new Set<string>();
	readonly names = new Set<string>();
	readonly directories = new Set<string>();

	constructor(steps: readonly Step[]) {
		for (const step of steps) {
			const { inode, names, directory } = touchedBy(step);
			if (inode !== undefined) this.inodes.add(keyOf(inode));
			if (directory !== undefined) this.directories.add(keyOf(directory));
			for (const [within, name] of names) {
				this.names.add(nameKey(within, name));
				if (typeof within !== "string") this.directories.add(keyOf(within));
			}
		}
	}
}

/**
 * A part of its steps may be made. Until there is room for the others its objects and names are neither shown nor changed, and everything else goes
 * on: clients remove files, which makes the room.
 */
export class PostponedChange {
	readonly intent: Intent;
	/** The disk has it where the intents of later changes do not take its place. */
	isAside: boolean;
	readonly #touch: Touch;

	constructor(intent: Intent, isAside: boolean) {
		this.intent = intent;
		this.isAside = isAside;
		this.#touch = new Touch(intent.steps);
	}

	/** Names in `work/work` that it still needs. */
	get temporaries(): string[] {
		return this.intent.steps.flatMap((step) => (step.op === "move" && step.from === "work" ? [String(step.fromName)] : []));
	}

	isOf(inode: FileHandle): boolean {
		return this.#touch.inodes.has(keyOf(inode));
	}

	isIn(directory: FileHandle): boolean {
		return this.#touch.directories.has(keyOf(directory));
	}

	names(directory: StepDirectory, name: PathName): boolean {
		return this.#touch.names.has(nameKey(directory, name));
	}

	/** Whether steps of another change would not find, or not leave, what this one has to. */
	isTouchedBy(steps: readonly Step[]): boolean {
		const { inodes, names, directories } = this.#touch;
		const other = new Touch(steps);
		for (const inode of other.inodes) if (inodes.has(inode) || directories.has(inode)) return true;
		for (const name of other.names) if (names.has(name)) return true;
		for (const directory of other.directories) if (inodes.has(directory)) return true;
		return false;
	}
}

/** What whoever asks for its objects is told. */
export function postponed(): OverlayError {
	return new OverlayError("tryagain", "A change of this that was interrupted waits for room on the disk");
}
