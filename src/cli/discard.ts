// `holdfast discard`: takes changes back.

import type { Command } from "commander";
import { type DiscardReport, discard } from "../overlay/changes/discard.ts";
import { pathsInExport } from "../overlay/changes/path-in-export.ts";
import { nameInJson } from "../vfs/names.ts";
import { confirm } from "./ask.ts";
import { askServer } from "./ask-server.ts";
import { directoryAndPaths, LinePrinter, tellChanges } from "./diff.ts";
import { addLayerOptions, type LayerArguments, type LayerPaths, layerPaths, type OpenedLayers } from "./layer-options.ts";
import { complain, printJson, printLines } from "./print.ts";
import { ProgressLine } from "./progress.ts";
import { UserError } from "./user-error.ts";
import { withOverlay } from "./with-overlay.ts";

interface DiscardArguments extends LayerArguments {
	readonly yes?: boolean;
	readonly dryRun?: boolean;
	readonly json?: boolean;
}

const EXAMPLES = `

What is below each PATH becomes what the lowers show, under the handles and file ids that it had there: files that were changed, removed or renamed,
directories too. What is new is gone, and its handles are stale. Without PATH all of it. A PATH is as seen in the export now, and as diff prints it; the
first word is DIR unless --lower, --upper or --name say where the layers are. There is no way back.

Examples:

  holdfast discard ~/project src --dry-run
      What would go, as diff tells it.
  holdfast discard ~/project src/main.c --yes
  holdfast discard --lower /srv/golden --upper /srv/mine --yes
      All changes. A running server does it itself, between the requests of its clients.`;

export function addDiscard(program: Command): void {
	const command = program
		.command("discard")
		.description("Take changes back: paths of an export become what its lowers show. Where a server runs, it does so itself.")
		.argument("[dir]", "the tree, as given to serve, or the name of its set")
		.argument("[path...]", "only these, and what is below them");
	addLayerOptions(command, "later")
		.option("--yes", "do not ask")
		.option("--dry-run", "only say which changes would be taken back")
		.option("--json", "print one JSON object")
		.addHelpText("after", EXAMPLES)
		.action((directory: string | undefined, paths: string[], given: DiscardArguments) => run(directory, paths, given));
}

async function run(first: string | undefined, rest: readonly string[], given: DiscardArguments): Promise<void> {
	const { directory, words } = directoryAndPaths(first, rest, given);
	const layers = layerPaths(directory, given);
	if (layers.upper === undefined) throw new UserError("This export has no upper, so that nothing can have been changed in it.");
	if (given.dryRun) return await sayWhat(layers, words, given.json === true);
	if (!given.yes) {
		let count = 0;
		await tellChanges(layers, words, { isExact: false, tellsBase: false }, () => count++);
		const where = words.length === 0 ? layers.upper : words.join(", ");
		confirm(`This discards ${count === 1 ? "1 change" : `${count} changes`} at ${where}.`, "Discard for good?", "To do so give --yes.");
	}
	const line = new ProgressLine();
	let report: DiscardReport;
	try {
		const show = (changes: number) => line.show(() => `${changes} changes taken back so far`);
		const answer = await askServer(layers, {
			request: "discard",
			argument: { paths: words },
			onItem: (item) => show((item as { readonly changes: number }).changes),
		});
		report = "end" in answer ? (answer.end as DiscardReport) : await discardHere(layers, words, show);
	} finally {
		line.end();
	}
	tell(report, given.json === true);
}

async function sayWhat(layers: LayerPaths, words: readonly string[], isJson: boolean): Promise<void> {
	const printer = new LinePrinter(false, false);
	let changes = 0;
	await tellChanges(layers, words, { isExact: false, tellsBase: false }, (change) => {
		changes++;
		if (!isJson) printer.add(change);
	});
	if (isJson) printJson({ changes });
	else {
		printer.end();
		printLines([changes === 0 ? "nothing to discard" : "nothing was changed"]);
	}
}

/** Where no server runs. */
export function discardHere(layers: LayerPaths, words: readonly string[], show: (changes: number) => void): Promise<DiscardReport> {
	const act = async (opened: OpenedLayers) => {
		const paths = await pathsInExport(opened, words);
		return discard(opened, { paths, onProgress: async (changes) => show(changes) });
	};
	return withOverlay(layers, "release", act, { isSync: true, restoresHolds: true });
}

function tell({ left, ...counts }: DiscardReport, isJson: boolean): void {
	const { removed, reverted, restored, returned } = counts;
	if (isJson) printJson({ ...counts, left: left.map(({ path, reason }) => ({ path: nameInJson(path), reason })) });
	else {
		const parts = [
			`${reverted} as in the lowers again`,
			`${restored} that were removed`,
			`${returned} back in their places`,
			`${removed} new ones gone`,
		];
		printLines([`discarded: ${parts.join(", ")}`]);
	}
	for (const { path, reason } of left) complain(`${path} stays as it is: ${reason}.`);
	if (left.length > 0) process.exitCode = 1;
}
