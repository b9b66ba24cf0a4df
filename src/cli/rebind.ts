// `holdfast rebind`: turns an export with kernel handles into one with portable handles.

import type { Command } from "commander";
import { LayerError } from "../layer/layer-error.ts";
import { rebind } from "../overlay/upkeep/rebind.ts";
import { addLayerOptions, type LayerArguments, openLayers } from "./layer-options.ts";
import { printJson, printLines } from "./print.ts";
import { ProgressLine } from "./progress.ts";
import { UserError } from "./user-error.ts";

interface RebindArguments extends LayerArguments {
	readonly dryRun?: boolean;
	readonly json?: boolean;
}

const EXAMPLES = `

Example:

  holdfast rebind --lower /srv/golden --upper /srv/mine
      Afterwards /srv/golden, /srv/mine and /srv/mine.work may be copied together to another disk or machine (cp -a, rsync -aHAX, tar) and served
      there, and the handles that clients hold go on. One row is written for each name in the lowers, beside the upper's own state.`;

export function addRebind(program: Command): void {
	const command = program
		.command("rebind")
		.description(
			"Make handles portable that are the kernel's, before layers are moved. The server must have ended; the old layers must be there.",
		)
		.argument("[dir]", "the tree, as given to serve, or the name of its set");
	addLayerOptions(command, "later")
		.option("--dry-run", "only count what would be noted; may run beside a server")
		.option("--json", "print one JSON object")
		.addHelpText("after", EXAMPLES)
		.action((directory: string | undefined, given: RebindArguments) => run(directory, given));
}

async function run(directory: string | undefined, given: RebindArguments): Promise<void> {
	const isDryRun = given.dryRun ?? false;
	const opened = openLayers(directory, given, isDryRun ? "inspect" : "rebind", true);
	if (opened.handles.kind === "portable") {
		await opened.overlay.close();
		throw new UserError("The handles of this export are portable already: its layers may be moved as they are.");
	}
	const line = new ProgressLine();
	try {
		const report = await rebind(opened, opened.paths.stateFolder, isDryRun).finally(() => line.end());
		if (given.json) printJson({ upper: opened.upper, ...report });
		else {
			const counts = `${report.lowerNames} names in the lowers, ${report.upperObjects} objects of the upper`;
			printLines(isDryRun ? [`would be portable: ${counts}`, "nothing was changed"] : [`portable now: ${counts}`]);
		}
	} catch (error) {
		if (error instanceof LayerError) throw new UserError(error.message);
		throw error;
	}
}
