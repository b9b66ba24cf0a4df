import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { TRUSTED_XATTRS } from "../../src/layer/layer.ts";
import { allocate } from "../../src/linux/memory.ts";
import { checkUpper } from "../../src/overlay/check/check.ts";
import { adoptLowers } from "../../src/overlay/opening/former-uppers.ts";
import type { OpenOptions } from "../../src/overlay/opening/open-options.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import { untilReady } from "../../src/overlay/operations/until-ready.ts";
import { forkExport } from "../../src/overlay/upkeep/fork.ts";
import { rebind } from "../../src/overlay/upkeep/rebind.ts";
import { release } from "../../src/overlay/upkeep/release.ts";
import { OverlayError } from "../../src/vfs/errors.ts";
import { ROOT, walk } from "../in-process/walk.ts";
import { plant } from "../support/lower-tree.ts";
import { needs } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";

/** What commands make of objects that were held open, without a name, when the server ended. */

const skip = needs("root");
const bytes = (text: string) => Buffer.from(text);
const FILES = ["lower", "copied", "born"];

async function stage(t: TestContext, handles: "kernel" | "portable") {
	const base = scratch(t).mount("tmpfs");
	plant(join(base, "lower"), { lower: "lower content", copied: "copied content", other: "" });
	const [upper, work, state] = ["upper", "upper.work", "state"].map((name) => join(base, name));
	const open = (purpose: OpenOptions["purpose"]) =>
		openOverlay({
			lowers: [join(base, "lower")],
			upper,
			stateFolder: state,
			isSync: false,
			purpose,
			...(purpose === "serve" ? { restoresHolds: true } : {}),
			...(handles === "portable" ? { handles } : {}),
		});
	const { overlay } = open("serve");
	await untilReady(() => overlay.write(walk(overlay, "copied"), ROOT, 0, bytes("COPIED")));
	overlay.create(overlay.root, bytes("born"), ROOT, { mode: "guarded", attributes: {} });
	const held = FILES.map((name) => Buffer.from(walk(overlay, name).handle));
	for (const [i, name] of FILES.entries()) {
		overlay.hold(held[i]);
		overlay.remove(overlay.root, bytes(name), ROOT);
	}
	await overlay.close();
	const orphans = () => readdirSync(join(work, "holdfast/orphans"));
	assert.equal(orphans().length, FILES.length);
	return {
		upper,
		work,
		state,
		open,
		held,
		orphans,
		findings: () =>
			checkUpper({ lowers: [join(base, "lower")], upper, work, xattr: TRUSTED_XATTRS, isRepair: false }).findings.map(
				({ kind, path }) => `${kind} ${path}`,
			),
	};
}

const isStale = (error: unknown) => error instanceof OverlayError && error.code === "stale";

test("check and its repair leave held objects alone", { skip }, async (t) => {
	const { upper, work, held, open, findings } = await stage(t, "kernel");
	assert.deepEqual(findings(), []);
	const report = checkUpper({ lowers: [join(upper, "../lower")], upper, work, xattr: TRUSTED_XATTRS, isRepair: true });
	assert.deepEqual(report.findings, []);
	const { overlay } = open("serve");
	assert.equal(overlay.restoreHolds(held), 0);
	overlay.endOfRestore();
	for (const handle of held) assert.equal(overlay.getattr(overlay.decode(handle)).nlink, 0);
	await overlay.close();
});

test("adopt keeps held objects", { skip }, async (t) => {
	const { held, open, findings } = await stage(t, "kernel");
	const opened = open("adopt");
	adoptLowers(opened);
	await opened.overlay.close();
	const { overlay } = open("serve");
	assert.equal(overlay.restoreHolds(held), 0);
	overlay.endOfRestore();
	const buffer = allocate(64);
	const { count } = overlay.read(overlay.decode(held[0]), ROOT, 0, 64, buffer, 0);
	assert.equal(buffer.bytes.toString("latin1", 0, count), "lower content");
	await overlay.close();
	assert.deepEqual(findings(), []);
});

test("release removes held objects, and leaves an upper for the kernel", { skip }, async (t) => {
	const { work, open, orphans, findings } = await stage(t, "kernel");
	await release(open("release").overlay, work, false);
	assert.deepEqual(orphans(), []);
	assert.deepEqual(findings(), []);
});

test("rebind removes held objects: their handles are stale then", { skip }, async (t) => {
	const { held, state, open, orphans, findings } = await stage(t, "kernel");
	await rebind(open("rebind"), state);
	assert.deepEqual(orphans(), []);
	const { overlay } = open("serve");
	overlay.restoreHolds(held);
	overlay.endOfRestore();
	for (const handle of held) assert.throws(() => overlay.decode(handle), isStale);
	await overlay.close();
	assert.deepEqual(findings(), []);
});

test("after a fork no handle leads to what the original held, and the first start removes it", { skip }, async (t) => {
	const { upper, work, held, open, orphans, findings } = await stage(t, "portable");
	forkExport(upper, work);
	const { overlay } = open("serve");
	assert.equal(overlay.restoreHolds(held), held.length, "handles of another export");
	overlay.endOfRestore();
	assert.deepEqual(orphans(), []);
	await overlay.close();
	assert.deepEqual(findings(), []);
});
