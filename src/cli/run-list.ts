// The sessions of `holdfast run`: listed, and dropped.

import { allSessions, type Session } from "../sets/sessions.ts";
import { removeSet } from "../sets/state-folder.ts";
import { stateRoots } from "../sets/state-roots.ts";
import { allSets } from "./change-sets.ts";
import { complain, printJson, printLines, printTable } from "./print.ts";
import { UserError } from "./user-error.ts";

/** A keeper that was stopped, or waits for what never comes, ends then. */
const END_MS = 60_000;

interface StateArguments {
	readonly stateDir?: string;
	readonly json?: boolean;
}

export function listSessions(given: StateArguments): void {
	const { own } = stateRoots(given.stateDir);
	const rows = allSessions(own).map((session) => rowOf(session));
	if (given.json) {
		printJson({ stateFolder: own, sessions: rows });
		return;
	}
	if (rows.length === 0) {
		printLines(["There are no sessions: holdfast run makes one."]);
		return;
	}
	const cells = rows.map(({ name, inUse, made, problem, views }) => [
		name,
		inUse ? "yes" : "no",
		made?.replace(/T(\d\d:\d\d).*$/, " $1") ?? "",
		problem ?? views.map(({ path }) => path).join(", "),
	]);
	printTable([["NAME", "IN USE", "MADE", "DIRECTORIES"], ...cells]);
}

function rowOf(session: Session) {
	const { name } = session;
	try {
		const record = session.record();
		const { made = null, views = [], allow = [], hide = [], isNetworkOwn = false } = record ?? {};
		const problem = record === null ? "It was not begun: holdfast run --drop takes it away." : null;
		return { name, inUse: session.isKept(), made, views, allow, hide, network: !isNetworkOwn, problem };
	} catch (error) {
		return { name, inUse: session.isKept(), made: null, views: [], allow: [], hide: [], network: true, problem: (error as Error).message };
	}
}

/** UserError: there is no such session, or somebody is in it. */
export async function dropSession(name: string, { stateDir }: StateArguments): Promise<void> {
	const { own } = stateRoots(stateDir);
	const session = allSessions(own).find((one) => one.name === name);
	if (session === undefined) throw new UserError(`There is no session ${name}: holdfast run --list shows all.`);
	const lock = await session.lock();
	try {
		if (session.members() > 0) throw new UserError(`Cannot drop the session ${name}: a command runs in it.`);
		await endKeeper(session);
		removeSession(session, stateDir);
	} finally {
		lock.close();
	}
	complain(`The session ${name} is gone, with its changes.`);
}

/** Of a session that nobody is in, whose lock this process has. */
export async function endKeeper(session: Session): Promise<void> {
	if (!session.isKept()) return;
	const keeper = session.record()?.keeper ?? null;
	const tell = (signal: NodeJS.Signals) => {
		try {
			if (keeper !== null) process.kill(keeper.pid, signal);
		} catch {
			// it has ended just now
		}
	};
	tell("SIGTERM");
	const timer = setTimeout(tell, END_MS, "SIGKILL");
	await session.untilLeft();
	clearTimeout(timer);
}

/** The session, with its sets, which no keeper has any more. LayerError. */
export function removeSession(session: Session, stateDir: string | undefined): void {
	const names = new Set(viewsOf(session).map(({ set }) => set));
	const { own } = stateRoots(stateDir);
	for (const set of allSets(stateDir)) if (set.root === own && names.has(set.name)) removeSet(set);
	session.remove();
}

/** What cannot be read tells of no sets: holdfast list shows them. */
function viewsOf(session: Session) {
	try {
		return session.record()?.views ?? [];
	} catch {
		return [];
	}
}
