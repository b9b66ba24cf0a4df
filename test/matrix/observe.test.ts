/** What the matrix sees of a tree, it sees as a client does: request by request. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import { inPasses } from "../../src/overlay/operations/until-ready.ts";
import { plant } from "../support/lower-tree.ts";
import { needs } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";
import { observe, type Settle } from "./observe.ts";

test("a walk ends, and sees every name once, where a directory has more names than are looked up in one turn", {
	skip: needs("root"),
}, async (t) => {
	const base = scratch(t).mount("tmpfs");
	const names = Array.from({ length: 300 }, (_, index) => `long/name ${index}`);
	const { overlay } = openOverlay({
		lowers: [plant(join(base, "lower"), Object.fromEntries(names.map((name) => [name, name])))],
		upper: join(base, "upper"),
		stateFolder: join(base, "state"),
		isSync: false,
		purpose: "serve",
		nodesMax: 1,
	});
	t.after(() => overlay.close());
	let tries = 0;
	const settle: Settle = (step) =>
		inPasses(overlay, () => {
			assert.ok(++tries < 10 * names.length, "it begins again and again");
			return step();
		});
	const tree = await observe(
		overlay,
		settle,
		() => true,
		() => true,
	);
	assert.deepEqual([...tree.keys()].sort(), ["", "long", ...names].sort());
	assert.equal(tree.get("long/name 299")?.content, "long/name 299");
});
