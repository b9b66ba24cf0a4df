// The record in a value of the xattr `origin`, which is the kernel's ("struct ovl_fb"), with something of ours behind it.

export const RECORD_HEADER_BYTES = 21;
const LENGTH_AT = 2;

/** The record alone: the kernel reads it by its own length. */
export function recordIn(origin: Buffer): Buffer {
	const length = origin[LENGTH_AT];
	return origin.length > length && length > RECORD_HEADER_BYTES ? origin.subarray(0, length) : origin;
}
