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

const NO_ID = 0xffffffff;
/** In this order, each tag once; only the tags of named users and groups repeat. */
const ORDER: readonly number[] = [TAG.userObj, TAG.user, TAG.groupObj, TAG.group, TAG.mask, TAG.other];

/**
 * What the kernel would think of an ACL: "malformed" (bytes that are none), "empty" (no entries: it stands for none), "invalid"
 * (entries that lack, are too many or not in order).
 */
export function judgeAcl(value: Buffer): "valid" | "empty" | "invalid" | "malformed" | "unknown version" {
	if (value.length === 0) return "empty";
	if (value.length < HEADER_BYTES) return "malformed";
	if (value.readUInt32LE(0) !== VERSION) return "unknown version";
	const entries = decode(value);
	if (entries === null) return "malformed";
	if (entries.length === 0) return "empty";
	const isNamed = (tag: number) => tag === TAG.user || tag === TAG.group;
	if (!entries.every(({ tag, id }) => ORDER.includes(tag) && !(isNamed(tag) && id === NO_ID))) return "malformed";
	const isInOrder = entries.every(({ tag }, i) => {
		const before = i === 0 ? -1 : ORDER.indexOf(entries[i - 1].tag);
		const place = ORDER.indexOf(tag);
		return place > before || (place === before && isNamed(tag));
	});
	const has = (tag: number) => entries.some((entry) => entry.tag === tag);
	const isWhole = has(TAG.userObj) && has(TAG.groupObj) && has(TAG.other) && (has(TAG.mask) || !entries.some(({ tag }) => isNamed(tag)));
	return isInOrder && isWhole && entries.every(({ permissions }) => permissions <= 7) ? "valid" : "invalid";
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

/** The same with the owner's permissions of a mode. */
export function withOwnerOf(value: Buffer, mode: number): Buffer {
	const entries = decode(value);
	if (entries === null) return value;
	for (const entry of entries) if (entry.tag === TAG.userObj) entry.permissions = (mode >> 6) & 7;
	return encode(entries);
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
