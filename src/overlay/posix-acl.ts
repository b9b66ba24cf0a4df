/**
 * POSIX ACLs as Linux keeps them in `system.posix_acl_access` and `system.posix_acl_default`: a version (2) and entries of
 * tag, permissions and id, little-endian (linux/posix_acl_xattr.h; acl(5) for the meaning).
 */
export const ACL_ACCESS = "system.posix_acl_access";
export const ACL_DEFAULT = "system.posix_acl_default";

const VERSION = 2;
const HEADER_BYTES = 4;
const ENTRY_BYTES = 8;
const TAG = { userObj: 0x01, user: 0x02, groupObj: 0x04, group: 0x08, mask: 0x10, other: 0x20 } as const;

interface Entry {
	readonly tag: number;
	permissions: number;
	readonly id: number;
}

function decode(value: Buffer): Entry[] | null {
	if (value.length < HEADER_BYTES || (value.length - HEADER_BYTES) % ENTRY_BYTES !== 0 || value.readUInt32LE(0) !== VERSION) return null;
	const entries: Entry[] = [];
	for (let at = HEADER_BYTES; at < value.length; at += ENTRY_BYTES) {
		entries.push({ tag: value.readUInt16LE(at), permissions: value.readUInt16LE(at + 2), id: value.readUInt32LE(at + 4) });
	}
	return entries;
}

function encode(entries: readonly Entry[]): Buffer {
	const value = Buffer.alloc(HEADER_BYTES + entries.length * ENTRY_BYTES);
	value.writeUInt32LE(VERSION, 0);
	entries.forEach((entry, i) => {
		const at = HEADER_BYTES + i * ENTRY_BYTES;
		value.writeUInt16LE(entry.tag, at);
		value.writeUInt16LE(entry.permissions, at + 2);
		value.writeUInt32LE(entry.id, at + 4);
	});
	return value;
}

/**
 * Whether the ACL grants all of `wanted` (4 read, 2 write, 1 execute) to someone who is not the owner: the algorithm of acl(5).
 * Null when the value is no ACL.
 */
export function aclGrants(
	value: Buffer,
	uid: number,
	inGroup: (gid: number) => boolean,
	owningGid: number,
	wanted: number,
): boolean | null {
	const entries = decode(value);
	if (entries === null) return null;
	const mask = entries.find((entry) => entry.tag === TAG.mask)?.permissions ?? 7;
	const named = entries.find((entry) => entry.tag === TAG.user && entry.id === uid);
	if (named !== undefined) return (named.permissions & mask & wanted) === wanted;
	let isMember = false;
	for (const entry of entries) {
		const matches = (entry.tag === TAG.groupObj && inGroup(owningGid)) || (entry.tag === TAG.group && inGroup(entry.id));
		if (!matches) continue;
		isMember = true;
		if ((entry.permissions & mask & wanted) === wanted) return true;
	}
	if (isMember) return false;
	const other = entries.find((entry) => entry.tag === TAG.other)?.permissions ?? 0;
	return (other & wanted) === wanted;
}

/** What a new object gets from the default ACL of its directory: its permission bits, and its own ACL where more than bits are needed. */
export interface InheritedAcl {
	readonly mode: number;
	readonly access: Buffer | null;
}

/** The default ACL bounded by the mode that the creator asked for (acl(5), "object creation and default ACLs"). */
export function inheritAcl(defaultAcl: Buffer, mode: number): InheritedAcl | null {
	const entries = decode(defaultAcl);
	if (entries === null) return null;
	const hasMask = entries.some((entry) => entry.tag === TAG.mask);
	let bits = mode & ~0o777;
	for (const entry of entries) {
		if (entry.tag === TAG.userObj) {
			entry.permissions &= mode >> 6;
			bits |= entry.permissions << 6;
		} else if (entry.tag === TAG.mask || (entry.tag === TAG.groupObj && !hasMask)) {
			entry.permissions &= mode >> 3;
			bits |= entry.permissions << 3;
		} else if (entry.tag === TAG.other) {
			entry.permissions &= mode;
			bits |= entry.permissions;
		}
	}
	return { mode: bits, access: entries.length > 3 ? encode(entries) : null };
}
