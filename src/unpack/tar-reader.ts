// Entries of a tar archive, byte for byte, as they stream by (POSIX.1-2017, pax, "pax Interchange Format"; GNU tar manual, "Basic Tar Format").

import { showName } from "../vfs/names.ts";
import type { ArchiveBytes } from "./archive-bytes.ts";
import { ByteReader } from "./byte-source.ts";
import { addGlobalRecords, noPaxHeader, type PaxHeader, type PaxRecords, parseDecimal, parsePax } from "./pax-records.ts";
import { type Extent, isSparse, readOldSparseMap, readPaxSparseMap, type SparseMap } from "./sparse-map.ts";
import { BLOCK_BYTES, isZeroBlock, parseHeader, type TarHeader } from "./tar-header.ts";
import { EntryError, UnpackError } from "./unpack-error.ts";

export type TarEntryType = "file" | "link" | "symlink" | "character-device" | "block-device" | "directory" | "fifo";

export interface TarTime {
	readonly sec: number;
	readonly nsec: number;
}

/** A piece of a file's content, at its offset in the file. What lies between pieces is a hole. */
export interface Piece {
	readonly offset: number;
	readonly bytes: Buffer;
}

export interface TarEntry {
	/** As it stands in the archive: it may be absolute, and hold "..". */
	readonly name: Buffer;
	readonly type: TarEntryType;
	/** Of links. */
	readonly linkName: Buffer;
	/** Of the file; 0 of anything else. */
	readonly size: number;
	/** Where its content begins in the archive. */
	readonly contentAt: number;
	/** Stored with holes left out. */
	readonly isSparse: boolean;
	/** Permission bits. */
	readonly mode: number;
	readonly uid: number;
	readonly gid: number;
	readonly mtime: TarTime;
	readonly atime: TarTime | undefined;
	readonly major: number;
	readonly minor: number;
	/** By name, as Latin-1. */
	readonly xattrs: ReadonlyMap<string, Buffer>;
	/** ACLs as text, which are not read: GNU tar and star write them. In layers ACLs are xattrs. */
	readonly hasTextAcl: boolean;
	/** To be read before the next entry is asked for, or not at all. Each piece is valid until the next one is asked for. */
	readonly content: AsyncIterable<Piece>;
}

const ID_MAX = 0xfffffffe;
const MODE_MASK = 0o7777;
const SLASH = 0x2f;
/** Headers that belong to the next entry, or to all, are held in memory. */
const EXTENDED_BYTES_MAX = 4 * 1024 * 1024;
const XATTR_KEY = "SCHILY.xattr.";
const TRUNCATED = "it ends too early, so it was cut off; get it again";

const TYPES: ReadonlyMap<string, TarEntryType> = new Map([
	["0", "file"],
	["1", "link"],
	["2", "symlink"],
	["3", "character-device"],
	["4", "block-device"],
	["5", "directory"],
	["6", "fifo"],
	// contiguous, which says nothing to Linux
	["7", "file"],
	["S", "file"],
]);

/** What headers before an entry say of it. */
interface Announced {
	pax: PaxHeader | null;
	longName: Buffer | null;
	longLinkName: Buffer | null;
}

/** Yields the entries in order; UnpackError for an archive that is damaged or of no known kind. */
export async function* readTar({ source, isChecked }: ArchiveBytes): AsyncGenerator<TarEntry> {
	const reader = new ByteReader(source);
	let global: PaxRecords = new Map();
	let announced: Announced = nothingAnnounced();
	for (;;) {
		const start = reader.offset;
		const block = await reader.take(BLOCK_BYTES);
		if (block.length === 0) {
			if (isAnnounced(announced)) throw new UnpackError(TRUNCATED);
			if (isChecked) return;
			throw new UnpackError(
				"it has no end mark, so it was cut off; get it again, or if it is meant so add the mark: head -c 1024 /dev/zero >>",
			);
		}
		if (block.length < BLOCK_BYTES) throw new UnpackError(start === 0 ? "it is no tar archive, or it was cut off" : TRUNCATED);
		if (isZeroBlock(block)) {
			if (isAnnounced(announced)) throw new UnpackError(TRUNCATED);
			await demandZeros(reader);
			return;
		}
		const header = parseHeader(block);
		if (header === null) {
			const reason = start === 0 ? "it is no tar archive, or it is damaged there" : "it is damaged: a header's checksum is wrong";
			throw new UnpackError(`${reason}; get it again`);
		}
		switch (header.type) {
			case "x":
			// of old Solaris, in the same form
			case "X":
				announced.pax = parsePax(await readExtended(reader, header));
				continue;
			case "g":
				global = addGlobalRecords(global, parsePax(await readExtended(reader, header)).records);
				continue;
			case "L":
				announced.longName = untilNul(await readExtended(reader, header));
				continue;
			case "K":
				announced.longLinkName = untilNul(await readExtended(reader, header));
				continue;
		}
		const stored = new StoredContent(reader);
		yield await readEntry(header, Buffer.from(block), announced, global, stored);
		await stored.skip();
		announced = nothingAnnounced();
	}
}

function nothingAnnounced(): Announced {
	return { pax: null, longName: null, longLinkName: null };
}

function isAnnounced({ pax, longName, longLinkName }: Announced): boolean {
	return pax !== null || longName !== null || longLinkName !== null;
}

async function demandZeros(reader: ByteReader): Promise<void> {
	for (let bytes = await reader.takeAny(Number.MAX_SAFE_INTEGER); bytes.length > 0; bytes = await reader.takeAny(Number.MAX_SAFE_INTEGER)) {
		if (bytes.every((byte) => byte === 0)) continue;
		throw new UnpackError(
			"it goes on behind its end mark: it is several archives in one file, or damaged; give one archive for each layer",
		);
	}
}

async function readExtended(reader: ByteReader, { size }: TarHeader): Promise<Buffer> {
	if (!(size >= 0)) throw new UnpackError("a header has a size that cannot be, so it is damaged there; get it again");
	if (size > EXTENDED_BYTES_MAX) throw new UnpackError("a header has more than 4 MiB; no layer needs that");
	const bytes = await reader.take(padded(size));
	if (bytes.length < padded(size)) throw new UnpackError(TRUNCATED);
	return bytes.subarray(0, size);
}

/** A copy. */
function untilNul(bytes: Buffer): Buffer {
	const end = bytes.indexOf(0);
	return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end));
}

function padded(bytes: number): number {
	return Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;
}

/** What lies between an entry's header and the next header. */
class StoredContent {
	readonly reader: ByteReader;
	#left = 0;
	#padding = 0;

	constructor(reader: ByteReader) {
		this.reader = reader;
	}

	begin(bytes: number): void {
		this.#left = bytes;
		this.#padding = padded(bytes) - bytes;
	}

	/** What was read of it otherwise. */
	passed(bytes: number): void {
		this.#left -= bytes;
	}

	/** Everything, at the extents it belongs to. */
	async *pieces(extents: readonly Extent[]): AsyncGenerator<Piece> {
		for (const extent of extents) {
			for (let done = 0; done < extent.length; ) {
				const bytes = await this.reader.takeAny(extent.length - done);
				if (bytes.length === 0) throw new UnpackError(TRUNCATED);
				this.#left -= bytes.length;
				yield { offset: extent.offset + done, bytes };
				done += bytes.length;
			}
		}
	}

	async skip(): Promise<void> {
		const bytes = this.#left + this.#padding;
		this.begin(0);
		if (!(await this.reader.skip(bytes))) throw new UnpackError(TRUNCATED);
	}
}

async function readEntry(
	header: TarHeader,
	block: Buffer,
	announced: Announced,
	global: PaxRecords,
	stored: StoredContent,
): Promise<TarEntry> {
	const pax = announced.pax ?? noPaxHeader();
	const records: PaxRecords = new Map([...global, ...pax.records]);
	/** An empty value stands for the header's own. */
	const record = (key: string) => (records.get(key)?.length === 0 ? undefined : records.get(key));
	const name = announced.longName ?? record("GNU.sparse.name") ?? record("path") ?? header.name;
	const refuse = (reason: string) => new EntryError(reason, name);
	const type = typeOf(header.type, name, refuse);

	const sizeText = record("size")?.toString("latin1");
	const size = sizeText === undefined ? header.size : (parseDecimal(sizeText, 0, Number.MAX_SAFE_INTEGER) ?? Number.NaN);
	if (!(size >= 0)) throw refuse("it has a size that cannot be, so the archive is damaged there; get it again");
	if (header.type !== "5" && type === "directory" && size > 0)
		throw refuse("it has content, and the name of a directory; the archive is damaged");
	// programs disagree on what the size of other types means, and no content follows them
	stored.begin(type === "file" ? size : 0);

	let sparse: SparseMap | null = null;
	if (header.type === "S" || isSparse(pax)) {
		const map = header.type === "S" ? await readOldSparseMap(block, stored.reader) : await readPaxSparseMap(pax, stored.reader, size);
		if (type === "file") sparse = soundMap(map, size);
		if (sparse === null) {
			throw refuse("it is a sparse file whose map is damaged, or of an unknown form; get it again, or pack it without --sparse");
		}
		stored.passed(sparse.mapBytes);
	}
	const id = (key: "uid" | "gid") => {
		const text = record(key)?.toString("latin1");
		const value = text === undefined ? header[key] : parseDecimal(text, 0, ID_MAX);
		if (value === undefined || !(value >= 0 && value <= ID_MAX)) {
			throw refuse(`its ${key} ${showText(text ?? `${header[key]}`)} is none that Linux has`);
		}
		return value;
	};
	const time = (key: "mtime" | "atime") => {
		const text = record(key)?.toString("latin1");
		const value = text === undefined ? undefined : parseTime(text);
		if (text !== undefined && value === undefined) throw refuse(`its ${key} "${showText(text)}" is no time`);
		return value;
	};
	const mtime = time("mtime") ?? (Number.isNaN(header.mtime) ? undefined : { sec: header.mtime, nsec: 0 });
	if (mtime === undefined) throw refuse("its mtime is no time; the archive is damaged");
	if (!(header.mode >= 0)) throw refuse("its mode is no number; the archive is damaged");
	const fileSize = type === "file" ? (sparse?.size ?? size) : 0;
	return {
		name,
		type,
		linkName: announced.longLinkName ?? record("linkpath") ?? header.linkName,
		size: fileSize,
		contentAt: stored.reader.offset,
		isSparse: sparse !== null,
		mode: header.mode & MODE_MASK,
		uid: id("uid"),
		gid: id("gid"),
		mtime,
		atime: time("atime"),
		major: header.major,
		minor: header.minor,
		xattrs: xattrsIn(records),
		hasTextAcl: records.has("SCHILY.acl.access") || records.has("SCHILY.acl.default"),
		content: stored.pieces(sparse?.extents ?? [{ offset: 0, length: fileSize }]),
	};
}

function xattrsIn(records: PaxRecords): Map<string, Buffer> {
	const xattrs = new Map<string, Buffer>();
	for (const [key, value] of records) if (key.startsWith(XATTR_KEY)) xattrs.set(key.slice(XATTR_KEY.length), value);
	return xattrs;
}

/** Null for a map that does not add up to the bytes that are stored. */
function soundMap(map: SparseMap | null, size: number): SparseMap | null {
	const mapped = map?.extents.reduce((sum, { length }) => sum + length, map.mapBytes);
	return mapped === size ? map : null;
}

function typeOf(flag: string, name: Buffer, refuse: (reason: string) => Error): TarEntryType {
	const type = TYPES.get(flag);
	if (type === undefined) {
		throw refuse(
			`it is of a kind that only some tar programs know (type "${showText(flag)}"); pack it again with tar --format=posix, without --multi-volume, ` +
				"--incremental or --label",
		);
	}
	// how archives before POSIX tell a directory
	return type === "file" && name.at(-1) === SLASH ? "directory" : type;
}

/** Of an archive, for a sentence. */
function showText(text: string): string {
	return showName(Buffer.from(text.slice(0, 40), "latin1"));
}

/** "-1.5" is half a second after -2. */
function parseTime(text: string): TarTime | undefined {
	const [, sign, whole, fraction = ""] = /^(-?)(\d{1,15})(?:\.(\d*))?$/.exec(text) ?? [];
	if (whole === undefined) return undefined;
	const nsec = Number(fraction.padEnd(9, "0").slice(0, 9));
	if (sign === "") return { sec: Number(whole), nsec };
	return nsec === 0 ? { sec: 0 - Number(whole), nsec } : { sec: -Number(whole) - 1, nsec: 1e9 - nsec };
}
