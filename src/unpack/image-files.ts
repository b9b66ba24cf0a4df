// Files of an image by their paths in it, out of a folder or out of a tar archive, where they lie as they are.

import { posix } from "node:path";
import { errnoName, whyNot } from "../linux/errno.ts";
import { close, O, openBeneath, RESOLVE } from "../linux/open.ts";
import { fstat, Stat } from "../linux/stat.ts";
import { readRange } from "./archive-bytes.ts";
import { type ByteSource, sourceOf } from "./byte-source.ts";
import { parsePath } from "./entry-path.ts";
import { readTar } from "./tar-reader.ts";
import { quoteName, UnpackError } from "./unpack-error.ts";

/** A range of an open file. */
export interface ImageFile {
	readonly fd: number;
	readonly start: number;
	readonly end: number;
	close(): void;
}

export interface ImageFiles {
	/** Null: there is no such file. UnpackError where it cannot be read. */
	open(path: string): ImageFile | null;
}

const S_IFREG = 8;
/** An image has some files for each layer, so an archive of more names is none. */
const NAMES_MAX = 100_000;
const LINKS_MAX = 40;

/** The descriptor remains the caller's. Links are followed inside the folder. */
export function filesOfFolder(folder: number): ImageFiles {
	return {
		open(path) {
			const name = Buffer.from(path, "latin1");
			// no FIFO is waited for
			const fd = openBeneath(folder, name, O.rdonly | O.nonblock, RESOLVE.beneath | RESOLVE.noMagicLinks);
			if (fd < 0) {
				if (["ENOENT", "ENOTDIR"].includes(errnoName(fd))) return null;
				// as an open without a wait answers for what is no file
				if (errnoName(fd) === "ENXIO") throw new UnpackError(`its file ${quoteName(name)} is no regular file`);
				throw new UnpackError(`its file ${quoteName(name)} cannot be opened: ${whyNot(fd)}`);
			}
			const stat = new Stat();
			if (fstat(fd, stat) < 0 || stat.type !== S_IFREG) {
				close(fd);
				throw new UnpackError(`its file ${quoteName(name)} is no regular file`);
			}
			return { fd, start: 0, end: stat.size, close: () => close(fd) };
		},
	};
}

type Indexed = { readonly start: number; readonly end: number } | { readonly link: string } | null;

/** Looks through an archive that is not compressed. The descriptor remains the caller's. */
export async function filesOfArchive(fd: number, bytes: number, step: (names: number) => void): Promise<ImageFiles> {
	const index = new Map<string, Indexed>();
	for await (const entry of readTar({ source: rangeSource(fd, bytes), isChecked: false })) {
		const path = parsePath(entry.name).join("/");
		if (index.size >= NAMES_MAX) throw new UnpackError(`it has more than ${NAMES_MAX} names, which no image has`);
		if (entry.type === "file") {
			index.set(path, entry.isSparse ? null : { start: entry.contentAt, end: entry.contentAt + entry.size });
		} else if (entry.type === "symlink" || entry.type === "link") {
			const target = entry.linkName.toString("latin1");
			index.set(path, { link: posix.join(entry.type === "link" ? "" : posix.dirname(path), target) });
		}
		step(index.size);
	}
	return {
		open(path) {
			let at = path;
			for (let links = 0; links <= LINKS_MAX; links++) {
				const found = index.get(at);
				if (found === undefined) return null;
				if (found === null) throw new UnpackError(`its file ${quoteName(Buffer.from(at, "latin1"))} is stored as a sparse file`);
				if (!("link" in found)) return { fd, ...found, close() {} };
				at = found.link;
			}
			throw new UnpackError(`its file ${quoteName(Buffer.from(path, "latin1"))} is a link that leads to itself`);
		},
	};
}

/** Content that nobody asks for is not read. */
function rangeSource(fd: number, bytes: number): ByteSource {
	let at = 0;
	let range = sourceOf(readRange(fd, 0, bytes));
	return {
		async next() {
			const chunk = await range.next();
			at += chunk?.length ?? 0;
			return chunk;
		},
		skip(count) {
			const skipped = Math.min(count, bytes - at);
			at += skipped;
			range = sourceOf(readRange(fd, at, bytes));
			return skipped;
		},
	};
}

/** A whole file; UnpackError where it is larger than that. */
export async function readWhole(file: ImageFile, bytesMax: number, name: string): Promise<Buffer> {
	if (file.end - file.start > bytesMax) throw new UnpackError(`its ${name} has more than ${bytesMax} bytes, which none needs`);
	const chunks: Buffer[] = [];
	for await (const chunk of readRange(file.fd, file.start, file.end)) chunks.push(chunk);
	return Buffer.concat(chunks);
}
