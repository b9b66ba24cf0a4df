// Records that are symlinks in work: a digest stands before the value, so that a flipped bit is told from what was written.

import { sipHash, sipHashed, sipKey } from "../handle/sip-hash.ts";
import { ERRNO, EUCLEAN } from "../linux/errno.ts";
import { makeSymlink, readLink, readLinkAt, renameName, unlinkName } from "../linux/names.ts";
import { descriptorPath } from "../linux/open.ts";
import { tellDamage } from "../vfs/damage.ts";
import { showName } from "../vfs/names.ts";
import { failed } from "../vfs/system-errors.ts";

/** First byte of a record with a digest. No value begins with it, nor with a byte that is one bit away from it. */
const SEAL = 0x7e;
/** 36 bits in base64: a record should still fit into its inode. */
const DIGEST_CHARACTERS = 6;
const HEAD_BYTES = 1 + DIGEST_CHARACTERS;
/** It tells damage, not forgery, so its key is no secret. */
const KEY = sipKey(Buffer.alloc(16));

/** The digest is of the name too, so that a record under another name is damaged as well. */
function digestOf(name: string, value: Uint8Array): string {
	const bytes = Buffer.concat([Buffer.from(`${name}\0`), value]);
	sipHash(KEY, bytes, 0, bytes.length);
	const hash = Buffer.alloc(8);
	hash.writeUInt32BE(sipHashed[0], 0);
	hash.writeUInt32BE(sipHashed[1], 4);
	return hash.toString("base64url").slice(0, DIGEST_CHARACTERS);
}

/** A value as it is kept under a name. */
export function seal(name: string, value: Uint8Array): Buffer {
	return Buffer.concat([Buffer.from(`~${digestOf(name, value)}`), value]);
}

/** The value that is kept under a name; null: it is damaged. What was written before there were digests is its own value. */
export function unseal(name: string, kept: Buffer): Buffer | null {
	if (!isNear(kept[0])) return kept;
	const value = kept.subarray(HEAD_BYTES);
	return kept[0] === SEAL && kept.toString("latin1", 1, HEAD_BYTES) === digestOf(name, value) ? value : null;
}

/** Whether a byte is that of records with a digest, or was it before one bit of it was flipped. */
function isNear(byte: number | undefined): boolean {
	const difference = (byte ?? 0) ^ SEAL;
	return (difference & (difference - 1)) === 0;
}

/** The value of a record, or the negated error number: -ENOENT where there is none, -EUCLEAN where it is damaged. */
export function readRecord(folder: number, name: string): Buffer | number {
	const kept = readLinkAt(folder, name);
	// no file system has names of that length
	if (kept === -ERRNO.ENAMETOOLONG) return -ERRNO.ENOENT;
	const value = typeof kept === "number" ? kept : unseal(name, kept);
	// something else than a symlink was put there
	return value === null || value === -ERRNO.EINVAL ? damagedRecord(folder, name) : value;
}

/** Tells of a record that says what nobody has written: the negated error number. */
export function damagedRecord(folder: number, name: string): number {
	tellDamage(
		() => `The record ${pathOf(folder, name)} is damaged, and what it says is not answered. Stop the server, and run holdfast check`,
	);
	return -EUCLEAN;
}

function pathOf(folder: number, name: string): string {
	const path = readLink(-100, descriptorPath(folder)) ?? Buffer.from("work");
	return showName(Buffer.concat([path, Buffer.from(`/${name}`)]));
}

/** As readRecord; null: there is none. OverlayError for one that is damaged, as `isWhole` may say too, or cannot be read. */
export function recordOrNone(folder: number, name: string, isWhole: (text: string) => boolean): string | null {
	const kept = readRecord(folder, name);
	const text = typeof kept === "number" ? "" : kept.toString("latin1");
	const value = typeof kept === "number" || isWhole(text) ? kept : damagedRecord(folder, name);
	if (value === -ERRNO.ENOENT) return null;
	if (typeof value === "number") throw failed(`Cannot read the record ${pathOf(folder, name)}`, value);
	return text;
}

/** Writes a record by one call: in the place of another by a rename of what was written aside. 0, or the negated error number. */
export function writeRecord(folder: number, name: string, value: Uint8Array): number {
	const made = makeSymlink(seal(name, value), folder, name);
	if (made !== -ERRNO.EEXIST) return made;
	const aside = asideName(name);
	let status = writeAside(folder, name, value);
	if (status < 0) return status;
	status = renameName(folder, aside, folder, name);
	// where there is no room for that
	if (status < 0) unlinkName(folder, aside);
	return status;
}

/** Writes a record where it lies before it is in its place. 0, or the negated error number. */
export function writeAside(folder: number, name: string, value: Uint8Array): number {
	const aside = asideName(name);
	const kept = seal(name, value);
	const status = makeSymlink(kept, folder, aside);
	if (status !== -ERRNO.EEXIST) return status;
	unlinkName(folder, aside);
	return makeSymlink(kept, folder, aside);
}

/** So that the end still fits into a name. */
const ASIDE_MAX = 200;

/** Where a record lies before it is whole. */
export function asideName(name: string): string {
	return `${name.slice(0, ASIDE_MAX)}.new`;
}
