// The keeper of a session of `holdfast run`: has its sandbox and the servers of its views until nobody is in it any more.

import { keepMount } from "../mounting/keeper.ts";
import type { NoSandbox, Sandbox } from "../mounting/sandbox.ts";
import { makeSandbox } from "../mounting/sandbox.ts";
import { MountError } from "../mounting/ways.ts";
import { Session, type SessionRecord } from "../sets/sessions.ts";
import { backgroundTeller } from "./background.ts";
import { complain } from "./print.ts";

/** What `run` tells the keeper that it starts. */
export interface KeeperTask {
	/** The state folder. */
	readonly root: string;
	readonly name: string;
	/** See SandboxRequest. */
	readonly private: readonly string[];
	/** Where to mount the views without namespaces, in their order; empty: in namespaces. */
	readonly points: readonly string[];
	/** The descriptor that is closed when commands may come. */
	readonly backgroundOf: number;
}

/** The exit status of a keeper that may make no namespaces here. */
export const NO_NAMESPACES = 75;
const LOOK_MS = 1000;
/** For a mount that somebody has outside of the sandbox too: its server ends all the same. */
const END_MS = 10_000;

/** The exit status. */
export async function keepSession(task: KeeperTask): Promise<number> {
	const session = new Session(task.root, task.name);
	const record = session.record();
	if (record === null || !(await session.keep())) return failed(`The session ${task.name} has a keeper already.`);
	if (task.points.length > 0) return keepBeside(session, record, task);
	const sandbox = await makeSandbox(requestOf(record, task), record.isNetworkOwn);
	if ("why" in sandbox) return refused(sandbox);
	let isEnding = false;
	const stop = new AbortController();
	const end = () => {
		if (isEnding) return;
		isEnding = true;
		sandbox.end();
		setTimeout(() => stop.abort(), END_MS).unref();
	};
	for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, end);
	void sandbox.ended.then(end);
	const serving = record.views.map((view, i) => serveView(view, { task, sandbox, number: i, stop: stop.signal }));
	const ended = Promise.all(serving.map(({ status }) => status.finally(end)));
	const isReady = await Promise.race([Promise.all(serving.map(({ ready }) => ready)).then(() => true), ended.then(() => false)]);
	const why = isReady ? await sandbox.complete() : null;
	if (why !== null) complain(`Cannot make the sandbox: ${why}.`);
	if (isReady && why === null) {
		session.write({ ...record, keeper: { pid: process.pid, namespaces: sandbox.namespaces, points: [] } });
		backgroundTeller(task.backgroundOf)();
		endWhenLeft(session, end);
	} else end();
	const statuses = await ended;
	session.noteEnd();
	return isReady && why === null ? 0 : statuses.find((status) => status !== 0) || 1;
}

/** By mounts at other paths, as holdfast mount makes them. */
async function keepBeside(session: Session, record: SessionRecord, task: KeeperTask): Promise<number> {
	const end = () => process.kill(process.pid, "SIGTERM");
	let waiting = record.views.length;
	const statuses = await Promise.all(
		record.views.map(async ({ path, set }, i) => {
			const point = task.points[i];
			try {
				return await keepMount({
					...{ point, mount: OPTIONS, ways: ["mount", "fusermount3"], isQuiet: true, tell: complain },
					...serverOf(task, { path, set, point }),
					onReady() {
						if (--waiting > 0) return;
						session.write({ ...record, keeper: { pid: process.pid, namespaces: null, points: task.points } });
						backgroundTeller(task.backgroundOf)();
						endWhenLeft(session, end);
					},
				});
			} catch (error) {
				if (!(error instanceof MountError)) throw error;
				complain(error.message);
				end();
				return 1;
			}
		}),
	);
	session.noteEnd();
	return statuses.find((status) => status !== 0) ?? 0;
}

const OPTIONS = { isReadOnly: false, allowsOther: false, isNodev: true, isNosuid: true };

function serverOf(task: KeeperTask, { path, set, point }: SessionRecord["views"][number] & { readonly point: string }) {
	return {
		program: [process.execPath, ...process.execArgv, process.argv[1], "mount"],
		words: ["--name", set, "--new", "--empty", "--async", "--state-dir", task.root, path, point],
	};
}

function requestOf(record: SessionRecord, task: KeeperTask) {
	const views = record.views.map(({ path }) => path);
	return { views, writable: record.allow, private: task.private, hidden: record.hide, closed: [task.root] };
}

function refused({ why, isClosed }: NoSandbox): number {
	return failed(`Cannot make a sandbox: ${why}.`, isClosed ? NO_NAMESPACES : 1);
}

function failed(sentence: string, status = 1): number {
	complain(sentence);
	return status;
}

interface Serving {
	readonly ready: Promise<void>;
	/** Resolves with the exit status when the view is served no more. */
	readonly status: Promise<number>;
}

/** A server for a view, outside of the sandbox, as `mount` has one. */
function serveView(
	{ path, set }: SessionRecord["views"][number],
	given: { readonly task: KeeperTask; readonly sandbox: Sandbox; readonly number: number; readonly stop: AbortSignal },
): Serving {
	const { task, sandbox, number, stop } = given;
	const point = new Session(task.root, task.name).folder;
	let isReady = () => {};
	const ready = new Promise<void>((resolve) => {
		isReady = resolve;
	});
	const status = keepMount({
		// where nothing is ever mounted: the server must take no mount outside for its own
		point,
		mount: OPTIONS,
		made: {
			mounted: {
				way: "namespace",
				descriptor: sandbox.descriptors[number],
				namespace: sandbox.namespaces.pid,
				isOneUser: sandbox.namespaces.isUserOwn,
				release: () => {},
			},
			stop,
		},
		...serverOf(task, { path, set, point }),
		isQuiet: true,
		tell: complain,
		onReady: () => isReady(),
	});
	return { ready, status };
}

/** Commands that end tell so; `run` that is killed does not. */
function endWhenLeft(session: Session, end: () => void): void {
	const look = async () => {
		const lock = await session.lock();
		const isLeft = session.members() === 0;
		lock.close();
		if (isLeft) end();
		else setTimeout(look, LOOK_MS).unref();
	};
	setTimeout(look, LOOK_MS).unref();
}
