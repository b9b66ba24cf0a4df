// Immutable and append-only objects of lowers, which stay so for every client.

import { STATX_ATTR, type Stat } from "../../linux/stat.ts";
import { setXattr } from "../../linux/xattr.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { FileType } from "../../vfs/operations.ts";
import { must } from "../../vfs/system-errors.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";
import type { Node } from "../nodes/node.ts";
import type { Engine } from "./engine.ts";

/** `chattr +a` and `+i`, which bind the superuser too. */
export const PROTECTION = { append: 1, immutable: 2 } as const;

function ofInode(stat: Stat): number {
	return (
		((stat.attributes & STATX_ATTR.append) === 0 ? 0 : PROTECTION.append) |
		((stat.attributes & STATX_ATTR.immutable) === 0 ? 0 : PROTECTION.immutable)
	);
}

/**
 * Bits of PROTECTION. A lower inode has the attributes itself; on a copy in upper they would keep the overlay from its own work, so there
 * an xattr says them, as the kernel does.
 */
export function protectionOf(engine: Engine, node: Node, stat: Stat): number {
	if (!node.isUpper || (node.type !== FileType.reg && node.type !== FileType.dir)) return ofInode(stat);
	if (node.protection < 0) {
		const value = xattrOrNone(engine.descriptors.path(node.top), engine.xattr.protattr, "Cannot read the protection of an object");
		const text = value?.toString("latin1") ?? "";
		node.protection = (text.includes("a") ? PROTECTION.append : 0) | (text.includes("i") ? PROTECTION.immutable : 0);
	}
	return node.protection | ofInode(stat);
}

/** Says on a copy in upper what its lower inode is protected from. */
export function keepProtection(engine: Engine, stat: Stat, fd: number): void {
	const bits = ofInode(stat);
	if (bits === 0) return;
	const value = `${(bits & PROTECTION.append) === 0 ? "" : "a"}${(bits & PROTECTION.immutable) === 0 ? "" : "i"}`;
	must(setXattr(fd, engine.xattr.protattr, Buffer.from(value)), "Cannot keep the protection of an object");
}

function refused(): OverlayError {
	return new OverlayError("perm", "The object is protected (chattr +i or +a)");
}

/** For what changes more than content: attributes, names, links. */
export function refuseProtected(engine: Engine, node: Node, stat: Stat, bits: number = PROTECTION.append | PROTECTION.immutable): void {
	if ((protectionOf(engine, node, stat) & bits) !== 0) throw refused();
}

/** Content may be added at the end of what is append-only, and nowhere else. */
export function refuseProtectedWrite(engine: Engine, node: Node, stat: Stat, offset: number): void {
	const bits = protectionOf(engine, node, stat);
	if ((bits & PROTECTION.immutable) !== 0 || ((bits & PROTECTION.append) !== 0 && offset < stat.size)) throw refused();
}
