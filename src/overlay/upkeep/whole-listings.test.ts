// Commands that walk trees, with a disk that fails at one listing after the other: each refuses, or has the whole result.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { linkSync, mkdirSync, readdirSync, readlinkSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { plant } from "../../../test/support/lower-tree.ts";
import { needs } from "../../../test/support/requirements.ts";
import { cannotMount, scratch } from "../../../test/support/scratch.ts";
import { TRUSTED_XATTRS } from "../../layer/layer.ts";
import { LayerError } from "../../layer/layer-error.ts";
import { noteLinkNames } from "../../layer/link-names.ts";
import { interceptListings } from "../../linux/directory.ts";
import { ERRNO } from "../../linux/errno.ts";
import { close, O, openPath } from "../../linux/open.ts";
import { OverlayError } from "../../vfs/errors.ts";
import type { MoveReport } from "../adopt/moved.ts";
import { checkPortable } from "../check/portable.ts";
import type { OpenOptions } from "../opening/open-options.ts";
import { openOverlay } from "../opening/open-overlay.ts";
import { rebase } from "./rebase.ts";
import { rebind } from "./rebind.ts";

/** What a command works on, made anew for each fault; `run` may be called again after a refusal. */
interface Stage {
	run(): unknown;
}

interface Layers extends Omit<OpenOptions, "purpose"> {
	readonly upper: string;
	readonly work: string;
}

function layersIn(base: string, handles: "portable" | "kernel"): Layers {
	const lower = plant(join(base, "lower"), { "dir/one": "1", "dir/sub/two": "2", "dir/sub/three": "3", alone: "4" });
	linkSync(join(lower, "dir/one"), join(lower, "linked"));
	const upper = plant(join(base, "upper"), { "mine/file": "f", "mine/deep/er": "d", "dir/above": "a" });
	symlinkSync("file", join(upper, "mine/link"));
	return { lowers: [lower], upper, work: join(base, "work"), stateFolder: join(base, "state"), isSync: false, handles };
}

function serveOnce(layers: Layers): Promise<void> {
	return openOverlay({ ...layers, purpose: "serve" }).overlay.close();
}

/** What is not as it should be in a portable export. */
function damage({ lowers, upper, work }: Layers, at: Partial<Layers> = {}): unknown {
	const report = checkPortable({ lowers, dataLowers: [], upper, work, xattr: TRUSTED_XATTRS, isRepair: false, ...at });
	assert.ok(report !== null);
	return { findings: report.findings, counts: report.counts };
}

const COMMANDS: Readonly<Record<string, (base: string) => Stage | Promise<Stage>>> = {
	"the walk for names of lower files": (base) => {
		const { lowers } = layersIn(base, "portable");
		const folder = join(base, "names");
		return {
			run() {
				const root = openPath(lowers[0], O.rdonly | O.directory);
				try {
					noteLinkNames({ root, path: lowers[0] }, folder, () => {});
				} finally {
					close(root);
				}
				return readdirSync(folder)
					.sort()
					.map((name) => `${name} ${readlinkSync(join(folder, name))}`);
			},
		};
	},
	"the first serve of an upper that was made elsewhere": (base) => {
		const layers = layersIn(base, "portable");
		return {
			async run() {
				await serveOnce(layers);
				return unfailing(() => damage(layers));
			},
		};
	},
	"a start from copies of upper and work that lost their links": async (base) => {
		const layers = layersIn(base, "portable");
		await serveOnce(layers);
		const moved = { upper: join(base, "moved/upper"), work: join(base, "moved/work") };
		mkdirSync(join(base, "moved"));
		for (const which of ["upper", "work"] as const) execFileSync("cp", ["-a", layers[which], moved[which]]);
		// of the run that has found it: what a start has put right it does not tell again
		let report: MoveReport | null = null;
		return {
			async run() {
				await openOverlay({
					...layers,
					...moved,
					purpose: "serve",
					onMoved: (found) => {
						report = found;
					},
				}).overlay.close();
				return { lost: (report as MoveReport | null)?.lost, damage: unfailing(() => damage(layers, moved)) };
			},
		};
	},
	"holdfast rebase": async (base) => {
		const layers = layersIn(base, "portable");
		await serveOnce(layers);
		const image = join(base, "image");
		execFileSync("cp", ["-a", layers.lowers[0], image]);
		plant(image, { "dir/sub/two": "another content", "mine/new": "n" });
		return {
			run: () => rebase({ ...layers, lowers: [image], before: layers.lowers, sameBy: "mtime+size" }),
		};
	},
	"holdfast rebind": async (base) => {
		const layers = layersIn(base, "kernel");
		await serveOnce(layers);
		return {
			async run() {
				const opened = openOverlay({ ...layers, purpose: "rebind" });
				try {
					return await rebind(opened, layers.stateFolder);
				} catch (error) {
					await opened.overlay.close();
					throw error;
				}
			},
		};
	},
	"holdfast check": async (base) => {
		const layers = layersIn(base, "portable");
		await serveOnce(layers);
		return { run: () => damage(layers) };
	},
};

/** Runs it with EIO at the listing of that number, counted from 1; 0: none fails. How many there were, and what came of it. */
async function withFault(
	stage: Stage,
	failing: number,
): Promise<{ readonly listings: number; readonly result: unknown; readonly error: unknown }> {
	let listings = 0;
	interceptListings(() => (++listings === failing ? -ERRNO.EIO : 0));
	try {
		return { result: await stage.run(), error: null, listings };
	} catch (error) {
		return { result: null, error, listings };
	} finally {
		interceptListings(null);
	}
}

/** Looks at a result with a disk that does not fail. */
function unfailing<T>(look: () => T): T {
	interceptListings(null);
	return look();
}

for (const [name, prepare] of Object.entries(COMMANDS)) {
	test(`${name} takes no part of a directory for all of it`, { skip: needs("root") || cannotMount("tmpfs") }, async (t) => {
		const disk = scratch(t).mount("tmpfs");
		let folders = 0;
		const fresh = () => {
			const base = join(disk, `${folders++}`);
			mkdirSync(base);
			return prepare(base);
		};
		const good = await withFault(await fresh(), 0);
		assert.equal(good.error, null);
		assert.ok(good.listings > 4, `${good.listings} listings`);
		let refusals = 0;
		for (let failing = 1; failing <= good.listings; failing++) {
			const stage = await fresh();
			const { result, error } = await withFault(stage, failing);
			if (error === null) {
				assert.deepEqual(result, good.result, `with listing ${failing} failing`);
				continue;
			}
			refusals++;
			assert.ok(error instanceof LayerError || error instanceof OverlayError, `listing ${failing}: ${(error as Error).stack}`);
			assert.match(error.message, /EIO/);
			const again = await withFault(stage, 0);
			assert.equal(again.error, null, `after listing ${failing} has failed`);
			assert.deepEqual(again.result, good.result, `again after listing ${failing} has failed`);
		}
		assert.ok(refusals > 2, `${refusals} refusals at ${good.listings} listings`);
	});
}
