// Unpacks the archives of an image to layers that all appear at the end.

import { mkdirSync, rmdirSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { syncFileSystem } from "../linux/data.ts";
import { ERRNO, whyNot } from "../linux/errno.ts";
import { setUmask } from "../linux/file-system.ts";
import { raiseDescriptorLimit } from "../linux/limits.ts";
import { makeDirectory, RENAME, renameName } from "../linux/names.ts";
import { close, O, openAt, openPath } from "../linux/open.ts";
import { Stat, statAt } from "../linux/stat.ts";
import { type Archive, closeArchive, openArchive } from "./archive-bytes.ts";
import type { ImageChoice } from "./image.ts";
import { fakeRootForm, REAL_FORM } from "./layer-form.ts";
import { inputsOf, type LayerInput, titleOf } from "./layer-inputs.ts";
import { type LayerCounts, LayerWriter, type NoteKind } from "./layer-writer.ts";
import { removeTree } from "./remove-tree.ts";
import { readTar } from "./tar-reader.ts";
import { EntryError, quoteName, UnpackError } from "./unpack-error.ts";

export interface UnpackedLayer extends LayerCounts {
	/** As it may be printed. */
	readonly archive: string;
	/** Of an image's layer: the digest of its tar archive. */
	readonly diffId: string | null;
	/** Absolute. */
	readonly directory: string;
	readonly notes: readonly string[];
}

export interface UnpackOptions {
	/** From the base up, a layer or an image each; "-" is standard input. */
	readonly archives: readonly string[];
	readonly directory: string;
	/** For serve --fake-root: owners, devices and whiteouts are xattrs. */
	readonly isFakeRoot?: boolean;
	/** Of an image: which one, where there are several. */
	readonly choice?: ImageChoice;
	/** Asked often: the text says how far it is. */
	readonly progress: (text: () => string) => void;
	/** Aborted: everything goes again. */
	readonly signal: AbortSignal;
}

const NOTES: Readonly<Record<NoteKind, string>> = {
	absolute: "the / before the name was dropped",
	metadata: "left out, since it is aufs's own",
	overlayXattr: "extended attributes of overlayfs itself were left out, since an archive must not say where layers lead",
	userXattr: "its user extended attributes were left out, for Linux lets only files and directories have some",
	rootXattr: "extended attributes that only the superuser may set were left out",
	linkOwner: "a symlink of somebody else, which counts as root's, for Linux lets nothing be noted beside it",
	textAcl: "its ACL as text was left out; in layers ACLs are extended attributes",
	image:
		"the archive seems to be a whole image, and none that holdfast knows; if so, take it apart and unpack the layers that its manifest names",
	hiddenLink: "a directory only because other names lie below it; it hides a symlink of a layer below",
};
/** While it is not whole. */
const UNFINISHED = ".part";

/**
 * Unpacks archives to DIR/1, DIR/2 and so on, and flushes them to disk. They appear under these names all at the end; after an error
 * nothing is left of them. UnpackError has a whole sentence as its message.
 */
export async function unpackLayers(options: UnpackOptions): Promise<UnpackedLayer[]> {
	const { archives, signal, progress } = options;
	setUmask(0);
	raiseDescriptorLimit();
	if (archives.filter((path) => path === "-").length > 1) throw new UnpackError("Cannot unpack standard input twice: name - only once.");
	const opened: Archive[] = [];
	const spooled: number[] = [];
	let target: Target | null = null;
	try {
		for (const path of archives) opened.push(within(path, () => openArchive(path)));
		target = new Target(resolve(options.directory));
		const inputs = await findInputs(opened, target.fd, (fd) => spooled.push(fd), options);
		target.reserve(inputs.length);
		const layers: UnpackedLayer[] = [];
		for (const input of inputs) layers.push(await unpackLayer(input, target, options));
		signal.throwIfAborted();
		progress(() => "writing to disk");
		target.publish();
		return layers;
	} catch (error) {
		progress(() => "removing what was unpacked");
		const left = target?.discard() ?? null;
		const sentence = signal.aborted ? "Interrupted: nothing was unpacked." : error instanceof UnpackError ? error.message : null;
		if (sentence === null) throw error;
		throw new UnpackError(left === null ? sentence : `${sentence} ${left}`);
	} finally {
		target?.close();
		for (const fd of spooled) close(fd);
		for (const archive of opened) closeArchive(archive);
	}
}

async function findInputs(
	archives: readonly Archive[],
	spoolTo: number,
	closeLater: (fd: number) => void,
	{ choice = {}, signal, progress }: UnpackOptions,
): Promise<LayerInput[]> {
	const step = (text: () => string) => {
		signal.throwIfAborted();
		progress(text);
	};
	const inputs: LayerInput[] = [];
	for (const archive of archives) {
		try {
			inputs.push(...(await inputsOf(archive, { choice, spoolTo, closeLater, signal, step })));
		} catch (error) {
			throw sentenceOf(error, titleOf(archive), null);
		}
	}
	const isChosen = choice.name !== undefined || choice.platform !== undefined;
	if (isChosen && inputs.every(({ diffId }) => diffId === null)) {
		throw new UnpackError("Cannot choose by --image or --platform: layers are given, and no image.");
	}
	return inputs;
}

function within<T>(archive: string, work: () => T): T {
	try {
		return work();
	} catch (error) {
		throw sentenceOf(error, titleOf({ path: archive }), null);
	}
}

/** What went wrong, as a sentence that names the archive, as it may be printed, and the entry. */
function sentenceOf(error: unknown, archive: string, current: Buffer | null): unknown {
	if (!(error instanceof UnpackError)) return error;
	if (!(error instanceof EntryError)) {
		return new UnpackError(
			`Cannot unpack ${archive}${current === null ? "" : `, in or after the entry ${quoteName(current)}`}: ${error.message}.`,
		);
	}
	const entry = error.entry ?? current;
	return new UnpackError(`Cannot unpack the entry ${entry === null ? "" : `${quoteName(entry)} `}of ${archive}: ${error.message}.`);
}

async function unpackLayer(input: LayerInput, target: Target, options: UnpackOptions): Promise<UnpackedLayer> {
	const notes = new Map<NoteKind, { first: Buffer; count: number }>();
	const note = (kind: NoteKind, name: Buffer) => {
		const noted = notes.get(kind);
		if (noted === undefined) notes.set(kind, { first: name, count: 1 });
		else noted.count++;
	};
	const { fd, directory } = target.addLayer();
	const writer = new LayerWriter(fd, target.below(), options.isFakeRoot ? fakeRootForm() : REAL_FORM, note);
	const howFar = () => `${input.title}: ${writer.counts.entries} entries, ${Math.round(writer.counts.bytes / 2 ** 20)} MiB`;
	let current: Buffer | null = null;
	try {
		const { source, isChecked } = await input.open();
		const heeding = {
			async next() {
				options.signal.throwIfAborted();
				options.progress(howFar);
				return source.next();
			},
		};
		for await (const entry of readTar({ source: heeding, isChecked })) {
			options.signal.throwIfAborted();
			current = entry.name;
			await writer.add(entry);
			options.progress(howFar);
		}
		current = null;
		input.check();
		options.progress(() => `${input.title}: attributes of directories`);
		writer.finish();
	} catch (error) {
		throw sentenceOf(error, input.title, current);
	} finally {
		input.close();
		writer.close();
	}
	const sentences = [...notes].map(
		([kind, { first, count }]) => `${quoteName(first)}${count > 1 ? ` and ${count - 1} more` : ""}: ${NOTES[kind]}`,
	);
	return { archive: input.title, diffId: input.diffId, directory, ...writer.counts, notes: sentences };
}

/** The folder that the layers come to lie in. */
class Target {
	readonly #path: string;
	readonly fd: number;
	readonly #isNew: boolean;
	/** Descriptors of the layers' roots, from the base up. */
	readonly #layers: number[] = [];
	#published = 0;

	constructor(path: string) {
		this.#path = path;
		this.#isNew = makeFolder(path);
		this.fd = openPath(path, O.rdonly | O.directory);
		if (this.fd < 0) throw new UnpackError(`Cannot open ${path}: ${whyNot(this.fd, path)}.`);
	}

	/** Refuses names that are taken. */
	reserve(count: number): void {
		for (let number = 1; number <= count; number++) {
			for (const name of [`${number}`, `${number}${UNFINISHED}`]) {
				if (statAt(this.fd, name, new Stat()) === -ERRNO.ENOENT) continue;
				throw new UnpackError(
					`Cannot unpack to ${this.#path}: it has a ${name} already, and nothing is overwritten. Remove that, or name another DIR.`,
				);
			}
		}
	}

	addLayer(): { fd: number; directory: string } {
		const number = this.#layers.length + 1;
		const name = `${number}${UNFINISHED}`;
		const status = makeDirectory(this.fd, name, 0o755);
		const fd = status < 0 ? status : openAt(this.fd, name, O.rdonly | O.directory | O.nofollow);
		if (fd < 0) throw new UnpackError(`Cannot make ${join(this.#path, name)}: ${whyNot(fd, this.#path)}.`);
		this.#layers.push(fd);
		return { fd, directory: join(this.#path, `${number}`) };
	}

	/** The layers below the last one, from the topmost down. */
	below(): number[] {
		return this.#layers.slice(0, -1).reverse();
	}

	/** Flushes, and then gives the layers their names, so that a name always stands for a whole layer. */
	publish(): void {
		this.#sync();
		for (let number = 1; number <= this.#layers.length; number++) {
			const status = renameName(this.fd, `${number}${UNFINISHED}`, this.fd, `${number}`, RENAME.noReplace);
			if (status < 0) throw new UnpackError(`Cannot make ${join(this.#path, `${number}`)}: ${whyNot(status, this.#path)}.`);
			this.#published = number;
		}
		this.#sync();
	}

	#sync(): void {
		const status = syncFileSystem(this.fd);
		if (status < 0) throw new UnpackError(`Cannot write ${this.#path} to disk: ${whyNot(status, this.#path)}.`);
	}

	/** Removes what this run has made. Null, or a sentence about what is left. */
	discard(): string | null {
		for (let number = 1; number <= this.#layers.length; number++) {
			const name = number <= this.#published ? `${number}` : `${number}${UNFINISHED}`;
			const status = removeTree(this.fd, Buffer.from(name));
			if (status < 0) return `Remove ${join(this.#path, name)} by hand: that failed: ${whyNot(status, join(this.#path, name))}.`;
		}
		try {
			if (this.#isNew) rmdirSync(this.#path);
		} catch {
			// somebody else has put something there
		}
		return null;
	}

	close(): void {
		for (const fd of this.#layers) close(fd);
		close(this.fd);
	}
}

/** Whether it was not there before. */
function makeFolder(path: string): boolean {
	try {
		mkdirSync(path, { mode: 0o700 });
		return true;
	} catch (error) {
		const { code, errno = 0 } = error as NodeJS.ErrnoException;
		if (code === "EEXIST" && statSync(path).isDirectory()) return false;
		const why = code === "EEXIST" ? "it is no directory" : code === "ENOENT" ? "there is no folder above it" : whyNot(errno, dirname(path));
		throw new UnpackError(`Cannot make the folder ${path}: ${why}.`);
	}
}
