// Finds the object of a handle: climbs from the real directory to a known one, and descends by names.

import { ROOT_HOME } from "../../handle/wire-handle.ts";
import { realKey } from "../../layer/real.ts";
import { visitEntries } from "../../linux/directory.ts";
import { ERRNO } from "../../linux/errno.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { readLink } from "../../linux/names.ts";
import { close, descriptorPath, O, openAt } from "../../linux/open.ts";
import { fstat, Stat, statAt } from "../../linux/stat.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { FileType } from "../../vfs/operations.ts";
import { failed, must } from "../../vfs/system-errors.ts";
import { type Engine, type Home, identityOfRecord, rootNode } from "../engine/engine.ts";
import { encodeRecord, type Identity } from "../format/identity.ts";
import type { Writable } from "../journal/writable.ts";
import { identityKey, type Node } from "../nodes/node.ts";
import { realOf, realOfHandle } from "../nodes/reals.ts";
import { birthFileid, layerOf, lookupChild, lowerFileid, nodeFor, readLinkDelta, refuseOther } from "./objects.ts";
import { closeAll, findReals } from "./stack-search.ts";
import { noteStat } from "./stat.ts";

/** Opens the directory of a lower that takes another one along, and says which home it is of; null when none does. */
export function redirectingDirectory(engine: Engine, record: Buffer): { readonly fd: number; readonly home: number } | null {
	const value = engine.redirects.get(record);
	if (value === null) return null;
	const identity = identityOfRecord(engine, value);
	if (identity === null) return null;
	const { home, id } = identity;
	const fd = (engine.homes.get(home) as Home).layers[0].handles.open(id, O.path);
	return fd < 0 ? null : { fd, home };
}

/**
 * A directory and all above it, the root last. OverlayError "loop" where crafted redirects have made the way up lead round: every
 * directory is compared with one seen before, which is moved on after ever more steps.
 */
export function* upwards(engine: Engine, directory: Node): Generator<Node> {
	let seen: Node | null = null;
	let steps = 0;
	let stepsMax = 64;
	for (let at = directory; ; at = parentOf(engine, at)) {
		if (at.key === seen?.key)
			throw new OverlayError("loop", "A redirect of overlayfs leads to a directory that lies inside of what it leads to");
		yield at;
		if (at.home === ROOT_HOME) return;
		if (steps++ < stepsMax) continue;
		seen = at;
		steps = 0;
		stepsMax *= 2;
	}
}

/** The live directory that holds a directory. */
export function parentOf(engine: Engine, directory: Node): Node {
	if (directory.parent === null) return rootNode(engine);
	directory.parent = liveNode(engine, directory.parent);
	return directory.parent;
}

/** The object of an identity whose signature was good: live, or found again by climbing from where it was born. */
export function loadNode(engine: Engine, homeNumber: number, identity: Identity): Node {
	const home = engine.homes.get(homeNumber);
	if (home === undefined) throw new OverlayError("stale", "The handle is of a layer that is not in the stack");
	const { held } = engine;
	const key = identityKey(homeNumber, identity.id);
	if (held.isDoomed(key)) throw new OverlayError("stale", "The object has been removed");
	const answer = home.isUpper ? null : askIndex(engine, home, identity, key);
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
		node.isOrphan = held.isOrphan(key);
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

/** Null: the object still lies in its lower. */
function askIndex(engine: Engine, home: Home, identity: Identity, key: string): { readonly fd: number; readonly stat: Stat } | null {
	if (engine.writable === null) return null;
	const { index } = engine.writable;
	const answer = index.ask(index.entryName(home.uuid, identity.id));
	if (answer.kind === "gone") {
		if (!engine.held.isOrphan(key)) throw new OverlayError("stale", "The object has been removed");
		return orphanOf(engine, key);
	}
	return answer.kind === "absent" ? null : answer;
}

/** The upper inode of an orphan that was copied up; null: it still lies in its lower. */
function orphanOf(engine: Engine, key: string): { readonly fd: number; readonly stat: Stat } | null {
	const fd = engine.held.open(key);
	if (fd === -ERRNO.ENOENT) return null;
	must(fd, "Cannot open an object without a name");
	const stat = new Stat();
	const status = (engine.writable as Writable).layer.stat(fd, stat);
	if (status < 0) close(fd);
	must(status, "Cannot read an object without a name");
	return { fd, stat };
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

/** Goes down again from an overlay directory, through the overlay directory that each real one is a part of. */
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
	const status = visitEntries(list, (name, _type, hi, lo) => {
		// the number of a mount point in a listing is that of what it covers: directories are all candidates then
		if (lo === stat.inoLo && hi === stat.inoHi) candidates.push(Buffer.from(name));
		return undefined;
	});
	close(list);
	must(status, "Cannot read a directory");
	return candidates.find(isName) ?? null;
}

/** The Node that stands for this object now: a link to a directory may be older than its eviction. */
export function liveNode(engine: Engine, node: Node): Node {
	if (node.isDead) throw new OverlayError("stale", "The object has been removed");
	if (!node.isEvicted) return node;
	return engine.nodes.get(node.key) ?? loadNode(engine, node.home, { home: node.home, id: node.id });
}
