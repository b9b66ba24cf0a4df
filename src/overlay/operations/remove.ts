// Removes names, and settles what that means for the object.

import { concealedKey, hiddenByFile } from "../../layer/hiding.ts";
import { type EntryVisitor, visitEntries } from "../../linux/directory.ts";
import { unlinkName } from "../../linux/names.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { Stat, statAt } from "../../linux/stat.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { checkOldName } from "../../vfs/names.ts";
import { type Credentials, FileType } from "../../vfs/operations.ts";
import { isFound, must } from "../../vfs/system-errors.ts";
import { abandonCopy } from "../copy-up/copy-job.ts";
import { ensureUpper, linkDelta } from "../copy-up/copy-up.ts";
import { demand, isSuperuser, MAY } from "../engine/access.ts";
import { type Engine, entryOf, writableOf } from "../engine/engine.ts";
import { takesLong } from "../engine/freed-space.ts";
import { PROTECTION, refuseProtected } from "../engine/protection.ts";
import { encodeBase } from "../format/base-version.ts";
import { isWhiteoutEntry, isWhiteoutFileEntry } from "../format/whiteout.ts";
import { Plan } from "../journal/plan.ts";
import type { Step } from "../journal/steps.ts";
import { DirectoryCursor, type Listings } from "../listing/listing.ts";
import { lookupChild } from "../lookup/objects.ts";
import { expectWhiteouts, isInLowers, upperEntry } from "../lookup/stack-search.ts";
import { linkCount, statOf } from "../lookup/stat.ts";
import type { Node } from "../nodes/node.ts";
import { recordOf } from "../nodes/reals.ts";
import { orphanMark, orphanName } from "../work/held-objects.ts";
import { getVersion } from "../work/marks.ts";

const S_ISVTX = 0o1000;

/** Write and search permission on the directory, and in a sticky one ownership of it or of the object. */
export function demandDelete(engine: Engine, directory: Node, node: Node, who: Credentials): void {
	const stat = statOf(engine, directory);
	demand(engine, directory, stat, who, MAY.write | MAY.execute);
	refuseProtected(engine, directory, stat, PROTECTION.append);
	refuseProtected(engine, node, statOf(engine, node));
	if ((stat.mode & S_ISVTX) === 0 || isSuperuser(who) || who.uid === stat.uid) return;
	if (who.uid !== statOf(engine, node).uid) throw new OverlayError("perm", "The directory is sticky and the object is somebody else's");
}

function childOf(engine: Engine, directory: Node, name: Uint8Array, who: Credentials): Node {
	writableOf(engine);
	if (directory.type !== FileType.dir) throw new OverlayError("notdir", "This is not a directory");
	checkOldName(name);
	demand(engine, directory, statOf(engine, directory), who, MAY.execute);
	const node = lookupChild(engine, directory, name);
	if (node === null) throw new OverlayError("noent", "There is no such name");
	return node;
}

/** Removes a name of anything but a directory. An untouched lower file is not copied for that. */
export function removeName(engine: Engine, listings: Listings, directory: Node, name: Uint8Array, who: Credentials): void {
	const node = childOf(engine, directory, name, who);
	if (node.type === FileType.dir) throw new OverlayError("isdir", "This is a directory");
	demandDelete(engine, directory, node, who);
	removeChild(engine, listings, directory, name, node);
}

/** Removes an empty directory: whiteouts do not count as content. */
export function removeDirectoryName(engine: Engine, listings: Listings, directory: Node, name: Uint8Array, who: Credentials): void {
	const node = childOf(engine, directory, name, who);
	if (node.type !== FileType.dir) throw new OverlayError("notdir", "This is not a directory");
	demandDelete(engine, directory, node, who);
	if (!isEmpty(engine, listings, node)) throw new OverlayError("notempty", "The directory is not empty");
	removeChild(engine, listings, directory, name, node);
	listings.forget(node);
}

/** Takes a name away, leaving a whiteout where a lower has it, and settles what that means for the object. */
function removeChild(engine: Engine, listings: Listings, directory: Node, name: Uint8Array, node: Node): void {
	ensureUpper(engine, directory);
	// what was born in upper is nowhere else, and what a name of upper would hide is not seen
	const isBornThere = !node.isIndexed && node.type !== FileType.dir;
	const hadUpper = node.isUpper && (isBornThere || upperEntry(engine, directory, name) === "object");
	const plan = new Plan(engine, writableOf(engine));
	planOrphan(engine, plan, node);
	// what needs no room to be taken back comes first, should there be none for the rest
	const isLast = isLastName(engine, node);
	const loss = planLoss(engine, plan, node, hadUpper);
	const brought = isLast ? planTrash(engine, plan, node) : null;
	if (hadUpper && !isInLowers(engine, directory, name)) {
		plan.add({ op: "unlink", in: plan.in(directory), name, inode: plan.of(node) });
	} else {
		expectWhiteouts(engine, directory);
		// over what upper has it is not taken back, and nothing that takes room is behind it
		const undo = hadUpper ? null : () => unlinkName(engine.descriptors.path(directory.top), name);
		plan.add({ op: "whiteout", in: plan.in(directory), name }, undo);
	}
	if (isLast) plan.lost(node);
	plan.perform();
	listings.noteRemoved(directory, name);
	loss(directory, name);
	brought?.();
}

/** Whether the object goes with the name that it is about to lose. */
export function isLastName(engine: Engine, node: Node): boolean {
	return node.type === FileType.dir || linkCount(engine, node, statOf(engine, node)) <= 1;
}

/** An object that is held open outlives its last name: before that goes, an upper one gets one among the orphans, and a lower one a mark. */
export function planOrphan(engine: Engine, plan: Plan, node: Node): void {
	if (node.type === FileType.dir || !engine.held.isHeld(node)) return;
	if (linkCount(engine, node, statOf(engine, node)) > 1) return;
	const { work } = writableOf(engine);
	const undo = (name: string) => () => unlinkName(work.orphans, name);
	if (node.isUpper) {
		const name = orphanName(node.key);
		plan.add({ op: "link", inode: plan.of(node), to: "orphans", toName: name }, undo(name));
		return;
	}
	const name = orphanMark(node.key);
	plan.add({ op: "mark", name, record: recordOf(node.top) }, undo(name));
}

/**
 * Before an upper inode loses its last link: one that takes long to free gets another one in the trash, where a thread frees it. Null: it is freed
 * with the step that takes its last link; else to be called once the steps have been made. Pending while there is too much in the trash. `livesOn`: only
 * the inode goes, and its object is another one from then on.
 */
export function planTrash(engine: Engine, plan: Plan, node: Node, livesOn = false): (() => void) | null {
	if (node.type !== FileType.reg || !node.isUpper || (!livesOn && engine.held.isHeld(node))) return null;
	const stat = statOf(engine, node);
	const bytes = stat.blocks * 512;
	if (!takesLong(engine, node, stat, bytes)) return null;
	const { trash } = writableOf(engine).work;
	const name = trash.admit();
	if (name === null) return null;
	plan.add({ op: "trash", inode: plan.of(node), name }, () => trash.unlink(name));
	return () => trash.bring(name, bytes, livesOn ? null : node.key);
}

/** To be called once the steps have been made: what they mean for the objects in memory. */
type AfterLoss = (directory: Node, name: Uint8Array) => void;

/**
 * Adds the steps for an object that loses one name. `hadUpper`: the name is one of the upper inode's own. When it is the last, the
 * object is gone, and the index says so for as long as its lower is in the stack.
 */
export function planLoss(engine: Engine, plan: Plan, node: Node, hadUpper: boolean): AfterLoss {
	const entry = entryOf(engine, node);
	plan.touch(node);
	const bury: AfterLoss = () => {
		engine.nodes.place(node, null, null);
		if (node.type !== FileType.dir && engine.held.isHeld(node)) {
			node.isOrphan = true;
			engine.held.noteOrphan(node.key);
			return;
		}
		abandonCopy(engine, node);
		engine.nodes.bury(node);
	};
	if (node.type === FileType.dir) {
		planTombstone(engine, plan, node, entry);
		return bury;
	}
	const stat = statOf(engine, node);
	const left = linkCount(engine, node, stat) - 1;
	const forgetName: AfterLoss = (directory, name) => {
		if (node.parent !== directory || !node.name?.equals(name)) return;
		engine.nodes.place(node, null, null);
	};
	if (!node.isUpper) {
		if (left > 0) {
			if (entry !== null) plan.addLast(countStep(engine, entry, left, encodeBase(stat)).step);
			return (directory, name) => {
				node.lowerLinks = left;
				forgetName(directory, name);
			};
		}
		planTombstone(engine, plan, node, entry);
		if (stat.nlink > 1 && entry !== null) plan.addLast({ op: "count", entry, value: null });
		return bury;
	}
	if (!node.isIndexed) return left > 0 ? forgetName : bury;
	// a name that only a lower shows is one of the union's, not of the inode's
	const delta = hadUpper ? node.nlinkDelta : node.nlinkDelta - 1;
	if (left > 0) {
		if (!hadUpper) plan.addLast(linkDelta(engine, plan.of(node), delta));
		return (directory, name) => {
			node.nlinkDelta = delta;
			forgetName(directory, name);
		};
	}
	planTombstone(engine, plan, node, entry);
	if (entry !== null) plan.addLast({ op: "unnamed", entry, value: false });
	return bury;
}

/** The index says that the object is gone. */
function planTombstone(engine: Engine, plan: Plan, node: Node, entry: string | null): void {
	if (entry === null) return;
	const base = versionOf(engine, node, entry);
	plan.add({ op: "whiteout", in: "index", name: entry, ...(base === null ? {} : { base }) }, () => {
		writableOf(engine).bases.delete(Buffer.from(entry, "hex"));
		return plan.putBack(entry);
	});
}

/** In what version the lower object was that is about to go: as it was copied up, as it lost its first name, or as it is now. Null: nobody knows. */
function versionOf(engine: Engine, node: Node, entry: string): Buffer | null {
	const writable = writableOf(engine);
	if (!node.isUpper) {
		const stat = statOf(engine, node);
		const left = stat.nlink > 1 && node.type !== FileType.dir ? writable.linkCounts.read(entry) : null;
		return left === null ? encodeBase(stat) : left.base;
	}
	return getVersion(writable, engine.descriptors.path(node.top), node.type);
}

/** Names left of an untouched lower file; null: the record goes. `version`: in what it was, where nothing says it yet. */
export function planCount(engine: Engine, plan: Plan, entry: string, value: number | null, version: Buffer | null): void {
	const { linkCounts } = writableOf(engine);
	const { step, before } = countStep(engine, entry, value, version);
	plan.add(step, () => (before === null ? linkCounts.delete(entry) : linkCounts.set(entry, before.count, before.base)));
}

function countStep(engine: Engine, entry: string, value: number | null, version: Buffer | null) {
	const before = writableOf(engine).linkCounts.read(entry);
	const base = value === null ? null : before === null ? version : before.base;
	const step: Step = { op: "count", entry, value, ...(base === null ? {} : { base }) };
	return { step, before };
}

/** Entries that are looked at at once: more are as a listing, which others need not wait for. */
const LOOKED_AT_MAX = 1000;

/** Whether the overlay shows nothing in this directory. Pending while one with many whiteouts is looked through. */
export function isEmpty(engine: Engine, listings: Listings, node: Node): boolean {
	const hidden = new Set<string>();
	const stat = new Stat();
	let left = LOOKED_AT_MAX;
	for (const real of node.reals) {
		if (real.foreign) continue;
		engine.patience?.guard(real.layer, real.handle, null, "list");
		const fd = must(openAt(engine.descriptors.path(real), ".", O.rdonly | O.directory | O.noatime), "Cannot open a directory for reading");
		let isFree = true;
		const { concealed } = real.layer;
		const status = visitAndClose(fd, (name, type, inoHi, inoLo) => {
			if (left-- === 0) return false;
			if (concealed?.has(concealedKey(inoHi, inoLo))) return undefined;
			if (real.layer.hiding.hasFiles && isWhiteoutFileEntry(fd, name, type, stat)) {
				const target = hiddenByFile(name);
				// what the same directory shows is seen all the same
				if (target !== null && !isFound(statAt(fd, target, stat), "Cannot read a directory"))
					hidden.add(Buffer.from(target).toString("latin1"));
				return undefined;
			}
			const key = Buffer.from(name).toString("latin1");
			if (hidden.has(key)) return undefined;
			hidden.add(key);
			if (isWhiteoutEntry(fd, name, type, real.whiteoutXattr, stat)) return undefined;
			isFree = false;
			return false;
		});
		must(status, "Cannot read a directory");
		if (!isFree) return false;
		if (left < 0) return !new DirectoryCursor(engine, listings, node, node, 0, FIRST_COOKIE).next();
	}
	return true;
}

function visitAndClose(fd: number, visit: EntryVisitor): number {
	try {
		return visitEntries(fd, visit);
	} finally {
		close(fd);
	}
}

/** Behind "." and "..". */
const FIRST_COOKIE = 2;
