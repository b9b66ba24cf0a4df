// The end of a session of `holdfast run`: what was changed, and what becomes of it.

import { spawn } from "node:child_process";
import { once } from "node:events";
import type { Session, SessionRecord } from "../sets/sessions.ts";
import { quoteForShell } from "../vfs/names.ts";
import { choose } from "./ask.ts";
import { LinePrinter, tellChanges } from "./diff.ts";
import { layerPaths } from "./layer-options.ts";
import { complain, noteLines } from "./print.ts";
import { removeSession } from "./run-list.ts";

/** What may become of changes. */
export const ON_EXIT = ["ask", "keep", "apply", "discard"] as const;
export type OnExit = (typeof ON_EXIT)[number];

interface EndArguments {
	readonly onExit: OnExit;
	readonly stateDir?: string;
}

/** Of a session that nobody is in any more. */
export async function tellEnd(session: Session, record: SessionRecord, { onExit, stateDir }: EndArguments): Promise<void> {
	const count = await tellAll(record, stateDir);
	if (count === 0) {
		complain("Nothing was changed.");
		if (record.isUnnamed) await removeLocked(session, stateDir);
		return;
	}
	const answer = onExit === "ask" ? choose(`${count === 1 ? "1 change" : `${count} changes`}:`, ["keep", "apply", "discard"]) : onExit;
	if (answer === "discard") {
		await removeLocked(session, stateDir);
		complain(`The changes of the session ${session.name} are discarded.`);
		return;
	}
	if (answer === "apply" && (await applyAll(record, stateDir))) {
		await removeLocked(session, stateDir);
		return;
	}
	complain(`The changes are kept, in session ${session.name}.`);
	for (const line of waysOn(session, record, stateDir)) complain(line);
}

/** How many changes there are, which are told, every one: but in a new directory, which is told with how much it holds. */
async function tellAll({ views }: SessionRecord, stateDir: string | undefined): Promise<number> {
	let count = 0;
	for (const { path, set } of views) {
		const printer = new LinePrinter(false, false, noteLines);
		const layers = layerPaths(path, { lower: [], dataLower: [], name: set, ...(stateDir === undefined ? {} : { stateDir }) });
		const before = count;
		await tellChanges(layers, [], { isExact: false, tellsBase: false }, (change) => {
			if (count++ === before && views.length > 1) noteLines([`${path}:`]);
			printer.add(change);
		});
		printer.end();
	}
	return count;
}

/** By holdfast apply, which says what stands against it. Whether all was applied. */
async function applyAll({ views }: SessionRecord, stateDir: string | undefined): Promise<boolean> {
	for (const { set } of views) {
		const state = stateDir === undefined ? [] : ["--state-dir", stateDir];
		const words = [...process.execArgv, process.argv[1], "apply", "--name", set, "--yes", ...state];
		// standard output is the command's
		const child = spawn(process.execPath, words, { stdio: ["ignore", STDERR, STDERR] });
		const [code] = await once(child, "close");
		if (code !== 0) return false;
	}
	return true;
}

const STDERR = 2;

async function removeLocked(session: Session, stateDir: string | undefined): Promise<void> {
	const lock = await session.lock();
	try {
		// somebody may have joined it meanwhile
		if (session.members() === 0 && !session.isKept()) removeSession(session, stateDir);
		else complain(`The session ${session.name} goes on: another command runs in it.`);
	} finally {
		lock.close();
	}
}

/** What to do with a session that is kept. */
function waysOn(session: Session, { views }: SessionRecord, stateDir: string | undefined): string[] {
	const state = stateDir === undefined ? "" : ` --state-dir ${quoteForShell(stateDir)}`;
	return [
		...views.map(({ set }) => `To see what was changed: holdfast diff --name ${set}${state}`),
		...views.map(({ set }) => `To bring it into the directory: holdfast apply --name ${set}${state}`),
		`To go on: holdfast run --session ${session.name}${state}`,
		`To discard it: holdfast run --drop ${session.name}${state}`,
	];
}
