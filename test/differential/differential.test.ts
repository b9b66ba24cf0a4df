import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { needs, onlyInAll, repository, seed, volume } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";
import { ALLOWED_DIFFERENCES } from "./allowed-differences.ts";
import { campaign, cannotCompare, directionsOf } from "./campaign.ts";
import { RIG_NAMES, Rig, type RigName } from "./rig.ts";
import { endMounted } from "./run-mounted.ts";

/** Of each rig and direction. */
const LIMITS = { seconds: Number.POSITIVE_INFINITY, sequences: volume(4, 40, 2000), kinds: 1 };

const WHAT = {
	parallel: "holdfast does what the kernel's overlayfs does, handles hold, and the kernel goes on with its layers",
	mounted: "a mount by FUSE does what the kernel's overlayfs does, and numbers of inodes hold",
	alternating: "the kernel and holdfast work on one set of layers in turn, and handles hold",
} as const;

/** One of them is enough for every day. */
function cannotMountOften(rig: RigName): string | false {
	return needs("fuse") || (rig !== "one" && onlyInAll);
}

for (const rig of RIG_NAMES) {
	for (const direction of directionsOf(rig)) {
		test(`${WHAT[direction]}: ${rig}`, { skip: cannotCompare() || (direction === "mounted" && cannotMountOften(rig)) }, async (t) => {
			t.after(endMounted);
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
