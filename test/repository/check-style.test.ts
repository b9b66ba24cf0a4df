// Each thing that the style check is for is found in a small tree, and what it allows passes.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { repository } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";

const HEADER = "// Says what it is for.\n\n";
const body = (lines: number, indent = "\t") => `${indent}\tstep();\n`.repeat(lines);

const cases: [name: string, files: Record<string, string>, complaint: RegExp | null][] = [
	["a file with a header", { "src/a.ts": `${HEADER}export const a = 1;\n` }, null],
	["a header of several lines", { "src/a.ts": "// Says what it is\n// for.\n\nexport const a = 1;\n" }, null],
	["a header as a block", { "src/a.ts": "/**\n * Says what it is for.\n *\n * And more\n */\nexport const a = 1;\n" }, null],
	["a file without a header", { "src/a.ts": "import './b.ts';\n\n// Too late.\n" }, /^src\/a\.ts:1: a file begins with one sentence/m],
	["a header that is no sentence", { "src/a.ts": "// a file\n\nexport const a = 1;\n" }, /^src\/a\.ts:1: a file begins/m],
	["a test without a header", { "src/a.test.ts": "import './b.ts';\n" }, /^src\/a\.test\.ts:1: a file begins/m],
	["a long function of a test", { "src/a.test.ts": `${HEADER}function a() {\n${body(90, "")}}\n` }, null],
	["a function of 70 lines", { "src/a.ts": `${HEADER}function a() {\n${body(68, "")}}\n` }, null],
	["a function of 71 lines", { "src/a.ts": `${HEADER}function a() {\n${body(69, "")}}\n` }, /^src\/a\.ts:3: a function of 71 lines/m],
	[
		"a long function whose parameters take lines",
		{ "src/a.ts": `${HEADER}export async function a(\n\tone: number,\n): Promise<void> {\n${body(70, "")}}\n` },
		/^src\/a\.ts:3: a function of 74 lines/m,
	],
	[
		"a long method",
		{ "src/a.ts": `${HEADER}class A {\n\t#a(x: number): void {\n${body(70)}\t}\n}\n` },
		/^src\/a\.ts:4: a function of 72 lines/m,
	],
	[
		"a long function in a constant",
		{ "src/a.ts": `${HEADER}const a = (x) => {\n${body(70, "")}};\n` },
		/^src\/a\.ts:3: a function of 72 lines/m,
	],
	["a long class of short methods", { "src/a.ts": `${HEADER}class A {\n${"\ta() {\n\t\tstep();\n\t}\n".repeat(40)}}\n` }, null],
	["a long table", { "src/a.ts": `${HEADER}const a = [\n${"\tone(),\n".repeat(90)}];\n` }, null],
	["a turn of phrase", { "src/a.ts": `${HEADER}/** The name of the one that signs. */\nconst a = 1;\n` }, /^src\/a\.ts:3: "the one that"/m],
	[
		"a turn of phrase over the end of a line",
		{ "docs/a.md": "- It is a list, some of\n- x\n\nFiles, some of which are\ngone, and what\nof them\n" },
		/^docs\/a\.md:4: "of which"[\s\S]*^docs\/a\.md:5: "what of"/m,
	],
	["words that only look alike", { "docs/a.md": "The ones thatch, whatever offers, for what officers do.\n" }, null],
	[
		"a listing whose result is dropped",
		{ "src/a.ts": `${HEADER}function a(fd) {\n\tvisitEntries(fd, () => undefined);\n}\n` },
		/^src\/a\.ts:4: what visitEntries returns/m,
	],
	[
		"a listing whose result is kept",
		{ "src/a.ts": `${HEADER}function a(fd) {\n\tconst status = visitEntries(fd, () => undefined);\n}\n` },
		null,
	],
	[
		"a listing that is taken for good",
		{ "src/a.ts": `${HEADER}function a(fd) {\n\tfor (const name of namesOf(fd) as Buffer[]) b(name);\n}\n` },
		/^src\/a\.ts:4: namesOf returns an error number/m,
	],
	[
		"the name of an error alone",
		{ "src/a.ts": `${HEADER}const a = \`Cannot open it: \${errnoName(fd)}.\`;\n` },
		/^src\/a\.ts:3: an error is told with its reason/m,
	],
	["an error with its reason", { "src/a.ts": `${HEADER}const a = \`Cannot open it: \${whyNot(fd)} (\${errnoName(fd)}).\`;\n` }, null],
	[
		"a print beside the printer",
		{ "src/cli/a.ts": `${HEADER}process.stderr.write(name);\n` },
		/^src\/cli\/a\.ts:3: only src\/cli\/print\.ts prints/m,
	],
	["a print to the console", { "src/a.ts": `${HEADER}console.log(name);\n` }, /^src\/a\.ts:3: only src\/cli\/print\.ts prints/m],
	[
		"the printer, and a test that prints",
		{ "src/cli/print.ts": `${HEADER}process.stdout.write(a);\n`, "src/a.test.ts": `${HEADER}console.log(a);\n` },
		null,
	],
];

for (const [name, files, complaint] of cases) {
	test(`check-style: ${name}`, (t) => {
		const top = scratch(t).path;
		for (const [path, text] of Object.entries(files)) {
			mkdirSync(dirname(join(top, path)), { recursive: true });
			writeFileSync(join(top, path), text);
		}
		const run = spawnSync(process.execPath, [join(repository, "scripts/check-style.mjs"), top], { encoding: "utf8" });
		if (complaint) assert.match(run.stderr, complaint);
		else assert.equal(run.stderr, "");
		assert.equal(run.status, complaint ? 1 : 0);
	});
}
