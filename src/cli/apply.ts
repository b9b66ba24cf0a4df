// `holdfast apply`: brings the changes of an export into its lower, or into another directory.

import { realpathSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Command } from "commander";
import { LayerError } from "../layer/layer-error.ts";
import { close, O, openPath } from "../linux/open.ts";
import { Application, roomFor, shownLoss } from "../overlay/changes/apply.ts";
import type { ApplyRecord } from "../overlay/changes/apply-journal.ts";
import { type Conflict, type Look, lookAtTarget } from "../overlay/changes/apply-plan.ts";
import type { Change } from "../overlay/changes/change.ts";
import { changeList } from "../overlay/changes/change-list.ts";
import { pathsInExport } from "../overlay/changes/path-in-export.ts";
import { Target } from "../overlay/changes/target.ts";
import { workOf } from "../overlay/opening/export-paths.ts";
import { isSignedByOther, lockUpper } from "../overlay/opening/upper-lock.ts";
import { trustLowers } from "../overlay/upkeep/rebase.ts";
import { settleData } from "../overlay/upkeep/settle-data.ts";
import { OverlayError } from "../vfs/errors.ts";
import { showPath } from "../vfs/names.ts";
import { confirm } from "./ask.ts";
import { directoryAndPaths, LinePrinter } from "./diff.ts";
import { discardHere } from "./discard.ts";
import { addLayerOptions, type LayerArguments, type LayerPaths, layerPaths, type OpenedLayers } from "./layer-options.ts";
import { complain, printLines } from "./print.ts";
import { ProgressLine } from "./progress.ts";
import { UserError } from "./user-error.ts";
import { withOverlay } from "./with-overlay.ts";

interface ApplyArguments extends LayerArguments {
	readonly to?: string;
	readonly force?: boolean;
	readonly skipConflicts?: boolean;
	readonly dryRun?: boolean;
	readonly yes?: boolean;
	readonly undoDir?: string;
	readonly discard?: boolean;
}

const EXAMPLES = `

All is looked at first: what stands against a change is told, and then nothing is done. New files are prepared beside the target and renamed to their places;
removals come last. A command that was stopped goes on when it is run again. What was applied stays in the upper too.
The first word is DIR unless --lower, --upper or --name say where the layers are; a PATH is as holdfast diff prints it.

Examples:

  holdfast apply ~/project --dry-run
      What would be done to ~/project, and what stands against it.
  holdfast apply ~/project src --yes
      The changes below src alone, without a question.
  holdfast apply --lower /srv/golden --upper /srv/mine --to /srv/copy --undo-dir /srv/before
      To a copy of the lower, and what is replaced or removed there is kept.`;

export function addApply(program: Command): void {
	const command = program
		.command("apply")
		.description("Bring the changes of an export into its lower, or into a copy of that. The server must have ended, but for --to.")
		.argument("[dir]", "the tree, as given to serve, or the name of its set")
		.argument("[path...]", "only these, and what is below them");
	addLayerOptions(command, "later")
		.option("--to <dir>", "a directory that is like the lowers, in place of the one lower")
		.option("--force", "also where the target is not what it was, whose own changes are lost then")
		.option("--skip-conflicts", "leave out what the target has otherwise")
		.option("--dry-run", "only say what would be done, and what stands against it; may run beside a server")
		.option("--undo-dir <dir>", "move what is replaced and removed there; on the file system of the target, and empty")
		.option("--discard", "what was applied is discarded from the upper then, as holdfast discard does")
		.option("--yes", "do not ask")
		.addHelpText("after", EXAMPLES)
		.action(async (directory: string | undefined, paths: string[], given: ApplyArguments) => {
			try {
				await apply(directory, paths, given);
			} catch (error) {
				if (error instanceof LayerError || error instanceof OverlayError) throw new UserError(sentence(error.message));
				throw error;
			}
		});
}

function sentence(message: string): string {
	return /[.!?]$/.test(message) ? message : `${message}.`;
}

/** Ends it where a signal came: between two parts of the work. */
class Stopped extends Error {}

async function apply(first: string | undefined, rest: readonly string[], given: ApplyArguments): Promise<void> {
	const { directory, words } = directoryAndPaths(first, rest, given);
	if (given.force && given.skipConflicts) throw new UserError("Choose one of --force and --skip-conflicts.", 2);
	const layers = layerPaths(directory, given);
	if (layers.upper === undefined) throw new UserError("This export has no upper, so that there is nothing to apply.");
	const job: Job = { layers, upper: layers.upper, ...targetOf(layers, given.to), words, given };
	if (given.dryRun) {
		const target = Target.open(job.path, false);
		try {
			await inOverlay(job, true, async (opened) => {
				await lookAt(opened, target, job);
			});
		} finally {
			target.close();
		}
		return;
	}
	const isServed = isSignedByOther(workOf(job.upper, layers.work));
	if (isServed && given.discard) throw new UserError("--discard is of use where no server runs: run holdfast discard afterwards.");
	const target = Target.open(job.path, true);
	try {
		if (await carryOut(job, target, isServed)) {
			if (given.discard) await discardHere(layers, words, () => {});
		}
	} finally {
		target.close();
	}
}

interface Job {
	readonly layers: LayerPaths;
	readonly upper: string;
	/** Of the target. */
	readonly path: string;
	readonly isInPlace: boolean;
	readonly words: readonly string[];
	readonly given: ApplyArguments;
}

function inOverlay<T>({ layers }: Job, isBeside: boolean, act: (opened: OpenedLayers) => Promise<T>): Promise<T> {
	return withOverlay(layers, isBeside ? "inspect" : "release", act, { isSync: true, restoresHolds: true });
}

/** Whether all was applied. */
async function carryOut(job: Job, target: Target, isServed: boolean): Promise<boolean> {
	const { given, layers, upper, isInPlace } = job;
	let isStopped = false;
	let hasBegun = false;
	const stop = () => {
		isStopped = true;
	};
	const losses: string[] = [];
	const application = new Application(target, {
		folder: join(workOf(upper, layers.work), "holdfast"),
		upper: isInPlace ? upper : null,
		undo: given.undoDir === undefined ? null : resolve(given.undoDir),
		isForced: given.force ?? false,
		goOn() {
			if (isStopped) throw new Stopped();
		},
		onBegun() {
			hasBegun = true;
		},
		onApplied() {
			if (isInPlace) trustLowers({ lowers: layers.lowers, upper, work: layers.work });
		},
		lose: (loss) => losses.push(shownLoss(loss)),
		note: complain,
	});
	for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, stop);
	try {
		const interrupted = application.interrupted();
		if (interrupted !== null) {
			await goOn(job, target, isServed, application, interrupted);
			return true;
		}
		return await inOverlay(job, isServed && !isInPlace, async (opened) => {
			if (isInPlace) await settle(opened);
			const look = await lookAt(opened, target, job);
			if (look === null) return false;
			const line = new ProgressLine();
			try {
				await application.run(opened, look);
			} finally {
				line.end();
			}
			printLines([`applied: ${look.planned.length} changes to ${target.path}`]);
			return true;
		});
	} catch (error) {
		if (!(error instanceof Stopped)) throw error;
		throw new UserError(hasBegun ? "Stopped in the middle: run the same command again to go on." : "Stopped: nothing was changed.", 130);
	} finally {
		for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.off(signal, stop);
		if (losses.length > 0) complain(`The target could not be given ${losses.length} attributes:`);
		for (const loss of losses) complain(loss);
	}
}

/** By the plan alone: what the lower is by now may be no lower of the export, in the middle of it. */
async function goOn(
	{ given, layers, upper }: Job,
	target: Target,
	isServed: boolean,
	application: Application,
	interrupted: ApplyRecord,
): Promise<void> {
	const doubt = `An apply to ${target.path} of ${interrupted.since} was stopped before its end.`;
	if (!given.yes) confirm(doubt, "Go on with it?", "To go on with it give --yes.");
	const root = openPath(upper, O.path | O.directory);
	const folder = join(workOf(upper, layers.work), "holdfast");
	const lock = isServed && interrupted.redirect === null ? null : lockUpper({ path: upper, root, folder }, "holdfast apply");
	const line = new ProgressLine();
	try {
		await application.goOn(interrupted);
	} finally {
		line.end();
		lock?.keepFile();
		lock?.close();
		close(root);
	}
	printLines([`gone on with, and done: the apply of ${interrupted.since} to ${target.path}`]);
}

/** What upper has of its data in the lower would be lost when that changes. */
async function settle(opened: OpenedLayers): Promise<void> {
	const { failures } = await settleData(opened.overlay, false);
	if (failures.length > 0) throw new UserError(`The data of ${failures[0].path} cannot be copied up: ${failures[0].message}.`);
}

/** What is to be done, agreed to; null: nothing. UserError: something stands against it, or nobody has agreed. */
async function lookAt(opened: OpenedLayers, target: Target, { words, given, isInPlace }: Job): Promise<Look | null> {
	const line = new ProgressLine();
	const changes: Change[] = [];
	let look: Look;
	try {
		const paths = await pathsInExport(opened, words);
		for await (const change of changeList(opened, { paths, tellsBase: isInPlace })) changes.push(change);
		look = await lookAtTarget(opened, target, changes, { isInPlace, isForced: given.force ?? false });
	} finally {
		line.end();
	}
	const room = roomFor(target, look);
	const isTooSmall = room.needed > room.available;
	const shortage = `It takes up to ${room.needed} bytes, and the file system of ${target.path} has ${room.available}.`;
	const isRefused = look.conflicts.length > 0 && !given.force && !given.skipConflicts;
	if (given.dryRun || (!isRefused && !given.yes)) tellPlan(look);
	if (look.already > 0) complain(`${target.path} has ${look.already} of these changes already.`);
	if (look.conflicts.length > 0 && (!isRefused || given.dryRun)) for (const one of look.conflicts) complain(shownConflict(one));
	if (given.dryRun) {
		if (isTooSmall) complain(shortage);
		printLines([`would apply ${look.planned.length} changes to ${target.path}; nothing was changed`]);
		if (isRefused || isTooSmall) process.exitCode = 1;
		return null;
	}
	if (isRefused) {
		throw new UserError(
			`Cannot apply: ${look.conflicts.length === 1 ? "1 change meets" : `${look.conflicts.length} changes meet`} something else in ${target.path}; nothing was done.`,
			1,
			[...look.conflicts.map(shownConflict), "To overwrite: --force; to leave these out: --skip-conflicts."],
		);
	}
	if (isTooSmall && !given.force) throw new UserError(`${shortage} Nothing was done; --force tries it all the same.`);
	if (given.discard && look.conflicts.length > 0 && given.skipConflicts)
		throw new UserError("Nothing was done: with --skip-conflicts some changes are left out, which --discard would throw away.");
	if (look.planned.length === 0) {
		printLines(["nothing to apply"]);
		return null;
	}
	if (!given.yes) {
		const doubt = `This changes ${target.path}, in ${look.planned.length} places.${isInPlace ? handlesNote(opened, look) : ""}`;
		confirm(doubt, "Apply it?", "To do so give --yes.");
	}
	return look;
}

function tellPlan(look: Look): void {
	const printer = new LinePrinter(true, false);
	for (const { change } of look.planned) printer.add(change);
	printer.end();
}

function shownConflict({ path, why }: Conflict): string {
	return `${showPath(path)}: ${why}`;
}

/** What is new in the lower is another object there than here. */
function handlesNote({ handles }: OpenedLayers, { planned }: Look): string {
	const count = planned.filter(({ change: { kind } }) => kind === "added" || kind === "changed").length;
	if (count === 0) return "";
	const how =
		handles.kind === "kernel" ? " Handles of clients lead to upper as long as the changes stay there, and are stale once they go." : "";
	return ` ${count} objects get an inode of their own in the lower.${how}`;
}

/** The directory that is changed. UserError. */
function targetOf(layers: LayerPaths, to: string | undefined): { readonly path: string; readonly isInPlace: boolean } {
	const [lower] = layers.lowers;
	if (to === undefined) {
		if (layers.lowers.length > 1 || layers.dataLowers.length > 0)
			throw new UserError("This export has several lowers: name the directory that is to be changed with --to.", 2);
		return { path: lower, isInPlace: true };
	}
	const path = real(to);
	if (layers.lowers.length === 1 && layers.dataLowers.length === 0 && path === real(lower)) return { path, isInPlace: true };
	const { upper = "", work } = layers;
	for (const layer of [...layers.lowers, ...layers.dataLowers, upper, workOf(upper, work)].map(real)) {
		if (path === layer || path.startsWith(`${layer}/`) || layer.startsWith(`${path === "/" ? "" : path}/`))
			throw new UserError(`Cannot apply to ${path}: it and ${layer}, which is of this export, are one or lie in one another.`);
	}
	return { path, isInPlace: false };
}

function real(path: string): string {
	try {
		return realpathSync(path);
	} catch {
		return resolve(path);
	}
}
