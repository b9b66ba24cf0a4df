// File handles as clients hold them: their layout, and how they are signed and checked.

import type { FileHandle } from "../linux/file-handle.ts";
import { copyBytes } from "../linux/memory.ts";
import { type SipKey, sipHash, sipHashed } from "./sip-hash.ts";

/**
 * The wire form of a handle: what a client keeps, the same bytes over NFSv3 and NFSv4 (at most 64).
 *
 * | at | bytes | field |
 * |---|---|---|
 * | 0 | 1 | format version, 1 |
 * | 1 | 1 | id of the signing key |
 * | 2 | 1 | provider of the id: 1 kernel handles, 2 portable ones |
 * | 3 | 1 | zero |
 * | 4 | 4 | export id |
 * | 8 | 2 | home: where the object was born; 0 is the root of the export |
 * | 10 | 1 | type of the id, as name_to_handle_at(2) gave it, or of a portable one (0xe1 and above); 0 for the root |
 * | 11 | 1 | n, length of the id |
 * | 12 | n | the id |
 * | 12+n | 8 | SipHash-2-4 of all before it under the export's key |
 *
 * Numbers are big-endian. The root has no id: its handle depends on nothing that could change.
 */
export const FORMAT_VERSION = 1;
export const PROVIDER_KERNEL = 1;
export const PROVIDER_PORTABLE = 2;
/** Types of portable ids; no file system of the kernel uses them. */
const PORTABLE_TYPES = 0xe1;
const PORTABLE_TYPES_END = 0xe5;
export const HEADER_BYTES = 12;
export const SIGNATURE_BYTES = 8;
export const HANDLE_BYTES_MAX = 64;
/** Room for an id; longer kernel handles need portable handles. */
export const ID_BYTES_MAX = HANDLE_BYTES_MAX - HEADER_BYTES - SIGNATURE_BYTES;
export const ROOT_HOME = 0;

/** The fields of a handle as they stand in its bytes; nothing in them is to be believed before the signature has been checked. */
export interface HandleFields {
	readonly version: number;
	readonly keyId: number;
	readonly provider: number;
	readonly exportId: number;
	readonly home: number;
	readonly id: FileHandle;
}

/** Signs and checks the handles of one export. */
export class HandleSigner {
	readonly exportId: number;
	readonly keyId: number;
	readonly #keys: ReadonlyMap<number, SipKey>;
	readonly #provider: number;
	/** The handle that was verified last: an object that is loaded by it is given the same one. */
	readonly #verified = Buffer.alloc(HANDLE_BYTES_MAX);
	#verifiedLength = 0;

	/** `keys` holds every key that is still good, by its id; `keyId` names the signing key. `provider`: of the root, which has no id. */
	constructor(exportId: number, keys: ReadonlyMap<number, SipKey>, keyId: number, provider: number = PROVIDER_KERNEL) {
		if (!keys.has(keyId)) throw new RangeError(`There is no key ${keyId} to sign handles with`);
		this.exportId = exportId;
		this.keyId = keyId;
		this.#keys = keys;
		this.#provider = provider;
	}

	/** The handle of an id that was born in a home. RangeError when the id does not fit. */
	encode(home: number, type: number, id: Uint8Array): Buffer {
		if (id.length > ID_BYTES_MAX) throw new RangeError(`An id of ${id.length} bytes does not fit into a handle`);
		if (type < 0 || type > 0xff) throw new RangeError(`An id type of ${type} does not fit into a handle`);
		if (this.#wasVerified(home, type, id)) return copyBytes(this.#verified, 0, this.#verifiedLength);
		const end = HEADER_BYTES + id.length;
		// not from a pool: handles live long, and one of them must not keep 8 KiB alive
		const bytes = Buffer.allocUnsafeSlow(end + SIGNATURE_BYTES);
		bytes[0] = FORMAT_VERSION;
		bytes[1] = this.keyId;
		bytes[2] = this.#providerOf(type);
		bytes[3] = 0;
		bytes.writeUInt32BE(this.exportId, 4);
		bytes.writeUInt16BE(home, 8);
		bytes[10] = type;
		bytes[11] = id.length;
		bytes.set(id, HEADER_BYTES);
		sipHash(this.#keys.get(this.keyId) as SipKey, bytes, 0, end);
		bytes.writeUInt32BE(sipHashed[0], end);
		bytes.writeUInt32BE(sipHashed[1], end + 4);
		return bytes;
	}

	/** Whether these bytes are a handle of this export that was signed with a good key. Makes no system call. */
	verify(bytes: Uint8Array): boolean {
		const length = bytes.length;
		if (length < HEADER_BYTES + SIGNATURE_BYTES || length > HANDLE_BYTES_MAX) return false;
		if (bytes[0] !== FORMAT_VERSION || (bytes[2] !== PROVIDER_KERNEL && bytes[2] !== PROVIDER_PORTABLE) || bytes[3] !== 0) return false;
		const end = length - SIGNATURE_BYTES;
		if (HEADER_BYTES + bytes[11] !== end) return false;
		if (u32(bytes, 4) !== this.exportId) return false;
		const key = this.#keys.get(bytes[1]);
		if (key === undefined) return false;
		sipHash(key, bytes, 0, end);
		// both halves are always compared, so the time tells nothing of where they differ
		const isGood = ((sipHashed[0] ^ u32(bytes, end)) | (sipHashed[1] ^ u32(bytes, end + 4))) === 0;
		if (isGood) {
			this.#verified.set(bytes, 0);
			this.#verifiedLength = length;
		}
		return isGood;
	}

	/** Whether `encode` would make again what was verified last. */
	#wasVerified(home: number, type: number, id: Uint8Array): boolean {
		const verified = this.#verified;
		if (this.#verifiedLength !== HEADER_BYTES + id.length + SIGNATURE_BYTES || verified[1] !== this.keyId) return false;
		if (verified[2] !== this.#providerOf(type) || verified[10] !== type || ((verified[8] << 8) | verified[9]) !== home) return false;
		for (let i = id.length - 1; i >= 0; i--) if (id[i] !== verified[HEADER_BYTES + i]) return false;
		return true;
	}

	#providerOf(type: number): number {
		if (type === 0) return this.#provider;
		return type >= PORTABLE_TYPES && type < PORTABLE_TYPES_END ? PROVIDER_PORTABLE : PROVIDER_KERNEL;
	}
}

/** The export id of what may be a handle, as a signed 32-bit number (those are never allocated); undefined when it is too short. */
export function exportIdOf(bytes: Uint8Array): number | undefined {
	return bytes.length < 8 ? undefined : (bytes[4] << 24) | (bytes[5] << 16) | (bytes[6] << 8) | bytes[7];
}

function u32(bytes: Uint8Array, at: number): number {
	return ((bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0;
}

/** The fields of what may be a handle, or null when the bytes have not even its shape. */
export function parseHandle(bytes: Uint8Array): HandleFields | null {
	if (bytes.length < HEADER_BYTES + SIGNATURE_BYTES || bytes.length > HANDLE_BYTES_MAX) return null;
	if (bytes.length !== HEADER_BYTES + bytes[11] + SIGNATURE_BYTES) return null;
	return {
		version: bytes[0],
		keyId: bytes[1],
		provider: bytes[2],
		exportId: u32(bytes, 4),
		home: (bytes[8] << 8) | bytes[9],
		id: { type: bytes[10], bytes: copyBytes(bytes, HEADER_BYTES, HEADER_BYTES + bytes[11]) },
	};
}
