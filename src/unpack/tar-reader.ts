// Reads the entries of a tar archive, with the bytes of names and xattrs kept.

import { extract } from "tar-stream";
import type { ArchiveBytes } from "./archive-bytes.ts";
import { EntryError, UnpackError } from "./unpack-error.ts";

/** Entries of a tar archive, byte for byte, as tar-stream finds them (POSIX.1-2017, pax, "pax Interchange Format"). */

export type TarEntryType = "file" | "link" | "symlink" | "character-device" | "block-device" | "directory" | "fifo";

export interface TarTime {
	readonly sec: number;
	readonly nsec: number;
}

export interface TarEntry {
	/** As it stands in the archive: it may be absolute, and hold "..". */
	readonly name: Buffer;
	readonly type: TarEntryType;
	/** Of links. */
	readonly linkName: Buffer;
	readonly size: number;
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
	/** To be read before the next entry is asked for, or not at all. */
	readonly content: AsyncIterable<Uint8Array>;
}

const BLOCK_BYTES = 512;
const ID_MAX = 0xfffffffe;
const MODE_MASK = 0o7777;
const XATTR_KEY = "SCHILY.xattr.";
const TRUNCATED = "it ends too early, so it was cut off; get it again";

/** By key, as Latin-1. */
type PaxRecords = ReadonlyMap<string, Buffer>;

/** What is used of tar-stream; its own types leave out the options and some of the fields. */
interface Header {
	readonly name: string;
	readonly linkname: string | null;
	/** Null: none that tar-stream knows. */
	readonly type: string | null;
	readonly size: number;
	readonly mode: number;
	readonly uid: number;
	readonly gid: number;
	readonly mtime: Date;
	readonly devmajor: number;
	readonly devminor: number;
	/** Of the content. */
	readonly byteOffset: number;
}

interface Entry extends AsyncIterable<Uint8Array> {
	readonly header: Header;
	resume(): void;
}

/**
 * tar-stream takes what a PAX header holds for UTF-8, which names and values of extended attributes need not be. So its bytes are read
 * where tar-stream has them in its hands, in a method that is not public. The package is pinned to the very version, and a test sends
 * all bytes through.
 */
interface Extractor extends AsyncIterable<Entry> {
	readonly destroyed: boolean;
	readonly _header: Header | null;
	_decodeLongHeader(bytes: Buffer): void;
	write(chunk: Uint8Array): boolean;
	end(): void;
	destroy(error?: Error): void;
	on(event: "drain" | "close", listener: () => void): void;
	off(event: "drain" | "close", listener: () => void): void;
}

const newExtractor = extract as unknown as (options: { filenameEncoding: "latin1"; allowUnknownFormat: boolean }) => Extractor;

/** Yields the entries in order; UnpackError for an archive that is damaged or of no known kind. */
export async function* readTar(archive: ArchiveBytes): AsyncGenerator<TarEntry> {
	const extractor = newExtractor({ filenameEncoding: "latin1", allowUnknownFormat: true });
	/** Where the next header must begin. */
	let at = 0;
	let global: PaxRecords = new Map();
	let records: PaxRecords = new Map();
	const decode = extractor._decodeLongHeader;
	extractor._decodeLongHeader = (bytes) => {
		at += BLOCK_BYTES + padded(bytes.length);
		const type = extractor._header?.type;
		if (type === "pax-header") records = parsePax(bytes);
		else if (type === "pax-global-header") global = globalRecords(global, parsePax(bytes));
		// where an empty header stood before, tar-stream would take content for one
		else if (type !== "gnu-long-path" && type !== "gnu-long-link-path") throw new UnpackError("its headers are damaged; get it again");
		decode.call(extractor, bytes);
	};
	const feeding = feed(archive.chunks, extractor);
	try {
		for await (const entry of extractor) {
			const { byteOffset } = entry.header;
			if (byteOffset - BLOCK_BYTES !== at) {
				throw new UnpackError(
					"it goes on behind its end mark: it is several archives in one file, or damaged; give one archive for each layer",
				);
			}
			const read = entryOf(entry, new Map([...global, ...records]), records.has("path"), records.has("linkpath"));
			records = new Map();
			at = byteOffset + (read.type === "directory" ? 0 : padded(read.size));
			yield read;
			entry.resume();
		}
	} catch (error) {
		throw reasonOf(error);
	} finally {
		extractor.destroy();
	}
	const left = (await feeding) - at;
	if (left < BLOCK_BYTES && !archive.isChecked) {
		throw new UnpackError(
			"it has no end mark, so it was cut off; get it again, or if it is meant so add the mark: head -c 1024 /dev/zero >>",
		);
	}
}

/** Gives the archive to the parser; the number of its bytes. What fails comes out of the parser. */
async function feed(chunks: AsyncIterable<Buffer>, extractor: Extractor): Promise<number> {
	let bytes = 0;
	try {
		for await (const chunk of chunks) {
			if (extractor.destroyed) break;
			bytes += chunk.length;
			if (!extractor.write(chunk)) await drained(extractor);
		}
		extractor.end();
	} catch (error) {
		extractor.destroy(error as Error);
	}
	return bytes;
}

function drained(extractor: Extractor): Promise<void> {
	return new Promise((resolve) => {
		const go = () => {
			extractor.off("drain", go);
			extractor.off("close", go);
			resolve();
		};
		extractor.on("drain", go);
		extractor.on("close", go);
		if (extractor.destroyed) go();
	});
}

function reasonOf(error: unknown): unknown {
	if (error instanceof UnpackError || !(error instanceof Error)) return error;
	const { code } = error as NodeJS.ErrnoException;
	if (error.message === "Unexpected end of data" || code === "Z_BUF_ERROR") return new UnpackError(TRUNCATED);
	if (error.message.startsWith("Invalid tar header")) return new UnpackError("it is no tar archive, or it is damaged there; get it again");
	if (error.message === "Invalid header")
		return new UnpackError("an entry has a size that cannot be, so it is damaged there; get it again");
	if (error.message === "Header exceeds max size") return new UnpackError("a header has more than 4 MiB; no layer needs that");
	if (code?.startsWith("Z") && !code.startsWith("Zlib"))
		return new UnpackError(`its compressed data is damaged (${error.message}); get it again`);
	if (code !== undefined) return new UnpackError(`reading it failed (${code})`);
	return error;
}

function padded(bytes: number): number {
	return Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;
}

/** "LENGTH KEY=VALUE\n", one after another; a later one of the same key counts. */
function parsePax(bytes: Buffer): PaxRecords {
	const records = new Map<string, Buffer>();
	for (let at = 0; at < bytes.length; ) {
		const space = bytes.indexOf(0x20, at);
		const length = space < 0 ? 0 : decimal(bytes.toString("latin1", at, space), 1, bytes.length - at);
		const equals = bytes.indexOf(0x3d, space);
		if (length === undefined || bytes[at + length - 1] !== 0x0a || equals < 0 || equals >= at + length) {
			throw new UnpackError("a PAX header of it is damaged; get it again");
		}
		// a copy, since tar-stream uses its memory again
		records.set(bytes.toString("latin1", space + 1, equals), Buffer.from(bytes.subarray(equals + 1, at + length - 1)));
		at += length;
	}
	return records;
}

function globalRecords(before: PaxRecords, records: PaxRecords): PaxRecords {
	for (const key of ["size", "path", "linkpath"]) {
		if (records.has(key)) throw new UnpackError(`it gives one ${key} to all entries, which no layer does; pack it again`);
	}
	return new Map([...before, ...records]);
}

function decimal(text: string, least: number, most: number): number | undefined {
	const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
	return value >= least && value <= most ? value : undefined;
}

function bytesOf(text: string | null): Buffer {
	return Buffer.from(text ?? "", "latin1");
}

function entryOf(entry: Entry, records: PaxRecords, hasPath: boolean, hasLinkPath: boolean): TarEntry {
	const { header } = entry;
	const name = hasPath ? (records.get("path") as Buffer) : bytesOf(header.name);
	const size = header.size;
	const refuse = (reason: string) => new EntryError(reason, name);
	if ([...records.keys()].some((key) => key.startsWith("GNU.sparse."))) {
		throw refuse("it is stored as a sparse file in GNU tar's own way; pack it again without --sparse");
	}
	if (!Number.isSafeInteger(size)) throw refuse("its size cannot be; the archive is damaged");
	const id = (key: string, fromHeader: number) => {
		const record = records.get(key)?.toString("latin1");
		const value = record === undefined ? fromHeader : decimal(record, 0, ID_MAX);
		if (value === undefined || !Number.isInteger(value) || value < 0 || value > ID_MAX) {
			throw refuse(`its ${key} ${record ?? fromHeader} is none that Linux has`);
		}
		return value;
	};
	const time = (key: string) => {
		const record = records.get(key)?.toString("latin1");
		const value = record === undefined ? undefined : parseTime(record);
		if (record !== undefined && value === undefined) throw refuse(`its ${key} "${record.slice(0, 40).replace(/[^ -~]/g, "?")}" is no time`);
		return value;
	};
	// tar-stream takes a negative binary number for its one's complement
	const headerTime = header.mtime.getTime() / 1000 - (header.mtime.getTime() < 0 ? 1 : 0);
	const mtime = time("mtime") ?? (Number.isInteger(headerTime) ? { sec: headerTime, nsec: 0 } : undefined);
	if (mtime === undefined) throw refuse("its mtime is no time");
	if (!Number.isInteger(header.mode)) throw refuse("its mode is no number; the archive is damaged");
	const xattrs = new Map<string, Buffer>();
	for (const [key, value] of records) if (key.startsWith(XATTR_KEY)) xattrs.set(key.slice(XATTR_KEY.length), value);
	return {
		name,
		type: typeOf(header.type, name, refuse),
		linkName: hasLinkPath ? (records.get("linkpath") as Buffer) : bytesOf(header.linkname),
		size,
		mode: header.mode & MODE_MASK,
		uid: id("uid", header.uid),
		gid: id("gid", header.gid),
		mtime,
		atime: time("atime"),
		major: header.devmajor,
		minor: header.devminor,
		xattrs,
		hasTextAcl: records.has("SCHILY.acl.access") || records.has("SCHILY.acl.default"),
		content: contentOf(entry),
	};
}

function typeOf(type: Header["type"], name: Buffer, refuse: (reason: string) => Error): TarEntryType {
	switch (type) {
		case "file":
		case "contiguous-file":
			// how archives before POSIX tell a directory
			return name.at(-1) === 0x2f ? "directory" : "file";
		case "link":
		case "symlink":
		case "character-device":
		case "block-device":
		case "directory":
		case "fifo":
			return type;
		default:
			throw refuse(
				"it is of a kind that only some tar programs know (an old GNU sparse file, for one); pack it again with tar --format=posix",
			);
	}
}

/** "-1.5" is half a second after -2. */
function parseTime(text: string): TarTime | undefined {
	const [, sign, whole, fraction = ""] = /^(-?)(\d{1,15})(?:\.(\d*))?$/.exec(text) ?? [];
	if (whole === undefined) return undefined;
	const nsec = Number(fraction.padEnd(9, "0").slice(0, 9));
	if (sign === "") return { sec: Number(whole), nsec };
	return nsec === 0 ? { sec: 0 - Number(whole), nsec } : { sec: -Number(whole) - 1, nsec: 1e9 - nsec };
}

async function* contentOf(entry: Entry): AsyncGenerator<Uint8Array> {
	try {
		yield* entry;
	} catch (error) {
		throw reasonOf(error);
	}
}
