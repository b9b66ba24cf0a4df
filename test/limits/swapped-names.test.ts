/** Fifos and devices that take the place of files at any moment (RENAME_EXCHANGE) are never opened: an open of one would wait for ever. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { allocate } from "../../src/linux/memory.ts";
import { close, O, openPath } from "../../src/linux/open.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import { untilReady } from "../../src/overlay/operations/until-ready.ts";
import { OverlayError } from "../../src/vfs/errors.ts";
import { ROOT } from "../in-process/walk.ts";
import { needs, repository } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";

const skip = needs("root");
const NAMES = Array.from({ length: 200 }, (_, i) => `f${i}`);
const bytes = (text: string) => Buffer.from(text);
const buffer = allocate(64);

/** In another thread, again and again: each name in one folder and its namesake in the other change places. */
async function swap(t: TestContext, folder: string, other: string): Promise<void> {
	const [from, to] = [openPath(folder, O.rdonly | O.directory), openPath(other, O.rdonly | O.directory)];
	const ends = new Int32Array(new SharedArrayBuffer(4));
	const module = new URL(`file://${join(repository, "dist/src/linux/names.js")}`).href;
	const worker = new Worker(
		`const { parentPort, workerData: { module, names, from, to, ends } } = require("node:worker_threads");
		import(module).then(({ renameName, RENAME }) => {
			parentPort.postMessage("ready");
			while (Atomics.load(ends, 0) === 0) for (const name of names) renameName(from, name, to, name, RENAME.exchange);
			parentPort.close();
		});`,
		{ eval: true, workerData: { module, names: NAMES, from, to, ends } },
	);
	await once(worker, "message");
	t.after(async () => {
		Atomics.store(ends, 0, 1);
		await once(worker, "exit");
		close(from);
		close(to);
	});
}

/** Files, and fifos of the same names beside them. */
function plantIn(files: string, fifos: string, isNew: boolean): void {
	for (const folder of [files, fifos]) mkdirSync(folder, { recursive: true });
	if (isNew) for (const name of NAMES) writeFileSync(join(files, name), "content");
	execFileSync(
		"mkfifo",
		NAMES.map((name) => join(fifos, name)),
	);
}

for (const handles of ["portable", "kernel"] as const) {
	for (const layer of ["lower", "upper"] as const) {
		test(`no request waits while files of ${layer} and fifos change places: ${handles} handles`, { skip }, async (t) => {
			const base = scratch(t).mount("tmpfs");
			const at = (path: string) => join(base, path);
			plantIn(at("lower"), at("fifos"), true);
			mkdirSync(at("upper"));
			const { overlay } = openOverlay({
				lowers: [at("lower")],
				upper: at("upper"),
				stateFolder: at("state"),
				handles,
				isSync: false,
				purpose: "serve",
				partialLimits: { bytesMin: 1024 * 1024 },
			} as Parameters<typeof openOverlay>[0]);
			t.after(() => overlay.close());
			const run = async (step: () => unknown) => {
				try {
					overlay.beginPass();
					await untilReady(step);
				} catch (error) {
					if (!(error instanceof OverlayError)) throw error;
				}
			};
			const write = (name: string) => () => {
				const file = overlay.lookup(overlay.root, bytes(name), ROOT);
				if (file !== null) overlay.write(file, ROOT, 0, bytes("written"));
			};
			if (layer === "upper") for (const name of NAMES) await run(write(name));
			await swap(t, at(layer), at("fifos"));
			let done = 0;
			for (const name of NAMES) {
				await run(() => {
					const file = overlay.lookup(overlay.root, bytes(name), ROOT);
					if (file !== null) overlay.read(file, ROOT, 0, 64, buffer, 0);
				});
				await run(write(name));
				await run(() => overlay.create(overlay.root, bytes(name), ROOT, { mode: "unchecked", attributes: { size: 0 } }));
				await run(() => overlay.rename(overlay.root, bytes(name), overlay.root, bytes(`renamed ${name}`), ROOT));
				await run(() => overlay.remove(overlay.root, bytes(`renamed ${name}`), ROOT));
				await nextTurn();
				done++;
			}
			assert.equal(done, NAMES.length);
		});
	}
}
