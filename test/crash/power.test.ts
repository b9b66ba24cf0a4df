/** Promise H9 over power failures: the disk keeps what was committed at that moment, and nothing that comes later. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { full, needs, sampled, volume } from "../support/requirements.ts";
import { cannotMount, scratch } from "../support/scratch.ts";
import { Campaign, noCounts } from "./campaign.ts";
import { FREEING, freeSlowly, OPERATIONS, PARTIAL_OPERATIONS } from "./operations.ts";
import { PowerDisk } from "./power-disk.ts";
import { Lowers } from "./stage.ts";

/** A part of an operation's name, to run that one alone, at all its calls. */
const only = process.env.HOLDFAST_TEST_CRASH;
const all = full || only !== undefined;

/** Of so many operations one is tried, at one of so many calls: a power failure takes a second on a busy machine. */
const [OPERATIONS_STRIDE, CALLS_STRIDE] = all ? [1, 1] : volume([20, 12], [10, 8]);

for (const kind of sampled(["ext4", "xfs", "btrfs"] as const, 1)) {
	test(`an operation during which the power of ${kind} fails before any of its calls has happened or has not, and sent again gets its answer`, {
		skip: needs("root") || cannotMount(kind),
	}, async (t) => {
		const made = scratch(t);
		const lowers = new Lowers(made.mount("tmpfs"));
		const disk = new PowerDisk(made, kind);
		const total = noCounts();
		const failures: string[] = [];
		for (const [index, operation] of OPERATIONS.entries()) {
			if (only !== undefined && !operation.name.includes(only)) continue;
			const stride = kind === "btrfs" ? 2 * OPERATIONS_STRIDE : OPERATIONS_STRIDE;
			if (!all && index % stride !== { ext4: 0, xfs: 3, btrfs: 5 }[kind]) continue;
			// content that no client has committed may be lost, and its time not (RFC 1813 section 3.3.7)
			if (operation.name.startsWith("write ")) continue;
			const campaign = new Campaign(lowers, operation, (what) => failures.push(what), disk);
			await campaign.run({
				others: 10,
				stride: CALLS_STRIDE,
				first: index * 7,
				recoveries: all || index % 49 === 0 ? 1 : 0,
				repetitions: all ? 1 : 8,
			});
			const { calls, points, recoveryPoints } = campaign.counts;
			total.calls += calls;
			total.points += points;
			total.recoveryPoints += recoveryPoints;
		}
		for (const [index, operation] of PARTIAL_OPERATIONS.entries()) {
			if ((!all && index % volume(10, 5) !== { ext4: 3, xfs: 4, btrfs: 2 }[kind]) || /^write /.test(operation.name)) continue;
			if (only !== undefined && !operation.name.includes(only)) continue;
			const campaign = new Campaign(lowers, operation, (what) => failures.push(what), disk, true);
			await campaign.run({ others: 10, stride: all ? 1 : 3, first: index, recoveries: 1, repetitions: all ? 1 : 8 });
			total.points += campaign.counts.points;
			total.recoveryPoints += campaign.counts.recoveryPoints;
		}
		t.diagnostic(`${total.calls} calls, ${total.points} power failures, ${total.recoveryPoints} in recovery`);
		assert.equal(failures.length, 0, `${failures.length} failures:\n${failures.slice(0, 12).join("\n")}`);
		assert.ok(total.points > 0);
	});
}

for (const [at, kind] of (["ext4", "xfs", "btrfs"] as const).entries()) {
	test(`the same where all that is removed or cut takes long to free, so that the trash and the notes of cuts lie on ${kind} too`, {
		skip: needs("root") || cannotMount(kind),
	}, async (t) => {
		freeSlowly(t);
		const made = scratch(t);
		const lowers = new Lowers(made.mount("tmpfs"));
		const disk = new PowerDisk(made, kind);
		const failures: string[] = [];
		let points = 0;
		for (const [index, operation] of OPERATIONS.filter(({ name }) => FREEING.test(name)).entries()) {
			if (only !== undefined ? !operation.name.includes(only) : !all && index % 9 !== at * 3) continue;
			// content that no client has committed may be lost
			if (operation.name.startsWith("write ")) continue;
			const keeping = index % 2 === 0 ? "kernel" : "portable";
			const campaign = new Campaign(lowers, operation, (what) => failures.push(what), disk, false, keeping);
			await campaign.run({
				others: 10,
				stride: all ? 1 : 5,
				first: index * 7,
				recoveries: all || index % 27 === 0 ? 1 : 0,
				repetitions: all ? 1 : 8,
			});
			points += campaign.counts.points + campaign.counts.recoveryPoints;
		}
		t.diagnostic(`${points} power failures`);
		assert.equal(failures.length, 0, `${failures.length} failures:\n${failures.slice(0, 12).join("\n")}`);
		assert.ok(points > 0);
	});
}
