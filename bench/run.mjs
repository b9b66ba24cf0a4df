// Compares holdfast with what a user would build today of other parts: see "Benchmarks" in docs/development.md.
//
//   npm run bench -- [--quick] [--only WORD]... [--rounds N] [--seconds S] [--json] [--write] [--list]
//
// --only WORD runs the cases whose names contain one of the words. --rounds and --seconds are those of each case. --json prints the run as
// JSON on standard output and the table on standard error. --write makes docs/benchmarks.md of the run.

import { parseArgs } from "node:util";
import { allCases } from "./cases.mjs";
import { insideNamespaces, prepareHost, runInNamespaces } from "./host.mjs";
import { printReport, writeReport } from "./report.mjs";
import { runCases } from "./runner.mjs";
import { prepareMachine } from "./vm-machine.mjs";

const values = givenOptions();
const settings = {
	quick: values.quick,
	only: values.only,
	rounds: positive("--rounds", values.rounds ?? (values.quick ? "2" : "5")),
	seconds: positive("--seconds", values.seconds ?? (values.quick ? "0.4" : "0.8")),
};
if (!Number.isInteger(settings.rounds)) fail("--rounds takes a whole number");

const namesOf = ({ name, also = [] }) => [name, ...also.map((each) => each.name)];
const isNamed = (each) => settings.only.length === 0 || settings.only.some((word) => namesOf(each).some((name) => name.includes(word)));
const named = allCases(settings).filter(isNamed);
// Asked for by name, a case runs with --quick too.
const chosen = named.filter((each) => !settings.quick || each.quick || settings.only.length > 0);
if (chosen.length === 0) fail("no case has such a name; --list shows them");

if (values.list) {
	for (const name of named.flatMap(namesOf)) console.log(name);
} else if (insideNamespaces()) {
	const run = await runCases(chosen, settings);
	printReport(run, values.json);
	if (values.write) writeReport(run);
	process.exit(0);
} else {
	const reason = prepareHost();
	if (reason !== null) fail(reason);
	if (chosen.some(({ stage }) => stage === "vm")) prepareMachine();
	process.exitCode = await runInNamespaces();
}

function positive(option, text) {
	const number = Number(text);
	if (!(number > 0)) fail(`${option} takes a number greater than 0`);
	return number;
}

function fail(reason) {
	console.error(`bench: ${reason}`);
	process.exit(1);
}

function givenOptions() {
	const string = { type: "string" };
	const flag = { type: "boolean", default: false };
	const only = { type: "string", multiple: true, default: [] };
	try {
		return parseArgs({ options: { quick: flag, only, rounds: string, seconds: string, json: flag, write: flag, list: flag } }).values;
	} catch (error) {
		return fail(error.message.split("\n")[0]);
	}
}
