// `holdfast pack`: the changes as a layer of a container image.

import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readdirSync, renameSync, rmSync, writeSync } from "node:fs";
import type { Command } from "commander";
import { whyNot } from "../linux/errno.ts";
import { PackError, packLayer } from "../overlay/changes/pack-layer.ts";
import { type Compression, compressed, compressionOf, whyNotCompressed } from "../pack/compression.ts";
import { Digest, writeImage } from "../pack/image-layout.ts";
import { addLayerOptions, type LayerArguments, openLayers } from "./layer-options.ts";
import { printBytes, printLines } from "./print.ts";
import { ProgressLine } from "./progress.ts";
import { ENDING_SIGNALS } from "./signals.ts";
import { UserError } from "./user-error.ts";

interface PackArguments extends LayerArguments {
	readonly output?: string;
	readonly image?: string;
	readonly reproducible?: boolean;
}

const EXAMPLES = `

What was added or changed is in the archive, what was removed is a whiteout (.wh.NAME), and a directory that was renamed is whole at its new place, and
removed at its old one. Owners and modes are as clients see them. holdfast unpack of it, above the same lowers, shows the same tree.

Examples:

  holdfast pack ~/project -o layer.tar.gz
      Or .tar.zst (from Node.js 22.15 on), or .tar; without -o to standard output, as a tar archive.
  SOURCE_DATE_EPOCH=0 holdfast pack ~/project --reproducible -o layer.tar
  holdfast pack ~/project --image ~/image
      Afterwards: skopeo copy oci:$HOME/image docker://registry.example.org/project`;

export function addPack(program: Command): void {
	const command = program
		.command("pack")
		.description("Write the changes as a layer of a container image (OCI): a tar archive. May run beside a server; nothing is changed.")
		.argument("[dir]", "the tree, as given to serve, or the name of its set");
	addLayerOptions(command, "later")
		.option("-o, --output <file>", "where to; by the end of its name compressed: .gz, .zst (default: standard output)")
		.option("--image <folder>", "an OCI layout of one layer, in a folder that is made, or is empty")
		.option("--reproducible", "the same bytes for the same changes: no time later than SOURCE_DATE_EPOCH, and zeros are holes")
		.addHelpText("after", EXAMPLES)
		.action((directory: string | undefined, given: PackArguments) => pack(directory, given));
}

async function pack(directory: string | undefined, given: PackArguments): Promise<void> {
	const { output, image, reproducible: isReproducible = false } = given;
	if (output !== undefined && image !== undefined) throw new UserError("Give one of --output and --image.", 2);
	const compression = output === undefined ? "none" : compressionOf(output);
	const why = whyNotCompressed(compression);
	if (why !== null) throw new UserError(`Cannot write ${output}: ${why}.`);
	const timeMax = isReproducible ? epoch() : null;
	const opened = openLayers(directory, given, "inspect", false);
	const line = new ProgressLine();
	const interruption = new Interruption();
	try {
		if (opened.upper === null) throw new UserError("This export has no upper, so that nothing can have been changed in it.");
		const archive = interruption.through(packLayer(opened, { timeMax, isReproducible }));
		if (image !== undefined) {
			const manifest = await packImage(image, archive);
			line.end();
			printLines([manifest]);
		} else if (output === undefined) for await (const bytes of archive) printBytes(bytes);
		else await packFile(output, archive, compression);
	} catch (error) {
		line.end();
		if (error instanceof PackError) throw new UserError(`${error.message}.`);
		const { errno, syscall } = error as NodeJS.ErrnoException;
		if (errno === undefined || syscall === undefined) throw error;
		throw new UserError(`Cannot write ${output ?? image}: ${whyNot(errno, output ?? image)}.`);
	} finally {
		line.end();
		interruption.end();
		await opened.overlay.close();
	}
}

/** Of SOURCE_DATE_EPOCH; null: it is not set. UserError. */
function epoch(): number | null {
	const { SOURCE_DATE_EPOCH: text } = process.env;
	if (text === undefined || text === "") return null;
	if (!/^\d{1,11}$/.test(text)) throw new UserError("SOURCE_DATE_EPOCH is no number of seconds.");
	return Number(text);
}

/** A signal ends the work between two pieces, so that nothing is left of it. */
class Interruption {
	#signal: NodeJS.Signals | null = null;
	readonly #listener = (signal: NodeJS.Signals) => {
		this.#signal = signal;
	};

	constructor() {
		for (const signal of ENDING_SIGNALS) process.on(signal, this.#listener);
	}

	async *through(bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
		for await (const piece of bytes) {
			if (this.#signal !== null) throw new UserError(`Packing was ended by ${this.#signal}; nothing was written.`);
			yield piece;
		}
	}

	end(): void {
		for (const signal of ENDING_SIGNALS) process.off(signal, this.#listener);
	}
}

/** Written aside, so that under its name there is all of it or nothing. */
async function packFile(output: string, archive: AsyncIterable<Buffer>, compression: Compression): Promise<void> {
	const aside = `${output}.new`;
	try {
		await writeTo(aside, compressed(archive, compression));
		renameSync(aside, output);
	} catch (error) {
		rmSync(aside, { force: true });
		throw error;
	}
}

async function packImage(folder: string, archive: AsyncIterable<Buffer>): Promise<string> {
	const isThere = existsSync(folder);
	if (isThere && readdirSync(folder).length > 0) throw new UserError(`Cannot write an image to ${folder}: it is not empty.`);
	if (!isThere) mkdirSync(folder);
	try {
		const image = await writeImage(folder, async (path) => {
			const [plain, packed] = [new Digest(), new Digest()];
			await writeTo(path, packed.of(compressed(plain.of(archive), "gzip")));
			return { digest: packed.end(), diffId: plain.end(), bytes: packed.bytes };
		});
		return image.manifest;
	} catch (error) {
		for (const name of readdirSync(folder)) rmSync(`${folder}/${name}`, { recursive: true, force: true });
		if (!isThere) rmSync(folder, { recursive: true, force: true });
		throw error;
	}
}

async function writeTo(path: string, bytes: AsyncIterable<Buffer>): Promise<void> {
	const fd = openSync(path, "w");
	try {
		for await (const piece of bytes) for (let done = 0; done < piece.length; ) done += writeSync(fd, piece, done);
		fsyncSync(fd);
	} finally {
		closeSync(fd);
	}
}
