import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { OpenOptions } from "../../src/overlay/opening/open-options.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import { release } from "../../src/overlay/upkeep/release.ts";
import { keptBy } from "../crash/stage.ts";
import { plant } from "../support/lower-tree.ts";
import { needs } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";

for (const keeping of ["portable", "ordinary"] as const) {
	test(`an upper with ${keeping} handles is not released: the kernel would not mount what it is`, { skip: needs("root") }, async (t) => {
		const base = scratch(t).mount("tmpfs");
		const lower = plant(join(base, "lower"), { file: "f" });
		const work = join(base, "work");
		const layers = {
			lowers: [lower],
			upper: join(base, "upper"),
			work,
			stateFolder: join(base, "state"),
			isSync: false,
			...keptBy(keeping),
		};
		const open = (purpose: OpenOptions["purpose"]) => openOverlay({ ...layers, purpose }).overlay;
		await open("serve").close();
		for (const isDryRun of [true, false]) {
			await assert.rejects(release(open("release"), work, isDryRun), /portable handles cannot be given back/);
			assert.ok(existsSync(join(work, "work/incompat/holdfast")), "the marker that keeps the kernel away is there");
		}
		await open("serve").close();
	});
}
