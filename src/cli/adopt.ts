// `holdfast adopt`: takes over an upper of another overlay, and lowers that once were uppers.

import type { Command } from "commander";
import { LayerError } from "../layer/layer-error.ts";
import type { LayerReport } from "../overlay/adopt/adopt-lower.ts";
import type { UpperReport } from "../overlay/adopt/adopt-upper.ts";
import { adoptLowers } from "../overlay/opening/former-uppers.ts";
import { type AdoptionSurvey, surveyAdoption } from "../overlay/opening/survey-adoption.ts";
import { RegistryError } from "../overlay/work/registry.ts";
import { nameInJson } from "../vfs/names.ts";
import { confirmNewUpper } from "./doubts.ts";
import { addLayerOptions, type LayerArguments, layerPaths, openLayers } from "./layer-options.ts";
import { printJson, printLines } from "./print.ts";
import { ProgressLine } from "./progress.ts";
import { UserError } from "./user-error.ts";

interface AdoptArguments extends LayerArguments {
	readonly create?: boolean;
	readonly dryRun?: boolean;
	readonly json?: boolean;
}

const EXAMPLES = `

Example:

  holdfast adopt --lower /srv/former-upper --lower /srv/golden --upper /srv/mine
      Afterwards serve takes the same layers.`;

export function addAdopt(program: Command): void {
	const command = program
		.command("adopt")
		.description(
			"Take over an upper that another overlay has written, and lowers that once were uppers. Walks them, and never writes to a lower.",
		)
		.argument("[dir]", "the tree, as given to serve, or the name of its set");
	addLayerOptions(command, "first")
		.option("--create", "make the upper if it is not there, without asking")
		.option("--dry-run", "only say whether it would be refused, and what there is to adopt")
		.option("--json", "print one JSON object")
		.addHelpText("after", EXAMPLES)
		.action((directory: string | undefined, given: AdoptArguments) => adopt(directory, given));
}

async function adopt(directory: string | undefined, given: AdoptArguments): Promise<void> {
	if (given.dryRun) return survey(directory, given);
	if (given.upper !== undefined) confirmNewUpper(given.upper, given.create ?? false);
	const opened = openLayers(directory, given, "adopt", true);
	const line = new ProgressLine();
	try {
		const lowers = adoptLowers(opened);
		line.end();
		if (given.json) {
			return printJson({ upper: opened.adopted === null ? null : inJson(opened.adopted), layers: lowers.map(inJson) });
		}
		const lines = [...(opened.adopted === null ? [] : describeUpper(opened.adopted)), ...lowers.flatMap(describeLower)];
		printLines(lines.length > 0 ? lines : ["nothing to adopt: no lower was an upper, and upper is as it was left"]);
	} finally {
		await opened.overlay.close();
	}
}

function survey(directory: string | undefined, given: AdoptArguments): void {
	const line = new ProgressLine();
	let found: AdoptionSurvey;
	try {
		found = surveyAdoption(layerPaths(directory, given));
	} catch (error) {
		if (error instanceof LayerError || error instanceof RegistryError) throw new UserError(error.message);
		throw error;
	} finally {
		line.end();
	}
	const { upper, formerUppers } = found;
	if (given.json) {
		printJson(found);
		return;
	}
	const counts =
		upper === null
			? ""
			: `${upper.directories} directories, ${upper.whiteouts} whiteouts, ${upper.marked} objects with marks of an overlay`;
	printLines([
		...(upper === null ? [] : [`would adopt ${given.upper}: ${counts}`]),
		...formerUppers.map((path) => `would adopt ${path}: it was an upper`),
		...(upper === null && formerUppers.length === 0 ? ["nothing to adopt: no lower was an upper, and upper is as it was left"] : []),
		"nothing was changed",
	]);
}

function inJson<T extends Pick<LayerReport, "problems">>(report: T): object {
	return { ...report, problems: report.problems.map(({ path, reason }) => ({ path: nameInJson(path), reason })) };
}

function describeUpper(report: UpperReport): string[] {
	const { layer, directories, identities, tombstones, metacopies, converted = 0 } = report;
	const others = converted === 0 ? "" : `, ${converted} marks of other programs converted`;
	return [
		`adopted ${layer}: ${directories} directories, ${identities} copied up objects, ${tombstones} removed ones, ${metacopies} metacopy files${others}`,
		...describeProblems(report),
	];
}

function describeLower(report: LayerReport): string[] {
	const { layer, directories, redirects, metacopies } = report;
	return [
		`adopted ${layer}: ${directories} directories, ${redirects} redirects, ${metacopies} metacopy files`,
		...describeProblems(report),
	];
}

function describeProblems({ problems }: Pick<LayerReport, "problems">): string[] {
	return problems.map(({ path, reason }) => `not adopted: ${path}: ${reason}`);
}
