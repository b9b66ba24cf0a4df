// `holdfast remove`: removes a set of changes, for good.

import type { Command } from "commander";
import { LayerError } from "../layer/layer-error.ts";
import { type ChangeSet, finishRemovals, isInService, StateFolder } from "../sets/state-folder.ts";
import { confirm } from "./ask.ts";
import { allSets } from "./change-sets.ts";
import { printJson, printLines } from "./print.ts";
import { ProgressLine } from "./progress.ts";
import { UserError } from "./user-error.ts";

interface RemoveArguments {
	readonly stateDir?: string;
	readonly yes?: boolean;
	readonly json?: boolean;
}

const EXAMPLES = `

Example:

  holdfast remove golden
      The tree itself is not touched. There is no way back: to keep what was changed, serve the set first and copy it out of the mount.`;

export function addRemove(program: Command): void {
	program
		.command("remove")
		.description("Remove a set of changes, for good. The server must have ended; the tree stays as it is.")
		.argument("<name>", "the set, as holdfast list shows it")
		.option("--state-dir <dir>", "where it is kept (default: as for serve)")
		.option("--yes", "do not ask")
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
	const set = allSets(given.stateDir).find((one) => one.name === name);
	if (set === undefined) throw new UserError(`There is no set ${name}: holdfast list shows all sets.`);
	demandIdle(set);
	if (!given.yes) {
		const what = `the set ${name}, with all changes to ${set.treePath ?? "a tree that is not known"}`;
		confirm(`This removes ${what}.`, "Remove it for good?", "To do so give --yes.");
	}
	const line = new ProgressLine();
	let names = 0;
	const state = StateFolder.open(set.root);
	try {
		state.putAside(set);
	} finally {
		state.close();
	}
	finishRemovals(set.root, () => line.show(() => `removing ${name}: ${++names} files`));
	line.end();
	if (given.json) printJson({ removed: name, tree: set.treePath });
	else printLines([`removed: ${name}`]);
}

/** Before it is asked about. */
function demandIdle(set: ChangeSet): void {
	if (set.isOthers) throw new UserError(`Cannot remove the set ${set.name}: its folder ${set.folder} belongs to another user.`);
	if (set.damage === "" && isInService(set))
		throw new UserError(`Cannot remove the set ${set.name}: it is in service. Stop its server first.`);
}
