// The layers and folders that the list of POSIX behaviour runs in, planted on the local disk before anything is served.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, lchownSync, linkSync, lutimesSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Calls, type Errno, type FrontEnd, Refusal, type Who } from "./front-end.ts";

export const ALICE: Who = { uid: 1001, gid: 1001 };
export const BOB: Who = { uid: 1002, gid: 1002 };
export const ROOT: Who = { uid: 0, gid: 0 };
/** A group that alice and bob may have as a supplementary one. */
export const STAFF = 2001;

/** One second after the other, years ago: whatever is newer was set by a call. */
const PLANTED_SECONDS = 1_000_000_000;

/** What lies at a path before a case begins; of root's, unless `uid` says more. */
export interface Planted {
	readonly type: "file" | "directory" | "symlink" | "fifo" | "link";
	/** Contents of a file, target of a symlink, the other name of a link. */
	readonly text?: string;
	readonly mode?: number;
	readonly uid?: number;
	readonly gid?: number;
}

/** Parents come before what they hold. */
export type PlantedTree = Readonly<Record<string, Planted>>;

export interface Ground {
	readonly frontEnd: FrontEnd;
	readonly root: Calls;
	readonly alice: Calls;
	readonly bob: Calls;
	as(who: Who): Calls;
	/** So long that a clock that ticks with the kernel's timer has gone on. */
	tick(): Promise<void>;
}

export interface PosixCase {
	readonly name: string;
	readonly tree: PlantedTree;
	run(at: Ground): Promise<void>;
}

/** Plants a case below a folder; with `onlyDirectories` what a layer above has of it. */
export function plantCase(top: string, tree: PlantedTree, onlyDirectories = false): void {
	mkdirSync(top, { recursive: true });
	chmodSync(top, 0o777);
	const made: string[] = [];
	for (const [path, planted] of Object.entries(tree)) {
		if (onlyDirectories && planted.type !== "directory") continue;
		plantOne(top, path, planted);
		if (planted.type !== "link") made.push(path);
	}
	// directories last, whose times change with what is made in them
	for (const path of made.reverse()) lutimesSync(join(top, path), PLANTED_SECONDS, PLANTED_SECONDS);
	lutimesSync(top, PLANTED_SECONDS, PLANTED_SECONDS);
}

function plantOne(top: string, path: string, { type, text = "", mode, uid = 0, gid = 0 }: Planted): void {
	const at = join(top, path);
	if (type === "directory") mkdirSync(at);
	else if (type === "file") writeFileSync(at, text);
	else if (type === "symlink") symlinkSync(text, at);
	else if (type === "fifo") execFileSync("mkfifo", [at]);
	else {
		linkSync(join(top, text), at);
		return;
	}
	lchownSync(at, uid, gid);
	if (type !== "symlink") chmodSync(at, mode ?? (type === "directory" ? 0o755 : 0o644));
}

export function groundOf(frontEnd: FrontEnd, folder: string): Ground {
	const as = (who: Who) => frontEnd.as(who, folder);
	return {
		frontEnd,
		root: as(ROOT),
		alice: as(ALICE),
		bob: as(BOB),
		as,
		tick: () => new Promise((resolve) => setTimeout(resolve, 15)),
	};
}

/** The call must be refused, with one of these errors. */
export async function refused(call: Promise<unknown>, ...errnos: readonly Errno[]): Promise<void> {
	const outcome = await call.then(
		() => "ok",
		(error: unknown) => {
			if (error instanceof Refusal) return error.errno;
			throw error;
		},
	);
	assert.ok(errnos.includes(outcome), `expected ${errnos.join(" or ")}, got ${outcome}`);
}

/** The contents of a file, by a user who may read it. */
export async function textOf(calls: Calls, path: string): Promise<string> {
	const file = await calls.open(path, false);
	try {
		return await file.read();
	} finally {
		await file.close();
	}
}

export async function writeText(calls: Calls, path: string, text: string, offset = 0): Promise<void> {
	const file = await calls.open(path, true);
	try {
		await file.write(offset, text);
	} finally {
		await file.close();
	}
}
