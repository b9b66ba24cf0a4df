import { sipHash, sipHashHi, sipHashLo } from "../handle/sip-hash.ts";
import { CASEFOLD_REASON, isCasefolded } from "../layer/casefold.ts";
import type { Layer } from "../layer/layer.ts";
import { type Real, realKey } from "../layer/real.ts";
import { visitEntries } from "../linux/directory.ts";
import { ERRNO } from "../linux/errno.ts";
import type { FileHandle } from "../linux/file-handle.ts";
import { copyBytes } from "../linux/memory.ts";
import { readLink } from "../linux/names.ts";
import { close, descriptorPath, O, openAt, openBeneath, RESOLVE } from "../linux/open.ts";
import { fstat, Stat, statAt } from "../linux/stat.ts";
import { getXattr, setXattr } from "../linux/xattr.ts";
import { redirectingDirectory } from "./adoption.ts";
import { noteStat, statOf } from "./attributes.ts";
import {
	type Engine,
	failed,
	fitsFileid,
	type Home,
	handleFor,
	identityOfRecord,
	must,
	NAMES_TICKS,
	plainFileid,
	ROOT_HOME,
	realOf,
	realOfHandle,
	realOfName,
	type Writable,
} from "./engine.ts";
import { OverlayError, Pending } from "./errors.ts";
import { encodeRecord, type Identity } from "./identity.ts";
import { getMark } from "./marks.ts";
import { isDot, isDotDot, NAME_BYTES_MAX } from "./names.ts";
import { identityKey, Node } from "./node.ts";
import { childKey } from "./node-cache.ts";
import { FileType } from "./types.ts";
import { isWhiteoutInode, isWhiteoutName, isWhiteoutStat } from "./whiteout.ts";

const BENEATH = RESOLVE.beneath | RESOLVE.noSymlinks | RESOLVE.noXdev;

/** What stands under one name in the stack of a directory: the topmost real object, and below a directory those it is merged with. */
interface Found {
	readonly reals: Real[];
	/** Open on each of them, O_PATH. */
	readonly fds: number[];
	/** Of the topmost. */
	readonly stat: Stat;
}

/** The object of a name, or null. Names of the overlay's directories lead to one Node for an identity, whatever the name. */
export function lookupChild(engine: Engine, directory: Node, name: Uint8Array): Node | null {
	const key = childKey(name);
	const children = childrenOf(engine, directory);
	const known = children.get(key);
	if (known !== undefined && !known.isEvicted && !known.isDead) {
		known.isRecent = true;
		const hasNames = known.type !== FileType.dir && known.stat !== null && known.stat.nlink > 1;
		if (known.parent !== directory || known.name === null || (hasNames && !known.name.equals(name))) {
			known.parent = directory;
			known.name = copyBytes(name);
		}
		if (isThere(engine, known)) return known;
	}
	const node = findChild(engine, directory, name);
	if (node !== null) children.set(key, node);
	return node;
}

/** Somebody may have removed it from its lower. */
function isThere(engine: Engine, node: Node): boolean {
	if (node.isUpper) return true;
	try {
		statOf(engine, node);
		return true;
	} catch (error) {
		if (error instanceof Pending) throw error;
		return false;
	}
}

let nextSerial = 1;

/** What is remembered of the names of a directory. */
export function childrenOf({ memory }: Engine, directory: Node): Map<string, Node> {
	const { children } = directory;
	if (children !== null && memory.now - directory.childrenTime < NAMES_TICKS && directory.childrenDoubt === memory.doubts) return children;
	directory.children = new Map();
	directory.childrenSerial = nextSerial++;
	directory.childrenTime = memory.now;
	directory.childrenDoubt = memory.doubts;
	return directory.children;
}

function findChild(engine: Engine, directory: Node, name: Uint8Array): Node | null {
	const found = findReals(engine, directory, name, 0);
	if (found === null) return null;
	let taken = false;
	try {
		const node = nodeOf(engine, found);
		taken = true;
		if (node === null) {
			closeAll(found);
			return null;
		}
		if (node.stat === null && (node.reals === found.reals || node.top.key === found.reals[0].key)) noteStat(engine, node, found.stat);
		found.reals.forEach((real, i) => {
			if (found.fds[i] < 0) return;
			const kept = node.reals.find((own) => own.key === real.key);
			if (kept === undefined) close(found.fds[i]);
			else engine.descriptors.adopt(kept, found.fds[i]);
		});
		if (node.type === FileType.dir) refuseLoop(engine, directory, node);
		node.parent = directory;
		if (node.name === null || !node.name.equals(name)) node.name = copyBytes(name);
		return node;
	} finally {
		if (!taken) closeAll(found);
	}
}

/** A crafted redirect can lead a directory to one above itself; whoever went up from there would never arrive. */
function refuseLoop(engine: Engine, directory: Node, node: Node): void {
	if (node.parent === directory) return;
	for (let at: Node | null = directory; at !== null; at = at.parent) {
		if (at.key === node.key)
			throw new OverlayError("loop", "A redirect of overlayfs leads to a directory that lies inside of what it leads to");
		if (at.isEvicted) at = engine.nodes.get(at.key) ?? at;
		// an object that is not in memory was put under its parent by a way from the root, or will be when it is loaded again
		if (at.isEvicted) return;
	}
}

/** Whether a lower of this directory shows the name, so that removing it from upper alone would bring that back. */
export function isInLowers(engine: Engine, directory: Node, name: Uint8Array): boolean {
	const found = findReals(engine, directory, name, directory.isUpper ? 1 : 0);
	if (found === null) return false;
	closeAll(found);
	return true;
}

/** Before a whiteout that is an empty file comes into an upper directory: only where this is said are there such. */
export function expectWhiteouts(engine: Engine, directory: Node): void {
	const { top } = directory;
	const work = engine.writable?.work;
	if (work === undefined || work.whiteoutXattr === null) return;
	work.prepareWhiteout();
	if (top.hasXattrWhiteouts) return;
	const fd = engine.descriptors.path(top);
	if (opaqueMark(engine, fd) === OPAQUE_YES) return;
	directory.stat = null;
	must(setXattr(fd, engine.xattr.opaque, Buffer.from("x")), "Cannot say that a directory has whiteouts");
	top.hasXattrWhiteouts = true;
}

/** What the upper directory itself holds under a name: nothing, a whiteout, or an object. */
export function upperEntry(engine: Engine, directory: Node, name: Uint8Array): "none" | "whiteout" | "object" {
	if (!directory.isUpper) return "none";
	const stat = new Stat();
	const status = statAt(engine.descriptors.path(directory.top), name, stat);
	if (status === -ERRNO.ENOENT) return "none";
	must(status, "Cannot look into a directory of upper");
	return isWhiteoutName(engine.descriptors.path(directory.top), name, stat, directory.top.hasXattrWhiteouts ? engine.xattr.whiteout : null)
		? "whiteout"
		: "object";
}

function closeAll(found: Found): void {
	for (const fd of found.fds) if (fd >= 0) close(fd);
}

/** Where the look-up of a name goes on in the layers below: in the same parents, or, behind an absolute redirect, by a path from their roots. */
interface Search {
	name: Uint8Array;
	path: readonly Buffer[] | null;
}

/** The stack of real directories under a name, from those of its parent; null when there is none, or something else than a directory. */
export function findInReals(engine: Engine, parents: readonly Real[], name: Uint8Array): Real[] | null {
	const found = findReals(engine, { reals: parents }, name, 0);
	if (found === null) return null;
	closeAll(found);
	return found.stat.type === FileType.dir ? found.reals : null;
}

/** As findInReals, of any type, with the attributes of the topmost. */
export function findInStack(
	engine: Engine,
	parents: readonly Real[],
	name: Uint8Array,
): { readonly reals: Real[]; readonly stat: Stat } | null {
	const found = findReals(engine, { reals: parents }, name, 0);
	if (found !== null) closeAll(found);
	return found;
}

/** Of the look-up under way. */
let seen = new Stat();

function findReals(engine: Engine, directory: { readonly reals: readonly Real[] }, name: Uint8Array, from: number): Found | null {
	const search: Search = { name, path: null };
	const reals: Real[] = [];
	const fds: number[] = [];
	let top: Stat | null = null;
	let parents = directory.reals;
	let fd = -1;
	try {
		for (let i = from; i < parents.length; i++) {
			const parent = parents[i];
			if (parent.foreign) continue;
			if (search.path === null) engine.patience?.guard(parent.layer, parent.handle, search.name, "inode");
			let known: Stat | null = null;
			if (search.path === null && !parent.hasXattrWhiteouts) {
				// most names are those of files, or are not there: no descriptor is opened for that
				const path = engine.descriptors.path(parent);
				const status = parent.layer.statAt(path, search.name, seen);
				if (parent.layer.isUpper) engine.memory.upperEntry = status < 0 ? "none" : isWhiteoutStat(seen) ? "whiteout" : "object";
				if (status === -ERRNO.ENOENT) continue;
				must(status, "Cannot look a name of a layer up");
				if (isWhiteoutStat(seen)) break;
				if (seen.type !== FileType.dir && top !== null) break;
				known = seen;
				seen = new Stat();
				if (known.type !== FileType.dir && !parent.layer.isUpper) {
					return { reals: [realOfName(parent, path, search.name, known)], fds: [-1], stat: known };
				}
			}
			const hit = search.path === null ? openName(engine, parent, search.name) : openPathInLayer(engine, parent, search, search.path);
			fd = hit.fd;
			if (parent.layer.isUpper && fd < 0) engine.memory.upperEntry = "none";
			if (fd < 0) {
				if (hit.isEnd) break;
				continue;
			}
			const stat = known ?? new Stat();
			if (known === null) must(parent.layer.stat(fd, stat), "Cannot read attributes in a layer");
			const isWhiteout = isWhiteoutInode(fd, stat, hit.hasXattrWhiteouts ? engine.xattr.whiteout : null);
			if (parent.layer.isUpper) engine.memory.upperEntry = isWhiteout ? "whiteout" : "object";
			if (isWhiteout) break;
			if (stat.type !== FileType.dir) {
				if (top !== null) break;
				const found = { reals: [realOfHit(parent, search, fd, stat)], fds: [fd], stat };
				fd = -1;
				return found;
			}
			const real = realOfHit(parent, search, fd, stat);
			refuseCasefold(real, fd);
			const isEnd = readDirectoryMarks(engine, real, fd, search) || hit.isEnd;
			top ??= stat;
			reals.push(real);
			fds.push(fd);
			fd = -1;
			if (isEnd) break;
			if (search.path !== null && parents === directory.reals) {
				parents = rootNode(engine).reals;
				i = parents.findIndex((root) => root.layer === parent.layer);
			}
		}
		if (fd >= 0) close(fd);
		return top === null ? null : { reals, fds, stat: top };
	} catch (error) {
		if (fd >= 0) close(fd);
		for (const open of fds) close(open);
		throw error;
	}
}

/** By portable ids what the name leads to in a lower is known without asking the kernel where it is. */
function realOfHit(parent: Real, { name, path }: Search, fd: number, stat: Stat): Real {
	const { layer } = parent;
	return layer.handles.isPortable && !layer.isUpper && path === null ? realOfName(parent, fd, name, stat) : realOf(layer, fd, stat);
}

function refuseCasefold(real: Real, fd: number): void {
	if (real.layer.fileSystem.mayCasefold && isCasefolded(fd)) {
		throw new OverlayError("io", `Cannot show a directory of ${real.layer.path}: ${CASEFOLD_REASON}`);
	}
}

/** What a step of the search found in one layer: `isEnd`: nothing further down counts any more. */
interface Hit {
	/** O_PATH, or negative. */
	readonly fd: number;
	readonly isEnd: boolean;
	readonly hasXattrWhiteouts: boolean;
}

const NOTHING: Hit = { fd: -1, isEnd: false, hasXattrWhiteouts: false };
const HIDDEN: Hit = { fd: -1, isEnd: true, hasXattrWhiteouts: false };

function openName(engine: Engine, parent: Real, name: Uint8Array): Hit {
	const fd = openBeneath(engine.descriptors.path(parent), name, O.path | O.nofollow, BENEATH);
	if (fd === -ERRNO.ENOENT) return NOTHING;
	return { fd: must(fd, "Cannot open a name of a layer"), isEnd: false, hasXattrWhiteouts: parent.hasXattrWhiteouts };
}

/** Follows the path of an absolute redirect from a layer's root, name by name, since each may be a whiteout, opaque, or redirect on. */
function openPathInLayer(engine: Engine, root: Real, search: Search, path: readonly Buffer[]): Hit {
	const stat = new Stat();
	let at = engine.descriptors.path(root);
	let hasXattrWhiteouts = root.hasXattrWhiteouts;
	let isEnd = false;
	for (let i = 0; i < path.length; i++) {
		const fd = openBeneath(at, path[i], O.path | O.nofollow, BENEATH);
		if (i > 0) close(at);
		if (fd === -ERRNO.ENOENT) return isEnd ? HIDDEN : NOTHING;
		at = must(fd, "Cannot open a name of a layer");
		if (i === path.length - 1) break;
		try {
			must(fstat(fd, stat), "Cannot read attributes in a layer");
			if (stat.type !== FileType.dir) {
				close(fd);
				return HIDDEN;
			}
			const opaque = opaqueMark(engine, fd);
			hasXattrWhiteouts = opaque === OPAQUE_XATTR;
			if (opaque === OPAQUE_YES) isEnd = true;
			else readRedirect(engine, root.layer, fd, search, path.slice(i + 1));
		} catch (error) {
			close(fd);
			throw error;
		}
	}
	return { fd: at, isEnd, hasXattrWhiteouts };
}

const OPAQUE_YES = 0x79;
const OPAQUE_XATTR = 0x78;

/** "y", "x" or 0: what the `opaque` xattr of a directory says. */
function opaqueMark(engine: Engine, fd: number): number {
	const opaque = getXattr(fd, engine.xattr.opaque);
	return typeof opaque !== "number" && opaque.length === 1 ? opaque[0] : 0;
}

/** Whether the directory hides those below it; a redirect says under which name or path they are. */
function readDirectoryMarks(engine: Engine, real: Real, fd: number, search: Search): boolean {
	const opaque = opaqueMark(engine, fd);
	if (opaque === OPAQUE_XATTR) real.hasXattrWhiteouts = true;
	if (opaque === OPAQUE_YES) return true;
	readRedirect(engine, real.layer, fd, search, []);
	return false;
}

/** The redirect that a real directory carries, or null. */
export function redirectOf(engine: Engine, layer: Layer, fd: number): Buffer | null {
	const long = layer.isUpper ? (engine.writable?.longRedirects.get(fd) ?? null) : null;
	if (long !== null) return long;
	const redirect = getXattr(fd, engine.xattr.redirect);
	return typeof redirect === "number" ? null : redirect;
}

/** Turns the search to where a directory's redirect leads; `rest` is what of the present path lies behind that directory. */
function readRedirect(engine: Engine, layer: Layer, fd: number, search: Search, rest: readonly Buffer[]): void {
	const redirect = redirectOf(engine, layer, fd);
	if (redirect === null) return;
	if (!layer.isUpper && !layer.isAdopted) {
		throw new OverlayError("io", "A directory of a lower carries a redirect of overlayfs, and that layer has not been adopted");
	}
	const names = redirectNames(redirect);
	if (redirect[0] === SLASH) search.path = [...names, ...rest];
	else if (search.path === null) search.name = names[0];
	else search.path = [...search.path.slice(0, search.path.length - rest.length - 1), names[0], ...rest];
}

/** The names in a redirect: one, or an absolute path from the overlay's root. Anything else was not written by an overlay. */
export function redirectNames(redirect: Buffer): Buffer[] {
	const isAbsolute = redirect[0] === SLASH;
	const names: Buffer[] = [];
	for (let at = isAbsolute ? 1 : 0; at <= redirect.length; ) {
		const slash = redirect.indexOf(SLASH, at);
		const end = slash < 0 ? redirect.length : slash;
		const name = redirect.subarray(at, end);
		if (name.length === 0 || name.length > NAME_BYTES_MAX || isDot(name) || isDotDot(name) || name.includes(0)) {
			throw new OverlayError("io", "A directory carries a redirect of overlayfs that leads nowhere");
		}
		names.push(Buffer.from(name));
		at = end + 1;
	}
	if (!isAbsolute && names.length !== 1) throw new OverlayError("io", "A directory carries a redirect of overlayfs that leads nowhere");
	return names;
}

const SLASH = 0x2f;

function nodeOf(engine: Engine, found: Found): Node | null {
	const top = found.reals[0];
	if (top.layer.isUpper) return upperNode(engine, found);
	if (found.stat.type === FileType.dir) {
		return nodeFor(engine, { home: top.layer.home, id: top.handle }, found.stat.type, found.reals, lowerFileid(top));
	}
	return lowerFileNode(engine, top, found.stat);
}

/** A lower file with several names, or any while some are in the index alone, may have been copied up under another name. */
function lowerFileNode(engine: Engine, real: Real, stat: Stat): Node | null {
	const { writable } = engine;
	const identity = { home: real.layer.home, id: real.handle };
	if (writable === null || (stat.nlink === 1 && !writable.linkCounts.hasUnnamed)) {
		return nodeFor(engine, identity, stat.type as FileType, [real], lowerFileid(real));
	}
	const live = engine.nodes.get(identityKey(identity.home, identity.id));
	if (live !== undefined) return live;
	const answer = writable.index.ask(writable.index.entryName(real.layer.fileSystem.uuid, real.handle));
	if (answer.kind === "gone") return null;
	if (answer.kind === "absent") return nodeFor(engine, identity, stat.type as FileType, [real], lowerFileid(real));
	refuseOther(engine, writable, identity, answer.fd, answer.stat);
	return indexedFileNode(engine, identity, answer.fd, answer.stat, lowerFileid(real));
}

/**
 * An index entry is a hard link that anyone who can write to work may have made to any file: it is followed only to an inode that says itself
 * what it was copied up from. Closes the descriptor when it throws.
 */
function refuseOther(engine: Engine, writable: Writable, identity: Identity, fd: number, stat: Stat): void {
	const { uuid } = engine.homes.get(identity.home) as Home;
	const origin = getMark(writable, fd, stat.type, engine.xattr.origin);
	if (typeof origin !== "number" && origin.equals(encodeRecord(uuid, identity.id, false))) return;
	close(fd);
	throw new OverlayError("io", "The index names another object than the copy of this one: run holdfast check");
}

/** The Node of a lower file that was copied up; takes over the descriptor of its upper inode. */
function indexedFileNode(engine: Engine, identity: Identity, fd: number, stat: Stat, fileid: Fileid): Node {
	const layer = (engine.writable as NonNullable<Engine["writable"]>).layer;
	const upper = realOf(layer, fd, stat);
	const node = nodeFor(engine, identity, stat.type as FileType, [upper], fileid);
	if (node.top.key === upper.key) engine.descriptors.adopt(node.top, fd);
	else close(fd);
	readLinkDelta(engine, node);
	return node;
}

/** Reads how far the link count of a copied-up object is from its inode's own (`nlink` xattr, "U%+d"; "L%+d": from its lower inode's). */
function readLinkDelta(engine: Engine, node: Node): void {
	node.isIndexed = true;
	const fd = engine.descriptors.path(node.top);
	const value = getMark(engine.writable as Writable, fd, node.type, engine.xattr.nlink);
	// what no count can be was not written by an overlay
	const match = typeof value === "number" ? null : /^([UL])([+-]\d{1,9})$/.exec(value.toString("latin1"));
	node.nlinkDelta = match === null ? -1 : Number.parseInt(match[2], 10);
	if (match?.[1] === "L") {
		const stat = new Stat();
		must(fstat(fd, stat), "Cannot read a copied up object");
		const upperLinks = stat.nlink;
		birthStat(engine, { home: node.home, id: node.id }, stat);
		node.nlinkDelta += stat.nlink - upperLinks;
	}
	engine.nodes.noteReals(node);
}

function upperNode(engine: Engine, found: Found): Node {
	const top = found.reals[0];
	const live = engine.nodes.get(identityKey(top.layer.home, top.handle)) ?? engine.nodes.byReal(top.key);
	if (live !== undefined) return live;
	const born = believedIdentity(engine, top, found.fds[0], found.stat);
	if (born === null) {
		// every merged directory of ours is in the index; two that take along the same lower one would show its objects twice
		if (found.reals.length > 1) {
			throw new OverlayError("io", "A directory of upper is merged with lower ones, and the index does not say so: run holdfast check");
		}
		const identity = { home: top.layer.home, id: top.handle };
		return nodeFor(engine, identity, found.stat.type as FileType, found.reals, lowerFileid(top));
	}
	const node = nodeFor(engine, born, found.stat.type as FileType, found.reals, birthFileid(engine, born));
	if (node.type !== FileType.dir) readLinkDelta(engine, node);
	return node;
}

/**
 * The identity of a copied-up inode is what its origin names, believed only where the index leads from that back to this very inode:
 * a planted or cloned xattr says nothing.
 */
function believedIdentity(engine: Engine, real: Real, fd: number, stat: Stat): Identity | null {
	if (engine.writable === null) return null;
	const origin = getMark(engine.writable, fd, stat.type, engine.xattr.origin);
	if (typeof origin === "number") return null;
	const identity = identityOfRecord(engine, origin);
	if (identity === null) return null;
	const answer = engine.writable.index.ask(origin.toString("hex"));
	if (answer.kind !== "upper") return null;
	close(answer.fd);
	return answer.stat.sameInode(stat) && !real.foreign ? identity : null;
}

/** What a file id is made of. */
interface Fileid {
	readonly real: Real | null;
	readonly space: number;
	readonly inoHi: number;
	readonly inoLo: number;
}

function lowerFileid(real: Real): Fileid {
	const birth = real.layer.handles.birthOf(real.handle);
	if (birth !== null) return { real, ...birth };
	return { real, space: real.foreign ? 0 : real.layer.space, inoHi: real.inoHi, inoLo: real.inoLo };
}

/**
 * The inode number at birth of an object that has been copied up: its lower inode is still there. Where somebody has removed that, its
 * number may be another's, and the object gets a hashed one: what it became is in upper, and is not lost with it.
 */
function birthFileid(engine: Engine, identity: Identity): Fileid {
	const { handles } = (engine.homes.get(identity.home) as Home).layers[0];
	if (handles.isPortable) return { real: null, ...(handles.birthOf(identity.id) ?? { space: 0, inoHi: 0, inoLo: 0 }) };
	const stat = new Stat();
	let home: Home;
	try {
		home = birthStat(engine, identity, stat);
	} catch (error) {
		if (!(error instanceof OverlayError) || error.code !== "stale") throw error;
		return { real: null, space: 0, inoHi: 0, inoLo: 0 };
	}
	return { real: null, space: layerOf(home, stat)?.space ?? 0, inoHi: stat.inoHi, inoLo: stat.inoLo };
}

/** Reads the lower inode that an object was born as. */
function birthStat(engine: Engine, identity: Identity, stat: Stat): Home {
	const home = engine.homes.get(identity.home) as Home;
	engine.patience?.guard(home.layers[0], identity.id, null, "inode");
	const fd = must(home.layers[0].handles.open(identity.id, O.path | O.nofollow), "Cannot open the lower object of a copied up one");
	const status = fstat(fd, stat);
	close(fd);
	must(status, "Cannot read a lower object");
	return home;
}

/** The layer of a home that shares its device with an inode: on btrfs each subvolume has its own. */
function layerOf(home: Home, stat: Stat): Layer | undefined {
	return home.layers.find((layer) => layer.rootStat.sameDevice(stat));
}

/** The one Node of an identity: the live one, or a new one over these real objects. */
export function nodeFor(engine: Engine, identity: Identity, type: FileType, reals: Real[], fileid: Fileid): Node {
	const key = identityKey(identity.home, identity.id);
	const live = engine.nodes.get(key);
	if (live !== undefined) return live;
	const number =
		fileid.space !== 0 && fitsFileid(fileid.inoHi) ? plainFileid(fileid.space, fileid.inoHi, fileid.inoLo) : hashedFileid(engine, key);
	const node = new Node({
		type,
		handle: handleFor(engine, identity),
		key,
		home: identity.home,
		id: identity.id,
		fileidHi: number.hi,
		fileidLo: number.lo,
		reals,
	});
	engine.nodes.add(node);
	return node;
}

/** 63 bits of a keyed hash, where an inode number leaves no room for its space. */
function hashedFileid(engine: Engine, key: string): { readonly hi: number; readonly lo: number } {
	const bytes = Buffer.from(key, "latin1");
	sipHash(engine.cookieKey, bytes, 0, bytes.length);
	return { hi: (sipHashHi & 0x7fffffff) >>> 0, lo: sipHashLo };
}

/** The object of an identity whose signature was good: live, or found again by climbing from where it was born. */
export function loadNode(engine: Engine, homeNumber: number, identity: Identity): Node {
	const home = engine.homes.get(homeNumber);
	if (home === undefined) throw new OverlayError("stale", "The handle is of a layer that is not in the stack");
	const answer = home.isUpper ? null : askIndex(engine, home, identity);
	const layer = answer === null ? home.layers[0] : (engine.writable as NonNullable<Engine["writable"]>).layer;
	if (answer === null) engine.patience?.guard(layer, identity.id, null, "inode");
	const fd = answer === null ? home.layers[0].handles.open(identity.id, O.path | O.nofollow) : answer.fd;
	if (fd < 0) throw goneOr(fd);
	if (answer !== null && answer.stat.type !== FileType.dir) {
		refuseOther(engine, engine.writable as Writable, { home: homeNumber, id: identity.id }, fd, answer.stat);
	}
	const stat = new Stat();
	let isKept = false;
	try {
		must(layer.stat(fd, stat), "Cannot read an object");
		if (stat.nlink === 0) throw new OverlayError("stale", "The object has been removed");
		if (stat.type === FileType.dir) return loadDirectory(engine, answer === null ? home : upperHome(engine), fd, identity);
		const place = answer === null ? home.layers[0].handles.placeInHome(identity.id) : null;
		const owner = place !== null ? home.layers[place] : answer === null ? (layerOf(home, stat) ?? layer) : layer;
		const real = answer === null ? realOfHandle(owner, identity.id, stat) : realOf(owner, fd, stat);
		const fileid = answer === null ? lowerFileid(real) : birthFileid(engine, identity);
		const node = nodeFor(engine, identity, stat.type as FileType, [real], fileid);
		if (node.top === real) {
			engine.descriptors.adopt(real, fd);
			isKept = true;
			noteStat(engine, node, stat);
		}
		if (answer !== null) readLinkDelta(engine, node);
		return node;
	} finally {
		if (!isKept) close(fd);
	}
}

function goneOr(status: number): OverlayError {
	return status === -ERRNO.ESTALE ? new OverlayError("stale", "The object is gone") : failed("Cannot open an object by its handle", status);
}

function upperHome(engine: Engine): Home {
	for (const home of engine.homes.values()) if (home.isUpper) return home;
	throw new OverlayError("io", "The export has no upper");
}

function askIndex(engine: Engine, home: Home, identity: Identity): { readonly fd: number; readonly stat: Stat } | null {
	if (engine.writable === null) return null;
	const { index } = engine.writable;
	const answer = index.ask(index.entryName(home.uuid, identity.id));
	if (answer.kind === "gone") throw new OverlayError("stale", "The object has been removed");
	return answer.kind === "absent" ? null : answer;
}

function loadDirectory(engine: Engine, home: Home, fd: number, identity: Identity): Node {
	const node = directoryOfReal(engine, home, fd);
	if (node.key !== identityKey(identity.home, identity.id)) {
		throw new OverlayError("stale", "Another directory is in the place of this one");
	}
	return node;
}

/**
 * The overlay directory that has this real directory in its stack: its parent's is found the same way, and the name looked up there.
 * "stale" where that leads to something else, as for what is hidden, or lies in no layer.
 */
export function directoryOfReal(engine: Engine, home: Home, fd: number): Node {
	const handle = home.layers[0].handles.of(fd);
	if (typeof handle === "number") throw failed("Cannot take a file handle", handle);
	const live = engine.nodes.byReal(realKey(home.layers[0], handle));
	if (live !== undefined) return live;
	engine.patience?.guard(home.layers[0], handle, null, "climb");
	for (const mount of home.mounts) {
		const climber = home.layers[0].handles.openOn(mount, handle, O.path);
		if (climber < 0) throw goneOr(climber);
		try {
			const node = climb(engine, home, climber, handle);
			if (node !== null) return node;
		} finally {
			close(climber);
		}
	}
	throw new OverlayError("stale", "The directory lies in no layer of the stack");
}

/** A step of a climb: a real directory, and its name in the real directory above it. */
interface Rung {
	readonly key: string;
	readonly name: Buffer;
}

/** As directoryOfReal, from a descriptor on one mount; null where that mount does not reach up to a layer's root. */
function climb(engine: Engine, home: Home, start: number, startHandle: FileHandle): Node | null {
	const rungs: Rung[] = [];
	let fd = start;
	let handle = startHandle;
	const stat = new Stat();
	const parentStat = new Stat();
	try {
		must(fstat(fd, stat), "Cannot read a directory");
		for (;;) {
			if (home.layers.some((layer) => layer.isRoot(stat))) return descend(engine, home, rootNode(engine), rungs);
			const key = realKey(home.layers[0], handle);
			const above = engine.nodes.byReal(key) ?? movedDirectory(engine, home, handle);
			if (above !== null && above !== undefined) return descend(engine, home, above, rungs);
			const parentFd = openAt(fd, "..", O.path);
			if (parentFd === -ERRNO.ENOENT) return null;
			must(parentFd, "Cannot open the parent of a directory");
			must(fstat(parentFd, parentStat), "Cannot read the parent of a directory");
			const name = parentStat.sameInode(stat) ? null : nameInParent(parentFd, fd, stat);
			if (fd !== start) close(fd);
			fd = parentFd;
			if (parentStat.sameInode(stat)) return null;
			if (name === null) throw new OverlayError("stale", "The directory has been removed");
			rungs.push({ key, name });
			fstat(fd, stat);
			const parentHandle = home.layers[0].handles.of(fd);
			if (typeof parentHandle === "number") throw failed("Cannot take a file handle", parentHandle);
			handle = parentHandle;
		}
	} finally {
		if (fd !== start) close(fd);
	}
}

/** Goes down again from an overlay directory, through those in which each real directory has its part. */
function descend(engine: Engine, home: Home, from: Node, rungs: Rung[]): Node {
	let node = from;
	for (let rung = rungs.pop(); rung !== undefined; rung = rungs.pop()) {
		const { key, name } = rung;
		// a path may be deeper than there may be descriptors
		engine.descriptors.trim();
		const child = engine.nodes.byReal(key) ?? childOfReal(engine, home, node, name, key);
		if (!child?.reals.some((real) => real.key === key)) throw new OverlayError("stale", "The directory is hidden or has been removed");
		node = child;
	}
	return node;
}

/**
 * Where a lower directory is that has been copied up, and so perhaps moved (the index knows), or that a redirect of a layer between
 * takes along. Null for any other.
 */
function movedDirectory(engine: Engine, home: Home, handle: FileHandle): Node | null {
	if (home.isUpper) return null;
	const record = encodeRecord(home.uuid, handle, false);
	const answer = engine.writable?.index.ask(record.toString("hex"));
	if (answer?.kind === "gone") return null;
	if (answer?.kind === "upper" && answer.stat.type !== FileType.dir) {
		close(answer.fd);
		throw new OverlayError("io", "The index names another object than the copy of this one: run holdfast check");
	}
	const to = answer?.kind === "upper" ? { fd: answer.fd, home: upperHome(engine).number } : redirectingDirectory(engine, record);
	if (to === null) return null;
	try {
		return directoryOfReal(engine, engine.homes.get(to.home) as Home, to.fd);
	} finally {
		close(to.fd);
	}
}

/**
 * The overlay directory in which the real directory `name` of a real parent has its part. It may have moved away: then one of the
 * lower directories above it in its stack is in the index, and leads to where it is now.
 */
function childOfReal(engine: Engine, home: Home, parent: Node, name: Uint8Array, key: string): Node | null {
	if (home.isUpper) return lookupChild(engine, parent, name);
	for (let from = parent.isUpper ? 1 : 0; from < parent.reals.length; from++) {
		const found = findReals(engine, parent, name, from);
		if (found === null) continue;
		closeAll(found);
		if (!found.reals.some((real) => real.key === key)) continue;
		const top = found.reals[0];
		const moved = movedDirectory(engine, engine.homes.get(top.layer.home) as Home, top.handle);
		if (moved !== null) return moved;
	}
	return lookupChild(engine, parent, name);
}

export function rootNode(engine: Engine): Node {
	return engine.nodes.get(ROOT_KEY) as Node;
}

/** Marks of the root of a layer that count. */
export function readRootMarks(engine: Engine, root: Real): void {
	root.hasXattrWhiteouts = opaqueMark(engine, root.layer.root) === OPAQUE_XATTR;
}

export const ROOT_KEY = identityKey(ROOT_HOME, { type: 0, bytes: Buffer.alloc(0) });

/** The kernel knows the path of an open directory; it is checked, and where it does not help the parent is listed. */
function nameInParent(parentFd: number, fd: number, stat: Stat): Buffer | null {
	const found = new Stat();
	const isName = (name: Buffer) => statAt(parentFd, name, found) === 0 && found.sameInode(stat);
	const path = readLink(-100, descriptorPath(fd));
	if (path !== null) {
		const name = path.subarray(path.lastIndexOf(0x2f) + 1);
		if (name.length > 0 && isName(name)) return name;
	}
	const candidates: Buffer[] = [];
	const list = must(openAt(parentFd, ".", O.rdonly | O.directory | O.noatime), "Cannot open a directory");
	visitEntries(list, (name, _type, hi, lo) => {
		// the number of a mount point in a listing is that of what it covers: directories are all candidates then
		if (lo === stat.inoLo && hi === stat.inoHi) candidates.push(Buffer.from(name));
		return undefined;
	});
	close(list);
	return candidates.find(isName) ?? null;
}

/** The Node that stands for this object now: a link to a directory may be older than its eviction. */
export function liveNode(engine: Engine, node: Node): Node {
	if (node.isDead) throw new OverlayError("stale", "The object has been removed");
	if (!node.isEvicted) return node;
	return engine.nodes.get(node.key) ?? loadNode(engine, node.home, { home: node.home, id: node.id });
}
