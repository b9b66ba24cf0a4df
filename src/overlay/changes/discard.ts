// Takes changes back: what lies below some paths of the overlay becomes what the lowers show, object by object.

import { namesInPath, openDirectoryIn, pathBelow } from "../../layer/path-search.ts";
import { visitMore } from "../../linux/directory.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { setXattr } from "../../linux/xattr.ts";
import { OverlayError, type OverlayErrorCode } from "../../vfs/errors.ts";
import { showName, showPath } from "../../vfs/names.ts";
import { FileType, SUPERUSER } from "../../vfs/operations.ts";
import { tellProgress } from "../../vfs/progress.ts";
import { must } from "../../vfs/system-errors.ts";
import { type Engine, entryOf, handleFor, identityOfRecord, rootNode, writableOf } from "../engine/engine.ts";
import { Walk } from "../engine/turns.ts";
import { lookupChild, nodeAt } from "../lookup/objects.ts";
import { upperEntry } from "../lookup/stack-search.ts";
import { linkCount, statOf } from "../lookup/stat.ts";
import type { Node } from "../nodes/node.ts";
import { lowersOf } from "../nodes/reals.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import type { Entry } from "../operations/move-redirect.ts";
import type { Overlay } from "../operations/overlay.ts";
import {
	type Below,
	belowName,
	dropWhiteout,
	fateOf,
	holdsAnything,
	namesInUpper,
	resetAttributes,
	restoreMerged,
	restoreName,
	revertDirectory,
	revertFile,
} from "../operations/revert.ts";
import { inPasses } from "../operations/until-ready.ts";
import { shownNames } from "./change-list.ts";
import { findIndexOnly, isRecordName } from "./index-only.ts";
import { isWanted, leadsToWanted } from "./wanted-paths.ts";

export interface DiscardOptions {
	/** Paths and what is below them, as they are now; all where there are none. */
	readonly paths?: readonly Buffer[];
	/** Told now and then how many changes were made. What it throws ends the discarding behind the last of them. */
	readonly onProgress?: (changes: number) => Promise<void>;
}

/** What was done: objects, but for `removed`, which are names. */
export interface DiscardReport {
	/** Born in upper, and gone. */
	removed: number;
	/** Show the lower again. */
	reverted: number;
	/** Removed names of lower objects that are there again. */
	restored: number;
	/** Back at the place that they have in the lowers. */
	returned: number;
	/** What stays as it is, and why. */
	readonly left: { readonly path: string; readonly reason: string }[];
}

/** A lower object that stands elsewhere than in the lowers, or has several names. */
interface Astray {
	readonly key: string;
	readonly handle: Buffer;
	readonly path: Buffer;
	/** The directory that it stands in, by its handle, and its name there, or one of them; null: it has none in upper. */
	readonly at: { readonly above: Buffer; readonly name: Buffer } | null;
	readonly isDirectory: boolean;
	/** Why it is not back; null: no place of it was found. */
	reason: string | null;
	/** The object that stands at its place, where that has to go back too. */
	occupant: { readonly key: string; readonly directory: Buffer; readonly name: Buffer } | null;
}

const EMPTY = Buffer.alloc(0);
/** Names that are looked at, or whiteouts that are made, in one pass. */
const NAMES_PER_PASS = 64;
const CHANGES_TOLD = 64;
/** To sort more would take too long at once. */
const SORTED_MAX = 4096;
/** As long as clients make new changes there is something to do. */
const ROUNDS_MAX = 64;

export async function discard(opened: OpenedOverlay, options: DiscardOptions = {}): Promise<DiscardReport> {
	const discarding = new Discarding(opened, options);
	try {
		await discarding.run();
	} finally {
		opened.overlay.engine.changeAttribute.endOfLeaving();
	}
	await opened.overlay.stable();
	return discarding.report;
}

/**
 * Goes over the upper twice and again, until nothing changes any more: first what was born there is removed, and copies at their own place go; then
 * whiteouts are taken away, from the top down, and what stood elsewhere takes its place again; last, from the bottom up, directories that hold
 * nothing any more go. Between any two changes the overlay is whole: docs/decisions/044-discard.md.
 */
class Discarding {
	readonly report: DiscardReport = { removed: 0, reverted: 0, restored: 0, returned: 0, left: [] };
	readonly #opened: OpenedOverlay;
	readonly #overlay: Overlay;
	readonly #engine: Engine;
	readonly #options: DiscardOptions;
	readonly #paths: readonly Buffer[];
	/** By the keys of the objects. */
	readonly #astray = new Map<string, Astray>();
	readonly #movedAside = new Set<string>();
	/** By their paths, of this round alone. */
	#left = new Map<string, { readonly path: string; readonly reason: string }>();
	#changes = 0;
	readonly #walk = new Walk();

	constructor(opened: OpenedOverlay, options: DiscardOptions) {
		this.#opened = opened;
		this.#overlay = opened.overlay;
		this.#engine = opened.overlay.engine;
		this.#options = options;
		this.#paths = options.paths ?? [];
	}

	async run(): Promise<void> {
		const root = this.#overlay.root.handle;
		let rounds = 0;
		for (let before = -1; before !== this.#changes && rounds < ROUNDS_MAX; rounds++) {
			before = this.#changes;
			this.#left = new Map();
			for (const astray of this.#astray.values()) Object.assign(astray, { reason: null, occupant: null });
			await this.#clear(root, EMPTY);
			await this.#clearUnnamed();
			await this.#restore(root, EMPTY, false);
			await this.#endLinked();
			if (before === this.#changes) await this.#moveAside();
		}
		if (rounds === ROUNDS_MAX) this.#leave(EMPTY, "changes go on there");
		for (const { path, reason } of this.#astray.values()) {
			if (reason !== null || !this.#left.has(path.toString("latin1"))) this.#leave(path, reason ?? NOWHERE);
		}
		if (this.#wants(EMPTY)) {
			await this.#pass(() => {
				const node = rootNode(this.#engine);
				const [lower] = lowersOf(node);
				if (lower !== undefined && node.isUpper && resetAttributes(this.#engine, node, lower)) this.report.reverted++;
			});
		}
		this.report.left.push(...this.#left.values());
	}

	/** Runs a step of the engine, after others where it is their turn. */
	async #pass<T>(step: () => T): Promise<T> {
		await this.#walk.pause();
		return inPasses(this.#overlay, () => this.#overlay.runStep(step));
	}

	/** The same with what changes something of a path. False: it has failed, and stays as it is; of an `expected` error nothing is said. */
	async #change(path: Buffer, step: () => void, expected?: OverlayErrorCode): Promise<boolean> {
		try {
			await this.#pass(step);
		} catch (error) {
			if (!(error instanceof OverlayError)) throw error;
			if (error.code !== expected) this.#leave(path, error.message);
			return false;
		}
		this.#changes++;
		tellProgress("taking back changes", this.#changes, "changes");
		if (this.#changes % CHANGES_TOLD === 0) await this.#options.onProgress?.(this.#changes);
		return true;
	}

	#leave(path: Buffer, reason: string): void {
		this.#left.set(path.toString("latin1"), { path: showPath(path), reason });
	}

	#wants(path: Buffer): boolean {
		return isWanted(this.#paths, path);
	}

	#leadsToWanted(path: Buffer): boolean {
		return leadsToWanted(this.#paths, path);
	}

	#node(handle: Buffer): Node {
		return this.#overlay.decode(handle);
	}

	/** What the upper directory of an object holds, whiteouts too; nothing where it lies in a lower or is gone. */
	#names(handle: Buffer): Promise<Buffer[]> {
		return this.#list(() => {
			const node = this.#ifThere(handle);
			return node === null || !node.isUpper ? null : this.#engine.descriptors.path(node.top);
		});
	}

	/** All names in a directory, in steps, and in order where they are not too many for that; none where there is no descriptor. */
	async #list(directory: () => number | null): Promise<Buffer[]> {
		const fd = await this.#pass(() => {
			const found = directory();
			return found === null ? -1 : must(openDirectoryIn(found, EMPTY), "Cannot open a directory for reading");
		});
		const names: Buffer[] = [];
		if (fd < 0) return names;
		const visit = (name: Uint8Array) => {
			names.push(Buffer.from(name));
			return undefined;
		};
		try {
			while ((await this.#pass(() => must(visitMore(fd, visit), "Cannot read a directory"))) > 0);
		} finally {
			close(fd);
		}
		return names.length > SORTED_MAX ? names : names.sort(Buffer.compare);
	}

	#ifThere(handle: Buffer): Node | null {
		try {
			return this.#node(handle);
		} catch (error) {
			if (error instanceof OverlayError && error.code === "stale") return null;
			throw error;
		}
	}

	// what was born in upper, and copies at their own place

	async #clear(handle: Buffer, path: Buffer): Promise<void> {
		for (const name of await this.#names(handle)) {
			const below = pathBelow(path, name);
			if (!this.#leadsToWanted(below)) continue;
			const directory = await this.#clearName(handle, name, below);
			if (directory === null) continue;
			await this.#clear(directory, below);
			if (this.#wants(below)) await this.#clearDirectory(handle, name, directory, below);
		}
	}

	/** The handle of a directory that is to be gone into. */
	async #clearName(above: Buffer, name: Buffer, path: Buffer): Promise<Buffer | null> {
		const found = await this.#pass(() => {
			const directory = this.#ifThere(above);
			if (directory === null || upperEntry(this.#engine, directory, name) !== "object") return null;
			const node = lookupChild(this.#engine, directory, name);
			if (node === null) return null;
			if (node.type === FileType.dir) return { handle: node.handle, way: "directory" as const };
			if (!this.#wants(path)) return null;
			if (entryOf(this.#engine, node) === null) return { handle: node.handle, way: "born" as const };
			const below = belowName(this.#engine, directory, name);
			const isPlain = below?.key === node.key && below.stat.nlink === 1 && namesInUpper(this.#engine, node) === 1;
			if (!isPlain) this.#noteAstray(node, path, { above, name });
			return { handle: node.handle, way: isPlain ? ("copy" as const) : ("astray" as const) };
		});
		if (found === null || found.way === "astray") return null;
		if (found.way === "directory") return found.handle;
		if (found.way === "born") {
			if (await this.#change(path, () => this.#overlay.remove(this.#node(above), name, SUPERUSER))) this.report.removed++;
		} else if (
			await this.#change(path, () => {
				const directory = this.#node(above);
				revertFile(this.#engine, this.#overlay.listings, this.#node(found.handle), [{ directory, name }]);
			})
		) {
			this.report.reverted++;
		}
		return null;
	}

	#noteAstray(node: Node, path: Buffer, at: Astray["at"]): void {
		const { key, handle } = node;
		if (at === null && this.#astray.has(key)) return;
		this.#astray.set(key, { key, handle, path, at, isDirectory: node.type === FileType.dir, reason: null, occupant: null });
	}

	/** A directory whose content has been gone through. */
	async #clearDirectory(above: Buffer, name: Buffer, handle: Buffer, path: Buffer): Promise<void> {
		const isBorn = await this.#pass(() => {
			const [directory, node] = [this.#ifThere(above), this.#ifThere(handle)];
			if (directory === null || node === null) return false;
			if (entryOf(this.#engine, node) === null) return true;
			if (belowName(this.#engine, directory, name)?.key !== node.key) this.#noteAstray(node, path, { above, name });
			return false;
		});
		if (!isBorn) return;
		const isGone = await this.#change(path, () => this.#overlay.rmdir(this.#node(above), name, SUPERUSER), "notempty");
		if (isGone) this.report.removed++;
	}

	/** Copies that have no name in upper: only the index leads to them. */
	async #clearUnnamed(): Promise<void> {
		const handles = this.#paths.length === 0 ? await this.#inIndex() : await this.#indexOnly();
		for (const handle of handles) {
			const isWhole = await this.#pass(() => {
				const node = this.#ifThere(handle);
				if (node === null || !node.isUpper || node.type === FileType.dir) return false;
				if (namesInUpper(this.#engine, node) > 0) this.#noteAstray(node, EMPTY, null);
				return namesInUpper(this.#engine, node) === 0;
			});
			const revert = () => revertFile(this.#engine, this.#overlay.listings, this.#node(handle), []);
			if (isWhole && (await this.#change(EMPTY, revert))) this.report.reverted++;
		}
	}

	/** Objects that only the index has. */
	async #inIndex(): Promise<Buffer[]> {
		const { index } = writableOf(this.#engine);
		const entries = await this.#list(() => index.fd);
		const found: Buffer[] = [];
		for (let at = 0; at < entries.length; at += NAMES_PER_PASS) {
			await this.#pass(() => {
				for (const entry of entries.slice(at, at + NAMES_PER_PASS)) {
					const text = entry.toString("latin1");
					const handle = isRecordName(text) && isUnnamed(this.#engine, text) ? this.#handleOfEntry(text) : null;
					if (handle !== null) found.push(handle);
				}
			});
		}
		return found;
	}

	#handleOfEntry(entry: string): Buffer | null {
		const identity = identityOfRecord(this.#engine, Buffer.from(entry, "hex"));
		return identity === null ? null : handleFor(this.#engine, identity);
	}

	/** Objects of names that only a lower has, of what was changed under another name or none. */
	async #indexOnly(): Promise<Buffer[]> {
		const found: Buffer[] = [];
		for (const [key, names] of (await findIndexOnly(this.#opened)).names) {
			const path = Buffer.from(key, "latin1");
			for (const name of names) {
				const below = pathBelow(path, name);
				if (!this.#wants(below)) continue;
				const node = await this.#pass(() => nodeAt(this.#engine, namesInPath(below)));
				if (node !== null) found.push(node.handle);
			}
		}
		return found;
	}

	// what was removed, and what stands elsewhere

	/** `isWhole`: all of it is wanted, whatever its path is by now. */
	async #restore(handle: Buffer, path: Buffer, isWhole: boolean): Promise<void> {
		for (const name of await this.#names(handle)) {
			const below = pathBelow(path, name);
			const isWanted = isWhole || this.#wants(below);
			if (!isWanted && !this.#leadsToWanted(below) && this.#astray.size === 0) continue;
			const place = { above: handle, name, path: below };
			const found = await this.#lookAt(place);
			if (found === null) continue;
			if (found.directory !== null) {
				await this.#restore(found.directory, below, isWhole);
				if (isWanted) await this.#endDirectory(place, found.directory);
			} else await this.#restoreName(place, found.below, isWanted, isWhole);
		}
	}

	/** What is to be done with a name of upper; null: nothing. */
	#lookAt({ above, name, path }: Place): Promise<{ readonly directory: Buffer | null; readonly below: Below | null } | null> {
		return this.#pass(() => {
			const directory = this.#ifThere(above);
			if (directory === null) return null;
			const kind = upperEntry(this.#engine, directory, name);
			if (kind === "none") return null;
			if (kind === "whiteout") return { directory: null, below: belowName(this.#engine, directory, name) };
			const node = lookupChild(this.#engine, directory, name);
			if (node === null) return null;
			if (this.#astray.size > 0) this.#noteOccupied(directory, name, path, node);
			return node.type === FileType.dir ? { directory: node.handle, below: null } : null;
		});
	}

	/** Something stands in the place of an object that has to come back. */
	#noteOccupied(directory: Node, name: Buffer, path: Buffer, node: Node): void {
		const below = belowName(this.#engine, directory, name);
		const astray = below === null || below.key === node.key ? undefined : this.#astray.get(below.key);
		if (astray === undefined) return;
		astray.reason = `its place ${showName(path)} is taken by another object, which is not discarded`;
		if (this.#astray.has(node.key)) astray.occupant = { key: node.key, directory: directory.handle, name };
	}

	async #restoreName(place: Place, below: Below | null, isWanted: boolean, isWhole: boolean): Promise<void> {
		const { above, name, path } = place;
		const entry = () => ({ directory: this.#node(above), name });
		if (below === null) {
			if (isWanted) await this.#change(path, () => dropWhiteout(this.#engine, this.#overlay.listings, entry()));
			return;
		}
		const fate = await this.#pass(() => fateOf(this.#engine, below.entry));
		if (fate === "upper") {
			const astray = this.#astray.get(below.key);
			if (astray !== undefined) await this.#bringBack(place, below, astray);
			else if (isWanted) this.#leave(path, "it stands elsewhere by now: discard it there");
			return;
		}
		if (!isWanted && !this.#leadsToWanted(path)) return;
		if (below.stat.type !== FileType.dir) {
			if (!isWanted) return;
			if (await this.#change(path, () => restoreName(this.#engine, this.#overlay.listings, entry(), below))) this.report.restored++;
			return;
		}
		const hidden = await this.#hiddenNames(below);
		if (isWanted && hidden.length === 0) {
			if (await this.#change(path, () => restoreName(this.#engine, this.#overlay.listings, entry(), below))) this.report.restored++;
			return;
		}
		const temporary = await this.#hide(isWanted ? hidden : await this.#allNames(below));
		if (!(await this.#change(path, () => restoreMerged(this.#engine, this.#overlay.listings, entry(), below, temporary)))) return;
		this.report.restored++;
		const handle = await this.#pass(() => lookupChild(this.#engine, this.#node(above), name)?.handle ?? null);
		if (handle === null) return;
		await this.#restore(handle, path, isWhole);
		if (isWanted) await this.#endDirectory(place, handle, true);
	}

	async #allNames({ reals }: Below): Promise<Buffer[]> {
		const listings: Buffer[][] = [];
		for (const real of reals) {
			if (!real.foreign) listings.push(shownNames(real.layer, await this.#list(() => this.#engine.descriptors.path(real))));
		}
		if (listings.length === 1) return listings[0];
		const names = new Map<string, Buffer>();
		for (const listing of listings) {
			for (const [i, name] of listing.entries()) {
				if (i % SORTED_MAX === 0) await this.#walk.pause();
				names.set(name.toString("latin1"), name);
			}
		}
		return [...names.values()];
	}

	/** What is not to show as soon as a lower directory comes back: each comes back by a change of its own, or stands elsewhere. */
	async #hiddenNames(below: Below): Promise<Buffer[]> {
		const hidden: Buffer[] = [];
		const names = await this.#allNames(below);
		for (let at = 0; at < names.length; at += NAMES_PER_PASS) {
			await this.#pass(() => {
				for (const name of names.slice(at, at + NAMES_PER_PASS)) if (this.#isHidden(below, name)) hidden.push(name);
			});
		}
		return hidden;
	}

	#isHidden({ reals }: Below, name: Buffer): boolean {
		const { linkCounts } = writableOf(this.#engine);
		const child = belowName(this.#engine, { reals } as Node, name);
		if (child === null) return false;
		if (child.stat.type === FileType.dir) return true;
		return fateOf(this.#engine, child.entry) !== "absent" || (child.stat.nlink > 1 && linkCounts.get(child.entry) !== null);
	}

	/** A directory in work that hides these names. Its name. */
	async #hide(names: readonly Buffer[]): Promise<string> {
		const { work } = writableOf(this.#engine);
		const temporary = await this.#pass(() => work.makeTemporaryDirectory(0o700));
		for (let at = 0; at < names.length; at += NAMES_PER_PASS) {
			await this.#pass(() => {
				const fd = must(openAt(work.temporaries, temporary, O.rdonly | O.directory), "Cannot open a directory in work");
				try {
					if (at === 0 && work.whiteoutXattr !== null) {
						must(setXattr(fd, this.#engine.xattr.opaque, Buffer.from("x")), "Cannot say that a directory has whiteouts");
					}
					for (const name of names.slice(at, at + NAMES_PER_PASS)) work.placeWhiteout(fd, name);
				} finally {
					close(fd);
				}
			});
		}
		return temporary;
	}

	/** Moves an object back to its place, where a whiteout is. */
	async #bringBack(place: Place, below: Below, astray: Astray): Promise<void> {
		const { above, name } = place;
		const { handle } = astray;
		const isLinked = await this.#pass(() => {
			const node = this.#node(handle);
			return !astray.isDirectory && (below.stat.nlink > 1 || namesInUpper(this.#engine, node) > 1);
		});
		if (isLinked) {
			const link = () => this.#overlay.link(this.#node(handle), this.#node(above), name, SUPERUSER);
			if (await this.#change(astray.path, link)) this.report.restored++;
			return;
		}
		const { at } = astray;
		if (at === null) return;
		const isMoved = await this.#change(astray.path, () => {
			const directory = this.#node(at.above);
			if (lookupChild(this.#engine, directory, at.name)?.key !== astray.key) throw new OverlayError("tryagain", "It is being moved");
			this.#overlay.rename(directory, at.name, this.#node(above), name, SUPERUSER);
		});
		if (!isMoved) return;
		this.report.returned++;
		this.#astray.delete(astray.key);
		if (astray.isDirectory) {
			await this.#restore(handle, place.path, true);
			await this.#endDirectory(place, handle, true);
			return;
		}
		await this.#change(place.path, () => {
			const directory = this.#node(above);
			revertFile(this.#engine, this.#overlay.listings, this.#node(handle), [{ directory, name }]);
		});
	}

	/** A directory whose content has been restored: the upper one goes, or has the attributes of the lower one where it must stay. */
	async #endDirectory({ above, name, path }: Place, handle: Buffer, isCounted = false): Promise<void> {
		const below = await this.#pass(() => {
			const [directory, node] = [this.#ifThere(above), this.#ifThere(handle)];
			if (directory === null || node === null || !node.isUpper || entryOf(this.#engine, node) === null) return null;
			const found = belowName(this.#engine, directory, name);
			return found?.key === node.key ? { found, isEmpty: !holdsAnything(this.#engine, node.top) } : null;
		});
		if (below === null) return;
		if (below.isEmpty) {
			const done = await this.#change(path, () => {
				const directory = this.#node(above);
				revertDirectory(this.#engine, this.#overlay.listings, { directory, name }, this.#node(handle), below.found);
			});
			if (done && !isCounted) this.report.reverted++;
			return;
		}
		await this.#change(path, () => {
			// what has them already counts for nothing
			if (!resetAttributes(this.#engine, this.#node(handle), below.found.reals[0])) this.#changes--;
		});
	}

	// objects of several names

	/** All names that upper has of these objects. */
	async #namesOf(keys: ReadonlySet<string>): Promise<Map<string, Named[]>> {
		const found = new Map<string, Named[]>();
		const visit = async (above: Buffer): Promise<void> => {
			const names = await this.#names(above);
			for (let at = 0; at < names.length; at += NAMES_PER_PASS) {
				const directories = await this.#pass(() => {
					const below: Buffer[] = [];
					const directory = this.#ifThere(above);
					if (directory === null) return below;
					for (const name of names.slice(at, at + NAMES_PER_PASS)) {
						if (upperEntry(this.#engine, directory, name) !== "object") continue;
						const node = lookupChild(this.#engine, directory, name);
						if (node === null) continue;
						if (node.type === FileType.dir) below.push(node.handle);
						else if (keys.has(node.key)) {
							const isAtPlace = belowName(this.#engine, directory, name)?.key === node.key;
							const known = found.get(node.key) ?? [];
							known.push({ above, name, isAtPlace });
							found.set(node.key, known);
						}
					}
					return below;
				});
				for (const below of directories) await visit(below);
			}
		};
		await visit(this.#overlay.root.handle);
		return found;
	}

	/** Objects that have all names back that they can have lose names that the lowers have not, and their copy. */
	async #endLinked(): Promise<void> {
		const files = [...this.#astray].filter(([, { isDirectory }]) => !isDirectory);
		if (files.length === 0) return;
		const names = await this.#namesOf(new Set(files.map(([key]) => key)));
		for (const [key, { handle, path }] of files) {
			const all = names.get(key) ?? [];
			const others = all.filter(({ isAtPlace }) => !isAtPlace);
			const isReady = await this.#pass(() => {
				const node = this.#ifThere(handle);
				if (node === null || !node.isUpper) return null;
				return others.length < linkCount(this.#engine, node, statOf(this.#engine, node)) && all.length === namesInUpper(this.#engine, node);
			});
			if (isReady === null) this.#astray.delete(key);
			if (isReady !== true) continue;
			let isWhole = true;
			for (const { above, name } of others) {
				isWhole = (await this.#change(path, () => this.#overlay.remove(this.#node(above), name, SUPERUSER))) && isWhole;
			}
			const revert = () => {
				const places: Entry[] = all.filter(({ isAtPlace }) => isAtPlace).map(({ above, name }) => ({ directory: this.#node(above), name }));
				revertFile(this.#engine, this.#overlay.listings, this.#node(handle), places);
			};
			if (!isWhole || !(await this.#change(path, revert))) continue;
			this.report.reverted++;
			this.#astray.delete(key);
		}
	}

	/** Objects that stand in each other's places go out of the way. */
	async #moveAside(): Promise<void> {
		for (const { occupant } of this.#astray.values()) {
			if (occupant === null || this.#movedAside.has(occupant.key)) continue;
			this.#movedAside.add(occupant.key);
			const { directory, name } = occupant;
			const aside = Buffer.from(`.holdfast-discard-${this.#movedAside.size}`);
			await this.#change(EMPTY, () => this.#overlay.rename(this.#node(directory), name, this.#node(directory), aside, SUPERUSER));
		}
	}
}

/** A name of an upper directory. */
interface Place {
	/** Handle of the directory. */
	readonly above: Buffer;
	readonly name: Buffer;
	readonly path: Buffer;
}

interface Named {
	readonly above: Buffer;
	readonly name: Buffer;
	/** The lowers show the object there too. */
	readonly isAtPlace: boolean;
}

/** Whether the index alone has a file. */
function isUnnamed(engine: Engine, entry: string): boolean {
	const answer = writableOf(engine).index.ask(entry);
	if (answer.kind !== "upper") return false;
	close(answer.fd);
	return answer.stat.type !== FileType.dir && answer.stat.nlink === 1;
}

const NOWHERE = "the directory that it was in is not there";
