// `holdfast rebase`: puts other images in the place of an export's lowers.

import { type Command, Option } from "commander";
import { LayerError } from "../layer/layer-error.ts";
import { rebase, type SameBy } from "../overlay/upkeep/rebase.ts";
import { RegistryError } from "../overlay/work/registry.ts";
import { noteTree } from "../sets/state-folder.ts";
import { identityOf } from "../sets/tree-identity.ts";
import { nameInJson } from "../vfs/names.ts";
import { type UpperArguments, upperNamed } from "./change-sets.ts";
import { collect } from "./collect.ts";
import { printJson, printLines } from "./print.ts";
import { ProgressLine } from "./progress.ts";
import { UserError } from "./user-error.ts";

interface RebaseArguments extends UpperArguments {
	readonly lower: readonly string[];
	readonly was: readonly string[];
	readonly sameBy: SameBy;
	readonly dryRun?: boolean;
	readonly json?: boolean;
}

const EXAMPLES = `

Example:

  holdfast rebase --lower /srv/image-b --was /srv/image-a --upper /srv/mine --same-by content
      Afterwards /srv/mine is served over /srv/image-b. Handles of what is the same in both go on; all others are stale.
      With --same-by mtime+size (the default) nothing is read of the files. Both images have to be there, and neither is written to.`;

const SHOWN = 50;

export function addRebase(program: Command): void {
	program
		.command("rebase")
		.description(
			"Put other images in the place of an export's lowers, and keep the handles of what is the same. The server must have ended.",
		)
		.option("--upper <dir>", "the upper of the export")
		.option("--work <dir>", "its work folder (default: UPPER.work beside it)")
		.option("--name <name>", "a set of changes, in place of --upper; its tree is the lower from then on")
		.option("--state-dir <dir>", "where sets are kept (default: as for serve)")
		.option("--lower <dir>", "a lower as it is to be; again for each, from the topmost down", collect, [])
		.option("--was <dir>", "the lower that was in its place (default: as served last)", collect, [])
		.addOption(new Option("--same-by <what>", "when a file is the same").choices(["mtime+size", "content"]).default("mtime+size"))
		.option("--dry-run", "only compare, and say what would go on; may run beside a server")
		.option("--json", "print one JSON object")
		.addHelpText("after", EXAMPLES)
		.action(run);
}

function run(given: RebaseArguments): void {
	if (given.lower.length === 0) throw new UserError("Name each lower as it is to be (--lower).", 2);
	const line = new ProgressLine();
	try {
		const { upper, work, set } = upperNamed(given);
		if (set !== null && given.lower.length !== 1) throw new UserError("A set has one tree: give --lower once.", 2);
		const report = rebase({
			lowers: given.lower,
			before: given.was,
			upper,
			work,
			sameBy: given.sameBy,
			isDryRun: given.dryRun ?? false,
		});
		line.end();
		if (set !== null && !given.dryRun) noteTree(set, identityOf(given.lower[0]));
		const { isCompared, same, changes } = report;
		if (given.json) {
			printJson({
				upper,
				isCompared,
				same,
				changes: changes.map((change) => ({
					...change,
					path: nameInJson(change.path),
					hiddenBy: change.hiddenBy === null ? null : nameInJson(change.hiddenBy),
				})),
			});
			return;
		}
		if (!isCompared) {
			printLines([
				`${given.dryRun ? "would be rebased" : "rebased"}; what was there is gone, so nothing was compared: what has the same path, type, size and mtime counts as the same`,
				...(given.dryRun ? ["nothing was changed"] : []),
			]);
			return;
		}
		const counts = (["changed", "removed", "added"] as const).map(
			(what) => `${changes.filter((change) => change.what === what).length} ${what}`,
		);
		const lines = [`${same} the same, ${counts.join(", ")}`];
		for (const { path, what, hiddenBy, lower } of changes.slice(0, SHOWN)) {
			lines.push(`${what} ${given.lower[lower]}${path}${hiddenBy === null ? "" : ` (hidden by ${hiddenBy} in the upper)`}`);
		}
		if (changes.length > SHOWN) lines.push(`and ${changes.length - SHOWN} more: --json lists them all`);
		if (given.dryRun) lines.push("nothing was changed");
		printLines(lines);
	} catch (error) {
		if (error instanceof LayerError || error instanceof RegistryError) throw new UserError(error.message);
		throw error;
	}
}
