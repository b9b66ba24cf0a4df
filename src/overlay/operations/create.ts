// Makes new objects and new names of objects.

import { changeTimes } from "../../linux/attributes.ts";
import { truncateFile } from "../../linux/data.ts";
import type { FileHandle } from "../../linux/file-handle.ts";
import { linkDescriptor, makeSymlink, RENAME, unlinkName } from "../../linux/names.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { Stat } from "../../linux/stat.ts";
import { getXattr, setXattr } from "../../linux/xattr.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { checkNewName } from "../../vfs/names.ts";
import { type Credentials, FileType, type SetAttributes } from "../../vfs/operations.ts";
import { must } from "../../vfs/system-errors.ts";
import { ensureUpper, makeSpecial, markImpure } from "../copy-up/copy-up.ts";
import { notePartial } from "../copy-up/partial-access.ts";
import { keepData } from "../data/data-files.ts";
import { demand, isSuperuser, MAY } from "../engine/access.ts";
import { type Engine, handleFor, writableOf } from "../engine/engine.ts";
import { refuseProtected } from "../engine/protection.ts";
import { ACL_ACCESS, ACL_DEFAULT, inheritAcl } from "../format/posix-acl.ts";
import { Plan } from "../journal/plan.ts";
import { giveId, type Make, unmake } from "../journal/steps.ts";
import type { Writable } from "../journal/writable.ts";
import type { Listings } from "../listing/listing.ts";
import { lookupChild, lookupPlace, nodeFor } from "../lookup/objects.ts";
import { upperEntry, type Vacancy } from "../lookup/stack-search.ts";
import { noteStat, statOf } from "../lookup/stat.ts";
import { identityKey, type Node } from "../nodes/node.ts";
import { realOf } from "../nodes/reals.ts";
import { orphanName } from "../work/held-objects.ts";

const S_ISGID = 0o2000;

/** How the inode of a new object is made in work; it gets its owner, mode and times afterwards. */
export type Maker =
	| { readonly type: typeof FileType.reg }
	| { readonly type: typeof FileType.dir }
	| { readonly type: typeof FileType.lnk; readonly target: Uint8Array }
	| { readonly type: FileType; readonly major: number; readonly minor: number };

/** What may be set on an object that is being made. */
interface Birth {
	readonly uid: number;
	readonly gid: number;
	readonly mode: number;
	readonly access: Buffer | null;
	readonly defaultAcl: Buffer | null;
}

/** Refuses to make a name that exists, or where the caller may not. */
export function checkCreate(engine: Engine, directory: Node, name: Uint8Array, who: Credentials): Stat {
	writableOf(engine);
	if (directory.type !== FileType.dir) throw new OverlayError("notdir", "This is not a directory");
	checkNewName(name);
	const stat = statOf(engine, directory);
	demand(engine, directory, stat, who, MAY.write | MAY.execute);
	return stat;
}

/** Makes a new object: in place, or built in work with all its attributes and published by one rename. `vacancy`: the name was looked up, and leads to nothing. */
export function createObject(
	engine: Engine,
	listings: Listings,
	directory: Node,
	name: Uint8Array,
	who: Credentials,
	maker: Maker,
	wanted: SetAttributes,
	vacancy: Vacancy | null = null,
): Node {
	const parentStat = checkCreate(engine, directory, name, who);
	const isInUpper = directory.isUpper;
	const place = vacancy ?? lookupPlace(engine, directory, name);
	if (typeof place !== "string") throw new OverlayError("exist", "The name exists");
	const writable = writableOf(engine);
	const isUntaken = !isInUpper || place === "none";
	ensureUpper(engine, directory);
	const birth = inherit(engine, directory, parentStat, who, maker.type, wanted);
	const isPlain = birth.access === null && birth.defaultAcl === null;
	if (isPlain && (maker.type === FileType.reg || maker.type === FileType.dir) && isUntaken) {
		return makeInPlace(engine, listings, directory, name, maker.type, birth, wanted);
	}
	const isOverWhiteout = upperEntry(engine, directory, name) !== "none";
	const flags = isOverWhiteout ? (maker.type === FileType.dir ? RENAME.exchange : 0) : RENAME.noReplace;
	const node = build(engine, directory, name, maker, birth, wanted, (plan, inode, temporary) => {
		plan.add({ op: "move", inode, from: "work", fromName: temporary, to: plan.in(directory), toName: name, flags });
		return () => {
			// the whiteout that a directory has changed places with
			if (flags === RENAME.exchange) unlinkName(writable.work.temporaries, temporary);
		};
	});
	engine.nodes.place(node, directory, Buffer.from(name));
	listings.noteAdded(directory, name, node);
	return node;
}

/** See OverlayOperations.createUnnamed: an orphan from the beginning. */
export function createUnnamed(engine: Engine, directory: Node, who: Credentials, wanted: SetAttributes): Node {
	writableOf(engine);
	const parentStat = statOf(engine, directory);
	demand(engine, directory, parentStat, who, MAY.write | MAY.execute);
	const birth = inherit(engine, directory, parentStat, who, FileType.reg, wanted);
	const node = build(engine, directory, NO_NAME, { type: FileType.reg }, birth, wanted, (plan, inode, temporary, key) => {
		plan.add({ op: "move", inode, from: "work", fromName: temporary, to: "orphans", toName: orphanName(key), flags: RENAME.noReplace });
	});
	node.isOrphan = true;
	engine.held.noteOrphan(node.key);
	return node;
}

const NO_NAME = Buffer.alloc(0);

/** Adds to a plan what publishes the inode that is built under this name in work, as the object of this key; what it gives is done when the steps are made. */
type Publish = (plan: Plan, inode: FileHandle, temporary: string, key: string) => (() => void) | undefined;

/** Builds a new object in work with all its attributes, and publishes it. */
function build(
	engine: Engine,
	directory: Node,
	name: Uint8Array,
	maker: Maker,
	birth: Birth,
	wanted: SetAttributes,
	publish: Publish,
): Node {
	const writable = writableOf(engine);
	const temporary = make(writable, maker);
	const isFile = maker.type === FileType.reg || maker.type === FileType.dir;
	const flags = isFile ? (maker.type === FileType.dir ? O.rdonly | O.directory : O.rdwr) : O.path;
	const fd = must(openAt(writable.work.temporaries, temporary, flags | O.nofollow), "Cannot open an object in work");
	try {
		if (writable.ids !== null) giveId(writable, writable.ids.newId(maker.type === FileType.dir), fd, directory.top.handle, name);
		dress(writable, fd, maker.type, birth, wanted);
		if (maker.type === FileType.dir && directory.reals.length > 1) {
			// nothing of that name below may show through, also not after the lowers have been exchanged
			must(setXattr(fd, engine.xattr.opaque, Buffer.from("y")), "Cannot make a directory opaque");
		}
		const stat = new Stat();
		must(writable.layer.stat(fd, stat), "Cannot read a new object");
		const real = realOf(writable.layer, fd, stat);
		const identity = { home: writable.layer.home, id: real.handle };
		const plan = new Plan(engine, writable);
		const done = publish(plan, plan.built(real, fd), temporary, identityKey(identity.home, identity.id));
		plan.perform(handleFor(engine, identity));
		done?.();
		const fileid = { real, space: writable.layer.space, inoHi: stat.inoHi, inoLo: stat.inoLo };
		return nodeFor(engine, identity, maker.type, [real], fileid);
	} catch (error) {
		writable.work.discard(temporary);
		throw error;
	} finally {
		close(fd);
	}
}

/** Makes it under its name at once: nobody sees it before it has its attributes, and after a crash the intent gives them to it. */
function makeInPlace(
	engine: Engine,
	listings: Listings,
	directory: Node,
	name: Uint8Array,
	type: typeof FileType.reg | typeof FileType.dir,
	birth: Birth,
	wanted: SetAttributes,
): Node {
	const writable = writableOf(engine);
	const { uid, gid, mode } = birth;
	const plan = new Plan(engine, writable);
	const { atime = null, mtime = null } = wanted;
	const size = type === FileType.reg ? (wanted.size ?? 0) : 0;
	const isOpaque = type === FileType.dir && directory.reals.length > 1;
	const id = writable.ids?.newId(type === FileType.dir) ?? null;
	const step: Make = { op: "make", in: plan.in(directory), name, type, mode, uid, gid, size, atime, mtime, isOpaque, id };
	const { fd, stat } = plan.make(step);
	let node: Node;
	try {
		const real = realOf(writable.layer, fd, stat);
		const { home, space } = writable.layer;
		node = nodeFor(engine, { home, id: real.handle }, type, [real], { real, space, inoHi: stat.inoHi, inoLo: stat.inoLo });
	} catch (error) {
		close(fd);
		// who asked is told that it was not made
		unmake(writable, step, plan.directory(step.in));
		writable.journal.endLastChange();
		engine.memory.doubts++;
		throw error;
	}
	if (type === FileType.reg) engine.descriptors.adoptData(node.top, fd);
	else engine.descriptors.adopt(node.top, fd);
	noteStat(engine, node, stat);
	node.protection = 0;
	engine.nodes.place(node, directory, Buffer.from(name));
	listings.noteAdded(directory, name, node);
	return node;
}

function make(writable: Writable, maker: Maker): string {
	const { work } = writable;
	if (maker.type === FileType.dir) return work.makeTemporaryDirectory(0o700);
	const temporary = work.temporaryName();
	if ("target" in maker) {
		must(makeSymlink(maker.target, work.temporaries, temporary), "Cannot make a symlink");
	} else if ("major" in maker) {
		makeSpecial(writable, temporary, maker.type, maker.major, maker.minor);
	} else {
		const fd = must(openAt(work.temporaries, temporary, O.creat | O.excl | O.wronly, 0o600), "Cannot make a file");
		close(fd);
	}
	return temporary;
}

/** Owner, group, mode and ACLs as a local file system would give them to what the caller makes here. */
function inherit(engine: Engine, directory: Node, parent: Stat, who: Credentials, type: FileType, wanted: SetAttributes): Birth {
	const mayChoose = isSuperuser(who);
	const isSetgid = (parent.mode & S_ISGID) !== 0;
	const gid = isSetgid ? parent.gid : who.gid;
	let mode = (wanted.mode ?? (type === FileType.dir ? 0o700 : 0o600)) & 0o7777;
	let access: Buffer | null = null;
	let defaultAcl: Buffer | null = null;
	if (type !== FileType.lnk) {
		const acl = defaultAclOf(engine, directory);
		const inherited = acl === null ? null : inheritAcl(acl, mode);
		if (inherited !== null) {
			mode = inherited.mode;
			access = inherited.access;
			if (type === FileType.dir) defaultAcl = acl;
		} else if (wanted.umask !== undefined) mode &= ~(wanted.umask & 0o777);
	}
	if (isSetgid && type === FileType.dir) mode |= S_ISGID;
	else if ((mode & S_ISGID) !== 0 && !mayChoose && type !== FileType.dir && who.gid !== gid && !who.gids.includes(gid)) mode &= ~S_ISGID;
	return { uid: mayChoose ? (wanted.uid ?? who.uid) : who.uid, gid: mayChoose ? (wanted.gid ?? gid) : gid, mode, access, defaultAcl };
}

function defaultAclOf(engine: Engine, directory: Node): Buffer | null {
	if (directory.defaultAcl === undefined) {
		const acl = getXattr(engine.descriptors.path(directory.top), ACL_DEFAULT);
		directory.defaultAcl = typeof acl === "number" ? null : acl;
	}
	return directory.defaultAcl;
}

function dress({ layer: { rights } }: Writable, fd: number, type: FileType, birth: Birth, wanted: SetAttributes): void {
	if (wanted.size !== undefined && type === FileType.reg && wanted.size > 0) must(truncateFile(fd, wanted.size), "Cannot set the size");
	must(rights.change(fd, type, { uid: birth.uid, gid: birth.gid }), "Cannot set the owner of a new object");
	if (type !== FileType.lnk) must(rights.change(fd, type, { mode: birth.mode }), "Cannot set the mode of a new object");
	if (birth.access !== null) {
		must(setXattr(fd, ACL_ACCESS, birth.access), "Cannot set the ACL of a new object");
		// it may have taken from the real owner what this process needs
		if (rights.isKept) must(rights.change(fd, type, { mode: birth.mode }), "Cannot set the mode of a new object");
	}
	if (birth.defaultAcl !== null) must(setXattr(fd, ACL_DEFAULT, birth.defaultAcl), "Cannot set the ACL of a new directory");
	if (wanted.atime !== undefined || wanted.mtime !== undefined) {
		must(changeTimes(fd, wanted.atime, wanted.mtime), "Cannot set the times of a new object");
	}
}

/** Adds a name to an object; a lower one is copied up for it. */
export function linkObject(
	engine: Engine,
	listings: Listings,
	node: Node,
	directory: Node,
	name: Uint8Array,
	who: Credentials,
	mayBeUnnamed = false,
): void {
	checkCreate(engine, directory, name, who);
	if (node.type === FileType.dir) throw new OverlayError("isdir", "A directory cannot have a second name");
	if (lookupChild(engine, directory, name) !== null) throw new OverlayError("exist", "The name exists");
	if (node.isOrphan) {
		// as link(2) of an open file without a name; what was copied up has names that are counted
		if (!mayBeUnnamed || !node.isUpper || node.isIndexed) throw new OverlayError("noent", "The object has no name any more");
		nameUnnamed(engine, listings, node, directory, name);
		return;
	}
	refuseProtected(engine, node, statOf(engine, node));
	const writable = writableOf(engine);
	ensureUpper(engine, directory);
	// what has a link count of its own in the index only counts further names if it is there
	ensureUpper(engine, node);
	keepData(engine, node);
	if (node.isIndexed) markImpure(engine, directory);
	const plan = new Plan(engine, writable);
	const inode = plan.of(node);
	const to = plan.in(directory);
	if (upperEntry(engine, directory, name) === "none") {
		plan.add({ op: "link", inode, to, toName: name }).perform();
	} else {
		const temporary = writable.work.temporaryName();
		must(linkDescriptor(engine.descriptors.path(node.top), writable.work.temporaries, temporary), "Cannot make a further name");
		plan.add({ op: "move", inode, from: "work", fromName: temporary, to, toName: name, flags: 0 });
		try {
			plan.perform();
		} catch (error) {
			// else it would count as a name of the object for as long as this server runs
			unlinkName(writable.work.temporaries, temporary);
			throw error;
		}
	}
	notePartial(engine, node, {});
	listings.noteAdded(directory, name, node);
}

/** The object leaves the orphans for its first name. */
function nameUnnamed(engine: Engine, listings: Listings, node: Node, directory: Node, name: Uint8Array): void {
	const writable = writableOf(engine);
	ensureUpper(engine, directory);
	const flags = upperEntry(engine, directory, name) === "none" ? RENAME.noReplace : 0;
	const plan = new Plan(engine, writable);
	const step = { op: "move", inode: plan.of(node), from: "orphans", fromName: orphanName(node.key), to: plan.in(directory) } as const;
	plan.add({ ...step, toName: name, flags }).perform();
	node.isOrphan = false;
	engine.held.revive(node.key);
	engine.nodes.place(node, directory, Buffer.from(name));
	listings.noteAdded(directory, name, node);
}
