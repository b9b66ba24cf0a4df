import assert from "node:assert/strict";
import { test } from "node:test";
import { campaign, cannotCompare, replayFromEnvironment } from "./differential/campaign.ts";
import { RIG_NAMES, Rig } from "./differential/rig.ts";
import { full } from "./support/requirements.ts";
import { scratch } from "./support/scratch.ts";

/** Of each campaign. */
const SECONDS = full ? 300 : 15;

for (const name of RIG_NAMES) {
	test(`holdfast does what the kernel's overlayfs does, handles hold, and the kernel goes on with its layers: ${name}`, {
		skip: cannotCompare(),
		timeout: 1_200_000,
	}, async (t) => {
		const replay = replayFromEnvironment();
		const report = await campaign(new Rig(scratch(t), name), replay, SECONDS, 1);
		t.diagnostic(`seed ${replay.seed}: ${report.scenarios} scenarios`);
		assert.equal(report.found.length, 0, report.found.map((one) => one.text).join("\n\n"));
	});
}
