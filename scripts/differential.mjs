// Compares holdfast with the kernel's overlayfs on random sequences of operations for as long as asked: see test/differential/differential.test.ts.
//
//   npm run differential -- [--seconds N] [--seed S] [--sequences N] [--rig NAME] [--direction NAME] [--path P] [--kinds K]
//
// The seconds (60) are shared by all rigs and directions, or are those of the one that is named. With --sequences each of them ends
// after so many, however long that takes, unless --seconds is given too. Each kind of difference is shrunk and printed once, with what replays it;
// a campaign ends after K kinds (20). --path replays one sequence of a seed, of one rig and direction. Exits 1 if there is any difference.

import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const { values } = parseArgs({
	options: {
		seconds: { type: "string" },
		sequences: { type: "string" },
		seed: { type: "string" },
		path: { type: "string" },
		rig: { type: "string" },
		direction: { type: "string" },
		kinds: { type: "string", default: "20" },
	},
});
if (spawnSync(join(root, "scripts/build.sh"), { stdio: "inherit" }).status !== 0) process.exit(1);

const { campaign, cannotCompare, DIRECTION_NAMES, directionsOf, replayFromEnvironment } = await import(
	join(root, "dist/test/differential/campaign.js")
);
const { RIG_NAMES, Rig } = await import(join(root, "dist/test/differential/rig.js"));
const { Scratch } = await import(join(root, "dist/test/support/scratch.js"));

const reason = cannotCompare();
if (reason !== false) {
	console.error(`differential: skipped: ${reason}`);
	process.exit(0);
}
const rigs = chosen("rig", RIG_NAMES);
const directions = chosen("direction", DIRECTION_NAMES);
const fromEnvironment = replayFromEnvironment();
const replay = { seed: values.seed === undefined ? fromEnvironment.seed : Number(values.seed), path: values.path ?? fromEnvironment.path };
const sequences = values.sequences === undefined ? Number.POSITIVE_INFINITY : Number(values.sequences);
const seconds = values.seconds === undefined ? (values.sequences === undefined ? 60 : 86_400) : Number(values.seconds);
const runs = rigs
	.flatMap((rig) => directionsOf(rig).map((direction) => ({ rig, direction })))
	.filter(({ direction }) => directions.includes(direction));
if (runs.length === 0) {
	console.error(`differential: the kernel does not take over what has portable handles: --rig ${rigs[0]} has only --direction parallel`);
	process.exit(2);
}
const share = seconds / runs.length;
console.log(`seed ${replay.seed}`);
const lines = [];
let differences = 0;
for (const { rig, direction } of runs) {
	const made = new Scratch();
	const begun = Date.now();
	const limits = { seconds: share, sequences, kinds: Number(values.kinds) };
	const report = await campaign(new Rig(made, rig), direction, replay, limits, (found) => console.log(`\n${found.text}\n`));
	await made.close();
	differences += report.found.length;
	const { results, allowed } = report.tally;
	console.log(`\n${rig}, ${direction}:`);
	for (const [what, count] of [...results].sort()) console.log(`${String(count).padStart(8)} ${what}`);
	for (const [what, count] of [...allowed].sort()) console.log(`${String(count).padStart(8)} allowed: ${what}`);
	const length = report.sequences === 0 ? 0 : report.operations / report.sequences;
	const took = ((Date.now() - begun) / 1000).toFixed(0);
	lines.push(
		`${rig}, ${direction}: ${report.sequences} sequences of ${length.toFixed(0)} operations on average in ${took} s, ${report.found.length} kinds of differences`,
	);
}
console.log(`\n${lines.join("\n")}`);
process.exit(differences > 0 ? 1 : 0);

/** The one that an option names, or all. */
function chosen(option, names) {
	const name = values[option];
	if (name === undefined) return names;
	if (names.includes(name)) return [name];
	console.error(`differential: --${option} is one of ${names.join(", ")}`);
	process.exit(2);
}
