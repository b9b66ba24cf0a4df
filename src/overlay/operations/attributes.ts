// GETATTR and SETATTR of the overlay: attributes as clients see them, and changes as chmod(2), chown(2) and truncate(2) make them.

import { fstat, Stat } from "../../linux/stat.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { type Attributes, type Credentials, FileType, type SetAttributes, type Timespec } from "../../vfs/operations.ts";
import { must } from "../../vfs/system-errors.ts";
import { changeUpper } from "../copy-up/copy-up.ts";
import { notePartial, preparePartial } from "../copy-up/partial-access.ts";
import { dataOf } from "../data/data-files.ts";
import { demand, inGroup, isSuperuser, MAY, permitted } from "../engine/access.ts";
import { type Engine, writableOf } from "../engine/engine.ts";
import { PROTECTION, refuseProtected } from "../engine/protection.ts";
import { giveChange, linkCount, statOf } from "../lookup/stat.ts";
import { awaitCut, type Node } from "../nodes/node.ts";
import { claimCut, cutElsewhere } from "./cut.ts";

/** Allocated space in units of 512 bytes; of a metacopy file that of its data. */
function allocatedBlocks(engine: Engine, node: Node, stat: Stat): number {
	if (node.type !== FileType.reg || !node.top.layer.mayHoldMetacopies || stat.blocks * 512 >= stat.size) return stat.blocks;
	try {
		const data = dataOf(engine, node);
		return data === node.top || fstat(engine.descriptors.path(data), blocksStat) < 0 ? stat.blocks : blocksStat.blocks;
	} catch (error) {
		// a file whose data is lost has attributes all the same
		if (error instanceof OverlayError) return stat.blocks;
		throw error;
	}
}

const blocksStat = new Stat();

/** Without `withChange` the change attribute is not given out: nothing is remembered for it, and it says nothing. */
export function attributesOf(engine: Engine, node: Node, withChange: boolean): Attributes {
	const stat = statOf(engine, node);
	const change = withChange ? giveChange(engine, node, stat) : 0;
	return {
		type: node.type,
		mode: stat.mode & 0o7777,
		nlink: linkCount(engine, node, stat),
		uid: stat.uid,
		gid: stat.gid,
		sizeHi: stat.sizeHi,
		sizeLo: stat.sizeLo,
		blocks: allocatedBlocks(engine, node, stat),
		rdevMajor: stat.rdevMajor,
		rdevMinor: stat.rdevMinor,
		fileidHi: node.fileidHi,
		fileidLo: node.fileidLo,
		atime: { sec: stat.atimeSec, nsec: stat.atimeNsec },
		mtime: { sec: stat.mtimeSec, nsec: stat.mtimeNsec },
		ctime: { sec: stat.ctimeSec, nsec: stat.ctimeNsec },
		changeHi: withChange ? engine.changeAttribute.hi(node.isUpper, change) : 0,
		changeLo: change >>> 0,
	};
}

const S_ISUID = 0o4000;
const S_ISGID = 0o2000;
const S_IXGRP = 0o0010;

/** Changes attributes as chmod(2), chown(2), truncate(2) and utimensat(2) would for the caller. */
export function setAttributes(engine: Engine, node: Node, who: Credentials, change: SetAttributes, guard: Timespec | undefined): void {
	if (claimCut(engine)) return;
	awaitCut(node);
	const stat = statOf(engine, node);
	if (guard !== undefined && (guard.sec !== stat.ctimeSec || guard.nsec !== stat.ctimeNsec)) {
		throw new OverlayError("notsync", "The object was changed meanwhile");
	}
	if (change.umask !== undefined) throw new OverlayError("inval", "A umask counts only for what is being made");
	if (Object.keys(change).length === 0) return;
	const { rights } = writableOf(engine).layer;
	if (!rights.keepsOwners && isGivenAway(stat, change)) {
		// in a user namespace even a server that is user 0 there
		throw new OverlayError("perm", "This server cannot give objects to others; with --fake-root it keeps owners beside them");
	}
	checkChange(engine, node, stat, who, change);
	const isTouch = Object.entries(change).every(([key, value]) => (key === "atime" || key === "mtime") && value === "now");
	refuseProtected(engine, node, stat, isTouch ? PROTECTION.immutable : undefined);
	const effective = { ...change };
	if (change.mode !== undefined) effective.mode = grantedMode(change.mode, change.gid ?? stat.gid, who);
	else if (change.size !== undefined && change.size !== stat.size) {
		const mode = unprivilegedMode(stat, who);
		if (mode !== (stat.mode & 0o7777)) effective.mode = mode;
	}
	preparePartial(engine, node, stat.size, change);
	cutElsewhere(engine, node, stat, effective);
	changeUpper(engine, node, effective);
	notePartial(engine, node, change);
}

function isGivenAway(stat: Stat, { uid = stat.uid, gid = stat.gid }: SetAttributes): boolean {
	return uid !== stat.uid || gid !== stat.gid;
}

function checkChange(engine: Engine, node: Node, stat: Stat, who: Credentials, change: SetAttributes): void {
	const isOwner = who.uid === stat.uid;
	if (change.size !== undefined) {
		if (node.type === FileType.dir) throw new OverlayError("isdir", "A directory has no size to set");
		if (node.type !== FileType.reg) throw new OverlayError("inval", "Only a regular file has a size to set");
		if (!isOwner) demand(engine, node, stat, who, MAY.write);
	}
	if (isSuperuser(who)) return;
	const forbidden = () => new OverlayError("perm", "Only the owner may change this attribute");
	if (change.mode !== undefined && !isOwner) throw forbidden();
	if (change.uid !== undefined && (!isOwner || change.uid !== stat.uid)) throw forbidden();
	if (change.gid !== undefined && (!isOwner || (change.gid !== stat.gid && !inGroup(who, change.gid)))) throw forbidden();
	if (isOwner || (change.atime === undefined && change.mtime === undefined)) return;
	// anyone who may write may set both times to now
	if (change.atime !== "now" && change.atime !== undefined) throw forbidden();
	if (change.mtime !== "now" && change.mtime !== undefined) throw forbidden();
	if (!permitted(engine, node, stat, who, MAY.write)) throw new OverlayError("acces", "Permission denied");
}

/** The mode that chmod(2) leaves: who is not in the file's group cannot make it set that group's id. */
function grantedMode(mode: number, gid: number, who: Credentials): number {
	const isDenied = !isSuperuser(who) && !inGroup(who, gid);
	return mode & 0o7777 & (isDenied ? ~S_ISGID : ~0);
}

/** Who changes the content of a program takes its privilege: the kernel does not do it for us, who write as the superuser. */
function unprivilegedMode(stat: Stat, who: Credentials): number {
	let mode = stat.mode & 0o7777;
	if (isSuperuser(who)) return mode;
	mode &= ~S_ISUID;
	if ((mode & S_IXGRP) !== 0) mode &= ~S_ISGID;
	return mode;
}

/** Before a write, so that no moment shows new content with the old privilege. */
export function clearPrivilege(engine: Engine, node: Node, stat: Stat, who: Credentials): void {
	const mode = unprivilegedMode(stat, who);
	if (mode === (stat.mode & 0o7777)) return;
	node.stat = null;
	must(node.top.layer.rights.change(engine.descriptors.path(node.top), node.type, { mode }), "Cannot change the mode");
}
