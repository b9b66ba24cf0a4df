// Finds the object of a handle: climbs from the real directory to a known one, and descends by names.

import { ROOT_HOME } from "../../handle/wire-handle.ts";
import type { Ancestor } from "../../layer/handle-provider.ts";
import type { Layer } from "../../layer/layer.ts";
import { namesInPath } from "../../layer/path-search.ts";
import { realKey } from "../../layer/real.ts";
import { visitEntries } from "../../linux/directory.ts";
import { ERRNO } from "../../linux/errno.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { copyBytes } from "../../linux/memory.ts";
import { readLink } from "../../linux/names.ts";
import { close, descriptorPath, O, openAt } from "../../linux/open.ts";
import { fstat, Stat, statAt } from "../../linux/stat.ts";
import { OverlayError, Pending } from "../../vfs/errors.ts";
import { FileType } from "../../vfs/operations.ts";
import { failed, isFound, must } from "../../vfs/system-errors.ts";
import type { Climb } from "../engine/climbs.ts";
import { type Engine, identityOfRecord, rootNode } from "../engine/engine.ts";
import type { Home } from "../engine/home.ts";
import { nextTurn } from "../engine/turns.ts";
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
	const parent = liveNode(engine, directory.parent);
	if (parent !== directory.parent) engine.nodes.place(directory, parent, directory.name);
	return parent;
}

/** The object of an identity whose signature was good: live, or found again by climbing from where it was born. */
export function loadNode(engine: Engine, identity: Identity, key = identityKey(identity.home, identity.id)): Node {
	const climb = engine.climbs.for(key);
	if (climb !== undefined) return loadedDirectory(follow(engine, climb), identity);
	const home = engine.homes.get(identity.home);
	if (home === undefined) throw new OverlayError("stale", "The handle is of a layer that is not in the stack");
	const { held } = engine;
	if (held.isDoomed(key) || engine.writable?.work.trash.holds(key)) throw new OverlayError("stale", "The object has been removed");
	const answer = home.isUpper ? null : askIndex(engine, home, identity, key);
	const layer = answer === null ? home.layers[0] : (engine.writable as NonNullable<Engine["writable"]>).layer;
	if (answer === null) engine.patience?.guard(layer, identity.id, null, "inode");
	const fd = answer === null ? home.layers[0].handles.open(identity.id, O.path | O.nofollow) : answer.fd;
	if (fd < 0) throw goneOr(fd);
	if (answer !== null && answer.stat.type !== FileType.dir) {
		refuseOther(engine, engine.writable as Writable, identity, fd, answer.stat);
	}
	let isKept = false;
	try {
		const stat = statLoaded(layer, fd, answer === null);
		if (stat.nlink === 0) throw new OverlayError("stale", "The object has been removed");
		if (stat.type === FileType.dir) return loadDirectory(engine, answer === null ? home : upperHome(engine), fd, answer === null, identity);
		const index = answer === null ? home.layers[0].handles.layerInHome(identity.id) : null;
		const owner = index !== null ? home.layers[index] : answer === null ? (layerOf(home, stat) ?? layer) : layer;
		const real = answer === null ? realOfHandle(owner, identity.id, stat) : realOf(owner, fd, stat);
		const fileid = answer === null ? lowerFileid(real) : birthFileid(engine, identity);
		const node = nodeFor(engine, identity, stat.type as FileType, [real], fileid, key);
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

/** `isOpened`: by its handle, just now. */
function statLoaded(layer: Layer, fd: number, isOpened: boolean): Stat {
	if (isOpened) return must(layer.statOpened(fd), "Cannot read an object");
	const stat = new Stat();
	must(layer.stat(fd, stat), "Cannot read an object");
	return stat;
}

function loadDirectory(engine: Engine, home: Home, fd: number, isOwn: boolean, identity: Identity): Node {
	const handle = isOwn ? identity.id : home.layers[0].handles.of(fd);
	if (typeof handle === "number") throw failed("Cannot take a file handle", handle);
	try {
		return loadedDirectory(directoryOfReal(engine, home, fd, handle), identity);
	} catch (error) {
		// the next pass goes on without asking all this again
		if (error instanceof Pending) engine.climbs.note(identityKey(identity.home, identity.id), realKey(home.layers[0], handle));
		throw error;
	}
}

function loadedDirectory(node: Node, identity: Identity): Node {
	if (node.key === identityKey(identity.home, identity.id)) return node;
	throw new OverlayError("stale", "Another directory is in the place of this one");
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
	if (!index.mayHave(home.uuid, identity.id)) return null;
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

/**
 * The overlay directory that has this real directory in its stack. "stale" where there is none: what is hidden, or lies in no layer. Pending
 * while the way is long; the next pass goes on where this one has ended. `known`: its id, where the caller has it.
 *
 * `ascend` goes up through real directories, by "..", to a directory whose overlay directory is known; `descend` comes back down, looking the
 * names up in the overlay.
 *
 * It ends. Each step of `ascend` is to the real parent, and a real tree has no circle: it arrives at the root of a layer, or at the root of
 * the mount, which is its own parent. Before it goes on up it asks where a directory has moved to, which is a search of this kind that begins at
 * another real directory: one of upper, or of a layer above by whose redirect it was taken along. So searches within one another
 * are no more than there are layers. Crafted redirects can lead round: then a search needs itself, and is refused (`Climbs.run`). Each step of
 * `descend` takes one rung off. All that a search has found is in memory, with all directories above it, so that no other search goes up past it: together they make O(1) system calls for each directory on the ways that they go.
 *
 * It is the right one. `descend` begins at an overlay directory that has the real directory below the last rung in its stack: the root has
 * the roots of all layers; one in memory is found by the very real directory (`NodeCache.byReal`); one that has moved is what the index or the map of
 * redirects, which only we write, lead to. And it takes no step to a directory that has not the very inode of the rung in its
 * stack, whatever names say. So at the end the stack has the directory that was asked about; no two stacks have it, or `findReals` has refused
 * the second.
 */
export function directoryOfReal(engine: Engine, home: Home, fd: number, known: FileHandle | null = null): Node {
	const handle = known ?? home.layers[0].handles.of(fd);
	if (typeof handle === "number") throw failed("Cannot take a file handle", handle);
	const key = realKey(home.layers[0], handle);
	const live = engine.nodes.byReal(key);
	if (live !== undefined) return live;
	let climb = engine.climbs.get(key);
	if (climb === undefined) {
		engine.patience?.guard(home.layers[0], handle, null, "climb");
		climb = newClimb(key, home, handle, engine.memory.changes);
		engine.climbs.begin(climb);
	}
	return follow(engine, climb);
}

function newClimb(key: string, home: Home, start: FileHandle, changes: number): Climb {
	const ancestry = home.layers[0].handles.ancestry(start);
	return {
		key,
		home,
		start,
		ancestry,
		mount: 0,
		at: start,
		rungs: [],
		reached: null,
		changes,
		restarts: 0,
		isInterrupted: false,
		isActive: false,
	};
}

/** Goes on with a search, to its end if that is near. */
function follow(engine: Engine, climb: Climb): Node {
	return engine.climbs.run(climb, () => followOn(engine, climb));
}

function followOn(engine: Engine, climb: Climb): Node {
	try {
		if (climb.reached?.isDead || climb.reached?.isEvicted) throw new OverlayError("stale", "A directory on the way has been removed");
		climb.reached ??= ascend(engine, climb);
		const node = descend(engine, climb, climb.reached);
		engine.climbs.end(climb);
		// a request may have two handles, and each of them take many passes
		if (climb.isInterrupted) engine.nodes.keep(node);
		return node;
	} catch (error) {
		if (error instanceof Pending) {
			climb.isInterrupted = true;
			if (climb.reached !== null) engine.nodes.keep(climb.reached);
			throw error;
		}
		if (error instanceof OverlayError && error.code === "stale" && mayBeMoved(engine, climb)) beginAnew(engine, climb);
		engine.climbs.end(climb);
		throw error;
	}
}

/** Where a directory on the way was moved between two passes, what names and index said before and after does not fit together. */
function mayBeMoved(engine: Engine, climb: Climb): boolean {
	return climb.changes !== engine.memory.changes || climb.reached?.isEvicted === true;
}

function beginAnew(engine: Engine, climb: Climb): never {
	if (climb.restarts >= RESTARTS_MAX) {
		engine.climbs.end(climb);
		throw new OverlayError("tryagain", "Directories above this one are being moved");
	}
	climb.restarts++;
	climb.changes = engine.memory.changes;
	climb.mount = 0;
	climb.at = climb.start;
	climb.rungs.length = 0;
	climb.reached = null;
	throw new Pending(nextTurn());
}

/** To the first directory on the way up whose overlay directory is known. The rungs are the directories below it. */
function ascend(engine: Engine, climb: Climb): Node {
	const { home } = climb;
	const { handles } = home.layers[0];
	if (climb.ancestry !== null) return ascendByIds(engine, climb, climb.ancestry);
	for (; climb.mount < home.mounts.length; climb.mount++) {
		const from = handles.openOn(home.mounts[climb.mount], climb.at, O.path);
		if (from < 0) throw goneOr(from);
		const node = ascendOn(engine, climb, from);
		if (node !== null) return node;
		climb.at = climb.start;
		climb.rungs.length = 0;
	}
	throw new OverlayError("stale", "The directory lies in no layer of the stack");
}

/** Closes the descriptor. Null where this mount does not reach up to a layer's root. */
function ascendOn(engine: Engine, climb: Climb, from: number): Node | null {
	const { home, rungs } = climb;
	const stat = new Stat();
	const parentStat = new Stat();
	const path = new PathUp();
	let fd = from;
	try {
		must(fstat(fd, stat), "Cannot read a directory");
		for (;;) {
			if (home.layers.some((layer) => layer.isRoot(stat))) return rootNode(engine);
			const key = realKey(home.layers[0], climb.at);
			const above = engine.nodes.byReal(key) ?? movedDirectory(engine, home, climb.at);
			if (above !== null && above !== undefined) return above;
			engine.turns.spend(1, null);
			const parentFd = openAt(fd, "..", O.path);
			if (parentFd === -ERRNO.ENOENT) return null;
			must(parentFd, "Cannot open the parent of a directory");
			must(fstat(parentFd, parentStat), "Cannot read the parent of a directory");
			const isTop = parentStat.sameInode(stat);
			const name = isTop ? null : nameInParent(parentFd, fd, stat, path);
			close(fd);
			fd = parentFd;
			if (isTop) return null;
			if (name === null) throw new OverlayError("stale", "The directory has been removed");
			const parentHandle = home.layers[0].handles.of(fd);
			if (typeof parentHandle === "number") throw failed("Cannot take a file handle", parentHandle);
			refuseTooDeep(rungs.length);
			rungs.push({ key, name });
			climb.at = parentHandle;
			must(fstat(fd, stat), "Cannot read a directory");
		}
	} finally {
		close(fd);
	}
}

/** The same where the layer knows names and ids of all directories above: without a system call for each, but for what the index is asked. */
function ascendByIds(engine: Engine, climb: Climb, ancestry: readonly Ancestor[]): Node {
	const { home } = climb;
	refuseTooDeep(ancestry.length);
	for (let i = ancestry.length - 1 - climb.rungs.length; i >= 0; i--) {
		const { id, name } = ancestry[i];
		engine.turns.spend(ASK_STEPS, null);
		const key = realKey(home.layers[0], id);
		const above = engine.nodes.byReal(key) ?? movedDirectory(engine, home, id);
		if (above !== null && above !== undefined) return above;
		climb.rungs.push({ key, name });
	}
	return rootNode(engine);
}

/** Steps of asking the index alone. */
const ASK_STEPS = 0.25;
/** How often a search begins anew before its client is told to come again. */
const RESTARTS_MAX = 4;
/** What a search keeps of a path is bounded. */
const LEVELS_MAX = 32_768;

function refuseTooDeep(levels: number): void {
	if (levels >= LEVELS_MAX) throw new OverlayError("nametoolong", `A directory lies more than ${LEVELS_MAX} directories deep`);
}

/** Goes down from an overlay directory, through those in which each real directory has its part. */
function descend(engine: Engine, climb: Climb, from: Node): Node {
	const { home, rungs } = climb;
	let node = from;
	for (let rung = rungs.at(-1); rung !== undefined; rung = rungs.at(-1)) {
		const { key, name } = rung;
		// a path may be deeper than there may be descriptors
		engine.descriptors.trim();
		engine.turns.spend(2 + node.reals.length, node);
		const child = engine.nodes.byReal(key) ?? childOfReal(engine, home, node, name, key);
		if (!child?.reals.some((real) => real.key === key)) throw new OverlayError("stale", "The directory is hidden or has been removed");
		rungs.pop();
		node = child;
		climb.reached = node;
	}
	return node;
}

/**
 * Where a lower directory is that has been copied up, and so perhaps moved (the index knows), or that a redirect of a layer between
 * takes along. Null for any other.
 */
function movedDirectory(engine: Engine, home: Home, handle: FileHandle): Node | null {
	if (home.isUpper) return null;
	const index = engine.writable?.index;
	if (engine.redirects.isEmpty && index?.mayHave(home.uuid, handle) !== true) return null;
	const record = encodeRecord(home.uuid, handle, false);
	const answer = index?.ask(record.toString("hex"));
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

/** Names of a directory and of those above it, as the kernel tells them: none is believed unseen. */
class PathUp {
	#names: Buffer[] = [];
	#isAsked = false;

	/** The next name on the way up, of the directory behind the descriptor; null: the path is too long for the kernel. */
	next(fd: number): Buffer | null {
		const known = this.#names.pop();
		if (known !== undefined || this.#isAsked) return known ?? null;
		const path = readLink(-100, descriptorPath(fd));
		if (path === null || path[0] !== 0x2f) return null;
		this.#isAsked = true;
		// not views: a rung outlives the path
		this.#names = namesInPath(path).map((name) => copyBytes(name));
		return this.#names.pop() ?? null;
	}

	/** The names did not fit. */
	forget(): void {
		this.#names = [];
		this.#isAsked = false;
	}
}

/** Asks the kernel; what it says is checked, and where it does not help the parent is listed. */
function nameInParent(parentFd: number, fd: number, stat: Stat, path: PathUp): Buffer | null {
	const found = new Stat();
	const isName = (name: Buffer) => isFound(statAt(parentFd, name, found), "Cannot read a directory") && found.sameInode(stat);
	const name = path.next(fd);
	if (name !== null && isName(name)) return name;
	path.forget();
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
	return engine.nodes.get(node.key) ?? loadNode(engine, { home: node.home, id: node.id }, node.key);
}
