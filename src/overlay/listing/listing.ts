// Listings of directories in memory, and the cursors that walk them.

import { RecentMap } from "../../collections/recent-map.ts";
import type { Layer } from "../../layer/layer.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { OverlayError, Pending } from "../../vfs/errors.ts";
import type { ListCursor } from "../../vfs/operations.ts";
import { failed, must } from "../../vfs/system-errors.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";
import type { Engine } from "../engine/engine.ts";
import { nextTurn } from "../engine/turns.ts";
import { childrenOf, lookupChild } from "../lookup/objects.ts";
import type { Node } from "../nodes/node.ts";
import { childKey, forgetChild } from "../nodes/node-cache.ts";
import { plainFileid } from "../nodes/reals.ts";
import { threadsFor } from "../threads/patience.ts";
import {
	HASH_BITS,
	hashName,
	nameHashed,
	type ScanEntries,
	type ScanRequest,
	type ScanResult,
	type ScanSource,
	scan,
} from "../threads/scan.ts";

/** Bounds of the listings kept in memory; a directory with more entries than a window is listed window by window. */
export interface ListingLimits {
	readonly cacheBytes: number;
	readonly windowEntries: number;
	/** Directories whose real ones are larger than this (st_size) are scanned off the main thread. */
	readonly inlineBytes: number;
	readonly hashBits: number;
}

export const LISTING_LIMITS: ListingLimits = {
	cacheBytes: 64 * 1024 * 1024,
	windowEntries: 1_048_576,
	inlineBytes: 128 * 1024,
	hashBits: HASH_BITS,
};

/** Names that share a hash have taken cookies up to this far behind it, but for odds that are nil. */
const TIES_MAX = 4096;

/** Names added to a listing in memory before it is made anew. */
const ADDED_MAX = 4096;

/** Listings with more entries remember no objects: there are never so many in memory. */
const NODES_MAX = 65_536;

interface Added {
	readonly hi: number;
	readonly lo: number;
	readonly name: Buffer;
	readonly fileidHi: number;
	readonly fileidLo: number;
}

/** One window of a directory in cookie order, kept up to date by the changes that this server makes. */
class Listing {
	readonly fromHi: number;
	readonly fromLo: number;
	readonly result: ScanResult;
	readonly removed: Uint8Array;
	readonly added: Added[] = [];
	readonly bytes: number;
	/** What scanned names led to, as long as the names of the directory are remembered: see Node.children. */
	#nodes: (Node | undefined)[] | null = null;
	/** Node.childrenSerial of that time: the map itself would keep all objects in memory that were ever in it. */
	#nodesFrom = 0;

	constructor(fromHi: number, fromLo: number, result: ScanResult) {
		this.fromHi = fromHi;
		this.fromLo = fromLo;
		this.result = result;
		this.removed = new Uint8Array(result.count);
		const { entries } = result;
		let bytes = this.removed.length;
		for (const column of Object.values(entries) as ArrayBufferView[]) bytes += column.byteLength;
		this.bytes = bytes + 1024;
	}

	/** Whether the entry after this cookie can be told from this window. */
	covers(hi: number, lo: number): boolean {
		if (hi < this.fromHi || (hi === this.fromHi && lo < this.fromLo)) return false;
		const { end } = this.result;
		return end === null || hi < end.hi || (hi === end.hi && lo < end.lo);
	}

	holds(hi: number, lo: number): boolean {
		if (hi < this.fromHi || (hi === this.fromHi && lo < this.fromLo)) return false;
		const { end } = this.result;
		return end === null || hi < end.hi || (hi === end.hi && lo <= end.lo);
	}

	/** Index of the first entry with a cookie above this one. */
	after(hi: number, lo: number): number {
		const { cookieHi, cookieLo } = this.result.entries;
		let low = 0;
		let high = this.result.count;
		while (low < high) {
			const middle = (low + high) >>> 1;
			if (cookieHi[middle] > hi || (cookieHi[middle] === hi && cookieLo[middle] > lo)) high = middle;
			else low = middle + 1;
		}
		return low;
	}

	/** The object of a scanned name, if it is remembered. */
	known(engine: Engine, directory: Node, i: number): Node | undefined {
		if (this.#nodes === null) return undefined;
		childrenOf(engine, directory);
		if (this.#nodesFrom !== directory.childrenSerial) this.forgetNodes();
		const node = this.#nodes?.[i];
		return node === undefined || node.isEvicted || node.isDead ? undefined : node;
	}

	remember(directory: Node, i: number, node: Node): void {
		if (this.result.count > NODES_MAX) return;
		if (this.#nodesFrom !== directory.childrenSerial) this.forgetNodes();
		this.#nodesFrom = directory.childrenSerial;
		this.#nodes ??= new Array(this.result.count);
		if (node.listedIn !== null) node.listedIn[node.listedAt] = undefined;
		this.#nodes[i] = node;
		node.listedIn = this.#nodes;
		node.listedAt = i;
	}

	forgetNodes(): void {
		for (const node of this.#nodes ?? []) if (node !== undefined && node.listedIn === this.#nodes) node.listedIn = null;
		this.#nodes = null;
		this.#nodesFrom = 0;
	}

	name(i: number): Uint8Array {
		const { names, nameStarts } = this.result.entries;
		return names.subarray(nameStarts[i], nameStarts[i + 1]);
	}

	/** Where the name stands among the scanned entries, or -1. Names that share its hash follow it closely. */
	find(hi: number, lo: number, name: Uint8Array): number {
		const { cookieHi, cookieLo } = this.result.entries;
		for (let i = lo === 0 ? this.after(hi - 1, 0xffffffff) : this.after(hi, lo - 1); i < this.result.count; i++) {
			if (Buffer.compare(this.name(i), name) === 0) return i;
			// a run of taken cookies ends with the first gap
			if (i + 1 < this.result.count && (cookieHi[i + 1] !== cookieHi[i] || cookieLo[i + 1] !== cookieLo[i] + 1)) return -1;
		}
		return -1;
	}

	remove(hi: number, lo: number, name: Uint8Array): void {
		const at = this.find(hi, lo, name);
		if (at >= 0) this.removed[at] = 1;
		const extra = this.#findAdded(hi, lo, name);
		if (extra >= 0) this.added.splice(extra, 1);
	}

	/** Where the name stands among those added, or -1. Where its hash was taken it has one of the next cookies. */
	#findAdded(hi: number, lo: number, name: Uint8Array): number {
		for (let i = lo === 0 ? this.addedAfter(hi - 1, 0xffffffff) : this.addedAfter(hi, lo - 1); i < this.added.length; i++) {
			const entry = this.added[i];
			if (entry.name.equals(name)) return i;
			if (entry.hi !== hi || entry.lo - lo > TIES_MAX) return -1;
		}
		return -1;
	}

	/** Adds the name at its hash, or at the next free cookie. */
	insert(hi: number, lo: number, name: Uint8Array, fileidHi: number, fileidLo: number): void {
		this.remove(hi, lo, name);
		let entryHi = hi;
		let entryLo = lo;
		while (this.#isTaken(entryHi, entryLo)) {
			entryLo = (entryLo + 1) >>> 0;
			if (entryLo === 0) entryHi++;
		}
		const entry = { hi: entryHi, lo: entryLo, name: Buffer.from(name), fileidHi, fileidLo };
		this.added.splice(this.addedAfter(entryHi, entryLo), 0, entry);
	}

	addedAfter(hi: number, lo: number): number {
		let low = 0;
		let high = this.added.length;
		while (low < high) {
			const middle = (low + high) >>> 1;
			const entry = this.added[middle];
			if (entry.hi > hi || (entry.hi === hi && entry.lo > lo)) high = middle;
			else low = middle + 1;
		}
		return low;
	}

	#isTaken(hi: number, lo: number): boolean {
		const at = this.after(hi, lo) - 1;
		const { cookieHi, cookieLo } = this.result.entries;
		if (at >= 0 && cookieHi[at] === hi && cookieLo[at] === lo && this.removed[at] === 0) return true;
		const extra = this.addedAfter(hi, lo) - 1;
		return extra >= 0 && this.added[extra].hi === hi && this.added[extra].lo === lo;
	}
}

type Patch = { readonly name: Buffer; readonly child: { readonly fileidHi: number; readonly fileidLo: number } | null };

/** A scan off the main thread, and the changes made to its directory meanwhile. */
interface ScanJob {
	readonly ready: Promise<void>;
	readonly patches: Patch[];
}

/** A directory's windows: at most two, for a request that goes on from one into the next begins again in the first when that is there. */
interface ListedDirectory {
	readonly key: string;
	readonly owner: { drop(key: string): void };
	readonly windows: readonly Listing[];
}

/** The memory that the listings of all exports of a process share: what was used longest ago goes, but never the newest. */
export class ListingMemory {
	readonly bytesMax: number;
	readonly #order = new RecentMap<ListedDirectory, null>();
	#bytes = 0;

	constructor(bytesMax: number) {
		this.bytesMax = bytesMax;
	}

	/** Bytes that the listings in memory take. */
	get bytes(): number {
		return this.#bytes;
	}

	use(listed: ListedDirectory): void {
		this.#order.use(listed);
	}

	add(listed: ListedDirectory, bytes: number): void {
		this.#order.set(listed, null);
		this.#bytes += bytes;
		for (;;) {
			const { oldest } = this.#order;
			if (this.#bytes <= this.bytesMax || oldest === undefined || oldest === listed) return;
			oldest.owner.drop(oldest.key);
		}
	}

	remove(listed: ListedDirectory, bytes: number): void {
		if (this.#order.delete(listed)) this.#bytes -= bytes;
	}
}

/** The listings of the directories of one export that were listed last. */
export class Listings {
	readonly limits: ListingLimits;
	readonly #engine: Engine;
	readonly #memory: ListingMemory;
	readonly #listings = new Map<string, ListedDirectory>();
	readonly #jobs = new Map<string, ScanJob>();
	/** Scans that failed off the main thread, for the pass that waits for them. */
	readonly #failures = new Map<string, Error>();
	#bytes = 0;

	constructor(engine: Engine, limits: ListingLimits, memory: ListingMemory = new ListingMemory(limits.cacheBytes)) {
		this.#engine = engine;
		this.limits = limits;
		this.#memory = memory;
	}

	/** Bytes that the listings of this export take. */
	get bytes(): number {
		return this.#bytes;
	}

	/** The window in which the entry after the cookie is. Throws Pending while it is being made. */
	window(directory: Node, hi: number, lo: number): Listing {
		const { key } = directory;
		const listed = this.#listings.get(key);
		const known = listed?.windows.find((window) => window.covers(hi, lo));
		if (listed !== undefined && known !== undefined) {
			this.#memory.use(listed);
			return known;
		}
		const job = this.#jobs.get(key);
		if (job !== undefined) throw new Pending(job.ready);
		const failure = this.#failures.get(key);
		if (failure !== undefined) {
			this.#failures.delete(key);
			throw failure;
		}
		const request = scanRequest(this.#engine, directory, hi, lo, this.limits);
		let isOffloaded = false;
		try {
			const { patience } = this.#engine;
			const slow = directory.reals.find((real) => patience?.isTrusted(real.layer) === false);
			if (slow !== undefined || directorySize(request) > this.limits.inlineBytes) {
				isOffloaded = true;
				throw new Pending(this.#startJob(key, request, (slow ?? directory.top).layer));
			}
			return this.#keep(key, request, mustScan(scan(request)));
		} finally {
			if (!isOffloaded) closeSources(request);
		}
	}

	/** A name has appeared in a directory. */
	noteAdded(directory: Node, name: Uint8Array, child: Node): void {
		directory.children?.set(childKey(name), child);
		this.#patch(directory.key, { name: Buffer.from(name), child });
	}

	/** A name has gone from a directory. */
	noteRemoved(directory: Node, name: Uint8Array): void {
		forgetChild(directory, name);
		this.#patch(directory.key, { name: Buffer.from(name), child: null });
	}

	forget(directory: Node): void {
		directory.children = null;
		this.drop(directory.key);
	}

	/** Forgets all: the export is closed. */
	close(): void {
		for (const key of this.#listings.keys()) this.drop(key);
	}

	#patch(key: string, patch: Patch): void {
		this.#jobs.get(key)?.patches.push(patch);
		const listed = this.#listings.get(key);
		if (listed === undefined) return;
		for (const window of listed.windows) this.#apply(window, patch);
		if (listed.windows.some((window) => window.added.length > ADDED_MAX)) this.drop(key);
	}

	#apply(listing: Listing, patch: Patch): void {
		hashName(this.#engine.cookieKey, patch.name, 0, patch.name.length, this.limits.hashBits);
		const hi = nameHashed[0];
		const lo = nameHashed[1];
		if (!listing.holds(hi, lo)) return;
		if (patch.child === null) listing.remove(hi, lo, patch.name);
		else listing.insert(hi, lo, patch.name, patch.child.fileidHi, patch.child.fileidLo);
	}

	#startJob(key: string, request: ScanRequest, layer: Layer): Promise<void> {
		const patches: Patch[] = [];
		const take = (result: ScanResult | number) => {
			const listing = this.#keep(key, request, mustScan(result));
			for (const patch of patches) this.#apply(listing, patch);
		};
		const ready = threadsFor(this.#engine, layer)
			.run({ kind: "scan", ...request })
			.then((result) => take(result as ScanResult | number))
			.catch((error: Error) => {
				this.#failures.set(key, error instanceof OverlayError ? error : new OverlayError("io", error.message));
			})
			.finally(() => {
				closeSources(request);
				this.#jobs.delete(key);
			});
		this.#jobs.set(key, { ready, patches });
		return ready;
	}

	#keep(key: string, request: ScanRequest, result: ScanResult): Listing {
		const listing = new Listing(request.fromHi, request.fromLo, result);
		const former = this.#listings.get(key)?.windows[0];
		this.drop(key);
		const listed = { key, owner: this, windows: former === undefined ? [listing] : [listing, former] };
		this.#listings.set(key, listed);
		const bytes = bytesOf(listed);
		this.#bytes += bytes;
		this.#memory.add(listed, bytes);
		return listing;
	}

	drop(key: string): void {
		const listed = this.#listings.get(key);
		if (listed === undefined) return;
		const bytes = bytesOf(listed);
		this.#bytes -= bytes;
		this.#memory.remove(listed, bytes);
		for (const window of listed.windows) window.forgetNodes();
		this.#listings.delete(key);
	}
}

function bytesOf({ windows }: ListedDirectory): number {
	return windows.reduce((sum, { bytes }) => sum + bytes, 0);
}

function mustScan(result: ScanResult | number): ScanResult {
	if (typeof result === "number") throw failed("Cannot read a directory", result);
	return result;
}

function scanRequest(engine: Engine, directory: Node, hi: number, lo: number, limits: ListingLimits): ScanRequest {
	const sources: ScanSource[] = [];
	const isMixed = directory.isUpper && (directory.reals.length > 1 || isImpure(engine, directory));
	for (const real of directory.reals) {
		if (real.foreign) continue;
		const fd = must(openAt(engine.descriptors.path(real), ".", O.rdonly | O.directory | O.noatime), "Cannot open a directory for reading");
		sources.push({
			fd,
			space: isMixed && real.layer.isUpper ? 0 : real.layer.space,
			asksForDirectories: real.layer.fileSystem.name === "btrfs",
			whiteoutXattr: real.whiteoutXattr,
			hasWhiteoutFiles: real.layer.hiding.hasFiles,
			concealed: real.layer.concealed,
		});
	}
	const fromLo = lo >= TIES_MAX ? lo - TIES_MAX : 0;
	const { windowEntries: limit, hashBits } = limits;
	return { sources, key: engine.cookieKey, fromHi: hi, fromLo, afterHi: hi, afterLo: lo, limit, hashBits };
}

/** Whether an upper directory holds objects that were born elsewhere. */
function isImpure(engine: Engine, directory: Node): boolean {
	return xattrOrNone(engine.descriptors.path(directory.top), engine.xattr.impure, "Cannot read the marks of a directory") !== null;
}

function closeSources(request: ScanRequest): void {
	for (const source of request.sources) close(source.fd);
}

function directorySize(request: ScanRequest): number {
	const stat = new Stat();
	let size = 0;
	for (const source of request.sources) if (fstat(source.fd, stat) === 0) size += stat.size;
	return size;
}

const DOT = Buffer.from(".");
const DOT_DOT = Buffer.from("..");

/** Objects that a page looks up, of a directory in one layer: 50 microseconds each. */
const LOOK_UPS_MAX = 192;
/** As many as a front end may send as a page that ends where the next entry has to wait. */
const LOOK_UPS_MIN = 72;

/** See ListCursor: walks ".", "..", and then windows of the listing. */
export class DirectoryCursor implements ListCursor {
	name: Uint8Array = DOT;
	cookieHi: number;
	cookieLo: number;
	readonly #engine: Engine;
	readonly #listings: Listings;
	readonly #directory: Node;
	readonly #parent: Node;
	#listing: Listing | null = null;
	#index = 0;
	#addedIndex = 0;
	#current: "dot" | "dotdot" | "scanned" | "added" = "dot";
	/** Objects that may still be looked up in this pass. */
	#lookUps = Number.POSITIVE_INFINITY;

	/** `isShared`: others wait for the same thread, so that `object` throws Pending when it has looked up enough. */
	constructor(engine: Engine, listings: Listings, directory: Node, parent: Node, cookieHi: number, cookieLo: number, isShared = false) {
		if (isShared) this.#lookUps = Math.max(LOOK_UPS_MIN, Math.ceil(LOOK_UPS_MAX / directory.reals.length));
		this.#engine = engine;
		this.#listings = listings;
		this.#directory = directory;
		this.#parent = parent;
		this.cookieHi = cookieHi;
		this.cookieLo = cookieLo;
	}

	next(): boolean {
		if (this.cookieHi === 0 && this.cookieLo < 2) {
			this.cookieLo++;
			this.#current = this.cookieLo === 1 ? "dot" : "dotdot";
			this.name = this.cookieLo === 1 ? DOT : DOT_DOT;
			return true;
		}
		for (;;) {
			const listing = this.#window();
			if (listing === null) return false;
			if (this.#step(listing)) return true;
			const { end } = listing.result;
			if (end === null) return false;
			// the last names of the window may have taken cookies behind its end
			if (isBelow(this.cookieHi, this.cookieLo, end.hi, end.lo)) {
				this.cookieHi = end.hi;
				this.cookieLo = end.lo;
			}
			this.#listing = null;
		}
	}

	fileid(): { readonly hi: number; readonly lo: number } {
		if (this.#current === "dot") return { hi: this.#directory.fileidHi, lo: this.#directory.fileidLo };
		if (this.#current === "dotdot") return { hi: this.#parent.fileidHi, lo: this.#parent.fileidLo };
		const listing = this.#listing as Listing;
		if (this.#current === "added") {
			const entry = listing.added[this.#addedIndex - 1];
			return { hi: entry.fileidHi, lo: entry.fileidLo };
		}
		const entries: ScanEntries = listing.result.entries;
		const at = this.#index - 1;
		const space = entries.spaces[at];
		if (space !== 0) return plainFileid(space, entries.inoHi[at], entries.inoLo[at]);
		const child = this.object();
		return child === null ? { hi: this.cookieHi, lo: this.cookieLo } : { hi: child.fileidHi, lo: child.fileidLo };
	}

	object(): Node | null {
		if (this.#current === "dot") return this.#directory;
		if (this.#current === "dotdot") return this.#parent;
		const at = this.#index - 1;
		if (this.#current === "scanned") {
			const known = (this.#listing as Listing).known(this.#engine, this.#directory, at);
			if (known !== undefined) {
				known.isRecent = true;
				return known;
			}
		}
		if (this.#lookUps-- <= 0) throw new Pending(nextTurn());
		// a page may have more entries than there may be descriptors
		this.#engine.descriptors.trim();
		try {
			const node = lookupChild(this.#engine, this.#directory, this.name);
			if (node !== null && this.#current === "scanned") (this.#listing as Listing).remember(this.#directory, at, node);
			return node;
		} catch (error) {
			// one object that cannot be shown must not hide all others; what will be shown later has a file id of its own
			if (error instanceof OverlayError && error.code !== "tryagain") return null;
			throw error;
		}
	}

	#window(): Listing | null {
		if (this.#listing !== null) return this.#listing;
		if (this.cookieHi > 0x7fffffff) return null;
		const listing = this.#listings.window(this.#directory, this.cookieHi, this.cookieLo);
		this.#listing = listing;
		this.#index = listing.after(this.cookieHi, this.cookieLo);
		this.#addedIndex = listing.addedAfter(this.cookieHi, this.cookieLo);
		return listing;
	}

	#step(listing: Listing): boolean {
		const { entries, count } = listing.result;
		while (this.#index < count && listing.removed[this.#index] === 1) this.#index++;
		const extra = listing.added[this.#addedIndex];
		const i = this.#index;
		if (i < count && (extra === undefined || isBelow(entries.cookieHi[i], entries.cookieLo[i], extra.hi, extra.lo))) {
			this.cookieHi = entries.cookieHi[i];
			this.cookieLo = entries.cookieLo[i];
			this.name = listing.name(i);
			this.#index++;
			this.#current = "scanned";
			return true;
		}
		if (extra === undefined) return false;
		this.cookieHi = extra.hi;
		this.cookieLo = extra.lo;
		this.name = extra.name;
		this.#addedIndex++;
		this.#current = "added";
		return true;
	}
}

function isBelow(hi: number, lo: number, otherHi: number, otherLo: number): boolean {
	return hi < otherHi || (hi === otherHi && lo < otherLo);
}
