// `holdfast remove`: removes a set of changes, for good.

import type { Command } from "commander";
import { LayerError } from "../layer/layer-error.ts";
import { demandRemovable, removeSet } from "../sets/state-folder.ts";
import { confirm } from "./ask.ts";
import { setNamed } from "./change-sets.ts";
import { printJson, printLines } from "./print.ts";
import { ProgressLine } from "./progress.ts";
import { UserError } from "./user-error.ts";

interface RemoveArguments {
	readonly stateDir?: string;
	readonly yes?: boolean;
	readonly dryRun?: boolean;
	readonly json?: boolean;
}

const EXAMPLES = `

Examples:

  holdfast remove golden
      The tree itself is not touched. There is no way back: to keep what was changed, serve the set first and copy it out of the mount.
  holdfast remove golden --yes
      Without a question, as in a script.`;

export function addRemove(program: Command): void {
	program
		.command("remove")
		.description("Remove a set of changes, for good. The server must have ended; the tree stays as it is.")
		.argument("<name>", "the set, as holdfast list shows it")
		.option("--state-dir <dir>", "where it is kept (default: as for serve)")
		.option("--yes", "do not ask")
		.option("--dry-run", "only say what would be removed; may run beside a server")
		.option("--json", "print one JSON object")
		.addHelpText("after", EXAMPLES)
		.action((name: string, given: RemoveArguments) => {
			try {
				remove(name, given);
			} catch (error) {
				if (error instanceof LayerError) throw new UserError(error.message);
				throw error;
			}
		});
}

function remove(name: string, given: RemoveArguments): void {
	const line = new ProgressLine();
	const set = setNamed(name, given.stateDir);
	const what = `the set ${name}, with all changes to ${set.treePath ?? "a tree that is not known"}`;
	if (!given.dryRun) {
		demandRemovable(set);
		if (!given.yes) confirm(`This removes ${what}.`, "Remove it for good?", "To do so give --yes.");
		removeSet(set);
	}
	line.end();
	if (given.json) printJson({ set: name, tree: set.treePath, folder: set.folder });
	else printLines(given.dryRun ? [`would remove ${what}, in ${set.folder}`, "nothing was changed"] : [`removed: ${name}`]);
}
