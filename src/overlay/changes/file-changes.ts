// The change list file by file, as tools have it that know no directories: one that was renamed or removed stands for all the files it holds.

import { isSameOrBelow, pathBelow } from "../../layer/path-search.ts";
import type { Stat } from "../../linux/stat.ts";
import { FileType } from "../../vfs/operations.ts";
import { statOf } from "../lookup/stat.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { inPasses } from "../operations/until-ready.ts";
import { type BaseObject, objectsOfBase } from "./base-tree.ts";
import type { Change } from "./change.ts";
import { changeList } from "./change-list.ts";
import { statOfBase } from "./compare.ts";
import type { Contents } from "./content.ts";

/** What stands under a path, and is no directory. */
export interface FileSide {
	/** Of an old one in the base, of a new one in the overlay. */
	readonly path: Buffer;
	readonly type: FileType;
	readonly mode: number;
	readonly size: number;
	/** Of a regular file or a symlink; may be read more than once. */
	content(): AsyncGenerator<Buffer>;
}

/** Null: there was none, or is none any more. Where the paths differ the file has moved. */
export interface FileChange {
	/** As the overlay has or had it. */
	readonly shown: Buffer;
	readonly old: FileSide | null;
	readonly now: FileSide | null;
}

/** All files that differ from the base, or stand elsewhere. Costs as much as the change list, and the directories of the base that were renamed or removed. */
export async function* fileChanges(opened: OpenedOverlay, contents: Contents): AsyncGenerator<FileChange> {
	yield* new Files(opened, contents).of(changeList(opened));
}

/** Where a directory of the base is now. */
interface Move {
	readonly path: Buffer;
	/** Null: nobody knows where it was. */
	readonly from: Buffer | null;
}

class Files {
	readonly #opened: OpenedOverlay;
	readonly #contents: Contents;
	/** Renamed directories that the present path is below, the innermost last. */
	#moves: Move[] = [];

	constructor(opened: OpenedOverlay, contents: Contents) {
		this.#opened = opened;
		this.#contents = contents;
	}

	async *of(changes: AsyncGenerator<Change>): AsyncGenerator<FileChange> {
		let next = await changes.next();
		while (next.done !== true) {
			const change = next.value;
			this.#moves = this.#moves.filter(({ path }) => isBelow(change.path, path));
			if (change.kind !== "renamed") {
				yield* this.#files(change);
				next = await changes.next();
				continue;
			}
			// which of its files stand here unchanged the changes below it tell
			const below: Change[] = [];
			for (next = await changes.next(); next.done !== true && isBelow(next.value.path, change.path); next = await changes.next())
				below.push(next.value);
			this.#moves.push({ path: change.path, from: change.from });
			yield* this.#unchanged(change, below);
			yield* this.of(inOrder(below));
		}
	}

	/** Where the base has what stands or stood under a path. */
	#before(path: Buffer): Buffer | null {
		const move = this.#moves.at(-1);
		if (move === undefined) return path;
		if (move.from === null) return null;
		return pathBelow(move.from, path.subarray(move.path.length + (move.path.length === 0 ? 0 : 1)));
	}

	async *#unchanged({ path, from }: Change, below: readonly Change[]): AsyncGenerator<FileChange> {
		if (from === null) return;
		const told = new Set(
			below.filter(({ kind }) => kind !== "added" && kind !== "renamed").map((change) => change.path.toString("latin1")),
		);
		const wholes = new Set(
			below
				.filter(
					({ kind, baseType, isReplaced, type }) =>
						(kind === "removed" ? type : baseType) === FileType.dir && (kind !== "metadata" || isReplaced),
				)
				.map((change) => change.path.toString("latin1")),
		);
		const moved = (at: Buffer) => pathBelow(path, at.subarray(from.length + (from.length === 0 ? 0 : 1)));
		for await (const object of objectsOfBase(this.#opened, from, (at) => wholes.has(moved(at).toString("latin1")))) {
			const now = moved(object.path);
			if (object.stat.type === FileType.dir || told.has(now.toString("latin1"))) continue;
			const old = this.#oldSide(object.path, object);
			yield { shown: now, old, now: { ...old, path: now } };
		}
	}

	async *#files(change: Change): AsyncGenerator<FileChange> {
		const { path, kind, type, baseType, isReplaced } = change;
		const now = kind === "removed" || type === FileType.dir ? null : await this.#nowSide(change);
		const before = this.#before(path);
		if (change.base === null || before === null) {
			if (now !== null) yield { shown: path, old: null, now };
			return;
		}
		if (baseType === FileType.dir) {
			// what another directory hides is told name by name
			if (kind !== "metadata" && !isReplaced) yield* this.#removedBelow(before, path);
			if (now !== null) yield { shown: path, old: null, now };
			return;
		}
		const { base } = change;
		const stat = await inPasses(this.#opened.overlay, () => statOfBase(this.#opened.overlay.engine, base));
		const old = this.#oldSide(before, { path: before, real: base, stat });
		yield { shown: path, old, now };
	}

	async *#removedBelow(before: Buffer, path: Buffer): AsyncGenerator<FileChange> {
		for await (const object of objectsOfBase(this.#opened, before, () => false)) {
			if (object.stat.type === FileType.dir) continue;
			const shown = pathBelow(path, object.path.subarray(before.length + 1));
			yield { shown, old: this.#oldSide(object.path, object), now: null };
		}
	}

	#oldSide(path: Buffer, { real, stat }: BaseObject): FileSide {
		const type = stat.type as FileType;
		return { path, type, mode: stat.mode, size: stat.size, content: () => this.#contents.base(real, type) };
	}

	async #nowSide({ path, type, handle }: Change): Promise<FileSide> {
		const { overlay } = this.#opened;
		const object = handle as Buffer;
		const stat: Stat = await inPasses(overlay, () => statOf(overlay.engine, overlay.decode(object)));
		return { path, type, mode: stat.mode, size: stat.size, content: () => this.#contents.now(object) };
	}
}

function isBelow(path: Buffer, directory: Buffer): boolean {
	return path.length > directory.length && isSameOrBelow(path, directory);
}

async function* inOrder(changes: readonly Change[]): AsyncGenerator<Change> {
	yield* changes;
}
