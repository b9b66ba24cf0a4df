import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { repository, seed, volume } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";
import { ALLOWED_DIFFERENCES } from "./allowed-differences.ts";
import { campaign, cannotCompare, directionsOf } from "./campaign.ts";
import { RIG_NAMES, Rig } from "./rig.ts";

/** Of each rig and direction. */
const LIMITS = { seconds: Number.POSITIVE_INFINITY, sequences: volume(4, 40, 2000), kinds: 1 };

const WHAT = {
	parallel: "holdfast does what the kernel's overlayfs does, handles hold, and the kernel goes on with its layers",
	alternating: "the kernel and holdfast work on one set of layers in turn, and handles hold",
} as const;

for (const rig of RIG_NAMES) {
	for (const direction of directionsOf(rig)) {
		test(`${WHAT[direction]}: ${rig}`, { skip: cannotCompare() }, async (t) => {
			const replay = { seed };
			const report = await campaign(new Rig(scratch(t), rig), direction, replay, LIMITS);
			t.diagnostic(`seed ${replay.seed}: ${report.sequences} sequences`);
			assert.equal(report.found.length, 0, report.found.map((one) => one.text).join("\n\n"));
		});
	}
}

test("docs/differences.md names every allowed difference, and none that does not exist", () => {
	const document = readFileSync(join(repository, "docs/differences.md"), "utf8");
	const compared = document.slice(0, document.indexOf("## Not compared"));
	const named = [...compared.matchAll(/^### (.*)$/gm)].map((match) => match[1].toLowerCase());
	assert.deepEqual(named.sort(), ALLOWED_DIFFERENCES.map((name) => name.toLowerCase()).sort());
});
