// A command in a session of `holdfast run`: begins the session or joins it, runs the command, and says what was changed.

import { spawn } from "node:child_process";
import { mkdirSync, realpathSync, statSync } from "node:fs";
import { constants } from "node:os";
import { join, relative } from "node:path";
import { whyNot } from "../linux/errno.ts";
import { childrenOf } from "../linux/processes.ts";
import { takeTerminal } from "../linux/terminal.ts";
import { enterCommand } from "../mounting/sandbox.ts";
import { isSameOrBelow } from "../mounting/sandbox-request.ts";
import { allSessions, Session, type SessionKeeper, type SessionRecord, type View } from "../sets/sessions.ts";
import { isSetName, nameFor, SET_NAME_RULE } from "../sets/set-names.ts";
import { stateRoots } from "../sets/state-roots.ts";
import { confirm, isAnybodyThere } from "./ask.ts";
import { startInBackground } from "./background.ts";
import { allSets } from "./change-sets.ts";
import { complain } from "./print.ts";
import { type OnExit, tellEnd } from "./run-end.ts";
import { type KeeperTask, NO_NAMESPACES } from "./run-keeper.ts";
import { endKeeper } from "./run-list.ts";
import { UserError } from "./user-error.ts";

export interface RunArguments {
	readonly dir: readonly string[];
	readonly session?: string;
	readonly allow: readonly string[];
	readonly hide: readonly string[];
	readonly isNetworkOwn: boolean;
	readonly linger?: boolean;
	readonly anyway?: boolean;
	readonly onExit?: OnExit;
	readonly stateDir?: string;
}

/** Empty at the start of a sandbox, unless they are allowed. */
const PRIVATE = ["/tmp", "/dev/shm"];
const LINGER_LOOK_MS = 100;

/** The exit status. UserError, LayerError: nothing was run. */
export async function runCommand(words: readonly string[], given: RunArguments): Promise<number> {
	const isAtTerminal = isAnybodyThere();
	const command = words.length > 0 ? words : [process.env.SHELL || "/bin/sh"];
	const begun = await begin(given);
	const { session, record } = begun;
	const status = await runIn(begun, command, { isAtTerminal, linger: given.linger ?? false });
	const lock = await session.lock();
	let isLast = false;
	try {
		begun.member.close();
		isLast = session.members() === 0;
		// one that is being killed may have the session for a moment still
		if (isLast) await endKeeper(session);
		if (!session.isKept() && session.wasCutShort())
			complain(`The keeper of the session ${session.name} has ended: what was being changed then may be lost.`);
	} finally {
		lock.close();
	}
	if (isAtTerminal) takeTerminal(STDIN);
	if (isLast) await tellEnd(session, record, { ...given, onExit: given.onExit ?? (isAtTerminal ? "ask" : "keep") });
	else complain(`The session ${session.name} goes on: other commands run in it.`);
	return status;
}

const STDIN = 0;

interface Begun {
	readonly session: Session;
	readonly record: SessionRecord;
	readonly keeper: SessionKeeper;
	readonly member: { close(): void };
}

/** In the session that is wanted, which has a keeper then. */
async function begin(given: RunArguments): Promise<Begun> {
	const { own } = stateRoots(given.stateDir);
	if (given.session !== undefined && !isSetName(given.session)) throw new UserError(SET_NAME_RULE, 2);
	const session = new Session(own, given.session ?? freeName(own, real(given.dir[0] ?? "."), given.stateDir));
	const lock = await session.lock();
	try {
		const former = session.record();
		const wanted = wantedOf(given, own, former?.views.map(({ path }) => path) ?? ["."]);
		const isRunning = former !== null && session.isKept();
		const record = former === null ? newRecord(session, wanted, given) : laterRecord(session, former, given, { wanted, isRunning });
		if (!isRunning) await startKeeper(session, { own, record, isNew: former === null, isAnyway: given.anyway ?? false });
		const now = session.record();
		if (now?.keeper == null) throw new UserError(`The session ${session.name} has no keeper.`);
		tellBegin(session, now, isRunning);
		return { session, record: now, keeper: now.keeper, member: session.enter() };
	} finally {
		lock.close();
	}
}

interface Wanted {
	readonly paths: readonly string[];
	readonly allow: readonly string[];
	readonly hide: readonly string[];
}

/** What is named, without symbolic links. UserError: it is not there, or does not go together. */
function wantedOf(given: RunArguments, own: string, otherwise: readonly string[]): Wanted {
	const paths = (given.dir.length > 0 ? given.dir : otherwise).map((path) => real(path));
	const [allow, hide] = [given.allow.map(real), given.hide.map(real)];
	for (const [i, path] of paths.entries()) {
		if (!statSync(path).isDirectory()) throw new UserError(`Cannot have a copy of ${path}: it is not a directory.`);
		if (path === "/")
			throw new UserError("Cannot have a copy of /: the programs of the sandbox itself lie in it. Name a directory by --dir.");
		if (isSameOrBelow(own, path)) {
			throw new UserError(
				`Cannot have a copy of ${path}: the changes to it would be kept in it, in ${own}. Name a directory in it by --dir, or another place for the changes by --state-dir.`,
			);
		}
		const around = paths.find((other, at) => at !== i && isSameOrBelow(path, other));
		if (around !== undefined) throw new UserError(`${path} is in the copy of ${around} already: name each directory once.`, 2);
		const hidden = hide.find((one) => isSameOrBelow(path, one));
		if (hidden !== undefined) throw new UserError(`--hide ${hidden} would hide the copy of ${path}.`, 2);
	}
	for (const path of allow) {
		const view = paths.find((one) => isSameOrBelow(path, one));
		if (view !== undefined) throw new UserError(`--allow ${path} lies in ${view}, where changes are kept apart.`, 2);
	}
	return { paths, allow, hide };
}

function real(path: string): string {
	try {
		return realpathSync(path);
	} catch (error) {
		throw new UserError(`Cannot use ${path}: ${whyNot((error as NodeJS.ErrnoException).errno ?? 0, path)}.`);
	}
}

function freeName(own: string, path: string, stateDir: string | undefined): string {
	const taken = new Set([...allSessions(own).map(({ name }) => name), ...allSets(stateDir).map(({ name }) => name)]);
	return nameFor(`${path === "/" ? "root" : path}-run`, (name) => taken.has(name));
}

/** UserError: one of its sets is there already. */
function newRecord(session: Session, { paths, allow, hide }: Wanted, given: RunArguments): SessionRecord {
	const views = paths.map((path, i) => ({ path, set: i === 0 ? session.name : `${session.name}-${i + 1}` }));
	const there = allSets(given.stateDir).find(({ name }) => views.some(({ set }) => set === name));
	if (there !== undefined) {
		throw new UserError(
			`There is a set of changes ${there.name} already, which is no session's: name the session otherwise, or holdfast remove it.`,
		);
	}
	const { isNetworkOwn } = given;
	return { made: new Date().toISOString(), views, allow, hide, isNetworkOwn, isUnnamed: given.session === undefined, keeper: null };
}

/** UserError: the session is another one than what is asked for. */
function laterRecord(
	session: Session,
	former: SessionRecord,
	given: RunArguments,
	{ wanted, isRunning }: { readonly wanted: Wanted; readonly isRunning: boolean },
): SessionRecord {
	const paths = former.views.map(({ path }) => path);
	if (given.dir.length > 0 && !isSame(paths, wanted.paths)) {
		throw new UserError(`The session ${session.name} is of ${paths.join(", ")}: name these, or leave --dir out.`);
	}
	const allow = given.allow.length > 0 ? wanted.allow : former.allow;
	const hide = given.hide.length > 0 ? wanted.hide : former.hide;
	const isNetworkOwn = given.isNetworkOwn || former.isNetworkOwn;
	const isOther = !isSame(allow, former.allow) || !isSame(hide, former.hide) || isNetworkOwn !== former.isNetworkOwn;
	if (isRunning && isOther) {
		throw new UserError(`The session ${session.name} runs with other --allow, --hide or --no-network: leave them out to join it as it is.`);
	}
	return { ...former, allow, hide, isNetworkOwn };
}

function isSame(one: readonly string[], other: readonly string[]): boolean {
	return JSON.stringify([...one].sort()) === JSON.stringify([...other].sort());
}

interface Start {
	readonly own: string;
	readonly record: SessionRecord;
	readonly isNew: boolean;
	readonly isAnyway: boolean;
}

/** UserError: it has said why. */
async function startKeeper(session: Session, { own, record, isNew, isAnyway }: Start): Promise<void> {
	session.write({ ...record, keeper: null });
	const isPrivate = (folder: string) =>
		statSync(folder, { throwIfNoEntry: false })?.isDirectory() === true &&
		!record.allow.some((path) => isSameOrBelow(folder, path)) &&
		!record.views.some(({ path }) => isSameOrBelow(folder, path));
	const task = { root: own, name: session.name, private: PRIVATE.filter(isPrivate) };
	try {
		let status = await keeperStarted({ ...task, points: [] });
		if (status === NO_NAMESPACES) {
			agreeToLess(record, isAnyway);
			await session.untilLeft();
			status = await keeperStarted({ ...task, points: pointsFor(session, record) });
		}
		if (status !== 0) throw new UserError(`Nothing was run: there is no session ${session.name}.`);
	} catch (error) {
		await session.untilLeft();
		if (isNew) session.remove();
		throw error;
	}
}

function keeperStarted(task: Omit<KeeperTask, "backgroundOf">): Promise<number> {
	const [node, main] = [process.execPath, process.argv[1]];
	return startInBackground([node, ...process.execArgv, main, "run"], ["--keeper-task", JSON.stringify(task)]);
}

/** UserError: nobody has. */
function agreeToLess({ hide, isNetworkOwn }: SessionRecord, isAnyway: boolean): void {
	if (hide.length > 0 || isNetworkOwn) throw new UserError("Nothing was run: --hide and --no-network take a sandbox.");
	if (isAnyway) return;
	confirm(
		"Without a sandbox the copy is at another path, nothing else is read-only, and what the command leaves behind is not ended.",
		"Run it all the same?",
		"To run it all the same give --anyway.",
	);
}

/** Empty directories of this user's alone, to mount at. */
function pointsFor(session: Session, { views }: SessionRecord): string[] {
	return views.map(({ set }) => {
		const point = join(session.folder, "views", set);
		mkdirSync(point, { recursive: true, mode: 0o700 });
		return realpathSync(point);
	});
}

function tellBegin({ name }: Session, { views, allow, hide, isNetworkOwn, keeper }: SessionRecord, isRunning: boolean): void {
	const paths = views.map(({ path }, i) => (keeper?.points[i] === undefined ? path : `${path} at ${keeper.points[i]}`)).join(", ");
	complain(`${isRunning ? "In" : "A copy of"} ${paths}, session ${name}: changes are kept apart.`);
	if (keeper?.namespaces === null) {
		complain("Nothing else is read-only: there is no sandbox.");
		return;
	}
	const writable = allow.length === 0 ? "" : `, and ${allow.join(", ")}, which ${allow.length === 1 ? "is" : "are"} changed for real`;
	const also = `${hide.length === 0 ? "" : ` Hidden: ${hide.join(", ")}.`}${isNetworkOwn ? " There is no network." : ""}`;
	complain(
		`All else is read-only, caches in the home directory too (--allow PATH), but /tmp and /dev/shm, which are the session's own${writable}.${also}`,
	);
}

/** Runs a command in the session, and passes signals on to it. Its exit status, as a shell has it. */
async function runIn(
	{ session, record, keeper }: Begun,
	command: readonly string[],
	{ isAtTerminal, linger }: { readonly isAtTerminal: boolean; readonly linger: boolean },
): Promise<number> {
	const here = workingDirectory(record.views, keeper.points);
	const [program, ...words] = enterCommand(keeper.namespaces, here, command);
	const child = spawn(program, words, { stdio: "inherit", cwd: "/", env: { ...process.env, HOLDFAST_SESSION: session.name } });
	// nsenter(1) passes none on
	const stop = passSignals(() => (keeper.namespaces === null ? child.pid : childrenOf(child.pid as number)[0]) ?? child.pid, isAtTerminal);
	const status = await new Promise<number>((resolve, reject) => {
		child.on("error", ({ message }) => reject(new UserError(`Cannot enter the sandbox: ${message}.`)));
		child.on("close", (code, signal) => resolve(code ?? 128 + constants.signals[signal as NodeJS.Signals]));
	});
	const [first] = keeper.namespaces === null ? [] : childrenOf(keeper.namespaces.pid);
	// the first process itself has one, which waits for the end
	while (linger && first !== undefined && childrenOf(first).length > 1) await new Promise((resolve) => setTimeout(resolve, LINGER_LOOK_MS));
	stop();
	return status;
}

/** Where the command begins, and where else if that is not to be seen there. `points`: where the views are, if not at their own paths. */
function workingDirectory(views: readonly View[], points: readonly string[]): [string, string] {
	const first = points[0] ?? views[0].path;
	try {
		const here = process.cwd();
		const at = views.findIndex(({ path }) => isSameOrBelow(here, path));
		return [points.length === 0 || at < 0 ? here : join(points[at], relative(views[at].path, here)), first];
	} catch {
		// it was removed
		return [first, first];
	}
}

const PASSED = ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"] as const;
/** Of these a terminal tells the command itself. */
const OF_TERMINAL = ["SIGINT", "SIGQUIT"] as const;
/** A command that ignores so many signals that are to end it is killed. */
const KILLED_AT = 3;

/** `target`: the process that gets them. */
function passSignals(target: () => number | undefined, isAtTerminal: boolean): () => void {
	let ends = 0;
	const pass = (signal: NodeJS.Signals) => {
		if (signal !== "SIGUSR1" && signal !== "SIGUSR2") ends++;
		try {
			process.kill(target() as number, ends >= KILLED_AT ? "SIGKILL" : signal);
		} catch {
			// it has ended
		}
	};
	const ignore = () => {};
	const heard = [
		...PASSED.map((signal) => [signal, pass] as const),
		...OF_TERMINAL.map((signal) => [signal, isAtTerminal ? ignore : pass] as const),
	];
	for (const [signal, hear] of heard) process.on(signal, hear);
	return () => {
		for (const [signal, hear] of heard) process.off(signal, hear);
	};
}
