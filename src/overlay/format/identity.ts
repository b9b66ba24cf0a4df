// The overlay format's record of a real object, and our own xattr with the identity of a copied-up one.

import { KERNEL_HANDLE_BYTES_MAX } from "../../layer/layer.ts";
import { RECORD_HEADER_BYTES } from "../../layer/origin-record.ts";
import type { FileHandle } from "../../linux/file-handle.ts";

/** Where an object was born: a home's number in the registry, and the kernel handle of its inode there. */
export interface Identity {
	readonly home: number;
	readonly id: FileHandle;
}

/** Flags and magic of the kernel's record of a real object (fs/overlayfs, "struct ovl_fb"). */
const RECORD_VERSION = 0;
const RECORD_MAGIC = 0xfb;
const RECORD_FLAG_PATH_UPPER = 4;

/** The overlay format's record of a real object: value of `origin` and `upper`, and in hex the name of an index entry. */
export function encodeRecord(uuid: Uint8Array, handle: FileHandle, isUpper: boolean): Buffer {
	const length = RECORD_HEADER_BYTES + handle.bytes.length;
	const record = Buffer.alloc(length);
	record[0] = RECORD_VERSION;
	record[1] = RECORD_MAGIC;
	record[2] = length;
	record[3] = isUpper ? RECORD_FLAG_PATH_UPPER : 0;
	record[4] = handle.type;
	record.set(uuid, 5);
	record.set(handle.bytes, RECORD_HEADER_BYTES);
	return record;
}

/** Whether a record says that it is of an object of upper. */
export function isOfUpper(record: Uint8Array): boolean {
	return (record[3] & RECORD_FLAG_PATH_UPPER) !== 0;
}

/** The handle in a record whose file system has this uuid, or null when it is none of ours or not understood. */
export function decodeRecord(record: Buffer, uuid: Uint8Array): FileHandle | null {
	if (record.length <= RECORD_HEADER_BYTES || record[0] !== RECORD_VERSION || record[1] !== RECORD_MAGIC) return null;
	if (record.length > RECORD_HEADER_BYTES + KERNEL_HANDLE_BYTES_MAX) return null;
	if (record[2] !== record.length || (record[3] & ~(RECORD_FLAG_PATH_UPPER | 2)) !== 0) return null;
	if (!record.subarray(5, RECORD_HEADER_BYTES).equals(uuid)) return null;
	return { type: record[4], bytes: record.subarray(RECORD_HEADER_BYTES) };
}

/**
 * Our own xattr on a copied-up inode, `trusted.overlay.holdfast`: version 1, the uuid of the home of birth (16 bytes),
 * the type and the bytes of the id there. It names the home by uuid, because numbers belong to one registry.
 */
const IDENTITY_VERSION = 1;
const IDENTITY_HEADER_BYTES = 18;

export function encodeIdentity(homeUuid: Uint8Array, id: FileHandle): Buffer {
	const value = Buffer.alloc(IDENTITY_HEADER_BYTES + id.bytes.length);
	value[0] = IDENTITY_VERSION;
	value.set(homeUuid, 1);
	value[17] = id.type;
	value.set(id.bytes, IDENTITY_HEADER_BYTES);
	return value;
}

/** What `encodeIdentity` wrote, or null for anything else. */
export function decodeIdentity(value: Buffer): { readonly homeUuid: Buffer; readonly id: FileHandle } | null {
	if (value.length <= IDENTITY_HEADER_BYTES || value[0] !== IDENTITY_VERSION) return null;
	if (value.length > IDENTITY_HEADER_BYTES + KERNEL_HANDLE_BYTES_MAX) return null;
	return { homeUuid: value.subarray(1, 17), id: { type: value[17], bytes: value.subarray(IDENTITY_HEADER_BYTES) } };
}
