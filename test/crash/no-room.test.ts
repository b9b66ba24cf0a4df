/** Any call of a change may find no room: the answer agrees with what is there, also after a restart. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { full, needs, onlyInAll, volume } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";
import { Campaign, noCounts } from "./campaign.ts";
import { OPERATIONS } from "./operations.ts";
import { Lowers } from "./stage.ts";

const skip = needs("root");
/** A part of an operation's name, to run that one alone, at all its calls. */
const only = process.env.HOLDFAST_TEST_CRASH;

/** Those whose first steps are the hardest to take back. */
const SAMPLE = {
	kernel: [
		"unchecked create that cuts a lower file",
		"link of a file of upper over a whiteout",
		"remove the first of several names",
		"remove a copied up file",
		"rename a merged directory over one with whiteouts",
	],
	portable: ["rename a merged directory over one with whiteouts"],
	ordinary: ["rename a file of upper that covers a lower one over another"],
};

for (const keeping of ["kernel", "portable", "ordinary"] as const) {
	test(`a change of which a call finds no room is refused and not made, or made and not refused: ${keeping} handles`, {
		skip,
	}, async (t) => {
		const lowers = new Lowers(scratch(t).mount("tmpfs"));
		const total = noCounts();
		const failures: string[] = [];
		for (const [index, operation] of OPERATIONS.entries()) {
			const isChosen = only !== undefined ? operation.name.includes(only) : !onlyInAll || SAMPLE[keeping].includes(operation.name);
			if (operation.error !== undefined || !isChosen) continue;
			const campaign = new Campaign(lowers, operation, (what) => failures.push(what), null, false, keeping);
			await campaign.runRefused({ stride: only !== undefined || operation.name.startsWith("link") ? 1 : volume(5, 6, 1), first: index });
			total.points += campaign.counts.points;
			total.refused += campaign.counts.refused;
			total.postponed += campaign.counts.postponed;
		}
		t.diagnostic(`${total.points} places, at ${total.refused} of them the change was refused, at ${total.postponed} it waited for room`);
		assert.equal(failures.length, 0, `${failures.length} failures:\n${failures.slice(0, full ? 100 : 8).join("\n")}`);
		assert.ok(total.points > 0 && total.refused > 0);
	});
}
