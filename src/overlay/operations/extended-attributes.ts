// Extended attributes and ACLs, as the xattr system calls treat them.

import type { OverlayXattrs } from "../../layer/layer.ts";
import { OVERRIDE_XATTR } from "../../layer/rights.ts";
import { ERRNO } from "../../linux/errno.ts";
import type { Stat } from "../../linux/stat.ts";
import { CAPABILITY_XATTR, getXattr, listXattrs, VALUE_BYTES_MAX } from "../../linux/xattr.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { type Credentials, FileType, type SetXattrMode, SUPERUSER } from "../../vfs/operations.ts";
import { failed, valueOrNone } from "../../vfs/system-errors.ts";
import { changeUpper } from "../copy-up/copy-up.ts";
import { demand, inGroup, isSuperuser, MAY } from "../engine/access.ts";
import { type Engine, writableOf } from "../engine/engine.ts";
import { refuseProtected } from "../engine/protection.ts";
import { ACL_ACCESS, ACL_DEFAULT, judgeAcl, withOwnerOf } from "../format/posix-acl.ts";
import type { ObjectChange } from "../journal/steps.ts";
import { statOf } from "../lookup/stat.ts";
import type { Node } from "../nodes/node.ts";

/** XATTR_NAME_MAX of Linux. */
const NAME_BYTES_MAX = 255;
const S_ISVTX = 0o1000;
const S_ISGID = 0o2000;

/** What the name of an xattr asks for, and where it is kept. */
interface Target {
	/** As clients write it, each byte a character. */
	readonly text: string;
	/** On the real objects: names of the overlay's own are escaped, as an overlay on top of another one needs them. */
	readonly real: Buffer;
	readonly space: "user" | "trusted" | "security" | "acl";
	/** Nothing stands behind the namespace. */
	readonly isBare: boolean;
}

/** The value of an extended attribute as getxattr(2) gives it to the caller; "noattr" when there is none that they may see. */
export function getExtendedAttribute(engine: Engine, node: Node, who: Credentials, name: Uint8Array): Buffer {
	const stat = statOf(engine, node);
	const target = targetOf(engine.xattr, name);
	if ((target.space === "trusted" && !isSuperuser(who)) || isKept(engine, target.text)) throw noSuch();
	if (target.space === "acl" && node.type === FileType.lnk) throw unsupported("A symlink has no ACL");
	if (target.space === "user") {
		if (!mayCarryUser(node)) throw noSuch();
		demand(engine, node, stat, who, MAY.read);
	}
	refuseName(target);
	const value = read(engine, node, target);
	// the real owner, who is this process, has more
	return target.text === ACL_ACCESS && node.top.layer.rights.isKept ? withOwnerOf(value, stat.mode) : value;
}

/** Names as the caller may see them: the overlay's own are hidden, and names that it keeps escaped are shown as they were set. */
export function listExtendedAttributes(engine: Engine, node: Node, who: Credentials): Buffer[] {
	statOf(engine, node);
	return shownAttributes(engine, engine.descriptors.path(node.top), who).map(({ name }) => name);
}

/** What a real object has of extended attributes that the caller may see: the name that is shown, and the real one. */
export function shownAttributes(engine: Engine, fd: number, who: Credentials): { readonly name: Buffer; readonly real: Buffer }[] {
	const names = listXattrs(fd);
	// a lower on a file system without any, as squashfs can be
	if (names === -ERRNO.EOPNOTSUPP) return [];
	if (typeof names === "number") throw failed("Cannot list extended attributes", names);
	const { prefix, escape: escaped } = engine.xattr;
	const shown: { readonly name: Buffer; readonly real: Buffer }[] = [];
	for (const real of names) {
		const text = real.toString("latin1");
		if ((text.startsWith("trusted.") && !isSuperuser(who)) || isKept(engine, text)) continue;
		if (!text.startsWith(prefix)) shown.push({ name: real, real });
		else if (text.startsWith(escaped)) shown.push({ name: Buffer.from(prefix + text.slice(escaped.length), "latin1"), real });
	}
	return shown;
}

/** All that whoever may see everything sees of them, with their values. */
export function shownValues(engine: Engine, fd: number): { readonly name: Buffer; readonly real: Buffer; readonly value: Buffer }[] {
	return shownAttributes(engine, fd, SUPERUSER).flatMap(({ name, real }) => {
		const value = valueOrNone(getXattr(fd, real), "Cannot read an extended attribute");
		return value === null ? [] : [{ name, real, value }];
	});
}

/** Sets one as setxattr(2) would for the caller. An ACL may change the mode, and goes when it says no more than that. */
export function setExtendedAttribute(
	engine: Engine,
	node: Node,
	who: Credentials,
	name: Uint8Array,
	value: Uint8Array,
	mode: SetXattrMode,
): void {
	if (value.length > VALUE_BYTES_MAX) throw new OverlayError("fbig", `An extended attribute has at most ${VALUE_BYTES_MAX} bytes`);
	const { stat, target } = changeable(engine, node, who, name);
	if (target.space === "acl") {
		changeAcl(engine, node, stat, who, target, value);
		return;
	}
	if (target.text === CAPABILITY_XATTR && value.length > 0 && !isCapability(Buffer.from(value))) {
		throw new OverlayError("inval", "The value is not that of a capability");
	}
	if (mode !== "any") {
		const isThere = has(engine, node, target);
		if (isThere && mode === "create") throw new OverlayError("exist", "There is an extended attribute of this name");
		if (!isThere && mode === "replace") throw noSuch();
	}
	change(engine, node, target, value);
}

/** struct vfs_cap_data of version 2, or vfs_ns_cap_data of version 3 (linux/capability.h). */
function isCapability(value: Buffer): boolean {
	const version = value.length < 4 ? 0 : value[3];
	return (value.length === 20 && version === 2) || (value.length === 24 && version === 3);
}

/** Removes one as removexattr(2) would for the caller. */
export function removeExtendedAttribute(engine: Engine, node: Node, who: Credentials, name: Uint8Array): void {
	const { stat, target } = changeable(engine, node, who, name);
	if (target.space === "acl") {
		changeAcl(engine, node, stat, who, target, null);
		return;
	}
	if (!has(engine, node, target)) throw noSuch();
	change(engine, node, target, null);
}

/** What the caller may set or remove under a name. */
function changeable(engine: Engine, node: Node, who: Credentials, name: Uint8Array): { readonly stat: Stat; readonly target: Target } {
	const stat = statOf(engine, node);
	const target = targetOf(engine.xattr, name);
	writableOf(engine);
	demandChange(engine, node, stat, who, target);
	if (isKept(engine, target.text)) throw forbidden("Owner and mode are kept in this attribute");
	refuseName(target);
	return { stat, target };
}

function change(engine: Engine, node: Node, target: Target, value: Uint8Array | null, mode?: number): void {
	const wanted: ObjectChange = { xattr: { name: target.real, value }, ...(mode === undefined ? {} : { mode }) };
	node.defaultAcl = undefined;
	changeUpper(engine, node, wanted);
}

/** Sets or removes an ACL, with the errors of the kernel in its order. One without entries stands for none. */
function changeAcl(engine: Engine, node: Node, stat: Stat, who: Credentials, target: Target, value: Uint8Array | null): void {
	const judgement = value === null ? "empty" : judgeAcl(Buffer.from(value));
	if (judgement === "malformed") throw new OverlayError("inval", "The value is not that of an ACL");
	if (judgement === "unknown version") throw unsupported("ACLs of this version are not known");
	if (node.type === FileType.lnk) throw unsupported("A symlink has no ACL");
	const isRemoval = judgement === "empty";
	if (target.text === ACL_DEFAULT && node.type !== FileType.dir) {
		if (isRemoval) return;
		throw new OverlayError("acces", "Only a directory has a default ACL");
	}
	if (!isSuperuser(who) && who.uid !== stat.uid) throw forbidden("Only the owner may change an ACL");
	if (judgement === "invalid") throw new OverlayError("inval", "The entries of the ACL are not complete or not in order");
	// as on other file systems; in the kernel's overlayfs it depends on whether the object was copied up
	if (isRemoval && !has(engine, node, target)) return;
	const losesGroup = target.text === ACL_ACCESS && (stat.mode & S_ISGID) !== 0 && !isSuperuser(who) && !inGroup(who, stat.gid);
	change(engine, node, target, isRemoval ? null : value, losesGroup ? stat.mode & 0o7777 & ~S_ISGID : undefined);
}

/** Which namespace a name belongs to: others than the four of xattr(7) configure the file system below, which is not ours to do. */
function targetOf(xattr: OverlayXattrs, name: Uint8Array): Target {
	if (name.length === 0 || name.includes(0))
		throw new OverlayError("inval", "The name of an extended attribute is not empty and has no NUL");
	if (name.length > NAME_BYTES_MAX) {
		throw new OverlayError("nametoolong", `The name of an extended attribute has at most ${NAME_BYTES_MAX} bytes`);
	}
	const text = Buffer.from(name).toString("latin1");
	const isOwn = text.startsWith(xattr.prefix);
	const real = Buffer.from(isOwn ? xattr.escape + text.slice(xattr.prefix.length) : text, "latin1");
	if (text === ACL_ACCESS || text === ACL_DEFAULT) return { text, real, space: "acl", isBare: false };
	for (const space of ["user", "trusted", "security"] as const) {
		if (text.startsWith(`${space}.`)) return { text, real, space, isBare: text.length === (isOwn ? xattr.prefix : `${space}.`).length };
	}
	throw unsupported("There are no extended attributes of this namespace");
}

/** Said only to who has the right to ask, as in the kernel. */
function refuseName(target: Target): void {
	if (target.isBare) throw new OverlayError("inval", "The name of an extended attribute ends behind its namespace");
	if (target.real.length > NAME_BYTES_MAX) throw unsupported("The name of an extended attribute is too long to be kept escaped");
}

/** xattr(7): what each namespace asks of who changes something in it. ACLs have rules of their own. */
function demandChange(engine: Engine, node: Node, stat: Stat, who: Credentials, target: Target): void {
	refuseProtected(engine, node, stat);
	if (target.space === "acl" || isSuperuser(who)) {
		if (target.space === "user" && !mayCarryUser(node)) throw forbidden("Only files and directories have user attributes");
		return;
	}
	if (target.space === "trusted") throw forbidden("Only the superuser may change trusted attributes");
	if (target.space === "security") {
		throw forbidden(
			target.text === CAPABILITY_XATTR ? "Only the superuser may change capabilities" : "Only the superuser may change security attributes",
		);
	}
	if (!mayCarryUser(node)) throw forbidden("Only files and directories have user attributes");
	const isOthersSticky = node.type === FileType.dir && (stat.mode & S_ISVTX) !== 0 && who.uid !== stat.uid;
	if (isOthersSticky) throw forbidden("Only the owner may change user attributes of a sticky directory");
	demand(engine, node, stat, who, MAY.write);
}

/** Whoever could set this one would give himself other people's files. */
function isKept(engine: Engine, text: string): boolean {
	return text === OVERRIDE_XATTR && engine.layers[0].rights.isKept;
}

function mayCarryUser(node: Node): boolean {
	return node.type === FileType.reg || node.type === FileType.dir;
}

function read(engine: Engine, node: Node, target: Target): Buffer {
	const value = getXattr(engine.descriptors.path(node.top), target.real);
	if (typeof value === "number") throw failed("Cannot read an extended attribute", value);
	return value;
}

function has(engine: Engine, node: Node, target: Target): boolean {
	try {
		read(engine, node, target);
		return true;
	} catch (error) {
		if (error instanceof OverlayError && (error.code === "noattr" || (error.code === "notsupp" && !node.isUpper))) return false;
		throw error;
	}
}

const noSuch = () => new OverlayError("noattr", "There is no such extended attribute");
const forbidden = (message: string) => new OverlayError("perm", message);
const unsupported = (message: string) => new OverlayError("notsupp", message);
