// Writes entries of a tar archive, with PAX records for all that a ustar header cannot say (POSIX.1-2017, pax).

const BLOCK_BYTES = 512;
const NAME_BYTES = 100;
/** What octal digits in the header can say. */
const ID_MAX = 0o7777777;
const SIZE_MAX = 0o77777777777;
const TIME_MAX = 0o77777777777;

export interface TarTime {
	readonly sec: number;
	readonly nsec: number;
}

/** A piece of a file that is not a hole, in bytes. */
export interface Piece {
	readonly offset: number;
	readonly length: number;
}

export interface EntryHeader {
	readonly path: Buffer;
	/** As in tar(5): "0" a file, "1" a hard link, "2" a symlink, "3" and "4" devices, "5" a directory, "6" a fifo. */
	readonly type: "0" | "1" | "2" | "3" | "4" | "5" | "6";
	/** Bytes of a regular file; 0 for all else. */
	readonly size: number;
	readonly mode: number;
	readonly uid: number;
	readonly gid: number;
	readonly mtime: TarTime;
	/** What a hard link or symlink leads to. */
	readonly link?: Buffer;
	readonly device?: readonly [major: number, minor: number];
	readonly xattrs?: readonly (readonly [name: string, value: Buffer])[];
	/** Of a sparse file: what is not a hole. */
	readonly pieces?: readonly Piece[];
}

/** The blocks before the content of an entry. */
export function headerBlocks(entry: EntryHeader): Buffer {
	const records: [string, Buffer | string][] = [];
	const map = entry.pieces === undefined ? null : sparseMap(entry.pieces);
	const stored = map === null ? entry.size : map.length + dataBytes(entry.pieces ?? []);
	if (map !== null) {
		records.push(["GNU.sparse.major", "1"], ["GNU.sparse.minor", "0"]);
		records.push(["GNU.sparse.name", entry.path], ["GNU.sparse.realsize", `${entry.size}`]);
	}
	if (entry.path.length > NAME_BYTES) records.push(["path", entry.path]);
	if (entry.link !== undefined && entry.link.length > NAME_BYTES) records.push(["linkpath", entry.link]);
	if (stored > SIZE_MAX) records.push(["size", `${stored}`]);
	if (entry.uid > ID_MAX) records.push(["uid", `${entry.uid}`]);
	if (entry.gid > ID_MAX) records.push(["gid", `${entry.gid}`]);
	const { sec, nsec } = entry.mtime;
	if (nsec !== 0 || sec < 0 || sec > TIME_MAX) records.push(["mtime", timeText(sec, nsec)]);
	for (const [name, value] of entry.xattrs ?? []) records.push([`SCHILY.xattr.${name}`, value]);
	const blocks: Buffer[] = [];
	if (records.length > 0) {
		const body = Buffer.concat(records.map(([key, value]) => paxRecord(key, Buffer.from(value as string))));
		const path = Buffer.concat([Buffer.from("PaxHeaders/"), entry.path.subarray(0, NAME_BYTES - 11)]);
		blocks.push(ustar({ ...PLAIN, path, type: "x", size: body.length }), body, padding(body.length));
	}
	blocks.push(ustar({ ...entry, size: Math.min(stored, SIZE_MAX) }));
	if (map !== null) blocks.push(map);
	return Buffer.concat(blocks);
}

/** Zeros that fill up the last block of a content. */
export function padding(size: number): Buffer {
	return Buffer.alloc((BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES);
}

/** What ends an archive. */
export const END_BLOCKS = Buffer.alloc(2 * BLOCK_BYTES);

export function dataBytes(pieces: readonly Piece[]): number {
	return pieces.reduce((sum, { length }) => sum + length, 0);
}

const PLAIN = { mode: 0o644, uid: 0, gid: 0, mtime: { sec: 0, nsec: 0 } };

/** Form 1.0 of GNU tar: "COUNT\nOFFSET\nLENGTH\n...", in whole blocks before the data. */
function sparseMap(pieces: readonly Piece[]): Buffer {
	const text = Buffer.from([pieces.length, ...pieces.flatMap(({ offset, length }) => [offset, length])].map((one) => `${one}\n`).join(""));
	return Buffer.concat([text, padding(text.length)]);
}

/** "LENGTH KEY=VALUE\n", whose length counts its own digits. */
function paxRecord(key: string, value: Buffer): Buffer {
	const rest = 3 + Buffer.byteLength(key, "latin1") + value.length;
	let length = rest + 1;
	while (rest + `${length}`.length !== length) length = rest + `${length}`.length;
	return Buffer.concat([Buffer.from(`${length} ${key}=`, "latin1"), value, Buffer.from("\n")]);
}

function timeText(sec: number, nsec: number): string {
	if (nsec === 0) return `${sec}`;
	if (sec >= 0) return `${sec}.${`${nsec}`.padStart(9, "0")}`;
	// the fraction goes away from zero with its second
	const [whole, fraction] = [-sec - 1, 1_000_000_000 - nsec];
	return `-${whole}.${`${fraction}`.padStart(9, "0")}`;
}

type UstarHeader = Omit<EntryHeader, "type" | "pieces" | "xattrs"> & { readonly type: EntryHeader["type"] | "x" };

function ustar({ path, type, size, mode, uid, gid, mtime, link, device }: UstarHeader): Buffer {
	const block = Buffer.alloc(BLOCK_BYTES);
	const octal = (value: number, most: number, at: number, digits: number) => {
		const fit = value >= 0 && value <= most ? value : 0;
		block.write(fit.toString(8).padStart(digits, "0"), at, "latin1");
	};
	path.copy(block, 0, 0, NAME_BYTES);
	octal(mode & 0o7777, ID_MAX, 100, 7);
	octal(uid, ID_MAX, 108, 7);
	octal(gid, ID_MAX, 116, 7);
	octal(size, SIZE_MAX, 124, 11);
	octal(mtime.sec, TIME_MAX, 136, 11);
	block.write(type, 156, "latin1");
	link?.copy(block, 157, 0, NAME_BYTES);
	block.write("ustar\x0000", 257, "latin1");
	const [major, minor] = device ?? [0, 0];
	octal(major, ID_MAX, 329, 7);
	octal(minor, ID_MAX, 337, 7);
	block.fill(" ", 148, 156);
	const sum = block.reduce((total, byte) => total + byte, 0);
	block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
	return block;
}
