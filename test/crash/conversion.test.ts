/** The adoption of an upper in the form of AUFS or fuse-overlayfs, stopped before each call that changes the disk: it is made again, and nothing is lost. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { lutimesSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { LayerError } from "../../src/layer/layer-error.ts";
import type { OpenOptions } from "../../src/overlay/opening/open-options.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { untilReady } from "../../src/overlay/operations/until-ready.ts";
import { plant, type TreeDescription } from "../support/lower-tree.ts";
import { full, needs, volume } from "../support/requirements.ts";
import { cannotMount, scratch } from "../support/scratch.ts";
import { snapshotTree } from "../support/tree-snapshot.ts";
import { abandon, CrashError, counting, type Keeping, keptBy, type Stage } from "./stage.ts";
import { observe } from "./tree.ts";

const skip = needs("root", "setfattr") || cannotMount("tmpfs");

const LOWER: TreeDescription = {
	gone: "gone",
	stays: "stays",
	changed: "below",
	"dir/of lower": "below",
	"keep/gone": "gone",
	"keep/stays": "stays",
	"opaque/of lower": "below",
	"whole/of lower": "below",
	"new/of lower": "below",
};

/** In the form of AUFS, as image layers have it too. */
const FILES: TreeDescription = {
	".wh.gone": "",
	".wh..wh.plnk/1.2": "of AUFS",
	"dir/.wh..wh..opq": "",
	"dir/new": "new",
	"keep/.wh.gone": "",
	"keep/below/.wh..wh..opq": "",
	"keep/below/file": "file",
	".wh.whole": "",
	".wh.new": "",
	"new/instead": "instead",
	changed: "changed",
};

/** What fuse-overlayfs says in xattrs. */
const XATTRS: readonly (readonly [path: string, name: string, value: string])[] = [
	["opaque", "user.fuseoverlayfs.opaque", "y"],
	["changed", "user.fuseoverlayfs.origin", "changed"],
	["", "user.fuseoverlayfs.override_stat", "1:2:0755"],
	["dir", "user.fuseoverlayfs.override_stat", "3:4:0750"],
	["changed", "user.fuseoverlayfs.override_stat", "5:6:0640"],
	["device", "user.fuseoverlayfs.override_stat", "0:0:0600:char-5-1"],
	["keep/fifo", "user.fuseoverlayfs.override_stat", "7:8:0644:pipe"],
];

/** Of so many crash points one is tried. */
const STRIDE = full ? 1 : volume(9, 4);

function madeUpper(path: string): void {
	plant(path, { ...FILES, "opaque/only": "only", device: "", "keep/fifo": "" });
	for (const [at, name, value] of XATTRS) execFileSync("setfattr", ["-h", "-n", name, "-v", value, join(path, at)]);
	for (const at of ["dir", "keep/below", "keep", "opaque", "new", ""]) lutimesSync(join(path, at), 900_000_000, 900_000_000);
}

/** What clients see, without what differs from run to run. The times of a directory, in which names were exchanged, are lost by a kill between that and setting them. */
async function shown(overlay: Overlay, hasTimes = false): Promise<string[]> {
	const stage = { overlay, settle: <T>(operation: () => T) => untilReady(operation) } as unknown as Stage;
	const tree = await observe(stage, true);
	return [...tree].map(([path, { type, mode, owner, nlink, content, xattrs, mtime }]) =>
		[path, type, mode, owner, type === "dir" ? "" : nlink, content, xattrs, type === "dir" && !hasTimes ? "" : mtime].join(" "),
	);
}

for (const keeping of ["kernel", "portable", "ordinary"] as const satisfies readonly Keeping[]) {
	test(`an adoption that is stopped before any of its calls ends as one that was not, when it is made again: ${keeping}`, {
		skip,
	}, async (t) => {
		const made = scratch(t);
		const base = made.mount("tmpfs", "layers");
		const lower = plant(join(base, "lower"), LOWER);
		const template = join(base, "template");
		madeUpper(template);
		const lowerBefore = snapshotTree(lower, { exact: true });
		let serial = 0;
		const stage = () => {
			const folder = join(base, `run${serial++}`);
			mkdirSync(folder);
			execFileSync("cp", ["-a", template, join(folder, "upper")]);
			const layers = { lowers: [lower], upper: join(folder, "upper"), work: join(folder, "work"), stateFolder: join(folder, "state") };
			const options = { ...layers, isSync: false, whiteoutFiles: "yes", ...keptBy(keeping) } satisfies Omit<OpenOptions, "purpose">;
			return {
				adopt: () => openOverlay({ ...options, purpose: "adopt" }).overlay,
				serve: () => openOverlay({ ...options, purpose: "serve" }).overlay,
				remove: () => rmSync(folder, { recursive: true }),
				setAside: () => readdirSync(join(folder, "work/holdfast/lost+found")).sort(),
			};
		};
		const undisturbed = stage();
		const { calls, value } = await counting(Number.POSITIVE_INFINITY, undisturbed.adopt);
		await value.close();
		const whole = undisturbed.serve();
		const expected = await shown(whole);
		for (const line of await shown(whole, true)) if (/ dir /.test(line)) assert.match(line, / 900000000\.0$/);
		await whole.close();
		const setAside = undisturbed.setAside();
		assert.ok(calls.length > 50, calls.join());
		assert.ok(
			expected.some((line) => line.startsWith("device chr")) && !expected.some((line) => line.includes(".wh.")),
			expected.join("\n"),
		);
		let points = 0;
		for (let k = 0; k <= calls.length; k += STRIDE) {
			const where = `stopped before call ${k} of ${calls.length}, ${calls[k]}`;
			const run = stage();
			try {
				abandon((await counting(k, run.adopt)).value);
			} catch (error) {
				if (!(error instanceof CrashError)) throw error;
			}
			// as long as it is not adopted it is not served, or shown as it is
			try {
				const early = run.serve();
				assert.deepEqual(await shown(early), expected, `${where}, served at once`);
				await early.close();
			} catch (error) {
				if (!(error instanceof LayerError)) throw error;
				assert.match(error.message, /adopt/, where);
			}
			await run.adopt().close();
			const again = run.serve();
			assert.deepEqual(await shown(again), expected, where);
			await again.close();
			assert.deepEqual(run.setAside(), setAside, where);
			run.remove();
			points++;
		}
		t.diagnostic(`${calls.length} calls, stopped before ${points} of them`);
		assert.deepEqual(snapshotTree(lower, { exact: true }), lowerBefore);
	});
}
