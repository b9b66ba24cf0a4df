// From real objects under a name to the Node of their identity.

import { sipHash, sipHashed } from "../../handle/sip-hash.ts";
import { HANDLE_BYTES_MAX, ROOT_HOME } from "../../handle/wire-handle.ts";
import type { Layer } from "../../layer/layer.ts";
import type { Real } from "../../layer/real.ts";
import { copyBytes } from "../../linux/memory.ts";
import { close, O } from "../../linux/open.ts";
import { birthTime, fstat, Stat } from "../../linux/stat.ts";
import { OverlayError, Pending } from "../../vfs/errors.ts";
import { FileType, type Timespec } from "../../vfs/operations.ts";
import { must } from "../../vfs/system-errors.ts";
import { type Engine, handleFor, identityOfRecord, NAMES_TICKS, rootNode } from "../engine/engine.ts";
import type { Home } from "../engine/home.ts";
import { encodeRecord, type Identity } from "../format/identity.ts";
import { parseLinkCount } from "../format/link-delta.ts";
import type { Writable } from "../journal/writable.ts";
import { identityKey, Node } from "../nodes/node.ts";
import { childKey } from "../nodes/node-cache.ts";
import { fitsFileid, plainFileid, realOf } from "../nodes/reals.ts";
import { getMark, getOrigin } from "../work/marks.ts";
import { refusePostponedName } from "./postponed.ts";
import { closeAll, type Found, searchStack, type Vacancy } from "./stack-search.ts";
import { noteStat, statOf } from "./stat.ts";

/** The object of a name, or null. Names of the overlay's directories lead to one Node for an identity, whatever the name. */
export function lookupChild(engine: Engine, directory: Node, name: Uint8Array): Node | null {
	const found = lookupPlace(engine, directory, name);
	return typeof found === "string" ? null : found;
}

/** The object at a path below the root; null: there is none. */
export function nodeAt(engine: Engine, names: readonly Uint8Array[]): Node | null {
	let node: Node | null = rootNode(engine);
	for (const name of names) node = node === null || node.type !== FileType.dir ? null : lookupChild(engine, node, name);
	return node;
}

/** As lookupChild, but where there is no such name, what upper has in its place. */
export function lookupPlace(engine: Engine, directory: Node, name: Uint8Array): Node | Vacancy {
	refusePostponedName(engine, directory, name);
	const key = childKey(name);
	const children = childrenOf(engine, directory);
	const known = children.get(key);
	if (known !== undefined && !known.isEvicted && !known.isDead) {
		known.isRecent = true;
		const hasNames = known.type !== FileType.dir && known.stat !== null && known.stat.nlink > 1;
		if (known.parent !== directory || known.name === null || (hasNames && !known.name.equals(name))) {
			engine.nodes.place(known, directory, copyBytes(name));
		}
		if (isThere(engine, known)) return known;
	}
	const found = findChild(engine, directory, name);
	if (typeof found !== "string") children.set(key, found);
	return found;
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

function findChild(engine: Engine, directory: Node, name: Uint8Array): Node | Vacancy {
	const found = searchStack(engine, directory, name, 0);
	if (typeof found === "string") return found;
	let taken = false;
	try {
		const node = nodeOf(engine, found);
		taken = true;
		if (node === null) {
			closeAll(found);
			// a lower file whose index entry says that it is gone: upper has nothing there
			return "none";
		}
		if (node.stat === null && (node.reals === found.reals || node.top.key === found.reals[0].key)) noteStat(engine, node, found.stat);
		found.reals.forEach((real, i) => {
			if (found.fds[i] < 0) return;
			const kept = node.reals.find((own) => own.key === real.key);
			if (kept === undefined) close(found.fds[i]);
			else engine.descriptors.adopt(kept, found.fds[i]);
		});
		if (node.type === FileType.dir) refuseLoop(engine, directory, node);
		engine.nodes.place(node, directory, node.name?.equals(name) ? node.name : copyBytes(name));
		return node;
	} finally {
		if (!taken) closeAll(found);
	}
}

/** A crafted redirect can lead a directory to one above itself; whoever went up from there would never arrive. */
function refuseLoop(engine: Engine, directory: Node, node: Node): void {
	// what nothing in memory is below is above none of the directories, which are all in memory as far as the root
	if (node.key !== directory.key && (node.parent === directory || (node.below === 0 && node.home !== ROOT_HOME))) return;
	for (let at: Node | null = directory; at !== null; at = at.parent) {
		if (at.key === node.key)
			throw new OverlayError("loop", "A redirect of overlayfs leads to a directory that lies inside of what it leads to");
		if (at.isEvicted) at = engine.nodes.get(at.key) ?? at;
		// an object that is not in memory was put under its parent by a way from the root, or will be when it is loaded again
		if (at.isEvicted) return;
	}
}

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
	const key = identityKey(identity.home, identity.id);
	const live = engine.nodes.get(key);
	if (live !== undefined) return live;
	if (!writable.index.mayHave(real.layer.fileSystem.uuid, real.handle)) {
		return nodeFor(engine, identity, stat.type as FileType, [real], lowerFileid(real), key);
	}
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
export function refuseOther(engine: Engine, writable: Writable, identity: Identity, fd: number, stat: Stat): void {
	const { uuid } = engine.homes.get(identity.home) as Home;
	try {
		const origin = getOrigin(writable, fd, stat.type);
		if (typeof origin !== "number" && origin.equals(encodeRecord(uuid, identity.id, false))) return;
		throw new OverlayError("io", "The index names another object than the copy of this one: run holdfast check");
	} catch (error) {
		close(fd);
		throw error;
	}
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
export function readLinkDelta(engine: Engine, node: Node): void {
	node.isIndexed = true;
	let value: Buffer | number;
	try {
		value = getMark(engine.writable as Writable, engine.descriptors.path(node.top), node.type, engine.xattr.nlink);
	} catch (error) {
		// who comes next reads it again
		engine.nodes.forget(node);
		throw error;
	}
	// what no count can be was not written by an overlay
	const count = typeof value === "number" ? null : parseLinkCount(value.toString("latin1"));
	node.nlinkDelta = count?.delta ?? -1;
	if (count?.of === "lower") {
		const stat = new Stat();
		must(fstat(engine.descriptors.path(node.top), stat), "Cannot read a copied up object");
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
	const origin = getOrigin(engine.writable, fd, stat.type);
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

export function lowerFileid(real: Real): Fileid {
	const birth = real.layer.handles.birthOf(real.handle);
	if (birth !== null) return { real, ...birth };
	return { real, space: real.foreign ? 0 : real.layer.space, inoHi: real.inoHi, inoLo: real.inoLo };
}

/**
 * The inode number at birth of an object that has been copied up: its lower inode is still there. Where somebody has removed that, its
 * number may be another's, and the object gets a hashed one: what it became is in upper, and is not lost with it.
 */
export function birthFileid(engine: Engine, identity: Identity): Fileid {
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

/** See OverlayOperations.birthTime. */
export function birthTimeOf(engine: Engine, node: Node): Timespec | null {
	// what is not there any more has no times
	statOf(engine, node);
	const home = engine.homes.get(node.home);
	// the root was born in none of them
	if (home === undefined || node.top.layer.home === node.home) return birthTime(engine.descriptors.path(node.top));
	const { handles } = home.layers[0];
	// where a path would have to be searched for it
	if (handles.isPortable) return null;
	try {
		return atBirth(engine, { home: node.home, id: node.id }, birthTime);
	} catch (error) {
		if (error instanceof OverlayError && error.code === "stale") return null;
		throw error;
	}
}

/** Reads the lower inode that an object was born as. */
export function birthStat(engine: Engine, identity: Identity, stat: Stat): Home {
	must(
		atBirth(engine, identity, (fd) => fstat(fd, stat)),
		"Cannot read a lower object",
	);
	return engine.homes.get(identity.home) as Home;
}

/** Opens that inode for a look at it. */
function atBirth<T>(engine: Engine, identity: Identity, look: (fd: number) => T): T {
	const [layer] = (engine.homes.get(identity.home) as Home).layers;
	engine.patience?.guard(layer, identity.id, null, "inode");
	const fd = must(layer.handles.open(identity.id, O.path | O.nofollow), "Cannot open the lower object of a copied up one");
	try {
		return look(fd);
	} finally {
		close(fd);
	}
}

/** The layer of a home that shares its device with an inode: on btrfs each subvolume has its own. */
export function layerOf(home: Home, stat: Stat): Layer | undefined {
	return home.layers.find((layer) => layer.rootStat.sameDevice(stat));
}

/** The one Node of an identity: the live one, or a new one over these real objects. */
export function nodeFor(
	engine: Engine,
	identity: Identity,
	type: FileType,
	reals: Real[],
	fileid: Fileid,
	key = identityKey(identity.home, identity.id),
): Node {
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

/** No key is longer than an id of a handle with what stands before it. */
const hashedKey = Buffer.alloc(HANDLE_BYTES_MAX);

/** 63 bits of a keyed hash, where an inode number leaves no room for its space. */
function hashedFileid(engine: Engine, key: string): { readonly hi: number; readonly lo: number } {
	sipHash(engine.cookieKey, hashedKey, 0, hashedKey.write(key, "latin1"));
	return { hi: (sipHashed[0] & 0x7fffffff) >>> 0, lo: sipHashed[1] };
}
