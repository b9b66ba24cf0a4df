// The change list: how the overlay differs from its lowers, path by path, found by what its upper holds.

import { hiddenByFile, isWhiteoutFile } from "../../layer/hiding.ts";
import type { Layer } from "../../layer/layer.ts";
import { pathBelow } from "../../layer/path-search.ts";
import type { Real } from "../../layer/real.ts";
import { close } from "../../linux/open.ts";
import type { Stat } from "../../linux/stat.ts";
import { FileType } from "../../vfs/operations.ts";
import { tellProgress } from "../../vfs/progress.ts";
import { type Engine, rootNode } from "../engine/engine.ts";
import { Walk } from "../engine/turns.ts";
import { isAbsolute, redirectNames } from "../format/redirect.ts";
import { lookupChild } from "../lookup/objects.ts";
import { findInStack, redirectOf } from "../lookup/stack-search.ts";
import { linkCount, statOf } from "../lookup/stat.ts";
import type { Node } from "../nodes/node.ts";
import { lowersOf, recordOf } from "../nodes/reals.ts";
import type { OpenedOverlay } from "../opening/opened-overlay.ts";
import { inPasses } from "../operations/until-ready.ts";
import { PartialRecords, runOf } from "../work/partial-record.ts";
import { baseStateOf } from "./base-state.ts";
import type { Change, ChangeKind } from "./change.ts";
import { type CompareOptions, compareObjects, statOfBase } from "./compare.ts";
import { findIndexOnly, type IndexOnlyNames, listNames } from "./index-only.ts";
import { isWanted, leadsToWanted } from "./wanted-paths.ts";

export interface ChangeListOptions {
	/** Reads files of one size whose times differ, and leaves out what is equal. */
	readonly isExact?: boolean;
	/** Whether each change says if its base has changed since. */
	readonly tellsBase?: boolean;
	/** Paths and what is below them; all where there are none. */
	readonly paths?: readonly Buffer[];
}

/** A directory of the overlay that is being gone through. */
interface Frame {
	readonly path: Buffer;
	/** Of the overlay's directory. */
	readonly handle: Buffer;
	/** What the base has at this place; empty: nothing. */
	readonly base: readonly Real[];
	/** Its path in the base; null where it has none. */
	readonly origin: Buffer | null;
	readonly names: readonly Buffer[];
	at: number;
}

/** Names that are gone through in one pass. */
const NAMES_PER_PASS = 64;

/** What the changes of one directory are found with. */
interface Search {
	readonly opened: OpenedOverlay;
	readonly compare: CompareOptions;
	readonly indexOnly: IndexOnlyNames;
	readonly paths: readonly Buffer[];
	readonly tellsBase: boolean;
}

/**
 * All changes in the order of their paths, a directory before what is below it. Costs as much as the upper is large; of the lowers only the
 * directories that another has replaced are listed, and all of them where not all names of a file that was changed are known.
 */
export async function* changeList(opened: OpenedOverlay, options: ChangeListOptions = {}): AsyncGenerator<Change> {
	const { overlay } = opened;
	const { engine } = overlay;
	const search: Search = {
		opened,
		compare: { isExact: options.isExact === true, partial: partialNames(opened), reading: { key: "", offset: 0 } },
		indexOnly: await findIndexOnly(opened),
		paths: options.paths ?? [],
		tellsBase: options.tellsBase === true,
	};
	const frames: Frame[] = [];
	const root = await inPasses(overlay, () => {
		const node = rootNode(engine);
		const base = lowersOf(node);
		frames.push(newFrame(search, { path: EMPTY, node, base, origin: EMPTY }));
		if (!node.isUpper) return [];
		const baseStat = statOfBase(engine, base[0]);
		const difference = compareObjects(engine, node, base[0], baseStat, search.compare);
		return difference === "none" ? [] : [changeOf(search, "metadata", EMPTY, node, { reals: base, stat: baseStat })];
	});
	if (isWanted(search.paths, EMPTY)) yield* root;
	let looked = 0;
	const walk = new Walk();
	for (let frame = frames.at(-1); frame !== undefined; frame = frames.at(-1)) {
		await walk.pause();
		if (frame.at === frame.names.length) {
			frames.pop();
			continue;
		}
		const current = frame;
		tellProgress("looking at changes", ++looked * NAMES_PER_PASS, "names");
		const step = await inPasses(overlay, () => walkNames(search, current));
		yield* step.changes;
		current.at = step.at;
		if (step.below !== null) frames.push(step.below);
	}
}

const EMPTY = Buffer.alloc(0);

interface Step {
	readonly changes: Change[];
	/** Of the next name. */
	readonly at: number;
	/** A directory that is gone through before that. */
	readonly below: Frame | null;
}

/** Goes on in a directory, up to the next one that is below it. */
function walkNames(search: Search, frame: Frame): Step {
	const { overlay } = search.opened;
	const directory = overlay.decode(frame.handle);
	const changes: Change[] = [];
	const end = Math.min(frame.names.length, frame.at + NAMES_PER_PASS);
	for (let at = frame.at; at < end; at++) {
		const name = frame.names[at];
		const path = pathBelow(frame.path, name);
		if (!leadsToWanted(search.paths, path)) continue;
		const below = compareName(search, frame, directory, name, path, isWanted(search.paths, path) ? changes : []);
		overlay.engine.descriptors.trim();
		if (below !== null) return { changes, at: at + 1, below };
	}
	return { changes, at: end, below: null };
}

/** What stands under a name in the base. */
interface Base {
	readonly reals: readonly Real[];
	readonly stat: Stat;
}

/** Adds what is to say of one name; a directory that has to be gone through comes back. */
function compareName(search: Search, frame: Frame, directory: Node, name: Buffer, path: Buffer, changes: Change[]): Frame | null {
	const { engine } = search.opened.overlay;
	const found = frame.base.length === 0 ? null : findInStack(engine, frame.base, name);
	const node = lookupChild(engine, directory, name);
	// a directory of the base that is to be seen elsewhere is told there, and what stands here now is new
	const base = found === null || (!isAt(node, found) && hasMoved(engine, found)) ? null : found;
	if (node === null) {
		if (base !== null) changes.push(removed(search, path, base));
		return null;
	}
	if (node.type === FileType.dir) return compareDirectory(search, frame, node, { name, path, base }, changes);
	if (base === null) {
		changes.push(changeOf(search, "added", path, node, null));
		return null;
	}
	if (base.stat.type !== node.type) {
		changes.push(changeOf(search, "changed", path, node, base));
		return null;
	}
	const difference = compareObjects(engine, node, base.reals[0], base.stat, search.compare);
	if (difference !== "none") changes.push(changeOf(search, difference === "content" ? "changed" : "metadata", path, node, base));
	return null;
}

interface Place {
	readonly name: Buffer;
	readonly path: Buffer;
	readonly base: Base | null;
}

function compareDirectory(search: Search, frame: Frame, node: Node, { name, path, base }: Place, changes: Change[]): Frame | null {
	const { engine } = search.opened.overlay;
	if (!node.isUpper) {
		// an untouched directory, but for names that lead to a copy elsewhere
		if (!search.indexOnly.directories.has(path.toString("latin1"))) return null;
		return newFrame(search, { path, node, base: node.reals, origin: originBelow(frame, name) });
	}
	const lowers = lowersOf(node);
	if (base !== null && isAt(node, base)) {
		const difference = compareObjects(engine, node, lowers[0], base.stat, search.compare);
		if (difference !== "none") changes.push(changeOf(search, "metadata", path, node, base));
		return newFrame(search, { path, node, base: lowers, origin: originBelow(frame, name) });
	}
	if (lowers.length > 0) {
		if (base !== null) changes.push(removed(search, path, base));
		const from = movedFrom(engine, frame, node);
		const was = { reals: lowers, stat: statOfBase(engine, lowers[0]) };
		changes.push({ ...changeOf(search, "renamed", path, node, was), baseType: (base?.stat.type ?? null) as FileType | null, from });
		return newFrame(search, { path, node, base: lowers, origin: from });
	}
	if (base === null || base.stat.type !== FileType.dir) {
		changes.push(changeOf(search, base === null ? "added" : "changed", path, node, base));
		return newFrame(search, { path, node, base: [], origin: null });
	}
	changes.push({ ...changeOf(search, "changed", path, node, base), isReplaced: true });
	return newFrame(search, { path, node, base: base.reals, origin: originBelow(frame, name), listsBase: true });
}

/** Whether a directory of the overlay is the directory that the base has in its place. */
function isAt(node: Node | null, base: Base): boolean {
	return node?.type === FileType.dir && node.reals.find(({ layer }) => !layer.isUpper)?.key === base.reals[0].key;
}

function originBelow({ origin }: Frame, name: Buffer): Buffer | null {
	return origin === null ? null : pathBelow(origin, name);
}

/** Whether a directory of the base is to be seen at another place of the overlay. */
export function hasMoved(engine: Engine, { reals, stat }: Base): boolean {
	if (stat.type !== FileType.dir || engine.writable === null) return false;
	const answer = engine.writable.index.ask(recordOf(reals[0]).toString("hex"));
	if (answer.kind !== "upper") return false;
	close(answer.fd);
	return answer.stat.nlink > 0;
}

/** The path in the base of a directory that was renamed. */
function movedFrom(engine: Engine, frame: Frame, node: Node): Buffer | null {
	const redirect = redirectOf(engine, node.top.layer, engine.descriptors.path(node.top));
	if (redirect === null) return null;
	const names = redirectNames(redirect);
	if (!isAbsolute(redirect)) return originBelow(frame, names[0]);
	return names.reduce(pathBelow, EMPTY);
}

function removed(search: Search, path: Buffer, { reals, stat }: Base): Change {
	const type = stat.type as FileType;
	const baseSize = type === FileType.reg ? stat.size : 0;
	return {
		path,
		kind: "removed",
		type,
		baseType: type,
		from: null,
		isReplaced: false,
		size: 0,
		baseSize,
		group: null,
		handle: null,
		base: reals[0],
		baseState: search.tellsBase ? baseStateOf(search.opened.overlay.engine, reals[0], stat, null) : null,
	};
}

function changeOf(search: Search, kind: ChangeKind, path: Buffer, node: Node, base: Base | null): Change {
	const { engine } = search.opened.overlay;
	const stat = statOf(engine, node);
	const isLinked = node.type !== FileType.dir && linkCount(engine, node, stat) > 1;
	return {
		path,
		kind,
		type: node.type,
		baseType: base === null ? null : (base.stat.type as FileType),
		from: null,
		isReplaced: false,
		size: node.type === FileType.reg ? stat.size : 0,
		baseSize: base?.stat.type === FileType.reg ? base.stat.size : 0,
		group: isLinked ? ((BigInt(node.fileidHi) << 32n) | BigInt(node.fileidLo)).toString() : null,
		handle: node.handle,
		base: base?.reals[0] ?? null,
		baseState: base === null || !search.tellsBase || path.length === 0 ? null : baseStateOf(engine, base.reals[0], base.stat, node),
	};
}

interface FrameOptions {
	readonly path: Buffer;
	readonly node: Node;
	readonly base: readonly Real[];
	readonly origin: Buffer | null;
	/** Names that only the base has count too: the directory stands in the place of that one. */
	readonly listsBase?: boolean;
}

function newFrame(search: Search, { path, node, base, origin, listsBase = false }: FrameOptions): Frame {
	const { engine } = search.opened.overlay;
	const reals = [...(node.isUpper ? [node.top] : []), ...(listsBase ? base : [])];
	const names = namesInAll(engine, reals, search.indexOnly.names.get(path.toString("latin1")));
	return { path, handle: node.handle, base, origin, names, at: 0 };
}

/** The names that real directories say something of, what they hold and what they hide, and some others: each once, in order. */
export function namesInAll(engine: Engine, reals: readonly Real[], others: readonly Buffer[] = []): Buffer[] {
	const names = new Map(others.map((name) => [name.toString("latin1"), name]));
	for (const real of reals) {
		if (real.foreign) continue;
		for (const name of shownNames(real.layer, listNames(engine.descriptors.path(real)))) names.set(name.toString("latin1"), name);
	}
	return [...names.values()].sort(Buffer.compare);
}

/** Without names of a listing that its layer neither shows nor hides by them. */
export function shownNames({ hiding }: Layer, names: Buffer[]): Buffer[] {
	if (!hiding.hasFiles) return names;
	return names.map((name) => (isWhiteoutFile(name, FileType.reg) ? hiddenByFile(name) : name)).filter((name) => name !== null) as Buffer[];
}

/** Names of the records of partial files, where nobody has them in memory: beside a server, or after one. */
export function partialNames({ overlay, folder, upper }: OpenedOverlay): ReadonlySet<string> {
	if (overlay.engine.partials !== null || upper === null) return new Set();
	const records = new PartialRecords(folder, runOf(upper));
	try {
		return new Set(records.names());
	} finally {
		records.close();
	}
}
