// The header block of a tar entry in its v7, ustar and GNU forms (POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format").

export const BLOCK_BYTES = 512;

/** Fields as they stand in the block. A number that is none is NaN: a PAX header may give another in its place. */
export interface TarHeader {
	readonly name: Buffer;
	readonly linkName: Buffer;
	/** The type flag as a character; NUL of the oldest archives is "0". */
	readonly type: string;
	/** Bytes behind the header, without padding. */
	readonly size: number;
	readonly mode: number;
	readonly uid: number;
	readonly gid: number;
	/** Seconds. */
	readonly mtime: number;
	readonly major: number;
	readonly minor: number;
}

/** Start and length of each field. */
const FIELD = {
	name: [0, 100],
	mode: [100, 8],
	uid: [108, 8],
	gid: [116, 8],
	size: [124, 12],
	mtime: [136, 12],
	checksum: [148, 8],
	linkName: [157, 100],
	major: [329, 8],
	minor: [337, 8],
	prefix: [345, 155],
	starPrefix: [345, 131],
} as const;
const TYPE_AT = 156;
const MAGIC_AT = 257;
const USTAR_MAGIC = "ustar\0";
const GNU_MAGIC = "ustar  \0";
/** star(1) says in the last four bytes that times stand behind a shorter prefix. */
const STAR_MARK = "tar\0";
const STAR_MARK_AT = 508;
const SPACE = 0x20;
const SLASH = Buffer.from("/");

export function isZeroBlock(block: Buffer): boolean {
	return block.every((byte) => byte === 0);
}

/** Null: the checksum is wrong, so it is no header. */
export function parseHeader(block: Buffer): TarHeader | null {
	if (!isChecked(block)) return null;
	const magic = block.toString("latin1", MAGIC_AT, MAGIC_AT + 8);
	const isUstar = magic.startsWith(USTAR_MAGIC);
	const isStar = block.toString("latin1", STAR_MARK_AT) === STAR_MARK;
	const prefix = isUstar ? textAt(block, isStar ? FIELD.starPrefix : FIELD.prefix) : Buffer.alloc(0);
	const name = textAt(block, FIELD.name);
	const hasDevice = isUstar || magic === GNU_MAGIC;
	return {
		name: prefix.length === 0 ? name : Buffer.concat([prefix, SLASH, name]),
		linkName: textAt(block, FIELD.linkName),
		type: block[TYPE_AT] === 0 ? "0" : String.fromCharCode(block[TYPE_AT]),
		size: numberAt(block, FIELD.size),
		mode: numberAt(block, FIELD.mode),
		uid: numberAt(block, FIELD.uid),
		gid: numberAt(block, FIELD.gid),
		mtime: numberAt(block, FIELD.mtime),
		major: hasDevice ? numberAt(block, FIELD.major) : 0,
		minor: hasDevice ? numberAt(block, FIELD.minor) : 0,
	};
}

/** The sum of all bytes, the checksum's own counted as spaces. Old programs summed up signed bytes. */
function isChecked(block: Buffer): boolean {
	const [start, length] = FIELD.checksum;
	let unsigned = 0;
	let signed = 0;
	for (let at = 0; at < BLOCK_BYTES; at++) {
		const byte = at >= start && at < start + length ? SPACE : block[at];
		unsigned += byte;
		signed += (byte << 24) >> 24;
	}
	const told = numberAt(block, FIELD.checksum);
	return told === unsigned || told === signed;
}

/** Up to the first NUL. A copy: the block is a view of what will be read over. */
function textAt(block: Buffer, [start, length]: readonly [start: number, length: number]): Buffer {
	const end = block.indexOf(0, start);
	return Buffer.from(block.subarray(start, end < 0 || end > start + length ? start + length : end));
}

/**
 * Octal digits between spaces and NULs, nothing for 0; or, where the first byte's highest bit is set, the rest as a binary number, in two's complement
 * (base-256 of GNU tar and star). NaN for anything else, and for what a double cannot hold exactly.
 */
export function numberAt(block: Buffer, [start, length]: readonly [start: number, length: number]): number {
	if ((block[start] & 0x80) !== 0) return binaryAt(block, start, length);
	const digits = /^[ \0]*([0-7]*)(?:[ \0]|$)/.exec(block.toString("latin1", start, start + length));
	if (digits === null) return Number.NaN;
	return digits[1] === "" ? 0 : Number.parseInt(digits[1], 8);
}

function binaryAt(block: Buffer, start: number, length: number): number {
	const isNegative = (block[start] & 0x40) !== 0;
	let value = 0;
	for (let at = start; at < start + length; at++) {
		const byte = isNegative ? block[at] ^ 0xff : block[at];
		value = value * 0x100 + (at === start ? byte & 0x7f : byte);
	}
	if (value > Number.MAX_SAFE_INTEGER) return Number.NaN;
	return isNegative ? -1 - value : value;
}
