// `holdfast settle`: copies up what is missing of large files.

import type { Command } from "commander";
import { type SettleProgress, settleData } from "../overlay/upkeep/settle-data.ts";
import { nameInJson } from "../vfs/names.ts";
import { addLayerOptions, type LayerArguments, openLayers } from "./layer-options.ts";
import { complain, printJson, printLines } from "./print.ts";
import { ProgressLine } from "./progress.ts";
import { UserError } from "./user-error.ts";

interface SettleArguments extends LayerArguments {
	readonly dryRun?: boolean;
	readonly json?: boolean;
}

const EXAMPLES = `

Example:

  holdfast settle --lower /srv/golden --upper /srv/mine
      Afterwards no file of /srv/mine needs a lower for its data. The server does the same by itself, in the background, for files
      that were written to; where only attributes or names were changed, files stay without data until they are settled.`;

export function addSettle(program: Command): void {
	const command = program
		.command("settle")
		.description("Copy the data up that large files of an upper still have in a lower. The server must have ended.")
		.argument("[dir]", "the tree, as given to serve, or the name of its set");
	addLayerOptions(command, "later")
		.option("--dry-run", "only say how much there is to copy; may run beside a server")
		.option("--json", "print one JSON object")
		.addHelpText("after", EXAMPLES)
		.action((directory: string | undefined, given: SettleArguments) => run(directory, given));
}

async function run(directory: string | undefined, given: SettleArguments): Promise<void> {
	const opened = openLayers(directory, given, given.dryRun ? "inspect" : "release", true);
	if (opened.work === null || opened.upper === null) {
		await opened.overlay.close();
		throw new UserError("There is no upper to settle: name it with --upper.", 2);
	}
	const line = new ProgressLine();
	const report = await settleData(opened.overlay, given.dryRun ?? false, showOn(line));
	line.end();
	await opened.overlay.close();
	const failures = report.failures.map((failure) => ({ ...failure, path: nameInJson(failure.path) }));
	if (given.json) printJson({ upper: opened.upper, ...report, failures });
	else printLines([`${given.dryRun ? "would copy up" : "copied up"}: ${report.files} files, ${report.bytes} bytes`]);
	for (const { path, message } of report.failures) complain(`${path}: ${message}.`);
	if (report.failures.length > 0) process.exitCode = 1;
}

const MIB = 1024 * 1024;

/** Shows how far a settling is. */
export function showOn(line: ProgressLine): (progress: SettleProgress) => void {
	return ({ files, filesAll, bytes }) => line.show(() => `copying data up: ${files} of ${filesAll} files, ${Math.floor(bytes / MIB)} MiB`);
}
