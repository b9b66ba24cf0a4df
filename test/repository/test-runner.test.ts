/** What the test command tells of files that fail, and how their processes ended. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { repository } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";

/** What both modules of the test command give here. */
interface Result {
	readonly output: string;
	readonly counts: Readonly<Record<string, number>> | null;
	readonly failure: string | null;
	readonly failed: readonly { readonly name: string; readonly error: readonly string[] }[];
}
interface Modules {
	runTestFile(compiled: string, options: object): Promise<Result>;
	summaryOf(run: object): string;
}

const load = async (name: string) => (await import(pathToFileURL(join(repository, "scripts", name)).href)) as Modules;

const IMPORTS = 'import assert from "node:assert/strict";\nimport { test } from "node:test";\n';
const FIRST = 'test("first", () => {});\n';
const during = (act: string) =>
	`${FIRST}test("second", async (t) => {\n\tawait t.test("part", async () => {\n\t\tawait new Promise(setImmediate);\n\t\t${act};\n\t\tawait new Promise(() => setInterval(() => {}, 1000));\n\t});\n});\ntest("third", () => {});\n`;

const CASES: Readonly<Record<string, { readonly source: string; readonly failure: RegExp | null; readonly failed?: readonly string[] }>> = {
	"a file whose tests pass": { source: FIRST, failure: null },
	"a test that is to be done": { source: `${FIRST}test("later", { todo: true }, () => assert.fail("not yet"));`, failure: null },
	"tests that fail": {
		source: `${FIRST}test("second", async (t) => {\n\tawait t.test("part", () => assert.equal("one", "other"));\n});\ntest("third", () => assert.fail("no"));`,
		failure: /^ended with exit code 1$/,
		failed: ["second > part", "third"],
	},
	"a signal in a test": {
		source: during('process.kill(process.pid, "SIGSEGV")'),
		failure: /^ended by SIGSEGV before its tests were done, in: second > part$/,
	},
	"process.exit(0) in a test": {
		source: during("process.exit(0)"),
		failure: /^ended with exit code 0 before its tests were done, in: second > part$/,
	},
	"a failed test, then process.exit(7)": {
		source: `test("zeroth", () => assert.fail("no"));\n${during("process.exit(7)")}`,
		failure: /^ended with exit code 7 before its tests were done, in: second > part$/,
		failed: ["zeroth"],
	},
	"a signal behind the tests": {
		source: `${FIRST}process.on("exit", () => process.kill(process.pid, "SIGKILL"));`,
		failure: /^ended by SIGKILL after its tests$/,
	},
	"a file that cannot be loaded": { source: 'import "./missing.mjs";', failure: /^ended with exit code 1 before its tests were done$/ },
	"a file without tests": { source: "", failure: /^ended with exit code 0 before its tests were done$/ },
	"a file that hangs": { source: during("0"), failure: /^hangs: not done after 0.01 minutes(, in: .+)?$/ },
};

test("how each file ended is told: failed tests with their errors, exit codes and signals, also where the tests before passed", async (t) => {
	const made = scratch(t);
	const { runTestFile } = await load("test-file.mjs");
	for (const [name, { source, failure, failed = [] }] of Object.entries(CASES)) {
		const file = made.file(`${name.replace(/\W/g, "-")}.test.mjs`, IMPORTS + source);
		// what hangs is ended soon, and nothing else hangs
		const result = await runTestFile(file, { root: made.path, hangMinutes: name.includes("hangs") ? 0.01 : 60 });
		if (failure === null) assert.equal(result.failure, null, `${name}\n${result.output}`);
		else assert.match(result.failure ?? "nothing", failure, `${name}\n${result.output}`);
		assert.deepEqual(
			result.failed.map((one) => one.name),
			failed,
			name,
		);
		if (name === "tests that fail") assert.match(result.failed[0]?.error.join("\n") ?? "", /AssertionError[\s\S]*one[\s\S]*other/);
	}
});

test("the summary of a run has each failed file and test with the first lines of its error, and an end", async () => {
	const { summaryOf } = await load("test-summary.mjs");
	const total = { tests: 9, pass: 5, fail: 2, cancelled: 1, skipped: 1 };
	const run = { title: "tests", seconds: 61.2, fileCount: 4, total, broken: [] };
	const failed = [
		{ name: "one", error: ["Error: broken", "    at here"] },
		{ name: "two", error: [] },
	];
	const results = [
		{ file: "a.test.ts", failure: null, failed: [] },
		{ file: "b.test.ts", failure: "ended with exit code 1", failed },
		{ file: "c.test.ts", failure: "ended by SIGSEGV", failed: [] },
	];
	assert.deepEqual(summaryOf({ ...run, results }).split("\n"), [
		"FAILED: tests: 3 of 4 files, 9 tests, 5 passed, 3 failed, 1 skipped, 61 s",
		"  ✖ b.test.ts: ended with exit code 1",
		"    ✖ one",
		"        Error: broken",
		"            at here",
		"    ✖ two",
		"  ✖ c.test.ts: ended by SIGSEGV",
		"",
	]);
	assert.match(
		summaryOf({ ...run, total: { ...total, fail: 0, cancelled: 0 }, results: [], broken: ["stopped"] }),
		/^FAILED.*\n {2}✖ stopped\n/,
	);
	const right = { ...total, fail: 0, cancelled: 0 };
	assert.match(summaryOf({ ...run, total: right, results: results.slice(0, 1) }), /^passed: tests: 1 of 4 files, .*\n$/);

	const many = Array.from({ length: 60 }, (_, index) => ({ name: `test ${index}`, error: Array(20).fill("line") }));
	const long = summaryOf({
		...run,
		results: Array.from({ length: 30 }, (_, index) => ({ file: `${index}.test.ts`, failure: "ended", failed: many })),
	});
	for (let index = 0; index < 30; index++) assert.ok(long.includes(`✖ ${index}.test.ts: ended`), `file ${index}`);
	assert.ok(long.split("\n").length < 210, `${long.split("\n").length} lines`);
});

test("continuous integration ends with the summaries of all its parts, and fails with any of them", (t) => {
	const made = scratch(t);
	mkdirSync(join(made.path, ".ci"));
	cpSync(join(repository, ".ci/run"), join(made.path, ".ci/run"));
	const npm = made.file(
		"npm",
		'#!/bin/sh\nfor i in 1 2 3; do echo output; done\necho "FAILED: told by $*" >>"$HOLDFAST_TEST_SUMMARY"\n[ "$1 $2" != "run test:all" ]\n',
	);
	chmodSync(npm, 0o755);
	const env = { ...process.env, PATH: `${made.path}:${process.env.PATH}`, TMPDIR: made.path };
	const { status, stdout } = spawnSync(join(made.path, ".ci/run"), { env, encoding: "utf8" });
	assert.equal(status, 1);
	const lines = stdout.replace(/, \d+ s$/gm, "").split("\n");
	assert.deepEqual(lines.slice(lines.indexOf("summary of all parts") + 1), [
		"FAILED: told by test",
		"part: npm test: exit code 0",
		"FAILED: told by run test:all -- --rest --minutes 30",
		"part: npm run test:all -- --rest --minutes 30: exit code 1",
		"FAILED: told by run test:node -- --short 22 24 26",
		"part: npm run test:node -- --short 22 24 26: exit code 0",
		"",
	]);
});
