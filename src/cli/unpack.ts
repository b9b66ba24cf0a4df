// `holdfast unpack`: makes lowers of the layers of a container image.

import { resolve } from "node:path";
import type { Command } from "commander";
import { UnpackError } from "../unpack/unpack-error.ts";
import { type UnpackedLayer, unpackLayers } from "../unpack/unpack-layers.ts";
import { quoteForShell } from "../vfs/names.ts";
import { complain, printJson, printLines } from "./print.ts";
import { ProgressLine } from "./progress.ts";
import { ENDING_SIGNALS } from "./signals.ts";
import { UserError } from "./user-error.ts";

const EXAMPLES = `

Layers are numbered from the base: the first archive is unpacked to DIR/1, the second to DIR/2 and so on, in the order of an image's
manifest. Whiteouts (.wh.NAME, .wh..wh..opq) become whiteouts of overlayfs. DIR is made if it is not there; nothing is overwritten, and after
an error nothing is left.

Examples:

  holdfast unpack base.tar.gz app.tar.gz /srv/image
      Afterwards: holdfast serve --lower /srv/image/2 --lower /srv/image/1 --upper /srv/image/upper --create
  docker save alpine:3 | holdfast unpack - /srv/image
  curl https://example.org/layer.tar.gz | holdfast unpack - /srv/image`;

export function addUnpack(program: Command): void {
	program
		.command("unpack")
		.description("Unpack a container image (OCI or docker), or layers of one, each layer to a directory of its own, as lowers for serve.")
		.usage("[options] IMAGE|LAYER.tar... DIR")
		.argument(
			"<layer-and-dir...>",
			"an image as docker save writes it, or an OCI layout, as an archive or a folder; or layers' tar archives, the base first as in an image's " +
				"manifest; plain or compressed (gzip; zstd from Node.js 22.15 on), - for standard input; and last the folder in which each layer gets a directory",
		)
		.option(
			"--image <name-or-digest>",
			"of an archive that holds several: a name as docker or podman knows it, or the beginning of a digest (sha256:...)",
		)
		.option("--platform <os/arch>", "of an image for several: linux/arm64, for instance (default: this machine's)")
		.option("--fake-root", "for serve --fake-root, without privileges: owners, devices and whiteouts are kept in xattrs")
		.option("--json", "print one JSON object")
		.addHelpText("after", EXAMPLES)
		.action((given: string[], options: Options) => unpack(given.slice(0, -1), given.at(-1) as string, options));
}

interface Options {
	readonly fakeRoot?: boolean;
	readonly json?: boolean;
	readonly image?: string;
	readonly platform?: string;
}

async function unpack(
	archives: readonly string[],
	directory: string,
	{ fakeRoot: isFakeRoot = false, json = false, image: name, platform }: Options,
): Promise<void> {
	if (archives.length === 0) throw new UserError("Name the layers' archives, from the base up, and last the folder to unpack to.", 2);
	if (!isFakeRoot && process.getuid?.() !== 0) {
		throw new UserError(
			"Unpacking layers needs root: files get the owners that the archive tells (CAP_CHOWN), whiteouts are device nodes (CAP_MKNOD), and " +
				"overlayfs keeps trusted extended attributes (CAP_SYS_ADMIN). With --fake-root an ordinary user unpacks for his own serve --fake-root.",
		);
	}
	const abort = new AbortController();
	const onSignal = () => abort.abort();
	for (const signal of ENDING_SIGNALS) process.on(signal, onSignal);
	const line = new ProgressLine();
	try {
		const layers = await unpackLayers({
			archives,
			directory,
			isFakeRoot,
			choice: { name, platform },
			progress: (text) => line.show(text),
			signal: abort.signal,
		});
		line.end();
		print(layers, resolve(directory, "upper"), isFakeRoot, json);
	} catch (error) {
		line.end();
		if (error instanceof UnpackError) throw new UserError(error.message);
		throw error;
	} finally {
		for (const signal of ENDING_SIGNALS) process.off(signal, onSignal);
	}
}

function print(layers: readonly UnpackedLayer[], upper: string, isFakeRoot: boolean, asJson: boolean): void {
	const lowers = layers.map((layer) => layer.directory).reverse();
	const serve = [
		"holdfast",
		"serve",
		...(isFakeRoot ? ["--fake-root"] : []),
		...lowers.flatMap((lower) => ["--lower", lower]),
		"--upper",
		upper,
		"--create",
	];
	if (asJson) {
		printJson({ lowers, upper, serve, layers });
		return;
	}
	for (const { archive, notes } of layers) for (const note of notes) complain(`note: ${archive}: ${note}`);
	printLines([...lowers, serve.map(quoteForShell).join(" ")]);
}
