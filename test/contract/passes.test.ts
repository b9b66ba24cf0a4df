import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { ROOT } from "../in-process/walk.ts";
import { plant } from "../support/lower-tree.ts";
import { needs } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";

const skip = needs("root");
const NODES_MAX = 4;
const FILES = Array.from({ length: 12 }, (_, i) => `file${i}`);

function open(t: TestContext): Overlay {
	const base = scratch(t).mount("tmpfs");
	const lower = plant(`${base}/lower`, Object.fromEntries(FILES.map((name) => [name, name])));
	const { overlay } = openOverlay({
		lowers: [lower],
		upper: `${base}/upper`,
		stateFolder: `${base}/state`,
		isSync: false,
		purpose: "serve",
		nodesMax: NODES_MAX,
	});
	t.after(() => overlay.close());
	return overlay;
}

test("within a pass no object goes out of memory, and at the beginning of the next the caches go back to their bounds", { skip }, (t) => {
	const overlay = open(t);
	overlay.beginPass();
	const found = FILES.map((name) => overlay.lookup(overlay.root, Buffer.from(name), ROOT));
	for (const [i, object] of found.entries()) assert.equal(overlay.decode((object as NonNullable<typeof object>).handle), found[i]);
	assert.ok(overlay.engine.nodes.size > FILES.length);
	overlay.beginPass();
	assert.equal(overlay.engine.nodes.size, NODES_MAX);
});

test("what is remembered ages between passes, and never within one", { skip }, (t) => {
	const overlay = open(t);
	const { memory } = overlay.engine;
	let now = 0;
	memory.clock = () => now;
	overlay.beginPass();
	const file = overlay.lookup(overlay.root, Buffer.from(FILES[0]), ROOT);
	assert.ok(file !== null);
	const { handle } = file;
	overlay.getattr(file);
	const first = overlay.decode(handle).stat;
	assert.ok(first !== null);
	now += 3_600_000;
	overlay.getattr(overlay.decode(handle));
	assert.equal(overlay.decode(handle).stat, first);
	overlay.beginPass();
	overlay.getattr(overlay.decode(handle));
	assert.notEqual(overlay.decode(handle).stat, first);
});
