// `holdfast fork`: gives a copied upper an identity of its own.

import type { Command } from "commander";
import { LayerError } from "../layer/layer-error.ts";
import { forkExport } from "../overlay/upkeep/fork.ts";
import { RegistryError } from "../overlay/work/registry.ts";
import { printJson, printLines } from "./print.ts";
import { UserError } from "./user-error.ts";

interface ForkArguments {
	readonly upper: string;
	readonly work?: string;
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
		.requiredOption("--upper <dir>", "the copy")
		.option("--work <dir>", "its work folder (default: UPPER.work beside it)")
		.option("--dry-run", "only say whether it can be done; may run beside a server")
		.option("--json", "print one JSON object")
		.addHelpText("after", EXAMPLES)
		.action((given: ForkArguments) => {
			try {
				const { before, now } = forkExport(given.upper, given.work, given.dryRun);
				if (given.json) printJson({ upper: given.upper, before, now });
				else if (now === null) printLines([`${given.upper} would no longer be export ${hex(before)}`, "nothing was changed"]);
				else printLines([`${given.upper} is export ${hex(now)} now, and no longer ${hex(before)}`]);
			} catch (error) {
				if (error instanceof LayerError || error instanceof RegistryError) throw new UserError(error.message);
				throw error;
			}
		});
}

function hex(id: number): string {
	return id.toString(16).padStart(8, "0");
}
