// Copies an object up: builds it in work and publishes it in the index and under its name in one step.

import { mayShareExtents } from "../../layer/copy-data.ts";
import type { Layer } from "../../layer/layer.ts";
import { namesInPath } from "../../layer/path-search.ts";
import type { Real } from "../../layer/real.ts";
import { OVERRIDE_XATTR, OVERRIDE_XATTRS } from "../../layer/rights.ts";
import { changeTimes } from "../../linux/attributes.ts";
import { cloneFile, truncateFile } from "../../linux/data.ts";
import { ENODATA, ERRNO } from "../../linux/errno.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { makeFile, makeNode, makeSymlink, RENAME, readLink, readLinkAt, unlinkName } from "../../linux/names.ts";
import { close, descriptorPath, O, openAt } from "../../linux/open.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { getXattr, listXattrs, setXattr } from "../../linux/xattr.ts";
import { OverlayError, Pending } from "../../vfs/errors.ts";
import { FileType, type SetAttributes } from "../../vfs/operations.ts";
import { failed, must } from "../../vfs/system-errors.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";
import { dataOf } from "../data/data-files.ts";
import { type Engine, entryOf, rootNode, writableOf } from "../engine/engine.ts";
import { keepProtection } from "../engine/protection.ts";
import { COPY_UP_STEPS } from "../engine/turns.ts";
import { encodeBase, originWith } from "../format/base-version.ts";
import { encodeRecord } from "../format/identity.ts";
import { nlinkValue } from "../format/link-delta.ts";
import { Plan } from "../journal/plan.ts";
import { giveId, type Step } from "../journal/steps.ts";
import type { Writable } from "../journal/writable.ts";
import { liveNode, parentOf, upwards } from "../lookup/by-handle.ts";
import { lookupChild } from "../lookup/objects.ts";
import { upperEntry } from "../lookup/stack-search.ts";
import { statOf } from "../lookup/stat.ts";
import type { Node } from "../nodes/node.ts";
import { realOf, recordOf } from "../nodes/reals.ts";
import { orphanMark, orphanName } from "../work/held-objects.ts";
import { getOrigin, setMark } from "../work/marks.ts";
import { copyAtOnce, startCopy } from "./copy-job.ts";

/**
 * Makes the object lie in upper, with all directories above it, and changes nothing that a client sees. Built in work and published
 * at once, first in the index and then under its name. Data is copied and flushed off the main thread: Pending until it is there, and while
 * there are more directories above it than one pass copies up.
 */
export function ensureUpper(engine: Engine, node: Node): void {
	if (!node.isUpper) copyUp(engine, node, null);
}

/**
 * Changes attributes, as a part of the copy up where the object still lies in a lower: a crash leaves it as it was, or changed, and
 * never copied up with another ctime, which a repeated guarded SETATTR would take for somebody's change. Pending as ensureUpper.
 */
export function changeUpper(engine: Engine, node: Node, change: SetAttributes): void {
	if (!node.isUpper) {
		copyUp(engine, node, change);
		return;
	}
	const plan = new Plan(engine, writableOf(engine));
	plan.add({ op: "attributes", inode: plan.of(node), type: node.type, change }).perform(node.handle);
}

function copyUp(engine: Engine, node: Node, change: SetAttributes | null): void {
	const writable = writableOf(engine);
	if (node.type === FileType.dir) copyUpDirectory(engine, writable, node, change);
	else copyUpFile(engine, writable, node, change);
}

/**
 * Carries the plan of a copy up out, with the change that it is made for. False: nothing was published, and what was built is gone.
 * When only a step behind the publishing fails, the object is copied up all the same: the error comes back to be thrown then.
 */
function carryOut(plan: Plan, node: Node, inode: FileHandle, change: SetAttributes | null, temporary: string): unknown {
	try {
		if (change === null) plan.prepare();
		// made without what it loses, so that it must not be seen unless all of the change is made
		else if (plan.steps[0].op === "attributes") plan.perform(node.handle);
		else plan.add({ op: "attributes", inode, type: node.type, change }).perform(node.handle);
		return null;
	} catch (error) {
		const publishing = plan.steps.findIndex((step) => step.op === "move" && step.fromName === temporary);
		if (plan.stepsMade <= publishing) throw error;
		return error;
	}
}

/** A directory with all above it, the topmost first: each lies in upper for good when it is done, so that the next pass goes on below it. */
function ensureUpperAbove(engine: Engine, writable: Writable, directory: Node): void {
	if (directory.isUpper) return;
	const lowers: Node[] = [];
	for (const at of upwards(engine, directory)) {
		if (at.isUpper) break;
		lowers.push(at);
	}
	for (const lower of lowers.reverse()) {
		engine.turns.spend(COPY_UP_STEPS, directory);
		copyUpDirectory(engine, writable, lower, null);
	}
}

function copyUpDirectory(engine: Engine, writable: Writable, node: Node, change: SetAttributes | null): void {
	const parent = parentOf(engine, node);
	const name = node.name as Buffer;
	ensureUpperAbove(engine, writable, parent);
	const { work, index, layer } = writable;
	const source = node.top;
	const temporary = work.makeTemporaryDirectory(0o700);
	const fd = must(openAt(work.temporaries, temporary, O.rdonly | O.directory), "Cannot open a directory in work");
	const entry = index.entryName(source.layer.fileSystem.uuid, source.handle);
	let failure: unknown = null;
	let made: FileHandle | null = null;
	try {
		const real = dressDirectory(engine, writable, source, fd, parent.top.handle, name);
		const entryName = index.buildDirectoryEntry(real.handle);
		const entryHandle = layer.handles.at(work.temporaries, entryName);
		if (typeof entryHandle === "number") throw failed("Cannot take a file handle", entryHandle);
		made = entryHandle;
		const plan = new Plan(engine, writable);
		// over the entry of a copy up that never ended, if there is one
		plan.add({ op: "move", inode: entryHandle, from: "work", fromName: entryName, to: "index", toName: entry, flags: 0 });
		const inode = plan.built(real, fd);
		publish(engine, plan, parent, name, temporary, inode);
		failure = carryOut(plan, node, inode, change, temporary);
		node.reals = [real, ...node.reals];
		// no value of an object of upper was given out before, and one of a lower is less
		node.change = 0;
		node.stat = null;
		node.defaultAcl = undefined;
		engine.nodes.noteReals(node);
	} catch (error) {
		index.withdraw(entry, made);
		work.discard(temporary);
		throw error;
	} finally {
		close(fd);
	}
	if (failure !== null) throw failure;
}

/** Makes a directory in work the copy of a lower one, which is to stand under a name in an upper directory. */
export function dressDirectory(engine: Engine, writable: Writable, source: Real, fd: number, above: FileHandle, name: Uint8Array): Real {
	const stat = new Stat();
	must(source.layer.stat(engine.descriptors.path(source), stat), "Cannot read a lower directory");
	mark(engine, fd, source, stat, encodeBase(stat));
	if (writable.ids !== null) giveId(writable, writable.ids.newId(true), fd, above, name);
	copyMetadata(writable.layer, engine.descriptors.path(source), fd, stat, source.layer.rights.isKept);
	must(writable.layer.stat(fd, stat), "Cannot read a directory in work");
	return realOf(writable.layer, fd, stat);
}

function copyUpFile(engine: Engine, writable: Writable, node: Node, change: SetAttributes | null): void {
	const place = node.isOrphan ? null : placeOf(engine, node);
	if (place !== null) ensureUpper(engine, place.parent);
	const source = node.top;
	const stat = statOf(engine, node);
	const entry = writable.index.entryName(source.layer.fileSystem.uuid, source.handle);
	// that of an object without a name says that it is gone, and goes on saying so
	if (!node.isOrphan) clearEntry(writable, entry);
	// what is copied is not newer than this
	const version = encodeBase(node.copyUp?.before ?? stat);
	const built = build(engine, writable, node, stat, change?.size === 0);
	const lowerLinks = stat.nlink;
	let failure: unknown = null;
	let made: FileHandle | null = null;
	try {
		const names = node.lowerLinks >= 0 ? node.lowerLinks : (writable.linkCounts.get(entry) ?? stat.nlink);
		// the inode will have its index entry for a link, and its name where that is known
		const delta = names - (place === null ? 1 : 2);
		// first: marks of what can carry none are kept by its id
		if (writable.ids !== null) must(writable.ids.assign(built.fd, writable.ids.newId(false)), "Cannot give an object its id");
		mark(engine, built.fd, source, stat, version);
		// one name here and one in the index is what is taken for granted; each xattr less lets more of them fit into the inode
		if (!node.isOrphan && (delta !== -1 || lowerLinks > 1))
			must(setMark(writable, built.fd, engine.xattr.nlink, nlinkValue(delta)), "Cannot set the link count");
		copyMetadata(writable.layer, engine.descriptors.path(source), built.fd, stat, source.layer.rights.isKept);
		const copied = new Stat();
		must(writable.layer.stat(built.fd, copied), "Cannot read an object in work");
		const real = realOf(writable.layer, built.fd, copied);
		const plan = new Plan(engine, writable);
		const inode = plan.built(real, built.fd);
		made = inode;
		if (built.data !== null) noteData(engine, real, built.data);
		if (change?.size === 0) plan.add({ op: "attributes", inode, type: node.type, change });
		if (node.isOrphan) {
			const flags = RENAME.noReplace;
			const [toName, mark] = [orphanName(node.key), orphanMark(node.key)];
			plan.add({ op: "move", inode, from: "work", fromName: built.temporary, to: "orphans", toName, flags });
			plan.add({ op: "unmark", name: mark });
		} else if (place === null) {
			plan.add({ op: "unnamed", entry, value: true }, () => writable.linkCounts.noteNamed(entry));
			const flags = RENAME.noReplace;
			plan.add({ op: "move", inode, from: "work", fromName: built.temporary, to: "index", toName: entry, flags });
		} else {
			plan.add({ op: "link", inode, to: "index", toName: entry });
			publish(engine, plan, place.parent, place.name, built.temporary, inode);
		}
		if (lowerLinks > 1 && !node.isOrphan) plan.add({ op: "count", entry, value: null });
		failure = carryOut(plan, node, inode, change, built.temporary);
		engine.descriptors.drop(source);
		node.reals = [real];
		// no value of an object of upper was given out before, and one of a lower is less
		node.change = 0;
		node.stat = null;
		node.data = built.data;
		node.protection = -1;
		node.isIndexed = true;
		node.nlinkDelta = delta;
		node.lowerLinks = -1;
		engine.nodes.noteReals(node);
		if (node.type === FileType.reg) engine.descriptors.adoptData(real, built.fd);
		else engine.descriptors.adopt(real, built.fd);
	} catch (error) {
		close(built.fd);
		writable.index.withdraw(entry, made);
		writable.work.discard(built.temporary);
		if (made !== null && built.data !== null) engine.dataFiles.delete(encodeRecord(writable.layer.fileSystem.uuid, made, true));
		throw error;
	}
	if (failure !== null) throw failure;
}

/** A file that is copied up without its data: where that is must be known before the file is seen. */
function noteData(engine: Engine, real: Real, data: Real): void {
	engine.dataFiles.set(real, data, true);
	real.layer.mayHoldMetacopies = true;
}

/** An entry for a file that still lies in a lower: left of a copy up that a power failure has cut short, or somebody else's, which stays. */
function clearEntry(writable: Writable, entry: string): void {
	const answer = writable.index.ask(entry);
	if (answer.kind === "absent") return;
	let origin: Buffer | number = -ENODATA;
	let handle: FileHandle | number = -ENODATA;
	if (answer.kind === "upper") {
		try {
			origin = getOrigin(writable, answer.fd, answer.stat.type);
			handle = writable.layer.handles.of(answer.fd);
		} finally {
			close(answer.fd);
		}
	}
	if (typeof origin === "number" || typeof handle === "number" || origin.toString("hex") !== entry) {
		throw new OverlayError("io", "The index says that this object was removed, or is another one: run holdfast check");
	}
	writable.index.withdraw(entry, handle);
}

interface Built {
	readonly temporary: string;
	/** O_PATH, or the open file. */
	readonly fd: number;
	/** The file that has its data, where it was made without. */
	readonly data: Real | null;
}

const EMPTY = Buffer.alloc(0);

/** Makes a device, fifo or socket in work, or a file that stands for one. */
export function makeSpecial({ work, layer: { rights } }: Writable, temporary: string, type: number, major: number, minor: number): void {
	const real = rights.realType(type);
	must(
		makeNode(work.temporaries, temporary, (real << 12) | 0o600, real === type ? major : 0, real === type ? minor : 0),
		"Cannot make a node in work",
	);
	if (real === type) return;
	const fd = must(openAt(work.temporaries, temporary, O.path | O.nofollow), "Cannot open an object in work");
	const status = rights.disguise(fd, type, major, minor);
	close(fd);
	must(status, "Cannot say what a file stands for");
}

/** Makes the inode in work, with its data but without its attributes. */
function build(engine: Engine, writable: Writable, node: Node, stat: Stat, withoutData: boolean): Built {
	const { work } = writable;
	if (node.type === FileType.reg) return buildRegular(engine, writable, node, stat, withoutData);
	const temporary = work.temporaryName();
	if (node.type === FileType.lnk) {
		const target = must(readLinkAt(engine.descriptors.path(node.top), ""), "Cannot read a symlink of a lower");
		must(makeSymlink(target, work.temporaries, temporary), "Cannot make a symlink in work");
	} else makeSpecial(writable, temporary, stat.type, stat.rdevMajor, stat.rdevMinor);
	const fd = must(openAt(work.temporaries, temporary, O.path | O.nofollow), "Cannot open an object in work");
	return { temporary, fd, data: null };
}

function buildRegular(engine: Engine, writable: Writable, node: Node, stat: Stat, withoutData: boolean): Built {
	const job = node.copyUp;
	if (job !== null) {
		if (job.state === "running") throw new Pending(job.ready);
		node.copyUp = null;
		if (job.error === null) return { temporary: job.temporary as string, fd: job.fd, data: null };
		close(job.fd);
		writable.work.discard(job.temporary as string);
		throw job.error;
	}
	const { work } = writable;
	const temporary = work.temporaryName();
	const fd = must(makeFile(work.temporaries, temporary, 0o600), "Cannot make a file in work");
	if (withoutData || stat.size === 0) return { temporary, fd, data: null };
	let source = -1;
	try {
		const data = dataOf(engine, node);
		if (stat.size >= (engine.partials?.limits.bytesMin ?? Number.POSITIVE_INFINITY)) {
			must(truncateFile(fd, stat.size), "Cannot set the size of a file in work");
			must(setXattr(fd, engine.xattr.metacopy, EMPTY), "Cannot mark a file as one without data");
			return { temporary, fd, data };
		}
		source = openData(data);
		const [from, to] = [data.layer.fileSystem, writable.layer.fileSystem];
		if (mayShareExtents(from, to) && cloneFile(source, fd) === 0) {
			must(truncateFile(fd, stat.size), "Cannot set the size of a file in work");
			close(source);
			return { temporary, fd, data: null };
		}
		if (copyAtOnce(from, to, source, fd, stat)) {
			close(source);
			return { temporary, fd, data: null };
		}
	} catch (error) {
		if (source >= 0) close(source);
		close(fd);
		work.discard(temporary);
		throw error;
	}
	throw new Pending(startCopy(engine, node, temporary, fd, source, stat));
}

function openData(data: Real): number {
	return must(data.layer.handles.open(data.handle, O.rdonly | O.noatime), "Cannot open a lower file");
}

/** Says on the new inode what it was copied up from, which with the index is its identity too, and in what version. */
function mark(engine: Engine, fd: number, source: Real, stat: Stat, version: Buffer): void {
	keepProtection(engine, stat, fd);
	const origin = originWith(recordOf(source), version);
	must(setMark(writableOf(engine), fd, engine.xattr.origin, origin), "Cannot mark the origin of a copied up object");
}

/**
 * Owner, extended attributes with ACLs, mode and times, as they are on the source. The overlay's own xattrs stay behind; what a
 * second overlay on top keeps there, escaped, is content. `isOverridden`: the source keeps owner and mode in an xattr.
 */
export function copyMetadata(layer: Pick<Layer, "xattr" | "rights">, from: number, to: number, stat: Stat, isOverridden = false): void {
	const { xattr, rights } = layer;
	must(rights.change(to, stat.type, { uid: stat.uid, gid: stat.gid }), "Cannot set the owner of an object in work");
	const names = listXattrs(from);
	if (typeof names === "number") {
		if (names !== -ERRNO.EOPNOTSUPP) throw failed("Cannot list extended attributes", names);
	} else {
		for (const name of names) {
			const text = name.toString("latin1");
			if (text.startsWith(xattr.prefix) && !text.startsWith(xattr.escape)) continue;
			// who is no superuser keeps these in a way of their own
			if (rights.isKept && text === OVERRIDE_XATTR) continue;
			if (isOverridden && OVERRIDE_XATTRS.some((override) => override === text)) continue;
			const value = getXattr(from, name);
			if (value === -ENODATA) continue;
			if (typeof value === "number") throw failed("Cannot read an extended attribute", value);
			const status = setXattr(to, name, value);
			// a file system without this kind of attribute, as overlayfs does: the object is worth more than its label
			const isLost = rights.isKept && status === -ERRNO.EPERM;
			if (status < 0 && status !== -ERRNO.EOPNOTSUPP && !isLost) throw failed("Cannot copy an extended attribute", status);
		}
	}
	if (stat.type !== FileType.lnk)
		must(rights.change(to, stat.type, { mode: stat.mode & 0o7777 }), "Cannot set the mode of an object in work");
	const times = changeTimes(to, { sec: stat.atimeSec, nsec: stat.atimeNsec }, { sec: stat.mtimeSec, nsec: stat.mtimeNsec });
	must(times, "Cannot set the times of an object in work");
}

/** Moves what was built under its name in an upper directory, whose times do not change by that. */
function publish(engine: Engine, plan: Plan, parent: Node, name: Uint8Array, temporary: string, inode: FileHandle): void {
	markImpure(engine, parent);
	const to = plan.in(parent);
	plan.add({ op: "move", inode, from: "work", fromName: temporary, to, toName: name, flags: RENAME.noReplace });
	plan.add(timesOf(engine, parent));
}

/** The step that sets the times of an upper directory back to what they are now. */
function timesOf(engine: Engine, directory: Node): Step {
	const stat = new Stat();
	must(fstat(engine.descriptors.path(directory.top), stat), "Cannot read a directory of upper");
	return {
		op: "times",
		inode: directory.top.handle,
		atime: { sec: stat.atimeSec, nsec: stat.atimeNsec },
		mtime: { sec: stat.mtimeSec, nsec: stat.mtimeNsec },
	};
}

const YES = Buffer.from("y");

/** Says that an upper directory holds objects that were born elsewhere, so that listings look for their numbers. */
export function markImpure(engine: Engine, directory: Node): void {
	const { top } = directory;
	if (top.isImpure) return;
	const fd = engine.descriptors.path(top);
	if (xattrOrNone(fd, engine.xattr.impure, "Cannot read the marks of a directory") === null) {
		directory.stat = null;
		must(setXattr(fd, engine.xattr.impure, YES), "Cannot mark a directory as impure");
	}
	top.isImpure = true;
}

/** A name by which a lower file can be published: the last one seen, or what the kernel remembers, if it still leads here. */
function placeOf(engine: Engine, node: Node): { readonly parent: Node; readonly name: Buffer } | null {
	return seenPlace(engine, node) ?? rememberedPlace(engine, node);
}

function seenPlace(engine: Engine, node: Node): { readonly parent: Node; readonly name: Buffer } | null {
	const { parent, name } = node;
	if (parent === null || name === null || parent.isDead) return null;
	try {
		const directory = liveNode(engine, parent);
		return isHere(engine, directory, name, node) ? { parent: directory, name } : null;
	} catch (error) {
		if (error instanceof OverlayError) return null;
		throw error;
	}
}

function isHere(engine: Engine, directory: Node, name: Uint8Array, node: Node): boolean {
	return upperEntry(engine, directory, name) === "none" && lookupChild(engine, directory, name) === node;
}

/** Lowers never change, so a path that the kernel still has in its cache is as good as one from a client. */
function rememberedPlace(engine: Engine, node: Node): { readonly parent: Node; readonly name: Buffer } | null {
	const path = readLink(-100, descriptorPath(engine.descriptors.path(node.top)));
	if (path === null || path[0] !== 0x2f) return null;
	const names = namesInPath(path);
	const last = names.pop();
	if (last === undefined) return null;
	try {
		let directory = rootNode(engine);
		for (const name of names) {
			const { size } = engine.nodes;
			const child = lookupChild(engine, directory, name);
			if (child === null || child.type !== FileType.dir) return null;
			directory = child;
			// whatever is in memory costs nothing, and the next pass finds it there
			if (engine.nodes.size > size) engine.turns.spend(2 + directory.reals.length, directory);
		}
		return isHere(engine, directory, last, node) ? { parent: directory, name: Buffer.from(last) } : null;
	} catch (error) {
		if (error instanceof OverlayError) return null;
		throw error;
	}
}

/** Gives a copied up object its name in upper, where so far only a lower shows it there. */
export function ensureNamed(engine: Engine, node: Node, directory: Node, name: Uint8Array): void {
	ensureUpper(engine, node);
	if (!node.isIndexed || upperEntry(engine, directory, name) === "object") return;
	const writable = writableOf(engine);
	markImpure(engine, directory);
	const plan = new Plan(engine, writable);
	const inode = plan.of(node);
	plan.add({ op: "link", inode, to: plan.in(directory), toName: name }, () => unlinkName(engine.descriptors.path(directory.top), name));
	plan.add(linkDelta(engine, inode, node.nlinkDelta - 1));
	plan.add(timesOf(engine, directory));
	const entry = entryOf(engine, node);
	if (entry !== null) plan.add({ op: "unnamed", entry, value: false });
	plan.prepare();
	node.nlinkDelta--;
}

/** The step that notes how far the union's link count is from the upper inode's own. */
export function linkDelta(engine: Engine, inode: FileHandle, delta: number): Step {
	return { op: "xattr", inode, name: engine.xattr.nlink, value: nlinkValue(delta) };
}
