import type { Command } from "commander";
import { adoptLowers } from "../overlay/open-overlay.ts";
import { addLayerOptions, type LayerArguments, openLayers } from "./layer-options.ts";

interface AdoptArguments extends LayerArguments {
	readonly json?: boolean;
}

const EXAMPLES = `
Example:
  holdfast adopt --lower /srv/former-upper --lower /srv/golden --upper /srv/mine
      Afterwards serve takes the same layers.`;

export function addAdopt(program: Command): void {
	const command = program
		.command("adopt")
		.description("Take lowers into an export that once were uppers of an overlay. Walks their directories, and never writes to them.")
		.argument("[dir]", "the tree, as given to serve");
	addLayerOptions(command)
		.option("--json", "print one JSON object")
		.addHelpText("after", EXAMPLES)
		.action((directory: string | undefined, given: AdoptArguments) => adopt(directory, given));
}

async function adopt(directory: string | undefined, given: AdoptArguments): Promise<void> {
	const opened = openLayers(directory, given, "adopt", true);
	const showsProgress = process.stderr.isTTY === true;
	let shown = 0;
	try {
		const reports = adoptLowers(opened, (layer, directories) => {
			if (!showsProgress || Date.now() - shown < 200) return;
			shown = Date.now();
			process.stderr.write(`\r${layer}: ${directories} directories`);
		});
		if (showsProgress && shown > 0) process.stderr.write("\n");
		if (given.json) {
			process.stdout.write(`${JSON.stringify({ layers: reports })}\n`);
			return;
		}
		if (reports.length === 0) process.stdout.write("nothing to adopt: no lower was an upper\n");
		for (const { layer, directories, redirects, problems } of reports) {
			process.stdout.write(`adopted ${layer}: ${directories} directories, ${redirects} redirects\n`);
			for (const { path, reason } of problems) process.stdout.write(`not adopted: ${path}: ${reason}\n`);
		}
	} finally {
		await opened.overlay.close();
	}
}
