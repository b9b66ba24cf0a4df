// Opens an archive and decompresses its bytes.

import { closeSync, createReadStream, fstatSync, openSync, readSync } from "node:fs";
import { addAbortSignal, pipeline, Readable } from "node:stream";
import { setImmediate as nextTurn } from "node:timers/promises";
import * as zlib from "node:zlib";
import { whyNot } from "../linux/errno.ts";
import { type ByteSource, sourceOf } from "./byte-source.ts";
import { UnpackError } from "./unpack-error.ts";
import { throughFrames } from "./zstd-frames.ts";

/** An archive that can be opened, before anything is written. */
export interface Archive {
	/** As the user named it; "-" is standard input. */
	readonly path: string;
	/** Bytes as they lie on disk; undefined of a pipe. */
	readonly bytes: number | undefined;
	readonly fd: number;
	/** Of an image, perhaps. */
	readonly isFolder: boolean;
}

/** The bytes of a tar archive, decompressed. What fails to be read is an UnpackError with the reason. */
export interface ArchiveBytes {
	readonly source: ByteSource;
	/** The compression has a checksum at its end, so an archive that was cut off is found out by it. */
	readonly isChecked: boolean;
}

const STDIN = 0;
const CHUNK_BYTES = 256 * 1024;
const MAGIC_BYTES = 6;

interface Compression {
	readonly name: string;
	readonly magic: readonly number[];
	/** Undefined where this Node.js cannot. */
	readonly decompress?: ((bytes: AsyncIterable<Buffer>) => AsyncIterable<Buffer>) | undefined;
	readonly command: string;
}

// in node:zlib from Node.js 22.15 on, and unknown to the types of 20
const { createZstdDecompress } = zlib as { createZstdDecompress?: (options: object) => NodeJS.ReadWriteStream };

const COMPRESSIONS: readonly Compression[] = [
	{
		name: "gzip",
		magic: [0x1f, 0x8b],
		decompress: (bytes) => through(bytes, zlib.createGunzip({ chunkSize: CHUNK_BYTES })),
		command: "gzip",
	},
	{
		name: "zstd",
		magic: [0x28, 0xb5, 0x2f, 0xfd],
		decompress:
			createZstdDecompress &&
			((bytes) => throughFrames(bytes, (frame) => through(frame, createZstdDecompress({ chunkSize: CHUNK_BYTES })))),
		command: "zstd",
	},
	{ name: "bzip2", magic: [0x42, 0x5a, 0x68], command: "bzip2" },
	{ name: "xz", magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], command: "xz" },
];

/** Opens what the user names; UnpackError with the reason. */
export function openArchive(path: string): Archive {
	if (path === "-") return { path, bytes: undefined, fd: STDIN, isFolder: false };
	let fd: number;
	try {
		fd = openSync(path, "r");
	} catch (error) {
		const { code, errno = 0 } = error as NodeJS.ErrnoException;
		throw new UnpackError(code === "ENOENT" ? "there is no such file" : `it cannot be opened: ${whyNot(errno, path)}`);
	}
	const stat = fstatSync(fd);
	return { path, bytes: stat.isFile() ? stat.size : undefined, fd, isFolder: stat.isDirectory() };
}

export function closeArchive(archive: Archive): void {
	if (archive.fd !== STDIN) closeSync(archive.fd);
}

/** Reads an archive from its beginning to its end. The compression is told by the first bytes, not by the name. */
export async function readArchive(archive: Archive, signal: AbortSignal): Promise<ArchiveBytes> {
	return decompress(archive.bytes === undefined ? streamOf(archive, signal) : readRange(archive.fd, 0, archive.bytes));
}

function streamOf({ fd }: Archive, signal: AbortSignal): AsyncIterable<Buffer> {
	const stream = fd === STDIN ? process.stdin : createReadStream("", { fd, autoClose: false, highWaterMark: CHUNK_BYTES });
	addAbortSignal(signal, stream);
	return stream;
}

/** A range of a regular file. No read is on its way between two chunks, so the descriptor may be closed then. */
export async function* readRange(fd: number, start: number, end: number): AsyncGenerator<Buffer> {
	for (let at = start; at < end; ) {
		const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, end - at));
		const length = readSync(fd, chunk, 0, chunk.length, at);
		if (length === 0) return;
		yield chunk.subarray(0, length);
		at += length;
		// signals come in between
		await nextTurn();
	}
}

/** Bytes that may be compressed. */
export async function decompress(bytes: AsyncIterable<Buffer>): Promise<ArchiveBytes> {
	const iterator = withReasons(bytes);
	let head = Buffer.alloc(0);
	while (head.length < MAGIC_BYTES) {
		const next = await iterator.next();
		if (next.done) break;
		head = Buffer.concat([head, next.value]);
	}
	if (head.length === 0) throw new UnpackError("it is empty");
	const chunks = withHead(head, iterator);
	const compression = COMPRESSIONS.find(({ magic }) => magic.every((byte, i) => head[i] === byte));
	if (compression === undefined) return { source: sourceOf(chunks), isChecked: false };
	const { name, decompress: decompressed, command } = compression;
	if (decompressed === undefined) {
		const why =
			name === "zstd" ? `it is compressed with zstd, which Node.js ${process.versions.node} cannot read (22.15 and later can)` : "";
		throw new UnpackError(`${why || `it is compressed with ${name}, which holdfast cannot read`}; decompress it first: ${command} -d`);
	}
	return { source: sourceOf(withReasons(decompressed(chunks))), isChecked: true };
}

/** An error of the source comes out of the stream. */
function through(bytes: AsyncIterable<Buffer>, stream: NodeJS.ReadWriteStream): AsyncIterable<Buffer> {
	return pipeline(Readable.from(bytes), stream, () => {}) as unknown as AsyncIterable<Buffer>;
}

/** With an UnpackError for whatever fails. */
async function* withReasons(bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
	try {
		yield* bytes;
	} catch (error) {
		throw reasonOf(error);
	}
}

function reasonOf(error: unknown): unknown {
	if (error instanceof UnpackError || !(error instanceof Error)) return error;
	const { code, errno } = error as NodeJS.ErrnoException;
	if (code === "Z_BUF_ERROR") return new UnpackError("it ends too early, so it was cut off; get it again");
	if (code?.startsWith("Z")) return new UnpackError(`its compressed data is damaged (${error.message}); get it again`);
	if (code !== undefined) return new UnpackError(`reading it failed: ${errno === undefined ? code : whyNot(errno)}`);
	return error;
}

/** What was read already, and the rest. */
async function* withHead(head: Buffer, rest: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
	yield head;
	yield* rest;
}
