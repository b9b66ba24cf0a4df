// `holdfast check`: reports what is wrong in an upper, its index and its work folder, and repairs it on request.

import type { Command } from "commander";
import { TRUSTED_XATTRS, USER_XATTRS } from "../layer/layer.ts";
import { LayerError } from "../layer/layer-error.ts";
import { checkUpper } from "../overlay/check/check.ts";
import type { Finding } from "../overlay/check/findings.ts";
import type { CheckReport } from "../overlay/check/report.ts";
import { nameInJson } from "../vfs/names.ts";
import { describeFailure } from "../vfs/system-errors.ts";
import { addLayerOptions, type LayerArguments, layerPaths } from "./layer-options.ts";
import { printJson, printLines } from "./print.ts";
import { ProgressLine } from "./progress.ts";
import { UserError } from "./user-error.ts";

interface CheckArguments extends LayerArguments {
	readonly repair?: boolean;
	readonly dryRun?: boolean;
	readonly json?: boolean;
}

/** As fsck(8): the sum of what holds. */
const EXIT = { corrected: 1, uncorrected: 4, failure: 8, usage: 16 } as const;

const EXAMPLES = `

Exit status, the sum of: 0 nothing is wrong, 1 something was repaired, 4 errors are left, 8 the check could not be made, 16 wrong usage.

Examples:

  holdfast check --lower /srv/golden --upper /srv/mine
      Only looks, also beside a running server.
  holdfast check --lower /srv/golden --upper /srv/mine --repair`;

export function addCheck(program: Command): void {
	const command = program
		.command("check")
		.description("Look for what is wrong in an upper, its index and its work folder: one of ours, or of the kernel's overlayfs.")
		.argument("[dir]", "the tree, as given to serve, or the name of its set");
	addLayerOptions(command, "later")
		.option("--repair", "put right what can be; nothing that may be data is removed. No server may run")
		.option("--dry-run", "with --repair: only say what would be repaired, as without it; may run beside a server")
		.option("--json", "print one JSON object")
		.addHelpText("after", EXAMPLES)
		.action((directory: string | undefined, given: CheckArguments) => {
			process.exitCode = run(directory, given);
		});
	command.error = (message) => {
		throw new UserError(message.replace(/^error: /, ""), EXIT.usage);
	};
}

function run(directory: string | undefined, given: CheckArguments): number {
	const report = reported(directory, given);
	const left = report.findings.filter(({ severity, outcome }) => severity === "error" && outcome !== "repaired").length + report.omitted;
	const repaired = report.findings.filter(({ outcome }) => outcome === "repaired").length;
	const exitCode = (left > 0 ? EXIT.uncorrected : 0) + (repaired > 0 ? EXIT.corrected : 0);
	try {
		if (given.json) {
			const findings = report.findings.map((finding) => ({ ...finding, path: nameInJson(finding.path) }));
			printJson({ ...report, findings, repaired, errorsLeft: left, exitCode });
		} else show(report, repaired, left);
	} catch (error) {
		throw error instanceof UserError ? new UserError(error.message, EXIT.failure) : error;
	}
	return exitCode;
}

function reported(directory: string | undefined, given: CheckArguments): CheckReport {
	const line = new ProgressLine();
	try {
		const { lowers, dataLowers, upper, work, userXattrs, whiteoutFiles } = layerPaths(directory, given);
		if (upper === undefined) throw new UserError("There is no upper to check: name it with --upper.", EXIT.usage);
		const isRepair = given.repair === true && given.dryRun !== true;
		const xattr = userXattrs ? USER_XATTRS : TRUSTED_XATTRS;
		return checkUpper({
			lowers,
			dataLowers,
			upper,
			work,
			xattr,
			isRepair,
			whiteoutFiles,
			progress: (stage, count) => line.show(() => `${stage}: ${count}`),
		});
	} catch (error) {
		if (error instanceof UserError)
			throw new UserError(error.message, error.exitCode === 2 ? EXIT.usage : Math.max(error.exitCode, EXIT.failure));
		const failure = error instanceof LayerError ? error.message : describeFailure(error);
		if (failure !== null) throw new UserError(failure.replace(/\.?$/, "."), EXIT.failure);
		throw new UserError(`This should not have happened: ${error instanceof Error ? error.stack : String(error)}`, EXIT.failure);
	} finally {
		line.end();
	}
}

function show(report: CheckReport, repaired: number, left: number): void {
	const { findings, omitted, counts } = report;
	const notes = findings.filter(({ severity, outcome }) => severity === "note" && outcome !== "repaired").length;
	const lines = [
		...findings.map(line),
		...(omitted > 0 ? [`and ${omitted} more`] : []),
		`upper: ${report.upper} (${report.state}), work: ${report.work}`,
		`looked at: ${counts.directories} directories, ${counts.files} files and ${counts.whiteouts} whiteouts in upper, ${counts.copiedUp} copied up; ` +
			`${counts.indexEntries} index entries, ${counts.tombstones} for objects that are gone`,
		`${left === 0 ? "no errors" : `errors: ${left}`}${repaired > 0 ? `, repaired: ${repaired}` : ""}${notes > 0 ? `, notes: ${notes}` : ""}`,
	];
	if (report.isLive) lines.push("the upper is in use at this moment: what was found may be a change that was being made");
	printLines(lines);
}

function line({ kind, severity, path, message, repair, outcome, failure }: Finding): string {
	const what = `${severity}: ${kind}: ${path}: ${message}`;
	if (outcome === "failed") return `${what} Not repaired: ${failure}.`;
	if (repair === null) return what;
	return outcome === "repaired" ? `${what} Repaired: ${repair}.` : `${what} --repair ${repair}.`;
}
