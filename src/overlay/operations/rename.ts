// Moves and exchanges names, with the redirects that directories need.

import { ERRNO } from "../../linux/errno.ts";
import { RENAME, renameName, unlinkName } from "../../linux/names.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { fstat } from "../../linux/stat.ts";
import { setXattr } from "../../linux/xattr.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { checkOldName } from "../../vfs/names.ts";
import { type Credentials, FileType } from "../../vfs/operations.ts";
import { must } from "../../vfs/system-errors.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";
import { ensureNamed, ensureUpper, markImpure } from "../copy-up/copy-up.ts";
import { notePartial } from "../copy-up/partial-access.ts";
import { keepData } from "../data/data-files.ts";
import { demand, isSuperuser, MAY } from "../engine/access.ts";
import { type Engine, writableOf } from "../engine/engine.ts";
import { Plan } from "../journal/plan.ts";
import type { Listings } from "../listing/listing.ts";
import { upwards } from "../lookup/by-handle.ts";
import { lookupChild } from "../lookup/objects.ts";
import { expectWhiteouts, isInLowers, upperEntry } from "../lookup/stack-search.ts";
import { statOf } from "../lookup/stat.ts";
import type { Node } from "../nodes/node.ts";
import { realOf } from "../nodes/reals.ts";
import { type Entry, setRedirect } from "./move-redirect.ts";
import { demandDelete, isEmpty, isLastName, planLoss, planOrphan, planTrash } from "./remove.ts";

/** Moves a name, as rename(2). Of a directory with parts in lowers only the directory itself is copied up: a redirect says where they are. */
export function renameObject(engine: Engine, listings: Listings, from: Entry, to: Entry, who: Credentials, mayReplace = true): void {
	writableOf(engine);
	for (const place of [from, to]) {
		if (place.directory.type !== FileType.dir) throw new OverlayError("notdir", "This is not a directory");
		checkOldName(place.name);
		demand(engine, place.directory, statOf(engine, place.directory), who, MAY.write | MAY.execute);
	}
	const source = lookupChild(engine, from.directory, from.name);
	if (source === null) throw new OverlayError("noent", "There is no such name");
	const target = lookupChild(engine, to.directory, to.name);
	if (target !== null && !mayReplace) throw new OverlayError("exist", "The new name exists");
	// two names of one object, or the same name: nothing to do, says POSIX
	if (target === source) return;
	// the look-up of the target may have seen another name of the source last
	demandDelete(engine, from.directory, source, who);
	if (target !== null) demandDelete(engine, to.directory, target, who);
	checkKinds(engine, listings, from, to, source, target, who);
	ensureUpper(engine, from.directory);
	ensureUpper(engine, to.directory);
	engine.nodes.place(source, from.directory, Buffer.from(from.name));
	if (source.type === FileType.dir) ensureUpper(engine, source);
	else ensureNamed(engine, source, from.directory, from.name);
	keepData(engine, source);
	move(engine, from, to, source, target);
	notePartial(engine, source, {});
	listings.noteRemoved(from.directory, from.name);
	if (target !== null) listings.noteRemoved(to.directory, to.name);
	engine.nodes.place(source, to.directory, Buffer.from(to.name));
	listings.noteAdded(to.directory, to.name, source);
	if (target?.type === FileType.dir) listings.forget(target);
}

/** Lets two names change places, as renameat2(2) with RENAME_EXCHANGE. Both must exist; they may be of any kinds. */
export function exchangeObjects(engine: Engine, listings: Listings, from: Entry, to: Entry, who: Credentials): void {
	const objects: Node[] = [];
	for (const place of [from, to]) {
		if (place.directory.type !== FileType.dir) throw new OverlayError("notdir", "This is not a directory");
		checkOldName(place.name);
		const node = lookupChild(engine, place.directory, place.name);
		if (node === null) throw new OverlayError("noent", "There is no such name");
		demandDelete(engine, place.directory, node, who);
		objects.push(node);
	}
	const [source, target] = objects;
	if (source === target) return;
	for (const [node, place] of [
		[source, to],
		[target, from],
	] as const) {
		if (node.type === FileType.dir && isWithin(engine, place.directory, node)) {
			throw new OverlayError("inval", "A directory cannot be moved into itself");
		}
	}
	ensureUpper(engine, from.directory);
	ensureUpper(engine, to.directory);
	for (const [node, place, other] of [
		[source, from, to],
		[target, to, from],
	] as const) {
		engine.nodes.place(node, place.directory, Buffer.from(place.name));
		if (node.type === FileType.dir) ensureUpper(engine, node);
		else ensureNamed(engine, node, place.directory, place.name);
		keepData(engine, node);
		prepareMove(engine, place, other, node, node === source ? target : source);
	}
	const plan = new Plan(engine, writableOf(engine));
	const [fromDirectory, toDirectory] = [plan.in(from.directory), plan.in(to.directory)];
	const flags = RENAME.exchange;
	plan.moves(source, from, to).moves(target, to, from).exchanged(source).exchanged(target);
	plan.add({ op: "move", inode: plan.of(source), from: fromDirectory, fromName: from.name, to: toDirectory, toName: to.name, flags });
	plan.perform();
	for (const [node, place] of [
		[source, to],
		[target, from],
	] as const) {
		listings.noteRemoved(place.directory, place.name);
		engine.nodes.place(node, place.directory, Buffer.from(place.name));
		listings.noteAdded(place.directory, place.name, node);
	}
}

/** Marks what moves to another place so that it shows there what it showed before, and nothing of what a lower has there. */
function prepareMove(engine: Engine, from: Entry, to: Entry, source: Node, target: Node | null): void {
	if (source.home !== source.top.layer.home) markImpure(engine, to.directory);
	if (source.type !== FileType.dir) return;
	if (source.reals.length > 1) setRedirect(engine, from, to, source, upwards(engine, source));
	else prepareDirectory(engine, to, source, target);
}

function checkKinds(engine: Engine, listings: Listings, from: Entry, to: Entry, source: Node, target: Node | null, who: Credentials): void {
	if (source.type === FileType.dir) {
		if (isWithin(engine, to.directory, source)) throw new OverlayError("inval", "A directory cannot be moved into itself");
		if (target !== null && target.type !== FileType.dir) throw new OverlayError("notdir", "A directory cannot take the place of a file");
		// its ".." changes, which is a write to the directory itself
		if (from.directory !== to.directory && !isSuperuser(who)) demand(engine, source, statOf(engine, source), who, MAY.write);
	} else if (target !== null && target.type === FileType.dir) {
		throw new OverlayError("isdir", "A file cannot take the place of a directory");
	}
	if (target === null || target.type !== FileType.dir) return;
	if (isWithin(engine, from.directory, target) || !isEmpty(engine, listings, target)) {
		throw new OverlayError("notempty", "The directory to be replaced is not empty");
	}
}

/** Whether `node` is `ancestor` or lies below it. */
function isWithin(engine: Engine, node: Node, ancestor: Node): boolean {
	for (const at of upwards(engine, node)) if (at === ancestor) return true;
	return false;
}

function move(engine: Engine, from: Entry, to: Entry, source: Node, target: Node | null): void {
	const leavesWhiteout = isInLowers(engine, from.directory, from.name);
	const targetEntry = upperEntry(engine, to.directory, to.name);
	const isDirectory = source.type === FileType.dir;
	prepareMove(engine, from, to, source, target);
	const plan = new Plan(engine, writableOf(engine));
	const fromDirectory = plan.in(from.directory);
	const toDirectory = plan.in(to.directory);
	if (target !== null) planOrphan(engine, plan, target);
	const replaced = target?.type === FileType.dir && targetEntry === "object" ? planClearing(engine, plan, to, target) : null;
	// a directory cannot be renamed over a device: they change places
	const swaps = isDirectory && targetEntry === "whiteout";
	// the kernel leaves a device
	const isFile = writableOf(engine).work.whiteoutXattr !== null;
	// what is replaced goes to the old name first, where the whiteout takes its place: so far the move can be taken back
	const isTurned = leavesWhiteout && isFile && targetEntry === "object";
	const flags = swaps || isTurned ? RENAME.exchange : leavesWhiteout && !isFile ? RENAME.whiteout : 0;
	if (leavesWhiteout) expectWhiteouts(engine, from.directory);
	// as in removeChild
	const isLast = target !== null && isLastName(engine, target);
	const loss = target === null ? null : planLoss(engine, plan, target, targetEntry === "object");
	const brought = target !== null && isLast ? planTrash(engine, plan, target) : null;
	plan.moves(source, from, to);
	const undo = targetEntry !== "object" || isTurned ? () => moveBack(engine, from, to, swaps || isTurned) : null;
	if (swaps) plan.exchanged(source);
	plan.add({ op: "move", inode: plan.of(source), from: fromDirectory, fromName: from.name, to: toDirectory, toName: to.name, flags }, undo);
	if (swaps && !leavesWhiteout) plan.add({ op: "unlinkWhiteout", in: fromDirectory, name: from.name });
	if (leavesWhiteout && isFile && !swaps) {
		const undo = isTurned ? null : () => unlinkName(engine.descriptors.path(from.directory.top), from.name);
		plan.add({ op: "whiteout", in: fromDirectory, name: from.name }, undo);
	}
	if (target !== null && isLast) plan.lost(target);
	try {
		plan.perform();
	} finally {
		if (replaced !== null) writableOf(engine).work.discard(replaced);
	}
	loss?.(to.directory, to.name);
	brought?.();
}

/** Takes a move back that has replaced nothing, should there be no space for what belongs to it. 0, or the negated error number. */
function moveBack(engine: Engine, from: Entry, to: Entry, swapped: boolean): number {
	const [fromFd, toFd] = [engine.descriptors.path(from.directory.top), engine.descriptors.path(to.directory.top)];
	const status = swapped ? -ERRNO.EEXIST : renameName(toFd, to.name, fromFd, from.name, RENAME.noReplace);
	if (status !== -ERRNO.EEXIST) return status;
	// the whiteout that the kernel has left there, or what it has changed places with
	const exchanged = renameName(toFd, to.name, fromFd, from.name, RENAME.exchange);
	return exchanged < 0 || swapped ? exchanged : unlinkName(toFd, to.name);
}

/** A directory that takes the place of one that a lower has must hide it. */
function prepareDirectory(engine: Engine, to: Entry, source: Node, target: Node | null): void {
	if (target === null && to.directory.reals.length === 1) return;
	source.stat = null;
	const fd = engine.descriptors.path(source.top);
	if (xattrOrNone(fd, engine.xattr.opaque, "Cannot read the marks of a directory") !== null) return;
	must(setXattr(fd, engine.xattr.opaque, Buffer.from("y")), "Cannot make a directory opaque");
}

/** A really empty directory for the place of one that holds only whiteouts, so that rename(2) may replace it. Its name in work. */
function planClearing(engine: Engine, plan: Plan, to: Entry, target: Node): string {
	const { work, layer, ids } = writableOf(engine);
	const stat = statOf(engine, target);
	const temporary = work.makeTemporaryDirectory(0o700);
	const fd = must(openAt(work.temporaries, temporary, O.path | O.directory), "Cannot open a directory in work");
	try {
		// the same rights as what it stands in for, should the rename behind it fail
		layer.rights.change(fd, FileType.dir, { uid: stat.uid, gid: stat.gid, mode: stat.mode & 0o7777 });
		setXattr(fd, engine.xattr.opaque, Buffer.from("y"));
		must(fstat(fd, stat), "Cannot read a directory in work");
		if (ids !== null) must(ids.assign(fd, ids.newId(true)), "Cannot give an object its id");
		const inode = realOf(layer, fd, stat).handle;
		const [place, flags] = [plan.in(to.directory), RENAME.exchange];
		plan.add({ op: "move", inode, from: "work", fromName: temporary, to: place, toName: to.name, flags }, () =>
			renameName(work.temporaries, temporary, engine.descriptors.path(to.directory.top), to.name, flags),
		);
		return temporary;
	} finally {
		close(fd);
	}
}
