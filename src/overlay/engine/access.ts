// Who may do what: permission bits, ACLs and the access bits of NFS.

import type { Stat } from "../../linux/stat.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { Access, type ContentRight, type Credentials, FileType } from "../../vfs/operations.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";
import { ACL_ACCESS, aclGrants } from "../format/posix-acl.ts";
import type { Node } from "../nodes/node.ts";
import type { Engine } from "./engine.ts";
import { PROTECTION, protectionOf, refuseProtected } from "./protection.ts";

/** Permission bits as in a mode. */
export const MAY = { read: 4, write: 2, execute: 1 } as const;
const SUPERUSER = 0;

export function inGroup(who: Credentials, gid: number): boolean {
	return who.gid === gid || who.gids.includes(gid);
}

export function isSuperuser(who: Credentials): boolean {
	return who.uid === SUPERUSER;
}

/** Whether the caller has all the permissions asked for on an object with these attributes. */
export function permitted(engine: Engine, node: Node, stat: Stat, who: Credentials, wanted: number): boolean {
	if ((wanted & MAY.write) !== 0 && (protectionOf(engine, node, stat) & PROTECTION.immutable) !== 0) return false;
	if (isSuperuser(who)) {
		// as the kernel: the superuser may do all, but not execute what nobody may
		return (wanted & MAY.execute) === 0 || stat.type === FileType.dir || (stat.mode & 0o111) !== 0;
	}
	if (who.uid === stat.uid) return ((stat.mode >> 6) & wanted) === wanted;
	const acl = stat.type === FileType.lnk ? null : xattrOrNone(engine.descriptors.path(node.top), ACL_ACCESS, "Cannot read an ACL");
	if (acl !== null) {
		const granted = aclGrants(acl, who.uid, (gid) => inGroup(who, gid), stat.gid, wanted);
		if (granted !== null) return granted;
	}
	const bits = inGroup(who, stat.gid) ? stat.mode >> 3 : stat.mode;
	return (bits & wanted) === wanted;
}

export function demand(engine: Engine, node: Node, stat: Stat, who: Credentials, wanted: number): void {
	if (permitted(engine, node, stat, who, wanted)) return;
	if ((wanted & MAY.write) !== 0) refuseProtected(engine, node, stat, PROTECTION.immutable);
	throw new OverlayError("acces", "Permission denied");
}

/** Refuses to let the caller read or write content (`wanted`: MAY.read or MAY.write) by this right. */
export function demandContent(engine: Engine, node: Node, stat: Stat, who: Credentials, wanted: number, right: ContentRight): void {
	if (right === "open" || (right === "owner" && who.uid === stat.uid)) return;
	// a program that may be run must be read to run
	const suffices = right === "owner" && wanted === MAY.read && !permitted(engine, node, stat, who, MAY.read) ? MAY.execute : wanted;
	demand(engine, node, stat, who, suffices);
}

/** The access bits of NFS that are granted, of those asked for. */
export function grantedAccess(engine: Engine, node: Node, stat: Stat, who: Credentials, wanted: number, readOnly: boolean): number {
	let granted = 0;
	const isDirectory = stat.type === FileType.dir;
	if ((wanted & Access.read) !== 0 && permitted(engine, node, stat, who, MAY.read)) granted |= Access.read;
	const writes = wanted & (Access.modify | Access.extend | (isDirectory ? Access.delete : 0));
	// a device or fifo is written to on the client, so a read-only export does not forbid it
	const isFrozen = readOnly && (isDirectory || stat.type === FileType.reg || stat.type === FileType.lnk);
	if (writes !== 0 && !isFrozen && permitted(engine, node, stat, who, MAY.write)) granted |= writes;
	const runs = wanted & (isDirectory ? Access.lookup : Access.execute);
	if (runs !== 0 && permitted(engine, node, stat, who, MAY.execute)) granted |= runs;
	return granted;
}
