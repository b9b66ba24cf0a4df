// Compresses a stream of bytes as the name of the output asks for.

import { pipeline, Readable } from "node:stream";
import * as zlib from "node:zlib";

export type Compression = "none" | "gzip" | "zstd";

// in node:zlib from Node.js 22.15 on, and unknown to the types of 20
const { createZstdCompress } = zlib as { createZstdCompress?: (options: object) => NodeJS.ReadWriteStream };

const CHUNK_BYTES = 256 * 1024;

export function compressionOf(file: string): Compression {
	if (/\.(gz|tgz)$/.test(file)) return "gzip";
	return /\.(zst|zstd|tzst)$/.test(file) ? "zstd" : "none";
}

/** Why this Node.js cannot, as the end of a sentence; null: it can. */
export function whyNotCompressed(compression: Compression): string | null {
	if (compression !== "zstd" || createZstdCompress !== undefined) return null;
	return `Node.js ${process.versions.node} has no zstd (22.15 and later have); write a plain .tar and compress it: zstd FILE.tar`;
}

export function compressed(bytes: AsyncIterable<Buffer>, compression: Compression): AsyncIterable<Buffer> {
	if (compression === "none") return bytes;
	// without a time in the header: the same bytes each time
	const stream =
		compression === "gzip"
			? zlib.createGzip({ chunkSize: CHUNK_BYTES })
			: (createZstdCompress as (options: object) => NodeJS.ReadWriteStream)({ chunkSize: CHUNK_BYTES });
	return pipeline(Readable.from(bytes), stream, () => {}) as unknown as AsyncIterable<Buffer>;
}
