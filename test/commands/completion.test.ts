// Completion scripts and manual pages hold every command and option that help tells of, and the programs that read them take them.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { needs, repository } from "../support/requirements.ts";
import { type Scratch, scratch } from "../support/scratch.ts";
import { runHoldfast } from "../support/server-process.ts";

function said(...args: string[]): string {
	const run = runHoldfast(args);
	assert.deepEqual([run.code, run.stderr], [0, ""], args.join(" "));
	return run.stdout;
}

/** The commands and options that help shows, by the words that call the command. */
function helpOf(words: readonly string[] = []): { readonly words: readonly string[]; readonly options: readonly string[] }[] {
	const help = said(...words, "--help");
	const options = [...help.matchAll(/^ {2}(?:-\w, )?(--[\w-]+)/gm)].map(([, option]) => option as string);
	const commands = [...(help.split(/^Commands:$/m)[1] ?? "").matchAll(/^ {2}([a-z-]+)/gm)].map(([, name]) => name as string);
	assert.ok(options.length > 0, help);
	return [{ words, options }, ...commands.filter((name) => name !== "help").flatMap((name) => helpOf([...words, name]))];
}

const told = helpOf();

function scriptFile(made: Scratch, shell: string): string {
	return made.file(`completion.${shell}`, said("completion", shell));
}

test("help tells of commands, and of commands below those", () => {
	const words = told.map((one) => one.words.join(" "));
	for (const expected of ["", "serve", "key", "key rotate", "completion"]) assert.ok(words.includes(expected), expected);
	assert.ok(!words.includes("manual-pages"));
});

test("bash completes each command and each option", { skip: needs("bash") }, (t) => {
	const made = scratch(t);
	const script = scriptFile(made, "bash");
	const lines = [`source ${script}`, `words() { COMP_WORDS=(holdfast "$@"); COMP_CWORD=$#; _holdfast; echo "\${COMPREPLY[*]}"; }`];
	for (const { words } of told) lines.push(`words ${words.join(" ")} --`);
	for (const { words } of told) lines.push(`words ${words.join(" ")} ""`);
	lines.push(
		"words serve --handles p",
		"words completion ''",
		`words serve --upper ${made.folder("a folder").slice(0, -1).replaceAll(" ", "\\ ")}`,
	);
	const answers = execFileSync("bash", ["-c", lines.join("\n")], { encoding: "utf8" }).split("\n");
	for (const [i, { words, options }] of told.entries()) {
		const completed = new Set((answers[i] as string).split(" "));
		for (const option of options) assert.ok(completed.has(option), `${words.join(" ")} ${option}: ${answers[i]}`);
	}
	for (const [i, { words }] of told.entries()) {
		const below = told.filter((one) => one.words.length === words.length + 1 && words.every((word, at) => one.words[at] === word));
		const completed = new Set((answers[told.length + i] as string).split(" "));
		for (const { words: deeper } of below) assert.ok(completed.has(deeper.at(-1) as string), deeper.join(" "));
	}
	assert.deepEqual(answers.slice(2 * told.length, -1), ["portable", "bash zsh fish", join(made.path, "a folder")]);
});

test("zsh takes its script, which has each command and each option", { skip: needs("zsh") }, (t) => {
	const made = scratch(t);
	const script = scriptFile(made, "zsh");
	execFileSync("zsh", ["-n", script], { stdio: "pipe" });
	// as compinit loads it
	const loaded = spawnSync("zsh", ["-fc", `autoload -Uz compinit && compinit -D -u && source ${script} && print $_comps[holdfast]`], {
		encoding: "utf8",
	});
	assert.deepEqual([loaded.stdout, loaded.stderr], ["_holdfast\n", ""]);
	assertHasAll(readFileSync(script, "utf8"), (words) => `_${["holdfast", ...words].join("_")}() {`);
});

test("fish completes each command and each option", { skip: needs("fish") }, (t) => {
	const made = scratch(t);
	const script = scriptFile(made, "fish");
	const env = { ...process.env, HOME: made.folder("home") };
	const asked = told.map(({ words }) => `complete -C 'holdfast ${[...words, "--"].join(" ")}' | string collect; echo; echo .`);
	const answers = execFileSync("fish", ["--no-config", "-c", [`source ${script}`, ...asked].join("\n")], { encoding: "utf8", env }).split(
		"\n.\n",
	);
	for (const [i, { words, options }] of told.entries()) {
		for (const option of options) assert.match(answers[i] as string, new RegExp(`^${option}(\t|$)`, "m"), `${words.join(" ")} ${option}`);
	}
});

/** A `holdfast` of a user who has the sets golden and trial, to be found by PATH; and what else a shell needs. */
function withSets(made: Scratch): NodeJS.ProcessEnv {
	const state = made.folder("state");
	for (const name of ["golden", "trial"]) made.folder(`state/changes/${name}/upper`);
	const main = join(repository, "dist/src/cli/main.js");
	made.folder("bin");
	const program = made.file("bin/holdfast", `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@" --state-dir '${state}'\n`);
	chmodSync(program, 0o755);
	return { ...process.env, HOME: made.folder("home"), PATH: `${join(made.path, "bin")}:${process.env.PATH}` };
}

const PLACES = ["remove", "serve", "serve --name", "check", "key list", "fork --name"];

test("bash, zsh and fish offer the names of sets where one may stand, beside directories where those may", {
	skip: needs("bash", "zsh", "fish"),
}, (t) => {
	const made = scratch(t);
	const env = withSets(made);
	const cwd = made.folder("here");
	made.folder("here/below");
	const run = (shell: string, ...args: string[]) => execFileSync(shell, args, { encoding: "utf8", env, cwd }).split("\n.\n").slice(0, -1);
	const offered = {
		bash: run(
			"bash",
			"-c",
			[
				`source ${scriptFile(made, "bash")}`,
				`words() { COMP_WORDS=(holdfast "$@"); COMP_CWORD=$#; _holdfast; printf '%s\n' "\${COMPREPLY[@]}" .; }`,
				...PLACES.map((place) => `words ${place} ""`),
			].join("\n"),
		),
		fish: run(
			"fish",
			"--no-config",
			"-c",
			[`source ${scriptFile(made, "fish")}`, ...PLACES.map((place) => `complete -C 'holdfast ${place} '; echo .`)].join("\n"),
		),
	};
	for (const [shell, answers] of Object.entries(offered)) {
		for (const [i, place] of PLACES.entries()) {
			const words = (answers[i] as string).split("\n").map((line) => line.split("\t")[0]?.replace(/\/$/, ""));
			const expected = ["golden", "trial", ...(/name|remove/.test(place) ? [] : ["below"])];
			assert.deepEqual([...words].sort(), [...expected].sort(), `${shell}: ${place}`);
		}
	}
	// compadd and the like run within the editor of zsh only
	const parts = [
		"_call_program() { shift; $@ }",
		"compadd() { print -rl -- $names }",
		`source <(sed '/^if /d' ${scriptFile(made, "zsh")})`,
	];
	assert.equal(execFileSync("zsh", ["-fc", [...parts, "_holdfast-sets -J x"].join("\n")], { encoding: "utf8", env }), "golden\ntrial\n");
	const script = readFileSync(join(made.path, "completion.zsh"), "utf8");
	assert.match(script, /^_holdfast_remove\(\) \{[^}]*'\*:word:_holdfast-sets'/m);
	assert.match(script, /^_holdfast_check\(\) \{[^}]*'\*:word:_holdfast-trees'/m);
});

/** `beginning`: where the part of a command begins. */
function assertHasAll(text: string, beginning: (words: readonly string[]) => string): void {
	for (const { words, options } of told) {
		const at = text.indexOf(beginning(words));
		assert.ok(at >= 0, words.join(" "));
		const part = text.slice(at, text.indexOf("\n}", at));
		for (const option of options) assert.ok(part.includes(`${option}[`), `${words.join(" ")} ${option}`);
	}
}

test("a manual page for each command has its options, and the packages have all pages", (t) => {
	const made = scratch(t);
	const folder = join(made.path, "man");
	const pages = said("manual-pages", folder).trim().split("\n");
	assert.deepEqual([...pages].sort(), readdirSync(folder).sort());
	for (const { words, options } of told) {
		const text = readFileSync(join(folder, `${["holdfast", ...words.slice(0, 1)].join("-")}.1`), "utf8").replaceAll("\\-", "-");
		if (words.length > 1) assert.ok(text.includes(`.SH HOLDFAST ${words.join(" ").toUpperCase()}`), words.join(" "));
		for (const option of options) assert.ok(text.includes(`\\fB${option}\\fR`), `${words.join(" ")} ${option}`);
	}
	const { man, files } = JSON.parse(readFileSync(join(repository, "package.json"), "utf8")) as { man: string[]; files: string[] };
	assert.deepEqual([...man].sort(), pages.map((page) => `./dist/man/${page}`).sort());
	assert.ok(files.includes("dist/man"));
});

test("groff takes the manual pages without a warning", { skip: needs("groff") }, (t) => {
	const folder = scratch(t).folder("man");
	for (const page of said("manual-pages", folder).trim().split("\n")) {
		const run = spawnSync("groff", ["-man", "-Tutf8", "-ww", join(folder, page)], { encoding: "utf8" });
		assert.deepEqual([run.status, run.stderr], [0, ""], page);
		assert.ok(run.stdout.length > 500, page);
	}
});
