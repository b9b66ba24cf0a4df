// `holdfast check`, in rounds: look, repair, look again, until nothing can be repaired any more.

import { syncFileSystem } from "../../linux/data.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { Check } from "./context.ts";
import { judgeDirectories } from "./directories.ts";
import type { Detected, Finding } from "./findings.ts";
import { readIndex } from "./index.ts";
import { type CheckedLayers, type CheckOptions, openLayersForCheck } from "./layers.ts";
import { judgeLinks } from "./links.ts";
import { examinePartial } from "./partial.ts";
import { checkPortable } from "./portable.ts";
import { examineRecords } from "./records.ts";
import { completeInterruptedChange, hasInterruptedChange } from "./recover.ts";
import type { CheckReport } from "./report.ts";
import { examineStack, hasProvenLowers } from "./stack.ts";
import { walkUpper } from "./upper.ts";
import { examineWork } from "./work.ts";

export type { CheckCounts } from "./context.ts";
export type { Finding, FindingKind } from "./findings.ts";
export type { CheckOptions, UpperState } from "./layers.ts";

/** A repair can uncover the next thing to be repaired. */
const ROUNDS_MAX = 10;

/** Looks for what is wrong in upper, index and work; with `isRepair` puts right what can be. LayerError: it cannot be looked at. */
export function checkUpper(options: CheckOptions): CheckReport {
	const portable = checkPortable(options);
	if (portable !== null) return portable;
	const layers = openLayersForCheck(options);
	try {
		return options.isRepair ? repair(layers, options) : examine(layers, options);
	} finally {
		layers.close();
	}
}

function examine(layers: CheckedLayers, options: CheckOptions): CheckReport {
	const check = pass(layers, options);
	return reportOf(
		check,
		check.findings.all.map((finding) => outcome(finding, "found")),
	);
}

function repair(layers: CheckedLayers, options: CheckOptions): CheckReport {
	const settled: Finding[] = [];
	const failures = new Map<string, string>();
	for (let round = 1; ; round++) {
		const check = pass(layers, options);
		const due = check.findings.all.filter((finding) => finding.remedy !== null && !failures.has(keyOf(finding)));
		if (due.length === 0 || round > ROUNDS_MAX) {
			syncFileSystem(layers.upper.root);
			const left = check.findings.all.map((finding) => {
				const failure = failures.get(keyOf(finding));
				return failure === undefined ? outcome(finding, "found") : { ...outcome(finding, "failed"), failure };
			});
			return reportOf(check, [...settled, ...left]);
		}
		for (const finding of due) {
			const failure = attempt(finding);
			if (failure === null) settled.push(outcome(finding, "repaired"));
			else failures.set(keyOf(finding), failure);
		}
	}
}

/** Null, or why it failed. */
function attempt(finding: Detected): string | null {
	try {
		finding.remedy?.make();
		return null;
	} catch (error) {
		if (!(error instanceof OverlayError)) throw error;
		return error.message;
	}
}

function keyOf({ kind, path }: Detected): string {
	return `${kind}\0${path}`;
}

function outcome({ kind, severity, path, message, remedy }: Detected, outcome: Finding["outcome"]): Finding {
	return { kind, severity, path, message, repair: remedy?.does ?? null, outcome };
}

function reportOf({ layers, findings, counts }: Check, all: readonly Finding[]): CheckReport {
	const { upper, workPath, state, isLive } = layers;
	return { upper: upper.path, work: workPath, state, isLive, findings: all, omitted: findings.omitted, counts };
}

function pass(layers: CheckedLayers, options: CheckOptions): Check {
	const check = new Check(layers, hasProvenLowers(layers), options.progress);
	if (hasInterruptedChange(layers)) {
		const message =
			"The last change is not marked as ended: if a kill interrupted it, the next start completes it, and other findings may come from that.";
		check.note("change-interrupted", "work/holdfast/intent", message, {
			does: "completes the change",
			make: () => completeInterruptedChange(layers),
		});
		// what is half done must not be repaired in another way
		if (options.isRepair && check.mayRepair) return check;
	}
	examineStack(check);
	const index = readIndex(check);
	const walked = walkUpper(check, index);
	const records = examineWork(check, index);
	examineRecords(check);
	examinePartial(check);
	judgeDirectories(check, index, walked);
	judgeLinks(check, index, walked, records);
	return check;
}
