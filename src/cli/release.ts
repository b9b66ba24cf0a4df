// `holdfast release`: gives an upper back to the kernel's overlayfs.

import type { Command } from "commander";
import { release } from "../overlay/upkeep/release.ts";
import { quoteForShell } from "../vfs/names.ts";
import { addLayerOptions, type LayerArguments, openLayers } from "./layer-options.ts";
import { kernelMountCommand } from "./mount-lines.ts";
import { printJson, printLines } from "./print.ts";
import { ProgressLine } from "./progress.ts";
import { showOn } from "./settle.ts";
import { UserError } from "./user-error.ts";

interface ReleaseArguments extends LayerArguments {
	readonly dryRun?: boolean;
	readonly forget?: boolean;
	readonly json?: boolean;
}

const EXAMPLES = `

Example:

  holdfast release --lower /srv/golden --upper /srv/mine
      Afterwards the kernel mounts it. The command for that is printed last.`;

export function addRelease(program: Command): void {
	const command = program
		.command("release")
		.description("Give an upper back to the kernel's overlayfs. The server must have ended.")
		.argument("[dir]", "the tree, as given to serve, or the name of its set");
	addLayerOptions(command, "later")
		.option("--dry-run", "only say what would be done, and how much space it takes; may run beside a server")
		.option("--forget", "keep nothing of handles, which are bad then: for who is to adopt the upper with handles of another kind")
		.option("--json", "print one JSON object")
		.addHelpText("after", EXAMPLES)
		.action((directory: string | undefined, given: ReleaseArguments) => run(directory, given));
}

async function run(directory: string | undefined, given: ReleaseArguments): Promise<void> {
	const opened = openLayers(directory, given, given.dryRun ? "inspect" : "release", true);
	if (opened.work === null || opened.upper === null) {
		await opened.overlay.close();
		throw new UserError("There is no upper to release: name it with --upper.", 2);
	}
	const line = new ProgressLine();
	const { dryRun = false, forget = false } = given;
	const report = await release(opened.overlay, opened.work, dryRun, showOn(line), forget).finally(() => line.end());
	const mount = kernelMountCommand(opened.upper, opened.work, opened.paths);
	if (given.json) return printJson({ upper: opened.upper, work: opened.work, ...report, mount });
	printLines([
		`${given.dryRun ? "would copy up" : "copied up"}: ${report.copied} files of several names, ${report.copiedBytes} bytes`,
		`${given.dryRun ? "would complete" : "completed"}: ${report.settled} large files that had data in a lower, ${report.settledBytes} bytes`,
		`${given.dryRun ? "would look for the names of" : "named"}: ${report.named} files that only the index ${given.dryRun ? "holds" : "held"}`,
		`without a name: ${report.nameless}`,
		given.dryRun ? "nothing was changed" : `released: ${opened.upper}, with the work folder ${opened.work}; the kernel mounts it by`,
		...(given.dryRun ? [] : [mount.map(quoteForShell).join(" ")]),
	]);
}
