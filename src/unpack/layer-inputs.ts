// What the user named, as the layers that it holds: one archive is a layer, or a whole image.

import type { Hash } from "node:crypto";
import { writeFrom } from "../linux/data.ts";
import { whyNot } from "../linux/errno.ts";
import { unlinkName } from "../linux/names.ts";
import { O, openAt } from "../linux/open.ts";
import { showName } from "../vfs/names.ts";
import { type Archive, type ArchiveBytes, decompress, readArchive, readRange } from "./archive-bytes.ts";
import { type ByteSource, sourceOf } from "./byte-source.ts";
import { demandDigest, newHash, printDigest, verifyFile } from "./digest.ts";
import { demandSize, findLayers, type ImageChoice, type ImageLayer, looksLikeImage, openFile } from "./image.ts";
import { filesOfArchive, filesOfFolder, type ImageFile, type ImageFiles } from "./image-files.ts";
import { readTar } from "./tar-reader.ts";
import { UnpackError } from "./unpack-error.ts";

export interface LayerInput {
	/** As it may be printed. */
	readonly title: string;
	/** Of an image's layer: the digest of its tar archive. */
	readonly diffId: string | null;
	/** Once. */
	open(): Promise<ArchiveBytes>;
	/** Behind its end: UnpackError where it was not what the manifest says. */
	check(): void;
	close(): void;
}

export interface InputOptions {
	readonly choice: ImageChoice;
	/** A directory for what cannot be read twice: of it a copy is made, which has no name. */
	readonly spoolTo: number;
	/** Closes a descriptor when all is done. */
	readonly closeLater: (fd: number) => void;
	readonly signal: AbortSignal;
	/** Asked often; throws when the user wants it to end. */
	readonly step: (text: () => string) => void;
}

const PEEK_BYTES = 64 * 1024;
const PEEK_NAMES = 4;
const SPOOL_NAME = "image.part";
const MIB = 2 ** 20;

/** The layers from the base up. UnpackError has the end of a sentence. */
export async function inputsOf(archive: Archive, options: InputOptions): Promise<LayerInput[]> {
	const title = titleOf(archive);
	if (archive.isFolder) {
		const inputs = await inputsOfImage(filesOfFolder(archive.fd), title, options);
		if (inputs !== null) return inputs;
		throw new UnpackError(
			"it is a directory, and no image's: it has neither an oci-layout nor a manifest.json; name the layer's tar archive",
		);
	}
	return archive.bytes === undefined ? inputsOfStream(archive, title, options) : inputsOfFile(archive, archive.bytes, title, options);
}

/** Nothing of it is held in memory before its turn. */
async function inputsOfFile(archive: Archive, bytes: number, title: string, options: InputOptions): Promise<LayerInput[]> {
	const layer = inputOfLayer(title, () => readArchive(archive, options.signal));
	let head: Buffer;
	let isCompressed: boolean;
	try {
		const start = await decompress(readRange(archive.fd, 0, Math.min(bytes, PEEK_BYTES)));
		isCompressed = start.isChecked;
		head = (await peek(start.source)).head;
	} catch (error) {
		// the same is said when it is read
		if (error instanceof UnpackError) return [layer];
		throw error;
	}
	if (!looksLikeImage(await firstNames(head))) return [layer];
	const file = isCompressed ? await spool((await readArchive(archive, options.signal)).source, title, options) : { fd: archive.fd, bytes };
	return (await inputsOfImageArchive(file, title, options)) ?? [layer];
}

async function inputsOfStream(archive: Archive, title: string, options: InputOptions): Promise<LayerInput[]> {
	const { source, isChecked } = await readArchive(archive, options.signal);
	const { head, whole } = await peek(source);
	if (!looksLikeImage(await firstNames(head))) return [inputOfLayer(title, async () => ({ source: whole, isChecked }))];
	const file = await spool(whole, title, options);
	const layer = inputOfLayer(title, async () => ({ source: sourceOf(readRange(file.fd, 0, file.bytes)), isChecked }));
	return (await inputsOfImageArchive(file, title, options)) ?? [layer];
}

async function inputsOfImageArchive(file: { readonly fd: number; readonly bytes: number }, title: string, options: InputOptions) {
	const looked = (names: number) => options.step(() => `${title}: ${names} names looked through`);
	return inputsOfImage(await filesOfArchive(file.fd, file.bytes, looked), title, options);
}

export function titleOf({ path }: Pick<Archive, "path">): string {
	return path === "-" ? "standard input" : showName(Buffer.from(path));
}

function inputOfLayer(title: string, open: () => Promise<ArchiveBytes>): LayerInput {
	return { title, diffId: null, open, check() {}, close() {} };
}

async function inputsOfImage(files: ImageFiles, title: string, options: InputOptions): Promise<LayerInput[] | null> {
	const layers = await findLayers(files, options.choice);
	return layers?.map((layer) => inputOfImageLayer(files, layer, title, options)) ?? null;
}

function inputOfImageLayer(files: ImageFiles, layer: ImageLayer, image: string, { step }: InputOptions): LayerInput {
	const { path, digest, size, diffId } = layer;
	const what = `its layer ${showName(Buffer.from(path, "latin1"))}`;
	const title = `${image}, layer ${digest === null ? showName(Buffer.from(path, "latin1")) : printDigest(digest)}`;
	let file: ImageFile | null = null;
	let hash: Hash | null = null;
	return {
		title,
		diffId: printDigest(diffId),
		async open() {
			file = openFile(files, path);
			demandSize(file, size, path);
			const { fd, start, end } = file;
			if (digest !== null) await verifyFile(file, digest, what, (bytes) => step(() => `${title}: ${toMiB(bytes)} MiB verified`));
			// what is not compressed was verified by then
			if (digest === null || printDigest(digest) !== printDigest(diffId)) hash = newHash(diffId);
			const { source } = await decompress(readRange(fd, start, end));
			return { source: hash === null ? source : hashing(source, hash), isChecked: true };
		},
		check() {
			if (hash !== null) demandDigest(hash, diffId, what);
		},
		close() {
			file?.close();
			file = null;
		},
	};
}

function hashing(source: ByteSource, hash: Hash): ByteSource {
	return {
		async next() {
			const chunk = await source.next();
			if (chunk !== null) hash.update(chunk);
			return chunk;
		},
	};
}

function toMiB(bytes: number): number {
	return Math.round(bytes / MIB);
}

/** The first bytes, and all of them from the beginning on. */
async function peek(source: ByteSource): Promise<{ readonly head: Buffer; readonly whole: ByteSource }> {
	const chunks: Uint8Array[] = [];
	let failure: unknown = null;
	for (let bytes = 0; bytes < PEEK_BYTES; ) {
		try {
			const chunk = await source.next();
			if (chunk === null) break;
			chunks.push(chunk);
			bytes += chunk.length;
		} catch (error) {
			// whoever reads as far as this is told
			failure = error;
			break;
		}
	}
	const head = Buffer.concat(chunks);
	const whole = {
		async next() {
			const chunk = chunks.shift();
			if (chunk !== undefined) return chunk;
			if (failure !== null) throw failure;
			return source.next();
		},
	};
	return { head, whole };
}

/** Of an archive's first bytes; what is wrong with it shows when it is read. */
async function firstNames(head: Buffer): Promise<string[]> {
	const names: string[] = [];
	const source = sourceOf(
		(async function* () {
			yield head;
		})(),
	);
	try {
		for await (const { name } of readTar({ source, isChecked: true })) {
			names.push(name.toString("latin1"));
			if (names.length === PEEK_NAMES) break;
		}
	} catch (error) {
		if (!(error instanceof UnpackError)) throw error;
	}
	return names;
}

async function spool(
	source: ByteSource,
	title: string,
	{ spoolTo, closeLater, step }: InputOptions,
): Promise<{ fd: number; bytes: number }> {
	const fd = openAt(spoolTo, SPOOL_NAME, O.rdwr | O.creat | O.excl | O.nofollow, 0o600);
	if (fd < 0) throw new UnpackError(`a file for it, ${SPOOL_NAME}, cannot be made in DIR: ${whyNot(fd)}`);
	closeLater(fd);
	unlinkName(spoolTo, SPOOL_NAME);
	let bytes = 0;
	for (let chunk = await source.next(); chunk !== null; chunk = await source.next()) {
		for (let done = 0; done < chunk.length; ) {
			const count = writeFrom(fd, chunk.subarray(done), bytes + done);
			if (count < 0) throw new UnpackError(`it is copied to DIR first, as it cannot be read twice, and that failed: ${whyNot(count)}`);
			done += count;
		}
		bytes += chunk.length;
		step(() => `${title}: ${toMiB(bytes)} MiB taken over`);
	}
	return { fd, bytes };
}
