// Compares holdfast with the kernel's overlayfs on random scenarios for as long as asked: see test/differential.test.ts.
//
//   npm run differential -- --seconds N [--seed S] [--path P] [--kinds K]
//
// Each kind of difference is shrunk and printed once, with what replays it; it ends after K kinds (20). Exits 1 if there is any.

import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const { values } = parseArgs({
	options: {
		seconds: { type: "string", default: "60" },
		seed: { type: "string" },
		path: { type: "string" },
		rig: { type: "string", default: "one" },
		kinds: { type: "string", default: "20" },
	},
});
if (process.env.HOLDFAST_BUILT !== "1" && spawnSync(join(root, "scripts/build.sh"), { stdio: "inherit" }).status !== 0) process.exit(1);

const { campaign, cannotCompare, replayFromEnvironment } = await import(join(root, "dist/test/differential/campaign.js"));
const { Rig } = await import(join(root, "dist/test/differential/rig.js"));
const { Scratch } = await import(join(root, "dist/test/support/scratch.js"));

const reason = cannotCompare();
if (reason !== false) {
	console.error(`differential: skipped: ${reason}`);
	process.exit(0);
}
const fromEnvironment = replayFromEnvironment();
const replay = { seed: values.seed === undefined ? fromEnvironment.seed : Number(values.seed), path: values.path ?? fromEnvironment.path };
console.log(`seed ${replay.seed}`);
const made = new Scratch();
const begun = Date.now();
const report = await campaign(new Rig(made, values.rig), replay, Number(values.seconds), Number(values.kinds), (found) =>
	console.log(`\n${found.text}\n`),
);
await made.close();
for (const [what, count] of [...report.tally.results].sort()) console.log(`${String(count).padStart(8)} ${what}`);
for (const [what, count] of [...report.tally.allowed].sort()) console.log(`${String(count).padStart(8)} allowed: ${what}`);
console.log(`${report.scenarios} scenarios in ${((Date.now() - begun) / 1000).toFixed(0)} s, ${report.found.length} kinds of differences`);
process.exit(report.found.length > 0 ? 1 : 0);
