// The type of the state that all parts of the overlay work on.

import type { RecentMap } from "../../collections/recent-map.ts";
import type { SipKey } from "../../handle/sip-hash.ts";
import { type HandleSigner, ROOT_HOME } from "../../handle/wire-handle.ts";
import type { Layer, OverlayXattrs } from "../../layer/layer.ts";
import type { DescriptorCache } from "../../layer/real.ts";
import { OverlayError } from "../../vfs/errors.ts";
import type { ChangeKey } from "../../vfs/operations.ts";
import type { DataFiles } from "../data/data-files.ts";
import type { Partials } from "../data/partials.ts";
import { decodeRecord, type Identity } from "../format/identity.ts";
import type { Writable } from "../journal/writable.ts";
import { identityKey, type Node } from "../nodes/node.ts";
import type { NodeCache } from "../nodes/node-cache.ts";
import type { Offload } from "../threads/offload.ts";
import type { Patience } from "../threads/patience.ts";
import type { HeldObjects } from "../work/held-objects.ts";
import type { RecordMap } from "../work/record-map.ts";
import type { ChangeAttribute } from "./change-attribute.ts";
import type { Climbs } from "./climbs.ts";
import type { Home } from "./home.ts";
import type { PathWalk } from "./path-walk.ts";
import type { Turns } from "./turns.ts";

/** The part of an export that can be written; OverlayError "rofs" where there is no upper. */
export function writableOf(engine: Engine): Writable {
	if (engine.writable === null) throw new OverlayError("rofs", "This export has no upper: it is read-only");
	return engine.writable;
}

/** The name of the object's index entry, or null for what was born in upper. */
export function entryOf(engine: Engine, node: Node): string | null {
	const home = engine.homes.get(node.home);
	if (home === undefined || home.isUpper || engine.writable === null) return null;
	return engine.writable.index.entryName(home.uuid, node.id);
}

/** What every part of the engine works on: the stack, the caches and the registry's numbers. One for each export. */
export interface Engine {
	/** From the topmost down; upper first where there is one. */
	readonly layers: readonly Layer[];
	/** Names of the overlay's own xattrs, the same in all layers. */
	readonly xattr: OverlayXattrs;
	readonly writable: Writable | null;
	readonly signer: HandleSigner;
	readonly cookieKey: SipKey;
	/** Homes in the present stack, by number. */
	readonly homes: ReadonlyMap<number, Home>;
	readonly nodes: NodeCache;
	readonly descriptors: DescriptorCache;
	readonly held: HeldObjects;
	readonly offload: Offload;
	/** Threads for what may keep one for very long: freeing the space of files, and removing directories full of whiteouts. */
	readonly freeing: Offload;
	/** Files that are cut by these. */
	readonly cuts: Cuts;
	/** The reverse of the redirects of lowers that once were uppers: from a lower directory to the directory that takes it along. */
	readonly redirects: RecordMap;
	readonly dataFiles: DataFiles;
	/** Null where nothing can be written. */
	partials: Partials | null;
	/** Of the change under way, and null between two. */
	changeKey: ChangeKey | null;
	readonly memory: Memory;
	readonly changeAttribute: ChangeAttribute;
	readonly turns: Turns;
	readonly climbs: Climbs;
	/** By the root of the layer and the path. */
	readonly walks: RecentMap<string, PathWalk>;
	/** Null: whoever asks waits. */
	patience: Patience | null;
}

/** Cuts of files under way, and what became of each that has ended, for the pass of the request that waited: by the request. */
export interface Cuts {
	readonly running: Set<Promise<void>>;
	readonly outcomes: WeakMap<object, CutOutcome>;
}

export interface CutOutcome {
	readonly change: number;
	/** Null: it was made, and has its answer. */
	readonly failure: OverlayError | null;
}

/**
 * Until when what is remembered of real objects holds. Nobody but us changes an upper that is served, and nobody a lower; still nothing is
 * believed for ever, so that a lower that somebody did change is found out.
 */
export interface Memory {
	/** Milliseconds, from any moment on. */
	clock: () => number;
	/** Of a clock of TICK_MS, at the beginning of the present request: a small integer for years, which costs nothing to keep and compare. */
	now: number;
	/** Counts changes of upper. */
	changes: number;
	/** Counts failures that left names in doubt. */
	doubts: number;
}

/** Step of the clock that `Memory.now` counts. */
export const TICK_MS = 64;
/** How long attributes of real objects in lowers are remembered. */
export const ATTRIBUTES_TICKS = 3000 / TICK_MS;
/** How long the attributes of upper are remembered, and what names lead to: something that was removed from its lower is found out by its attributes. */
export const NAMES_TICKS = 30_000 / TICK_MS;

/** The identity that the record of a lower object is; null where it is of no file system of the lowers. */
export function identityOfRecord(engine: Engine, record: Buffer): Identity | null {
	for (const home of engine.homes.values()) {
		const id = home.isUpper ? null : decodeRecord(record, home.uuid);
		if (id !== null) return { home: home.number, id: { type: id.type, bytes: Buffer.from(id.bytes) } };
	}
	return null;
}

/** The wire handle of an identity. */
export function handleFor(engine: Engine, identity: Identity): Buffer {
	try {
		return engine.signer.encode(identity.home, identity.id.type, identity.id.bytes);
	} catch (error) {
		throw new OverlayError("io", (error as Error).message);
	}
}

export function rootNode(engine: Engine): Node {
	return engine.nodes.get(ROOT_KEY) as Node;
}

export const ROOT_KEY = identityKey(ROOT_HOME, { type: 0, bytes: Buffer.alloc(0) });
