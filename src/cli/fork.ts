// `holdfast fork`: gives a copied upper an identity of its own.

import type { Command } from "commander";
import { LayerError } from "../layer/layer-error.ts";
import { forkExport } from "../overlay/upkeep/fork.ts";
import { RegistryError } from "../overlay/work/registry.ts";
import { noteForked } from "../sets/state-folder.ts";
import { type UpperArguments, upperNamed } from "./change-sets.ts";
import { printJson, printLines } from "./print.ts";
import { UserError } from "./user-error.ts";

interface ForkArguments extends UpperArguments {
	readonly dryRun?: boolean;
	readonly json?: boolean;
}

const EXAMPLES = `

Example:

  cp -a /srv/mine /srv/mine.work /srv/copy/ && holdfast fork --upper /srv/copy/mine
      Both can be served at once then, each with its own changes. Clients of the original go on with that one; the copy is mounted anew.`;

export function addFork(program: Command): void {
	program
		.command("fork")
		.description("Give a copied upper an identity of its own, so that it can be served beside its original. The server must have ended.")
		.option("--upper <dir>", "the copy")
		.option("--work <dir>", "its work folder (default: UPPER.work beside it)")
		.option("--name <name>", "the copy of a set's folder beside it, by the name of the copy")
		.option("--state-dir <dir>", "where sets are kept (default: as for serve)")
		.option("--dry-run", "only say whether it can be done; may run beside a server")
		.option("--json", "print one JSON object")
		.addHelpText("after", EXAMPLES)
		.action((given: ForkArguments) => {
			try {
				const { upper, work, set } = upperNamed(given);
				const { before, now } = forkExport(upper, work, given.dryRun);
				if (set !== null && now !== null) noteForked(set);
				if (given.json) printJson({ upper, before, now });
				else if (now === null) printLines([`${upper} would no longer be export ${hex(before)}`, "nothing was changed"]);
				else printLines([`${upper} is export ${hex(now)} now, and no longer ${hex(before)}`]);
			} catch (error) {
				if (error instanceof LayerError || error instanceof RegistryError) throw new UserError(error.message);
				throw error;
			}
		});
}

function hex(id: number): string {
	return id.toString(16).padStart(8, "0");
}
