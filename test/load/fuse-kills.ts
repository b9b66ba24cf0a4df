// A FUSE mount whose server is killed at random moments, under git, a compiler, sqlite and find: no program sees an error, and nothing is lost.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type FuseMount, runBeside, startMount } from "../support/fuse-mount.ts";
import { generator } from "../support/random.ts";
import type { Scratch } from "../support/scratch.ts";

export interface FuseKillsReport {
	readonly kills: number;
	/** Rounds that each program has done. */
	readonly rounds: Readonly<Record<string, number>>;
	/** The longest that a look-up and a write beside them took, in milliseconds. */
	readonly longestMs: number;
}

/** What each program does over and over in a folder of its own on the mount: `$1` is the number of the round. */
const PROGRAMS: Readonly<Record<string, { readonly before: string; readonly round: string; readonly after: string }>> = {
	git: {
		before: "git init -q . && git config user.email a@example && git config user.name a && git config gc.auto 0",
		round:
			'echo "$1" >"file$(($1 % 7))" && mkdir -p "d$1" && echo "$1" >"d$1/in" && git add -A && git commit -qm "$1" && ' +
			'git mv "d$1" "e$1" && git commit -qm "moved $1" && git rm -rq "e$1" && git commit -qm "gone $1" && git status --porcelain | (! grep .)',
		after: 'git fsck --full 2>&1 | (! grep -E "error|missing|corrupt") && test "$(git rev-list --count HEAD)" -eq "$((3 * $1))"',
	},
	gcc: {
		before: "true",
		round:
			'mkdir "b$1" && printf "int of%s(void) { return %s; }\\n" "$1" "$(($1 % 100))" >"b$1/part.c" && ' +
			'printf "int of%s(void);\\nint main(void) { return of%s(); }\\n" "$1" "$1" >"b$1/main.c" && ' +
			'(cd "b$1" && gcc -c part.c && gcc -c main.c && gcc -o program part.o main.o) && ' +
			'{ r=0; "b$1/program" || r=$?; test $r -eq "$(($1 % 100))"; } && mv "b$1/program" last && rm -r "b$1"',
		after: '{ r=0; ./last || r=$?; test $r -eq "$(($1 % 100))"; } && test "$(ls)" = last',
	},
	sqlite: {
		before: "sqlite3 db 'create table t (n integer primary key, text)'",
		round:
			"sqlite3 db \"pragma synchronous=full; begin; insert into t values ($1, hex(randomblob(2000))); update t set text = 'x' where n = $1 - 3; commit\" >/dev/null",
		after: 'test "$(sqlite3 db "select count(*) from t")" -eq "$1" && test "$(sqlite3 db "pragma integrity_check")" = ok',
	},
	find: {
		before: "mkdir tree && for i in 1 2 3 4 5 6 7 8 9; do mkdir tree/$i && for j in 1 2 3 4 5 6 7 8 9; do echo $j >tree/$i/$j; done; done",
		round:
			'test "$(find tree -type f | wc -l)" -eq 81 && test "$(cat tree/*/* | wc -l)" -eq 81 && mv tree/1 "tree/m$1" && mv "tree/m$1" tree/1',
		after: 'test "$(find tree -type f | wc -l)" -eq 81',
	},
};

/** `goesOn` is asked before each kill. Throws what a program has said where one fails. */
export async function killUnderPrograms(
	made: Scratch,
	seed: number,
	goesOn: (kills: number) => boolean,
	programs = Object.keys(PROGRAMS),
): Promise<FuseKillsReport> {
	const [tree, view, state] = [made.folder("tree"), made.folder("view"), made.folder("state")];
	writeFileSync(join(tree, "file"), "of the tree\n");
	const mount = await startMount(made, ["mount", tree, view, "--state-dir", state, "--async"]);
	let isOver = false;
	const running = programs.map((name) => repeat(name, join(view, name), () => isOver));
	let longestMs = 0;
	const watched = watch(
		join(view, "watched"),
		() => isOver,
		(took) => {
			longestMs = Math.max(longestMs, took);
		},
	);
	const numbers = generator(seed);
	const random = () => numbers(2 ** 32) / 2 ** 32;
	const failed = Promise.race([...running, watched]);
	let kills = 0;
	for (; goesOn(kills); kills++) await Promise.race([failed, killOne(mount, view, random)]);
	isOver = true;
	const rounds = await Promise.all(running);
	await watched;
	return { kills, rounds: Object.fromEntries(programs.map((name, i) => [name, rounds[i] as number])), longestMs: Math.round(longestMs) };
}

/** Of the kills so many come while the server still starts; the others so long after it has answered. */
const [EARLY, PAUSE_MS] = [0.05, { least: 1000, more: 2000 }];

async function killOne(mount: FuseMount, view: string, random: () => number): Promise<void> {
	// a name that the kernel has not asked for yet
	if (random() > EARLY) await runBeside(`test ! -e ${view}/${random()}`);
	await new Promise((resolve) => setTimeout(resolve, PAUSE_MS.least + PAUSE_MS.more * random() ** 2));
	await mount.killServer();
}

/** The rounds that were done, each of which must succeed, and what is asked at the end. */
async function repeat(name: string, folder: string, isOver: () => boolean): Promise<number> {
	const { before, round, after } = PROGRAMS[name] as (typeof PROGRAMS)[string];
	await runBeside(`mkdir ${folder} && cd ${folder} && ${before}`);
	let rounds = 0;
	while (!isOver()) await runBeside(`cd ${folder} && set -- ${++rounds} && ${round}`);
	await runBeside(`cd ${folder} && set -- ${rounds} && ${after}`);
	return rounds;
}

/** How long a small change and a look at it take. */
async function watch(folder: string, isOver: () => boolean, tell: (took: number) => void): Promise<void> {
	mkdirSync(folder);
	const child = spawn("sh", ["-ec", 'cd "$1"; while read -r n; do echo "$n" >file; cat file; done', "sh", folder], {
		stdio: ["pipe", "pipe", "inherit"],
	});
	for (let n = 0; !isOver(); n++) {
		const begun = performance.now();
		child.stdin.write(`${n}\n`);
		const [told] = await once(child.stdout, "data");
		assert.equal(`${told}`, `${n}\n`);
		tell(performance.now() - begun);
		await new Promise((resolve) => setTimeout(resolve, 20));
	}
	child.stdin.end();
	await once(child, "close");
}
